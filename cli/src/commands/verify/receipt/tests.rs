use super::*;
use common::ids::Signature;
use ed25519_dalek::SigningKey;
use serde_json::{Value, json};

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn issuer() -> PublicKey {
    PublicKey::of(&key(1))
}

/// The second of three receipts that were settled together.
fn receipt() -> Receipt {
    let mut batch = [3u8, 4, 5].map(|i| {
        let mut receipt = Receipt {
            channel_id: ChannelId([i; 32]),
            settled_amount: Amount::new(112),
            refunded_amount: Amount::new(888),
            closed: true,
            settled_at_ms: 1_800_000_000_123,
            signature: Signature([0; 64]),
            inclusion: None,
        };
        receipt.signature = Signature::of(&key(1), &receipt.message());
        receipt
    });
    common::batch::commit(&mut batch, &key(1));
    batch[1].clone()
}

fn text(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

fn verified(text: &[u8], issuer: &PublicKey) -> Result<Proven, Unproven> {
    receipt_in(text).and_then(|receipt| prove(&receipt, issuer))
}

#[test]
fn a_good_receipt_is_proven_alone_and_within_its_channel() {
    let receipt = json!(receipt());
    let channel = json!({ "channel_id": ChannelId([4; 32]), "status": "closed", "receipt": receipt });
    for value in [receipt, channel] {
        let proven = verified(&text(&value), &issuer()).expect("proven");
        assert_eq!((proven.settled_amount.units(), proven.batch.index, proven.batch.size), (112, 1, 3));
        let words = in_words(&proven);
        for word in ["112", "888", "closed", "2027-01-15T08:00:00.123Z", "leaf 2 of 3"] {
            assert!(words.contains(word), "{word}: {words}");
        }
    }
}

/// What is changed, and what the reason must name.
type Case = (&'static str, fn(&mut Value), &'static str);

#[test]
fn each_way_of_being_wrong_is_told_apart() {
    let cases: [Case; 19] = [
        ("another amount", |r| r["settled_amount"] = json!("113"), "settled_amount"),
        ("another refund", |r| r["refunded_amount"] = json!("0"), "refunded_amount"),
        ("not closed", |r| r["closed"] = json!(false), "closed"),
        ("another channel", |r| r["channel_id"] = json!(ChannelId([9; 32])), "channel_id"),
        ("another time", |r| r["settled_at_ms"] = json!(1_800_000_000_124_u64), "nothing here is signed by"),
        (
            "another signature",
            |r| r["signature"] = json!(Signature([7; 64])),
            "signature: the issuer signed the batch",
        ),
        ("another root", |r| r["inclusion"]["root"] = json!(Hash([7; 32])), "inclusion.root"),
        ("another sibling", |r| r["inclusion"]["siblings"][0] = json!(Hash([7; 32])), "inclusion.siblings"),
        ("a sibling too many", |r| push(&mut r["inclusion"]["siblings"]), "inclusion.siblings: 3 hashes"),
        ("no siblings", |r| r["inclusion"]["siblings"] = json!([]), "inclusion.siblings: 0 hashes"),
        ("another place", |r| r["inclusion"]["index"] = json!(0), "inclusion.siblings"),
        ("no such place", |r| r["inclusion"]["index"] = json!(3), "inclusion.index: 3"),
        ("another size", |r| r["inclusion"]["size"] = json!(4), "inclusion.signature"),
        (
            "another's batch",
            |r| r["inclusion"]["signature"] = json!(Signature([7; 64])),
            "inclusion.signature",
        ),
        ("no inclusion", |r| r["inclusion"] = Value::Null, "inclusion: none"),
        ("no inclusion, changed", unsealed_and_changed, "signature: the issuer has not signed this receipt"),
        ("an amount as a number", |r| r["settled_amount"] = json!(112), "settled_amount: "),
        ("a short hash", |r| r["inclusion"]["siblings"][1] = json!("abc"), "inclusion.siblings[1]: "),
        (
            "a part of an inclusion",
            |r| drop(r["inclusion"].as_object_mut().map(|i| i.remove("size"))),
            "size",
        ),
    ];
    let good = json!(receipt());
    for (name, change, reason) in cases {
        let mut value = good.clone();
        change(&mut value);
        let told = verified(&text(&value), &issuer()).expect_err(name).to_string();
        assert!(told.contains(reason), "{name}: {told}");
        let channel = json!({ "channel_id": value["channel_id"], "receipt": value });
        assert!(verified(&text(&channel), &issuer()).is_err(), "{name}, within its channel");
    }
}

fn push(siblings: &mut Value) {
    siblings.as_array_mut().expect("an array").push(json!(Hash([7; 32])));
}

fn unsealed_and_changed(receipt: &mut Value) {
    receipt["inclusion"] = Value::Null;
    receipt["settled_amount"] = json!("113");
}

#[test]
fn another_issuer_and_a_key_that_is_none_are_named() {
    let text = text(&json!(receipt()));
    let other = PublicKey::of(&key(2));
    assert_eq!(verified(&text, &other), Err(Unproven::OtherIssuer(other)));
    let weak = PublicKey([0; 32]);
    assert_eq!(verified(&text, &weak), Err(Unproven::Key(weak)));
}

#[test]
fn what_is_no_receipt_is_told_by_field() {
    let told = |text: &[u8]| verified(text, &issuer()).expect_err("no receipt").to_string();
    for no_json in [&b"not JSON"[..], b"", b"[]", b"{", b"{} {}"] {
        assert!(told(no_json).starts_with("expected JSON of a receipt"), "{}", told(no_json));
    }
    assert!(told(b"{}").contains("channel_id"));
    let open = json!({ "channel_id": ChannelId([4; 32]), "receipt": null });
    assert_eq!(verified(&text(&open), &issuer()), Err(Unproven::NoReceipt));
    let mixed_up = text(&json!({ "channel_id": ChannelId([3; 32]), "receipt": receipt() }));
    assert!(told(&mixed_up).starts_with("receipt.channel_id: "), "{}", told(&mixed_up));
    let mut short = json!({ "receipt": receipt() });
    short["receipt"]["settled_amount"] = json!("0112");
    assert!(told(&text(&short)).contains("receipt.settled_amount"), "{}", told(&text(&short)));
    let twice = String::from_utf8(text(&json!(receipt()))).expect("text");
    let twice = twice.replacen("\"settled_amount\"", "\"settled_amount\":\"1\",\"settled_amount\"", 1);
    assert!(told(twice.as_bytes()).contains("duplicate field"), "which of the two is read?");
}
