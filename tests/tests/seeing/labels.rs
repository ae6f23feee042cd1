//! Whatever comes from outside, it adds no series: labels come from fixed sets.

use std::collections::BTreeSet;

use common::problem::Code;
use common::wire::PaymentRequest;
use reqwest::Method;
use tests::load::Load;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

use super::text_of;

/// Names with labels of all that a scrape shows.
fn series(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(series, _)| series.to_owned()).collect()
}

fn added(before: &BTreeSet<String>, after: &BTreeSet<String>) -> Vec<String> {
    after.difference(before).cloned().collect()
}

/// Requests that no client of good will makes, to any listener.
async fn pester(rig: &Rig, url: &str) {
    let long = "x".repeat(2_000);
    for path in [
        "/",
        "/v1/payments",
        "/v1/payments/batch",
        "/v1/channels/x",
        "/metrics/x",
        "/%00",
        "/v1/\u{fc}",
        &long,
    ] {
        for method in ["GET", "POST", "PUT", "BREW", "OPTIONS"] {
            let method = Method::from_bytes(method.as_bytes()).expect("a token");
            let _ = rig
                .http
                .send(method, &format!("{url}{}{path}", if path.starts_with('/') { "" } else { "/" }))
                .await;
        }
    }
    for body in
        ["", "{}", "[]", "[{}]", "{\"outcome\":\"made_up\"}", "\u{0}", "\"\n# TYPE x counter\nx 1\n\"", &long]
    {
        for path in ["/v1/payments", "/v1/payments/batch", "/v1/channels", "/v1/accounts", "/v1/settlements"]
        {
            rig.http.post_as(&format!("{url}{path}"), "application/json", body).await;
            rig.http.post_as(&format!("{url}{path}"), "text/made-up; outcome=x", body).await;
        }
    }
}

/// Payments that are refused for reasons of their own.
async fn refused(rig: &Rig, channel: &Channel) {
    let unknown = rig.payer().await.channel(rig.payee()).unopened();
    let stranger = common::ids::PublicKey::of(&ed25519_dalek::SigningKey::from_bytes(&[7; 32]));
    rig.issuer.client().register(&stranger).await.expect("the issuer registers any key");
    let foreign = rig.payer().await.channel(stranger).open().await;
    let forged = PaymentRequest { channel_id: channel.id(), ..foreign.voucher(3) };
    for (channel, voucher) in [
        (channel, channel.voucher(1)),
        (channel, channel.voucher(u64::MAX)),
        (channel, forged),
        (&unknown, unknown.voucher(1)),
        (&foreign, foreign.voucher(1)),
    ] {
        channel.present(rig.relayer(0), &voucher).await.expect("an answer");
    }
}

#[tokio::test]
async fn nothing_from_outside_adds_a_series_to_relayer_or_settler() {
    let settler = vec![("policy.owed_max", "40".to_owned())];
    let rig = Rig::start(RigOptions { settlers: 1, settler, ..RigOptions::default() }).await;
    let processes = [rig.relayers[0].admin_url(), rig.settlers[0].admin_url()];
    let mut before = Vec::new();
    for admin in processes {
        before.push(series(&text_of(admin).await));
    }
    assert!(before.iter().all(|series| series.len() > 50), "everything is there from the start");
    let channel = rig.channel(1_000).await;
    let load = Load::start(std::slice::from_ref(&channel), &[rig.relayer(0)]);
    load.wait_for(10, SOON).await;
    refused(&rig, &channel).await;
    for url in [rig.relayer(0), processes[0], processes[1]] {
        pester(&rig, url).await;
    }
    rig.in_status(&channel, common::channel::Status::Closed).await;
    load.stop().await;
    let lost = rig.redis.proxy().swallow_next_reply_then_cut("EVALSHA");
    lost.wait(SOON).await;
    for (admin, before) in processes.into_iter().zip(&before) {
        let after = series(&text_of(admin).await);
        assert_eq!(added(before, &after), Vec::<String>::new(), "{admin}");
    }
    let rejected = "millrace_relayer_payments_total{outcome=\"malformed\"}";
    wait_until(SOON, "they were counted", || async {
        rig.metric(processes[0], rejected).await.is_some_and(|count| count > 10)
    })
    .await;
}

#[tokio::test]
async fn what_is_asked_of_an_issuer_adds_no_series_but_one_a_code() {
    let rig = Rig::start(RigOptions::default()).await;
    let before = series(&text_of(&rig.issuer.admin_url()).await);
    pester(&rig, &rig.issuer.url()).await;
    pester(&rig, &rig.issuer.admin_url()).await;
    let after = series(&text_of(&rig.issuer.admin_url()).await);
    let new = added(&before, &after);
    assert!(!new.is_empty(), "refusals are counted");
    for series in new {
        let labels = series.strip_prefix("millrace_issuer_operations_total{operation=\"");
        let (_operation, rest) = labels.and_then(|labels| labels.split_once('"')).expect(&series);
        let outcome =
            rest.strip_prefix(",outcome=\"").and_then(|rest| rest.strip_suffix("\"}")).expect(&series);
        assert!(Code::ALL.iter().any(|code| code.as_str() == outcome), "{series}");
    }
}
