//! Every request has an id, which its answer names, and whoever is asked on its behalf hears it.

use common::trail::{RequestId, TraceParent};
use reqwest::Method;
use tests::rig::{Rig, RigOptions};

use super::scene::{PARENT, pay, text};

const ID: &str = "x-request-id";

async fn answered(method: Method, url: &str, id: Option<&str>) -> String {
    let mut request = reqwest::Client::new().request(method, url).body("{");
    if let Some(id) = id {
        request = request.header(ID, id);
    }
    let answer = request.send().await.expect("an answer");
    text(answer.headers(), ID).unwrap_or_else(|| panic!("{url}: no id in {:?}", answer.headers()))
}

#[tokio::test]
async fn every_answer_of_every_service_names_its_request() {
    let rig = Rig::start(RigOptions { settlers: 1, ..RigOptions::default() }).await;
    let (relayer, issuer) = (rig.relayer(0), rig.issuer.url());
    let settler = rig.settlers[0].admin_url();
    let mut seen = std::collections::BTreeSet::new();
    for (method, url) in [
        // Refused, ahead of the router and behind it; no such route, no such method; and what is well.
        (Method::POST, format!("{relayer}/v1/payments")),
        (Method::POST, format!("{relayer}/v1/payments/batch")),
        (Method::GET, format!("{relayer}/v1/payments/stream")),
        (Method::GET, format!("{relayer}/nowhere")),
        (Method::DELETE, format!("{relayer}/v1/payments")),
        (Method::GET, format!("{}/livez", rig.relayers[0].admin_url())),
        (Method::GET, format!("{issuer}/v1/issuer")),
        (Method::POST, format!("{issuer}/v1/settlements")),
        (Method::GET, format!("{settler}/console/channels")),
        (Method::GET, format!("{settler}/metrics")),
    ] {
        assert_eq!(
            answered(method.clone(), &url, Some("my:request_1.2-3")).await,
            "my:request_1.2-3",
            "{url}"
        );
        let too_long = "x".repeat(65);
        for id in [None, Some("two words"), Some(""), Some("semi;colon"), Some(too_long.as_str())] {
            let made = answered(method.clone(), &url, id).await;
            assert!(RequestId::given(made.as_bytes()).is_some(), "{url}: {made}");
            assert!(!id.is_some_and(|id| made.contains(id) && !id.is_empty()), "{url}: {made}");
            assert!(seen.insert(made.clone()), "{url}: {made} twice");
        }
    }
}

#[tokio::test]
async fn the_issuer_hears_what_a_look_up_is_for_and_each_request_of_a_settler_is_one_of_its_own() {
    let mut rig = Rig::start(RigOptions::default()).await;
    let (mine, unnamed) = (rig.channel(100).await, rig.channel(100).await);
    let brought = [(ID, "mine"), ("traceparent", PARENT), ("tracestate", "vendor=1")];
    let answer = pay(rig.relayer(0), &mine, 5, &brought).await;
    assert_eq!((answer.status().as_u16(), text(answer.headers(), ID).as_deref()), (200, Some("mine")));
    let asked = rig.front.headers(&mine.id().to_string());
    let [asked] = asked.as_slice() else { panic!("asked once: {asked:?}") };
    for (name, value) in brought {
        assert_eq!(text(asked, name).as_deref(), Some(value), "{name}");
    }

    // Without anything brought, and with what is malformed, the id that the answer names, and no trace.
    let answer =
        pay(rig.relayer(0), &unnamed, 5, &[("traceparent", "00-nothing"), ("tracestate", "a=1")]).await;
    let asked = rig.front.headers(&unnamed.id().to_string());
    let [asked] = asked.as_slice() else { panic!("asked once: {asked:?}") };
    assert_eq!(text(asked, ID), text(answer.headers(), ID));
    assert_eq!((text(asked, "traceparent"), text(asked, "tracestate")), (None, None));

    rig.spawn_settler(&[]).wait_ready(tests::rig::SOON).await.unwrap_or_else(|error| panic!("{error}"));
    mine.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.settled(&mine).await;
    let asked = rig.front.headers("/settlements");
    let head = asked.first().expect("a settlement");
    let id = text(head, ID).expect("an id");
    assert!(RequestId::given(id.as_bytes()).is_some() && id != "mine", "{id}");
    let parent = text(head, "traceparent").expect("a trace of its own");
    assert!(TraceParent::parse(parent.as_bytes()).is_some_and(|parent| !parent.is_sampled()), "{parent}");
    assert!(!parent.contains(super::scene::TRACE), "it may be for payments of many traces: {parent}");
}

#[tokio::test]
async fn a_log_that_goes_to_a_file_is_plain_text() {
    let rig = Rig::start(RigOptions::default()).await;
    let log = std::fs::read_to_string(rig.relayers[0].log()).expect("a log");
    assert!(log.contains("relayer listens"), "{log}");
    assert!(!log.contains('\u{1b}'), "what colours it stands in the way of grep: {log:?}");
}
