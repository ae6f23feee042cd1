//! What a proof of a scheme that counts units must look like, and what is said of those that do not.

use common::problem::Code;
use common::wire::PaymentAnswer;
use serde_json::{Value, json};
use tests::payer::{Channel, Scheme};
use tests::rig::{Rig, RigOptions};

/// The body of a payment of 5, changed.
fn body(channel: &Channel, change: impl FnOnce(&mut Value)) -> String {
    let mut value = serde_json::to_value(channel.voucher(5)).expect("a payment is JSON");
    change(&mut value);
    value.to_string()
}

async fn paid(rig: &Rig, scheme: Scheme) -> Channel {
    let channel = rig.payer().await.channel(rig.payee()).in_scheme(scheme, 63).open().await;
    rig.pay(0, &channel, 1).await.success::<PaymentAnswer>();
    channel
}

/// Values that are no hash.
fn no_hashes() -> Vec<Value> {
    let of_bytes = |bytes: usize| json!("1".repeat(bytes));
    let mut values = vec![json!(""), json!("O"), json!("with spaces"), json!(null), json!(5), json!(["1"])];
    values.extend([of_bytes(31), of_bytes(33), of_bytes(64)]);
    values
}

/// Values that are no count of units.
fn no_counts() -> Vec<Value> {
    let beyond = u64::from(u32::MAX) + 1;
    vec![json!(-1), json!("5"), json!(5.5), json!(5.0), json!(beyond), json!(null), json!([5]), json!(true)]
}

/// The bodies, each with the field at fault.
fn malformed(chain: &Channel, tree: &Channel) -> Vec<(&'static str, String)> {
    let mut cases: Vec<(&str, String)> = Vec::new();
    for value in no_hashes() {
        cases.push(("proof.payword.token", body(chain, |v| v["proof"]["payword"]["token"] = value.clone())));
        cases.push(("proof.paytree.secret", body(tree, |v| v["proof"]["paytree"]["secret"] = value.clone())));
        let second = |v: &mut Value| v["proof"]["paytree"]["siblings"][1] = value.clone();
        cases.push(("proof.paytree.siblings[1]", body(tree, second)));
    }
    for value in no_counts() {
        cases.push(("proof.payword.k", body(chain, |v| v["proof"]["payword"]["k"] = value.clone())));
        cases.push(("proof.paytree.index", body(tree, |v| v["proof"]["paytree"]["index"] = value)));
    }
    for value in [json!(null), json!("1"), json!({}), json!(5)] {
        let siblings = |v: &mut Value| v["proof"]["paytree"]["siblings"] = value.clone();
        cases.push(("proof.paytree.siblings", body(tree, siblings)));
    }
    for field in ["k", "token"] {
        let without = |v: &mut Value| drop(v["proof"]["payword"].as_object_mut().map(|o| o.remove(field)));
        cases.push((field, body(chain, without)));
    }
    for field in ["index", "secret", "siblings"] {
        let without = |v: &mut Value| drop(v["proof"]["paytree"].as_object_mut().map(|o| o.remove(field)));
        cases.push((field, body(tree, without)));
    }
    cases.push(("unit", body(chain, |v| v["proof"]["payword"]["unit"] = json!("1"))));
    cases
}

/// Bodies whose proof is none, or one too many.
fn not_one_proof(chain: &Channel, tree: &Channel) -> Vec<(&'static str, String)> {
    let of_tree = serde_json::to_value(tree.voucher(5)).expect("a payment is JSON")["proof"].clone();
    let signature = json!(tests::payer::signature_of(&chain.voucher_until(5, 0).proof));
    let signed = |v: &mut Value| v["signature"] = signature.clone();
    let mut cases: Vec<(&str, String)> = Vec::new();
    for value in [
        json!(null),
        json!("payword"),
        json!(5),
        json!([]),
        json!({}),
        json!({ "payword": null }),
        json!({ "hashcash": { "k": 5 } }),
        json!({ "Payword": { "k": 5 } }),
        // A voucher is spread over the body, and has no other form.
        json!({ "ed25519": { "expires_at": 0, "signature": signature } }),
    ] {
        cases.push(("proof", body(chain, |v| v["proof"] = value)));
    }
    cases.push(("proof", body(chain, |v| v["proof"]["paytree"] = of_tree["paytree"].clone())));
    // The values alone, in the order of the fields.
    let values = |v: &mut Value| {
        let proof = v["proof"]["payword"].clone();
        v["proof"] = json!({ "payword": [proof["k"], proof["token"]] });
    };
    cases.push(("proof", body(chain, values)));
    cases.push(("signature", body(chain, signed)));
    cases.push(("signature", body(chain, |v| v["signature"] = json!(null))));
    cases.push(("expires_at", body(chain, |v| v["expires_at"] = json!(0))));
    cases.push(("expires_at", body(chain, |v| v["expires_at"] = json!(null))));
    cases.push(("cumulative_amount", body(chain, |v| v["cumulative_amount"] = json!(null))));
    cases.push(("cumulative_amount", body(chain, |v| v["cumulative_amount"] = json!(5))));
    cases.push(("signature", body(chain, |v| drop(v.as_object_mut().map(|v| v.remove("proof"))))));
    let neither = |v: &mut Value| {
        drop(v.as_object_mut().map(|v| v.remove("proof")));
        signed(v);
        v["signature"] = json!(null);
    };
    cases.push(("signature", body(chain, neither)));
    cases
}

#[tokio::test]
async fn a_malformed_proof_is_told_which_field_is_at_fault_and_writes_nothing() {
    let rig = Rig::start(RigOptions::default()).await;
    let (chain, tree) = (paid(&rig, Scheme::Payword).await, paid(&rig, Scheme::Paytree).await);
    let before = rig.dump().await;
    for (field, body) in malformed(&chain, &tree).into_iter().chain(not_one_proof(&chain, &tree)) {
        let reply = rig.present(0, body.as_str()).await;
        let problem = reply.problem();
        assert_eq!((reply.status, problem.code), (400, Code::Malformed), "{body}");
        // A field that is missing or too much has no place of its own: the sentence names it.
        let named = problem
            .field
            .as_deref()
            .is_some_and(|found| found == field || field == "proof" && found.starts_with("proof."))
            || problem.detail.as_deref().is_some_and(|detail| detail.contains(&format!("`{field}`")));
        assert!(named, "{field} is not named for {body}: {problem:?}");
    }
    // As many siblings as a body can hold prove no more than none.
    let many = |v: &mut Value| v["proof"]["paytree"]["siblings"] = json!(vec!["1".repeat(32); 1_000]);
    assert_eq!(rig.present(0, body(&tree, many)).await.problem().code, Code::InvalidSignature);
    assert_eq!(rig.dump().await, before, "nothing was written");
    // The same payments as they should be: it was the form that was refused.
    for channel in [&chain, &tree] {
        assert_eq!(rig.present(0, body(channel, |_| ())).await.status, 200);
    }
}
