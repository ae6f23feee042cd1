//! Valid input of every target, and input that is wrong in the ways that people get it wrong.

use common::amount::Amount;
use common::batch::{ChannelSettlement, SettlementResult, SettlementsAnswer, commit};
use common::channel::{SchemeKind, Terms};
use common::client::tree::Tree;
use common::ids::{ChannelId, Hash, PublicKey, Signature};
use common::message;
use common::problem::{Code, Problem};
use common::scheme::{paytree, payword};
use common::testing::{self, key, public};
use common::voucher::Proof;
use common::wire::{
    Account, AccountRequest, Balance, CloseRequest, IssuerChannel, IssuerChannelPage, IssuerInfo,
    IssuerStatus, Latest, OpenRequest, Party, PaymentRequest, Receipt, RefundRequest, SettlementRequest,
};
use serde::Serialize;

const FAR: i64 = 4_000_000_000;

fn sign(seed: u8, message: &[u8]) -> Signature {
    Signature::of(&key(seed), message)
}

/// The one channel of all seeds.
pub fn terms() -> Terms {
    Terms { capacity: Amount::new(1_000_000), ..testing::terms(7) }
}

/// Amount and expiry of every voucher that the channel's payer has signed.
pub fn vouchers() -> [(u64, i64); 4] {
    [(1, 0), (9_007_199_254_740_993, 0), (u64::MAX, 0), (5, FAR + 1)]
}

fn voucher((amount, expires_at): (u64, i64)) -> PaymentRequest {
    let channel_id = terms().id();
    let cumulative_amount = Amount::new(amount);
    let signature = sign(2, &message::voucher(&channel_id, cumulative_amount, expires_at));
    PaymentRequest { channel_id, cumulative_amount, proof: Proof::Ed25519 { expires_at, signature } }
}

/// The seeds' channel in each scheme.
pub fn channels() -> [Terms; 3] {
    let unit = Amount::new(5);
    let payword = payword::Commitment { root: payword::hash_times(SEED, LENGTH), unit, length: LENGTH };
    let tree = Tree::new(SEED, LENGTH).expect("a power of two");
    let paytree = paytree::Commitment { root: tree.root(), unit, leaves: LENGTH };
    let schemes = [SchemeKind::Ed25519, SchemeKind::Payword(payword), SchemeKind::Paytree(paytree)];
    schemes.map(|scheme| Terms { scheme, ..terms() })
}

/// True if the payer of the seeds' channel has proven this amount by this proof.
pub fn proven(scheme: SchemeKind, amount: Amount, proof: &Proof) -> bool {
    let units = amount.units() / 5;
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    match (scheme, proof) {
        (SchemeKind::Ed25519, Proof::Ed25519 { expires_at, .. }) => {
            vouchers().contains(&(amount.units(), *expires_at))
        }
        (SchemeKind::Payword(_), Proof::Payword(proof)) => *proof == step(units),
        (SchemeKind::Paytree(_), Proof::Paytree(proof)) => *proof == leaf(units),
        _ => false,
    }
}

/// What the seeds' chain grows from, and the seeds' tree.
const SEED: Hash = Hash([9; 32]);

/// Steps of the seeds' chain, and leaves of their tree.
const LENGTH: u32 = 16;

fn step(k: u32) -> payword::Proof {
    payword::Proof { k, token: payword::hash_times(SEED, LENGTH.saturating_sub(k)) }
}

fn leaf(index: u32) -> paytree::Proof {
    Tree::new(SEED, LENGTH).and_then(|tree| tree.proof(index)).expect("a leaf of the tree")
}

fn other_payments() -> Vec<Vec<u8>> {
    let [_, payword, paytree] = channels();
    let body = |terms: &Terms, units: u32, proof: Proof| {
        let cumulative_amount = Amount::new(u64::from(units) * 5);
        json(&PaymentRequest { channel_id: terms.id(), cumulative_amount, proof })
    };
    let shortened = paytree::Proof { siblings: vec![], ..leaf(1) };
    vec![
        body(&payword, 1, Proof::Payword(step(1))),
        body(&payword, 16, Proof::Payword(step(16))),
        body(&paytree, 1, Proof::Paytree(leaf(1))),
        body(&paytree, 15, Proof::Paytree(leaf(15))),
        body(&paytree, 1, Proof::Paytree(shortened)),
        format!(r#"{{"channel_id":"{}","proof":{{"payword":{{"k":0,"token":"{SEED}"}}}}}}"#, payword.id())
            .into_bytes(),
    ]
}

fn receipt() -> Receipt {
    let (channel_id, settled_amount, refunded_amount) = (terms().id(), Amount::new(5), Amount::new(999_995));
    let message = message::receipt(&channel_id, settled_amount, refunded_amount, true, 1_700_000_000_000);
    let receipt = Receipt {
        channel_id,
        settled_amount,
        refunded_amount,
        closed: true,
        settled_at_ms: 1_700_000_000_000,
        signature: sign(1, &message),
        inclusion: None,
    };
    // Three times the same: a tree with a place that has siblings.
    let mut batch = [receipt.clone(), receipt.clone(), receipt];
    commit(&mut batch, &key(1));
    let [_, receipt, _] = batch;
    receipt
}

fn issuer_channel() -> IssuerChannel {
    let latest = voucher((5, FAR + 1));
    IssuerChannel {
        channel_id: terms().id(),
        terms: terms(),
        status: IssuerStatus::Closed,
        settled_amount: Amount::new(5),
        refunded_amount: Amount::new(999_995),
        settled: Some(Latest { cumulative_amount: latest.cumulative_amount, proof: latest.proof }),
        receipt: Some(receipt()),
        opened_at_ms: 1_690_000_000_000,
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a seed is JSON")
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

/// The seeds of a target, in a fixed order.
///
/// # Panics
/// There is no such target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "amounts" => amounts(),
        "batch" => batches(),
        "config" => configs(),
        "hot_state" => hot_states(),
        "ids" => ids(),
        "issuer_answers" => issuer_answers(),
        "issuer_requests" => issuer_requests(),
        "payment" => payments(),
        "stream" => streams(),
        _ => panic!("no seeds for {target}"),
    }
}

fn amounts() -> Vec<Vec<u8>> {
    texts(&[
        "0",
        "1",
        "9007199254740993",
        "18446744073709551615",
        "18446744073709551616",
        "00",
        "-1",
        "+1",
        "1.0",
        "1e3",
        "\"5\"",
        "00000000000000000005",
        "18446744073709551615 ",
        "99999999999999999999",
        "١",
        "",
    ])
}

fn ids() -> Vec<Vec<u8>> {
    let (id, key, signature) = (ChannelId([7; 32]), public(1), Signature([9; 64]));
    let longer = format!("1{id}");
    let zeros = ChannelId([0; 32]).to_string();
    texts(&[
        &id.to_string(),
        &key.to_string(),
        &signature.to_string(),
        &longer,
        &zeros,
        "1",
        "0OIl",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "till-7.1042:3",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more",
    ])
}

fn payments() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = vouchers().map(|signed| json(&voucher(signed))).to_vec();
    let valid = String::from_utf8_lossy(&json(&voucher((1, 0)))).into_owned();
    seeds.push(valid.replace("\"1\"", "1").into_bytes());
    seeds.push(valid.replace("\"1\"", "\"0\"").into_bytes());
    seeds.push(valid.replace("\"expires_at\":0", "\"expires_at\":-1").into_bytes());
    seeds.push(valid.replace("\"expires_at\":0", "\"expires_at\":0,\"expires_at\":1").into_bytes());
    seeds.push(valid.replace("channel_id", "ch\\u0061nnel_id").into_bytes());
    seeds.push(valid.replace('}', ",\"note\":null}").into_bytes());
    seeds.push(format!("{valid} {valid}").into_bytes());
    seeds.extend(other_payments());
    seeds.extend(texts(&["{}", "[]", "null", "{\"channel_id\":{\"a\":[[[[[[[[]]]]]]]]}}", "{\"\u{0}\":1}"]));
    seeds
}

fn batches() -> Vec<Vec<u8>> {
    let one = String::from_utf8_lossy(&json(&voucher((1, 0)))).into_owned();
    let deep = format!("[{}{}]", "[".repeat(140), "]".repeat(140));
    let mut seeds = texts(&[
        &format!("[{one},{one}]"),
        &format!("{one}\n{one}\r\n\n{one}"),
        &format!("[{one},5,\"x\",null,{{}}]"),
        &format!(" \n[ {one} ] "),
        &format!("[{one}"),
        &format!("[{one},]"),
        "[]",
        "",
        "\n\n",
        "{}\n[]\nnull",
        &deep,
    ]);
    seeds.push(b"{\"a\":\"\xff\"}\n{}".to_vec());
    seeds.push(format!("[{}]", vec!["1"; 65].join(",")).into_bytes());
    seeds
}

fn configs() -> Vec<Vec<u8>> {
    let payee = public(3);
    let full = format!(
        "payee: {payee}\nissuer:\n  public_key: {payee}\nredis:\n  url: rediss://redis:6379/1\n  username: relayer\n  \
         password: env:SECRET\n  partitions: 32\n  durability: always\nlimits:\n  per_channel_per_s: 50\n"
    );
    let settler = format!(
        "payee_key: file:/run/secrets/payee\nissuer:\n  public_key: {payee}\npolicy:\n  owed_max: \"1000\"\n  idle_max_s: null\n"
    );
    let environment = format!("MILLRACE_RELAYER__LIMITS__PER_CHANNEL_PER_S=5\n{full}");
    let text = "MILLRACE_SETTLER__PAYEE_KEY=env:KEY\nlease:\n  ttl_ms: 4000\n".to_owned();
    texts(&[
        &full,
        &settler,
        &environment,
        &text,
        "# nothing\n",
        "listen: 0.0.0.0:8080\nhttp: {body_max_bytes: 1}\n",
        "redis:\n  partitons: 8\n",
        "a: &a [*a, *a]\n",
        "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
        "redis: {url: 'redis://user:pass@h:1'}\n",
        "batch_max: 1e3\nbatcher: {queue_max: 0x10}\n",
        "---\n---\n",
        "log:\n  filter: !!str info\n  format: |\n    json\n",
        "drain_grace_ms: 18446744073709551616\n",
    ])
}

fn hot_states() -> Vec<Vec<u8>> {
    let proof = voucher((1, 0)).proof.to_bytes();
    let state = |letter: u8, amount: u64, proof: &[u8]| {
        let amounts = [Amount::new(amount).to_lua(), Amount::MAX.to_lua()].concat();
        [&[letter], amounts.as_bytes(), proof].concat()
    };
    vec![
        state(b'O', 0, b""),
        state(b'O', 1, &proof),
        state(b'C', 9_007_199_254_740_993, &proof),
        state(b'X', u64::MAX, &proof),
        state(b'F', 5, &proof[..71]),
        state(b'Z', 5, &proof),
        state(b'O', 5, b"")[..40].to_vec(),
        b"O99999999999999999999".to_vec(),
    ]
}

fn issuer_requests() -> Vec<Vec<u8>> {
    let id = terms().id();
    let payee_signature = sign(3, &message::settle(&id, Amount::new(5), true, u64::MAX));
    let settle = |proof| {
        let unsigned = SettlementRequest::unsigned(Amount::new(5), Some(proof), true, u64::MAX);
        SettlementRequest { payee_signature, ..unsigned }
    };
    let settlement = settle(voucher((1, 0)).proof);
    let weak = Terms { payer_authorizer: PublicKey([0; 32]), ..terms() };
    let odd = Terms { asset: "\u{1f4b0}\"".to_owned(), expires_at: i64::MIN, ..terms() };
    let open = |terms: Terms| json(&OpenRequest { signature: sign(2, &message::open(&terms.id())), terms });
    vec![
        open(terms()),
        open(weak),
        open(odd),
        json(&settlement),
        json(&settle(Proof::Payword(step(1)))),
        json(&settle(Proof::Paytree(leaf(1)))),
        json(&SettlementRequest { signature: None, ..settlement.clone() }),
        json(&RefundRequest { signature: sign(2, &message::refund(&id)) }),
        json(&AccountRequest { public_key: public(2) }),
        json(&CloseRequest { requested_by: Party::Payee, signature: sign(3, &message::close_request(&id)) }),
        json(&serde_json::json!({ "settlements": [
            ChannelSettlement { channel_id: id, request: settlement },
            { "channel_id": id, "amount": 5 },
            [],
        ] })),
    ]
}

fn issuer_answers() -> Vec<Vec<u8>> {
    let mut stale = Problem::new(Code::StaleFencingToken).detail("another leads").retry_after_s(1);
    stale.highest_fencing_token = Some(u64::MAX);
    let balance = Balance { asset: "usd".to_owned(), available: Amount::MAX, locked: Amount::ZERO };
    let account = Account { public_key: public(3), balances: vec![balance], highest_fencing_token: 9 };
    let page = IssuerChannelPage { channels: vec![issuer_channel()], next: Some(terms().id()) };
    let unsettled = IssuerChannel { settled: None, receipt: None, ..issuer_channel() };
    let mut seeds = vec![
        json(&issuer_channel()),
        json(&unsettled),
        json(&page),
        json(&receipt()),
        json(&account),
        json(&IssuerInfo { public_key: public(1), development: false }),
        json(&stale),
        json(&Problem::new(Code::StaleAmount)),
    ];
    seeds.extend(texts(&["<html>502</html>", "", "[]", "{\"code\":\"new_code\"}"]));
    let results = vec![
        SettlementResult::Settled(receipt()),
        SettlementResult::Refused(Problem::new(Code::ChannelClosed)),
        SettlementResult::Settled(Receipt { inclusion: None, ..receipt() }),
    ];
    seeds.push(json(&SettlementsAnswer { results }));
    seeds
}

fn streams() -> Vec<Vec<u8>> {
    let id = terms().id();
    let proof = voucher((1, 0)).proof.to_bytes();
    let value = [Amount::new(5).to_lua().as_bytes(), &proof].concat();
    let length = u8::try_from(value.len()).expect("short");
    let bytes = [&[b'b', length][..], &value].concat();
    let entry = |fields: &[u8]| [b"[1[2\"17-2\"", fields].concat();
    let payment = [format!("\"{id}\"").as_bytes(), &bytes].concat();
    let trail = format!("[[\"{id}\",\"5\",\"till-7.1042\",\"00-{:032x}-{:016x}-01\"]]", 7, 9);
    let trail = [&[b'b', u8::try_from(trail.len()).expect("short")][..], trail.as_bytes()].concat();
    vec![
        entry(&[b"[2", payment.as_slice()].concat()),
        entry(&[b"[4", payment.as_slice(), payment.as_slice()].concat()),
        entry(&[b"[3", payment.as_slice()].concat()),
        entry(b"[2\"a\"\"b\""),
        entry(b"[2\"a\"\"00000000000000000005p\""),
        entry(b"n"),
        entry(b"[0"),
        b"[2[1\"17-2\"[2\"nonsense\"[0".to_vec(),
        b"[0".to_vec(),
        b"n".to_vec(),
        b"1700000000000-0".to_vec(),
        b"18446744073709551616-1".to_vec(),
        entry(&[b"[4", payment.as_slice(), b"\"trail\"", trail.as_slice()].concat()),
        entry(&[b"[4\"trail\"", trail.as_slice(), payment.as_slice()].concat()),
    ]
}
