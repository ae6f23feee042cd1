//! Vouchers made by other implementations of the same bytes: theirs are ours, ours are theirs.

use common::amount::Amount;
use common::ids::{ChannelId, PublicKey, Signature};
use common::message;
use common::verify::{usable_key, verify_strict};
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

#[test]
fn voucher_bytes_and_signatures_are_those_of_stock_clients() {
    for v in vectors() {
        let seed: Vec<u8> = (0..v.seed_hex.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&v.seed_hex[i..i + 2], 16).expect("hex"))
            .collect();
        let key = SigningKey::from_bytes(&seed.try_into().expect("32 bytes"));
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
