//! Vouchers and batches of receipts made by other implementations of the same bytes: theirs are ours, ours are theirs.

use common::amount::Amount;
use common::batch::commit;
use common::channel::SchemeKind;
use common::client::chain::Chain;
use common::client::tree::Tree;
use common::ids::{ChannelId, Hash, PublicKey, Signature};
use common::message;
use common::scheme::{paytree, payword};
use common::verify::{usable_key, verify_strict};
use common::voucher::{Payment, Proof, Unproven, VerifiedVoucher};
use common::wire::Receipt;
use ed25519_dalek::{Signer, SigningKey};
use serde::Deserialize;
use tests::channel::TestChannel;

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

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect();
    bytes.try_into().expect("as many bytes as a hash has")
}

#[derive(Deserialize)]
struct Chains {
    seed_hex: String,
    n: u32,
    root_hex: String,
    tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Token {
    k: u32,
    token_hex: String,
}

#[test]
fn payword_chains_are_those_of_the_reference() {
    let vectors: Chains =
        serde_json::from_str(include_str!("../vectors/payword.json")).expect("the vectors are JSON");
    let chain = Chain::new(Hash(bytes(&vectors.seed_hex)), vectors.n).expect("a length");
    assert_eq!(chain.root(), Hash(bytes(&vectors.root_hex)));
    let unit = Amount::new(7);
    let commitment = payword::Commitment { root: chain.root(), unit, length: vectors.n };
    let terms = TestChannel::in_scheme(SchemeKind::Payword(commitment), u64::MAX).terms().clone();
    assert!(!vectors.tokens.is_empty());
    for Token { k, token_hex } in vectors.tokens {
        let token = Hash(bytes(&token_hex));
        assert_eq!(chain.token(k), Some(token), "step {k}");
        let proof = Proof::Payword(payword::Proof { k, token });
        let payment = Payment { channel_id: terms.id(), cumulative_amount: None, proof };
        let proven = VerifiedVoucher::verify(&terms, payment).expect("a token of the chain");
        assert_eq!(proven.cumulative_amount(), Amount::new(u64::from(k) * 7));
    }
}

#[derive(Deserialize)]
struct Trees {
    trees: Vec<TreeVector>,
}

#[derive(Deserialize)]
struct TreeVector {
    leaves: u32,
    seed_hex: String,
    root_hex: String,
    proofs: Vec<LeafVector>,
}

#[derive(Deserialize)]
struct LeafVector {
    index: u32,
    secret_hex: String,
    siblings_hex: Vec<String>,
}

#[test]
fn paytree_trees_are_those_of_the_reference() {
    let vectors: Trees =
        serde_json::from_str(include_str!("../vectors/paytree.json")).expect("the vectors are JSON");
    assert!(!vectors.trees.is_empty());
    for vector in vectors.trees {
        let tree = Tree::new(Hash(bytes(&vector.seed_hex)), vector.leaves).expect("a power of two");
        assert_eq!(tree.root(), Hash(bytes(&vector.root_hex)));
        let commitment =
            paytree::Commitment { root: tree.root(), unit: Amount::new(7), leaves: vector.leaves };
        let terms = TestChannel::in_scheme(SchemeKind::Paytree(commitment), u64::MAX).terms().clone();
        assert!(!vector.proofs.is_empty());
        for LeafVector { index, secret_hex, siblings_hex } in vector.proofs {
            let siblings = siblings_hex.iter().map(|hex| Hash(bytes(hex))).collect();
            let proof = paytree::Proof { index, secret: Hash(bytes(&secret_hex)), siblings };
            assert_eq!(tree.proof(index).as_ref(), Some(&proof), "leaf {index} of {}", vector.leaves);
            let payment =
                Payment { channel_id: terms.id(), cumulative_amount: None, proof: Proof::Paytree(proof) };
            match VerifiedVoucher::verify(&terms, payment) {
                Ok(proven) => assert_eq!(proven.cumulative_amount(), Amount::new(u64::from(index) * 7)),
                // Leaf 0 would pay nothing.
                Err(error) => assert_eq!(
                    (index, error),
                    (
                        0,
                        Unproven::OutOfRange {
                            field: "proof.paytree.index",
                            least: 1,
                            most: vector.leaves - 1
                        }
                    )
                ),
            }
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
