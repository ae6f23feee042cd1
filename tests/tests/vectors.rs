//! Vouchers and batches of receipts made by other implementations of the same bytes: theirs are ours, ours are theirs.

use common::amount::Amount;
use common::batch::commit;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::verify::{usable_key, verify_strict};
use common::wire::Receipt;
use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    vouchers: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    seed_hex: String,
    public_key: PublicKey,
    channel_id: ChannelId,
    cumulative_amount: Amount,
    expires_at: i64,
    message_hex: String,
    signature: Signature,
}

fn vectors() -> Vec<Vector> {
    let vectors: Vectors =
        serde_json::from_str(include_str!("../vectors/voucher.json")).expect("the vectors are JSON");
    assert!(!vectors.vouchers.is_empty());
    vectors.vouchers
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signing_key(seed_hex: &str) -> SigningKey {
    let seed: Vec<u8> = (0..seed_hex.len())
        .step_by(2)
        .map(|i| u8::from_str_radix(&seed_hex[i..i + 2], 16).expect("hex"))
        .collect();
    SigningKey::from_bytes(&seed.try_into().expect("32 bytes"))
}

#[test]
fn voucher_bytes_and_signatures_are_those_of_stock_clients() {
    for v in vectors() {
        let key = signing_key(&v.seed_hex);
        let message = message::voucher(&v.channel_id, v.cumulative_amount, v.expires_at);
        assert_eq!(hex(&message), v.message_hex);
        assert_eq!(PublicKey(key.verifying_key().to_bytes()), v.public_key);
        assert_eq!(Signature(key.sign(&message).to_bytes()), v.signature);
        assert!(verify_strict(&usable_key(&v.public_key).expect("a usable key"), &message, &v.signature));
    }
}

#[test]
fn a_voucher_with_one_bit_changed_does_not_check() {
    for v in vectors() {
        let key = usable_key(&v.public_key).expect("a usable key");
        let message = message::voucher(&v.channel_id, v.cumulative_amount, v.expires_at);
        for bit in (0..message.len() * 8).step_by(37) {
            let mut changed = message;
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_strict(&key, &changed, &v.signature), "message bit {bit}");
        }
        for bit in (0..512).step_by(61) {
            let mut changed = v.signature;
            changed.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!verify_strict(&key, &message, &changed), "signature bit {bit}");
        }
    }
}

#[derive(Deserialize)]
struct BatchVectors {
    issuer_seed_hex: String,
    issuer: PublicKey,
    batches: Vec<BatchVector>,
}

#[derive(Deserialize)]
struct BatchVector {
    receipt_messages_hex: Vec<String>,
    batch_message_hex: String,
    receipts: Vec<Receipt>,
}

#[test]
fn batches_of_receipts_are_committed_to_as_another_implementation_does() {
    let vectors: BatchVectors =
        serde_json::from_str(include_str!("../vectors/batch.json")).expect("the vectors are JSON");
    let key = signing_key(&vectors.issuer_seed_hex);
    assert_eq!(PublicKey::of(&key), vectors.issuer);
    let issuer = usable_key(&vectors.issuer).expect("a usable key");
    assert!(vectors.batches.len() >= 4);
    for batch in vectors.batches {
        let messages: Vec<String> = batch.receipts.iter().map(|receipt| hex(&receipt.message())).collect();
        assert_eq!(messages, batch.receipt_messages_hex);
        for receipt in &batch.receipts {
            assert!(receipt.is_signed_with(&issuer));
            assert_eq!(receipt.check_inclusion(&issuer), Ok(()));
            let inclusion = receipt.inclusion.as_ref().expect("every vector has its place");
            let message = message::batch(&inclusion.root, inclusion.size, receipt.settled_at_ms);
            assert_eq!(hex(&message), batch.batch_message_hex);
        }
        let mut ours: Vec<Receipt> = batch.receipts.clone();
        ours.iter_mut().for_each(|receipt| receipt.inclusion = None);
        commit(&mut ours, &key);
        assert_eq!(ours, batch.receipts);
    }
}
