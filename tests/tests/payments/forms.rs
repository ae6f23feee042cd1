//! What a payment and a path must look like, and what is said of those that do not.

use common::amount::Amount;
use common::problem::Code;
use common::wire::{Outcome, PaymentAnswer};
use reqwest::Method;
use serde_json::{Map, Value, json};
use tests::payer::{Channel, signature_of};
use tests::rig::{Rig, RigOptions};

fn body(channel: &Channel, amount: u64, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut value = serde_json::to_value(channel.voucher(amount)).expect("a voucher is JSON");
    change(value.as_object_mut().expect("a voucher is an object"));
    value.to_string()
}

/// The body with `field` set to `value`.
fn with(channel: &Channel, field: &str, value: Value) -> String {
    body(channel, 5, |object| drop(object.insert(field.to_owned(), value)))
}

#[tokio::test]
async fn a_malformed_payment_is_told_which_field_is_at_fault_and_writes_nothing() {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(1_000).await;
    rig.pay(0, &channel, 1).await.success::<PaymentAnswer>();
    let (id, signature) = (channel.id().to_string(), signature_of(&channel.voucher(5).proof).to_string());
    let before = rig.dump().await;

    let mut cases: Vec<(&str, String)> = Vec::new();
    let amounts =
        ["0", "05", "00", "+5", "-5", "5.0", "5e0", " 5", "5 ", "", "0x5", "18446744073709551616", "٥"];
    cases.extend(amounts.map(|text| ("cumulative_amount", with(&channel, "cumulative_amount", json!(text)))));
    for value in [json!(5), json!(5.0), json!(null), json!(true), json!(["5"]), json!({})] {
        cases.push(("cumulative_amount", with(&channel, "cumulative_amount", value)));
    }
    let ids = [
        // Not base58: 0, O, I and l are left out of it; nor is what has other characters.
        json!(id.replacen(|_: char| true, "0", 1)),
        json!(format!("{}l", &id[1..])),
        json!("with spaces"),
        json!(""),
        // Base58 of 31 and of 33 bytes.
        json!("1".repeat(31)),
        json!("1".repeat(33)),
        json!(signature),
        json!(5),
    ];
    cases.extend(ids.map(|value| ("channel_id", with(&channel, "channel_id", value))));
    for value in [json!("1".repeat(63)), json!("1".repeat(65)), json!(id), json!(""), json!("O"), json!(null)]
    {
        cases.push(("signature", with(&channel, "signature", value)));
    }
    for value in [json!(-1), json!("0"), json!(0.5), json!(null), json!(u64::MAX)] {
        cases.push(("expires_at", with(&channel, "expires_at", value)));
    }
    for field in ["channel_id", "cumulative_amount", "signature"] {
        cases.push((field, body(&channel, 5, |object| drop(object.remove(field)))));
    }
    cases.push(("amount", with(&channel, "amount", json!("5"))));
    cases.push(("signature", body(&channel, 5, |_| ()).replace('}', r#","signature":"x"}"#)));

    for (field, body) in &cases {
        let reply = rig.present(0, body.as_str()).await;
        let problem = reply.problem();
        assert_eq!((reply.status, problem.code), (400, Code::Malformed), "{body}");
        // A field that is missing or too much has no place of its own: the sentence names it.
        let named = problem.field.as_deref() == Some(*field)
            || problem.detail.as_deref().is_some_and(|detail| detail.contains(&format!("`{field}`")));
        assert!(named, "{field} is not named for {body}: {problem:?}");
    }
    for body in ["", "{", "null", "5", "[]", "{}", "\u{feff}{}", "{} {}"] {
        let reply = rig.present(0, body).await;
        assert_eq!((reply.status, reply.problem().code), (400, Code::Malformed), "{body}");
    }
    // The values alone, in the order of the fields, are no payment.
    let voucher = channel.voucher(5);
    let bare =
        json!([voucher.channel_id, voucher.cumulative_amount, 0, signature_of(&voucher.proof)]).to_string();
    assert_eq!(rig.present(0, bare).await.problem().code, Code::Malformed);
    let not_text = rig.present(0, vec![0xff, 0xfe]).await;
    assert_eq!((not_text.status, not_text.problem().code), (400, Code::Malformed));
    assert_eq!(rig.dump().await, before, "nothing was written");
    // The same voucher as it should be: it was the form that was refused.
    assert_eq!(rig.present(0, body(&channel, 5, |_| ())).await.status, 200);
}

#[tokio::test]
async fn a_voucher_never_expires_or_not_before_its_channel() {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(1_000).await;
    let end = channel.terms().expires_at;
    let present = |amount, expires_at| {
        let voucher = channel.voucher_until(amount, expires_at);
        rig.present(0, serde_json::to_vec(&voucher).expect("a voucher is JSON"))
    };
    let early = present(1, end - 1).await.problem();
    assert_eq!((early.code, early.field.as_deref()), (Code::Malformed, Some("expires_at")));
    assert_eq!(present(1, 1).await.problem().code, Code::Malformed);
    for (amount, expires_at) in [(1, end), (2, end + 1), (3, i64::MAX), (4, 0)] {
        let answer: PaymentAnswer = present(amount, expires_at).await.success();
        assert_eq!(answer.outcome, Outcome::Accepted, "{expires_at}");
        let read = channel.read(rig.relayer(0)).await.expect("the relayer answers").body.expect("known");
        let latest = read.latest.expect("paid");
        assert_eq!(latest.cumulative_amount, Amount::new(amount));
        assert_eq!(latest.proof, channel.voucher_until(amount, expires_at).proof);
    }
    // Left out means never; the signature covers it, so that no one can put another in.
    let left_out = body(&channel, 5, |object| drop(object.remove("expires_at")));
    assert_eq!(rig.present(0, left_out).await.success::<PaymentAnswer>().outcome, Outcome::Accepted);
    let changed = body(&channel, 6, |object| drop(object.insert("expires_at".to_owned(), json!(end))));
    assert_eq!(rig.present(0, changed).await.problem().code, Code::InvalidSignature);
}

#[tokio::test]
async fn a_channel_that_nobody_knows_is_not_found() {
    let rig = Rig::start(RigOptions::default()).await;
    let unopened = rig.payer().await.channel(rig.payee()).unopened();
    let base = format!("{}/v1/channels", rig.relayer(0));
    let unknown = rig.http.get(&format!("{base}/{}", unopened.id())).await;
    assert_eq!((unknown.status, unknown.problem().code), (404, Code::UnknownChannel));
    let close = unopened.close(rig.relayer(0)).await.expect("the relayer answers");
    assert_eq!((close.status, close.code()), (404, Some("unknown_channel")));
    for bad in ["0", "abc", "1111111111111111111111111111111"] {
        let malformed = rig.http.get(&format!("{base}/{bad}")).await.problem();
        assert_eq!((malformed.code, malformed.field.as_deref()), (Code::Malformed, Some("id")), "{bad}");
    }
    assert!(!rig.dump().await.contains(&unopened.id().to_string()), "asking leaves nothing behind");
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = rig.channel(1_000).await;
    let id = channel.id();
    for path in ["", "/", "/v1", "/v1/payment", "/v1/payments/", "/v2/payments", "/v1/channels", "/metrics"] {
        let reply = rig.http.get(&format!("{}{path}", rig.relayer(0))).await;
        assert_eq!((reply.status, reply.problem().code), (404, Code::NotFound), "GET {path}");
    }
    for (method, path) in [
        (Method::GET, "/v1/payments".to_owned()),
        (Method::PUT, "/v1/payments".to_owned()),
        (Method::DELETE, "/v1/payments/batch".to_owned()),
        (Method::POST, format!("/v1/channels/{id}")),
        (Method::GET, format!("/v1/channels/{id}/close")),
    ] {
        let reply = rig.http.send(method.clone(), &format!("{}{path}", rig.relayer(0))).await;
        assert_eq!((reply.status, reply.problem().code), (405, Code::MethodNotAllowed), "{method} {path}");
    }
}
