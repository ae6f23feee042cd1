//! Several payments in one request: results in order, each as if it had come alone.

use common::amount::Amount;
use common::ids::Signature;
use common::problem::Code;
use common::wire::{BatchResult, Outcome, PaymentRequest};
use tests::http::Reply;
use tests::payer::{Channel, forged};
use tests::rig::{Rig, RigOptions};

const LINES: &str = "application/x-ndjson";

async fn rig(config: Vec<(&'static str, String)>) -> Rig {
    Rig::start(RigOptions { relayer: config, ..RigOptions::default() }).await
}

async fn batch(rig: &Rig, media_type: &str, body: String) -> Reply {
    rig.http.post_as(&format!("{}/v1/payments/batch", rig.relayer(0)), media_type, body).await
}

fn json(voucher: &PaymentRequest) -> String {
    serde_json::to_string(voucher).expect("a voucher is JSON")
}

/// What is expected of one element.
type Expected = Result<Outcome, (Code, Option<String>)>;

/// Elements for two channels that pay from nothing, and what becomes of each. `malformed` is the last but one.
fn mixed(a: &Channel, b: &Channel, malformed: &str) -> Vec<(String, Expected)> {
    let forged = forged(a.voucher(6), Signature([7; 64]));
    let zero = json(&a.voucher(5)).replace("\"5\"", "\"0\"");
    let accepted = Ok(Outcome::Accepted);
    let refused = |code| Err((code, None));
    let malformed_in = |field: &str| Err((Code::Malformed, Some(field.to_owned())));
    vec![
        (json(&a.voucher(5)), accepted.clone()),
        (json(&forged), refused(Code::InvalidSignature)),
        (json(&b.voucher(3)), accepted.clone()),
        (json(&a.voucher(5)), Ok(Outcome::Duplicate)),
        (json(&a.voucher(4)), refused(Code::StaleAmount)),
        (zero, malformed_in("[5].cumulative_amount")),
        (json(&b.voucher(9_999)), refused(Code::OverCapacity)),
        (malformed.to_owned(), malformed_in("[7]")),
        (json(&a.voucher(9)), accepted),
    ]
}

fn check(results: &[BatchResult], elements: &[(String, Expected)]) {
    assert_eq!(results.len(), elements.len());
    for (i, (result, (element, expected))) in results.iter().zip(elements).enumerate() {
        let found = match result {
            BatchResult::Taken(answer) => {
                assert!(
                    element.contains(&answer.channel_id.to_string()),
                    "{i}: the answer to another element"
                );
                assert!(element.contains(&format!("\"{}\"", answer.cumulative_amount)), "{i}: {answer:?}");
                Ok(answer.outcome)
            }
            BatchResult::Refused(problem) => {
                assert_eq!(problem.status, problem.code.status(), "{i}");
                let latest = problem.latest.as_ref().map(|latest| latest.cumulative_amount);
                let promised = (problem.code == Code::StaleAmount).then_some(Amount::new(5));
                assert_eq!(latest, promised, "{i}: {problem:?}");
                Err((problem.code, problem.field.clone()))
            }
        };
        assert_eq!(&found, expected, "{i}: {element}");
    }
}

async fn amounts(rig: &Rig, channels: [&Channel; 2]) -> [Amount; 2] {
    let [a, b] = channels;
    [rig.stored(a).await.state.amount, rig.stored(b).await.state.amount]
}

#[tokio::test]
async fn a_json_array_is_answered_by_an_array_in_order() {
    let rig = rig(Vec::new()).await;
    let (a, b) = (rig.channel(1_000).await, rig.channel(1_000).await);
    let elements = mixed(&a, &b, "[1, {}]");
    let bodies: Vec<&str> = elements.iter().map(|(body, _)| body.as_str()).collect();
    let reply = batch(&rig, "application/json", format!("[{}]", bodies.join(", "))).await;
    assert_eq!((reply.status, reply.content_type.as_deref()), (200, Some("application/json")));
    check(&reply.success::<Vec<BatchResult>>(), &elements);
    assert_eq!(amounts(&rig, [&a, &b]).await, [9, 3].map(Amount::new));
}

#[tokio::test]
async fn lines_are_answered_by_lines_in_order() {
    let rig = rig(Vec::new()).await;
    let (a, b) = (rig.channel(1_000).await, rig.channel(1_000).await);
    let elements = mixed(&a, &b, "neither JSON nor money");
    let mut body: String = elements.iter().map(|(body, _)| format!("{body}\r\n")).collect();
    body.push('\n');
    let reply = batch(&rig, LINES, body).await;
    assert_eq!((reply.status, reply.content_type.as_deref()), (200, Some(LINES)));
    let read = |line| serde_json::from_str(line).expect("a result a line");
    let results: Vec<BatchResult> = reply.body.lines().map(read).collect();
    check(&results, &elements);
    assert_eq!(amounts(&rig, [&a, &b]).await, [9, 3].map(Amount::new));
}

#[tokio::test]
async fn later_elements_of_one_channel_build_on_earlier_ones_across_a_first_payment() {
    // The channel is unknown to Redis when the batch comes: it is registered in the middle of it.
    let rig = rig(Vec::new()).await;
    let channel = rig.channel(1_000).await;
    let bodies: Vec<String> = (1..=100).map(|amount| json(&channel.voucher(amount))).collect();
    let reply = batch(&rig, "application/json", format!("[{}]", bodies.join(","))).await;
    for (amount, result) in (1..).zip(reply.success::<Vec<BatchResult>>()) {
        let BatchResult::Taken(answer) = result else { panic!("{amount}: {result:?}") };
        assert_eq!((answer.cumulative_amount, answer.outcome), (Amount::new(amount), Outcome::Accepted));
    }
    assert_eq!(rig.stored(&channel).await.state.amount, Amount::new(100));
}

#[tokio::test]
async fn a_batch_over_batch_max_is_refused_as_a_whole() {
    let rig = rig(vec![("batch_max", "4".to_owned())]).await;
    let channel = rig.channel(1_000).await;
    rig.pay(0, &channel, 1).await.success::<common::wire::PaymentAnswer>();
    let before = rig.dump().await;
    let bodies: Vec<String> = (2..=6).map(|amount| json(&channel.voucher(amount))).collect();
    for (media_type, body) in
        [("application/json", format!("[{}]", bodies.join(","))), (LINES, bodies.join("\n"))]
    {
        let refused = batch(&rig, media_type, body).await;
        assert_eq!((refused.status, refused.problem().code), (413, Code::PayloadTooLarge), "{media_type}");
    }
    assert_eq!(rig.dump().await, before, "nothing of it was recorded");
    let body = format!("[{}]", bodies[..4].join(","));
    assert_eq!(batch(&rig, "application/json", body).await.success::<Vec<BatchResult>>().len(), 4);
    assert_eq!(rig.stored(&channel).await.state.amount, Amount::new(5));
}

#[tokio::test]
async fn a_batch_that_is_none_is_malformed_and_an_empty_one_is_answered_by_nothing() {
    let rig = rig(Vec::new()).await;
    for body in ["", "5", "[1,", "\"x\"", "[{}] 5", "{}\n{}"] {
        let refused = batch(&rig, "application/json", body.to_owned()).await;
        assert_eq!((refused.status, refused.problem().code), (400, Code::Malformed), "{body}");
    }
    assert_eq!(batch(&rig, "application/json", "[]".to_owned()).await.body, "[]");
    let nothing = batch(&rig, LINES, String::new()).await;
    assert_eq!((nothing.status, nothing.body.as_str()), (200, ""));
}
