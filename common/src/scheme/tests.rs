//! Both schemes against naive ones, written from their definitions.

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;
use crate::client::tree::Tree;
use crate::client::{Purse, compressed};
use crate::ids::ChannelId;
use crate::voucher::VerifiedVoucher;
use crate::wire::PaymentRequest;

const UNIT: Amount = Amount::new(3);

fn terms(scheme: SchemeKind) -> CheckedTerms {
    let terms = crate::channel::Terms { capacity: Amount::MAX, scheme, ..crate::testing::terms(0) };
    terms.check().expect("usable terms")
}

fn sha(parts: &[&[u8]]) -> [u8; 32] {
    parts.iter().fold(Sha256::new(), |hash, part| hash.chain_update(part)).finalize().into()
}

/// The tree by its definition: all levels, from the leaves up.
fn levels(seed: Hash, leaves: u32) -> Vec<Vec<[u8; 32]>> {
    let secret = |index: u32| sha(&[&seed.0, &u64::from(index).to_be_bytes()]);
    let mut levels = vec![(0..leaves).map(|index| sha(&[&secret(index)])).collect::<Vec<_>>()];
    while let Some(level) = levels.last().filter(|level| level.len() > 1) {
        levels.push(level.chunks(2).map(|pair| sha(&[&pair[0], &pair[1]])).collect());
    }
    levels
}

/// Whether a complete proof holds, by the definition of the tree.
fn holds(root: [u8; 32], leaves: u32, proof: &paytree::Proof) -> bool {
    let mut node = sha(&[&proof.secret.0]);
    let mut at = proof.index;
    for sibling in &proof.siblings {
        node = if at.is_multiple_of(2) { sha(&[&node, &sibling.0]) } else { sha(&[&sibling.0, &node]) };
        at /= 2;
    }
    node == root && (1..leaves).contains(&proof.index) && 1u32 << proof.siblings.len() == leaves
}

fn check<'a>(known: Option<&'a Proof>) -> Check<'a> {
    Check { known, steps_max: u32::MAX }
}

fn verify(
    terms: &CheckedTerms,
    payment: &PaymentRequest,
    check: Check<'_>,
) -> Result<VerifiedVoucher, Unproven> {
    VerifiedVoucher::verify_with(terms, &payment.clone().into(), check)
}

fn trees() -> impl Strategy<Value = (Hash, u32)> {
    (any::<[u8; 32]>(), 1u32..8).prop_map(|(seed, depth)| (Hash(seed), 1 << depth))
}

proptest! {
    #[test]
    fn the_tree_is_the_one_of_the_definition((seed, leaves) in trees()) {
        let levels = levels(seed, leaves);
        let tree = Tree::new(seed, leaves).expect("a power of two");
        prop_assert_eq!(tree.root().0, levels.last().expect("a level")[0]);
        for index in 0..leaves {
            let proof = tree.proof(index).expect("a leaf");
            let mut at = usize::try_from(index).expect("small");
            for (sibling, level) in proof.siblings.iter().zip(&levels) {
                prop_assert_eq!(sibling.0, level[at ^ 1]);
                at /= 2;
            }
            prop_assert_eq!(proof.siblings.len() + 1, levels.len());
        }
    }

    #[test]
    fn a_compressed_proof_holds_with_any_other_known_and_becomes_complete(
        ((seed, leaves), from, to) in (trees(), any::<u32>(), any::<u32>())
    ) {
        let purse = Purse::paytree(seed, UNIT, leaves).expect("a power of two");
        let terms = terms(purse.scheme());
        let payment = |units: u32| {
            let amount = Amount::new(u64::from(units) * UNIT.units());
            purse.payment(terms.id(), amount).expect("a leaf that pays")
        };
        let at = |any: u32| 1 + any % (leaves - 1);
        let (known, full) = (payment(at(from)), payment(at(to)));
        let short = compressed(&full, &known.proof);
        let proven = verify(&terms, &short, check(Some(&known.proof))).expect("it follows from what is known");
        prop_assert_eq!(proven.proof(), &full.proof);
        prop_assert_eq!(proven.cumulative_amount(), full.cumulative_amount);
        // Complete, it needs nothing known, and what is known does not hurt.
        for known in [None, Some(&known.proof)] {
            prop_assert_eq!(verify(&terms, &full, check(known)), Ok(proven.clone()));
        }
        // One sibling less does not do, and none without anything known.
        if let Proof::Paytree(paytree::Proof { siblings, .. }) = &short.proof {
            let needed = u32::try_from(siblings.len()).expect("few");
            let mut shorter = short.clone();
            if let (Proof::Paytree(proof), true) = (&mut shorter.proof, needed > 0) {
                proof.siblings.pop();
                prop_assert_eq!(
                    verify(&terms, &shorter, check(Some(&known.proof))),
                    Err(Unproven::MissingSiblings { given: needed - 1, needed })
                );
            }
            if needed < leaves.trailing_zeros() {
                let refused = verify(&terms, &short, check(None));
                let needs_more = matches!(refused, Err(Unproven::MissingSiblings { .. }));
                prop_assert!(needs_more, "{:?}", refused);
            }
        }
    }

    #[test]
    fn a_proof_that_was_changed_anywhere_holds_exactly_if_the_definition_says_so(
        ((seed, leaves), from, to) in (trees(), any::<u32>(), any::<u32>()),
        (index, bit, place) in (any::<u32>(), any::<usize>(), 0usize..4),
    ) {
        let tree = Tree::new(seed, leaves).expect("a power of two");
        let commitment = paytree::Commitment { root: tree.root(), unit: UNIT, leaves };
        let terms = terms(SchemeKind::Paytree(commitment));
        let at = |any: u32| 1 + any % (leaves - 1);
        let known = Proof::Paytree(tree.proof(at(from)).expect("a leaf"));
        let mut proof = tree.proof(at(to)).expect("a leaf");
        let flip = |hash: &mut Hash| hash.0[bit % 32] ^= 1 << (bit % 8);
        match place {
            0 => proof.index = index % (2 * leaves),
            1 => flip(&mut proof.secret),
            2 => { let at = bit % proof.siblings.len(); flip(&mut proof.siblings[at]) }
            _ => proof.siblings.push(Hash([0; 32])),
        }
        let payment = Payment { channel_id: terms.id(), cumulative_amount: None, proof: Proof::Paytree(proof.clone()) };
        for known in [None, Some(&known)] {
            let proven = VerifiedVoucher::verify_with(&terms, &payment, check(known));
            prop_assert_eq!(proven.is_ok(), holds(tree.root().0, leaves, &proof), "{:?}", proven);
        }
    }

    #[test]
    fn a_token_holds_exactly_if_it_leads_to_the_root_in_k_steps(
        seed: [u8; 32],
        (length, k, from) in (1u32..200).prop_flat_map(|n| (Just(n), 0..=n + 1, 1..=n)),
        (claimed, bit) in (0u32..4, any::<Option<u8>>()),
    ) {
        let purse = Purse::payword(Hash(seed), UNIT, length).expect("a length");
        let Purse::Payword { commitment, chain } = &purse else { unreachable!("a chain") };
        let terms = terms(purse.scheme());
        let mut token = chain.token(k.min(length)).expect("within the chain");
        if let Some(bit) = bit {
            token.0[usize::from(bit) % 32] ^= 1 << (bit % 8);
        }
        let k = k.saturating_add(claimed).saturating_sub(1);
        let mut value = token.0;
        for _ in 0..k {
            value = sha(&[&value]);
        }
        let holds = (1..=length).contains(&k) && value == commitment.root.0;
        let known = Proof::Payword(payword::Proof { k: from, token: chain.token(from).expect("within") });
        let payment = Payment {
            channel_id: terms.id(),
            cumulative_amount: None,
            proof: Proof::Payword(payword::Proof { k, token }),
        };
        for known in [None, Some(&known)] {
            let proven = VerifiedVoucher::verify_with(&terms, &payment, check(known));
            prop_assert_eq!(proven.is_ok(), holds, "{:?}", proven);
            if let Ok(proven) = proven {
                prop_assert_eq!(proven.cumulative_amount().units(), u64::from(k) * UNIT.units());
            }
        }
    }

    #[test]
    fn stored_proofs_come_back(seed: [u8; 32], units in 1u32..64) {
        let amount = Amount::new(u64::from(units) * UNIT.units());
        for purse in [Purse::payword(Hash(seed), UNIT, 64), Purse::paytree(Hash(seed), UNIT, 64)] {
            let purse = purse.expect("a size");
            let payment = purse.payment(ChannelId([1; 32]), amount).expect("within");
            let stored = payment.proof.to_bytes();
            prop_assert_eq!(Proof::from_bytes(purse.scheme(), &stored), Ok(payment.proof.clone()));
            prop_assert!(Proof::from_bytes(purse.scheme(), &stored[..stored.len() - 1]).is_err());
            let json = serde_json::to_string(&payment).expect("JSON");
            prop_assert_eq!(&serde_json::from_str::<PaymentRequest>(&json).expect("round trip"), &payment);
        }
    }
}

#[test]
fn no_payment_is_hashed_further_than_the_bound() {
    let purse = Purse::payword(Hash([1; 32]), UNIT, 10_000).expect("a length");
    let terms = terms(purse.scheme());
    let payment = |k: u64| purse.payment(terms.id(), Amount::new(k * UNIT.units())).expect("within");
    let within = |known, k, steps_max| {
        let known: Option<PaymentRequest> = known;
        let known = known.as_ref().map(|known| &known.proof);
        verify(&terms, &payment(k), Check { known, steps_max }).map(drop)
    };
    let too_large = |steps, most| Err(Unproven::StepTooLarge { steps, most });
    assert_eq!(within(None, 1_024, 1_024), Ok(()));
    assert_eq!(within(None, 1_025, 1_024), too_large(1_025, 1_024));
    assert_eq!(within(Some(payment(9_000)), 10_000, 1_024), Ok(()));
    assert_eq!(within(Some(payment(9_000)), 7_977, 1_024), Ok(()), "below, one that the known one leads to");
    assert_eq!(within(Some(payment(9_000)), 7_000, 1_024), too_large(2_000, 1_024));
    assert_eq!(within(Some(payment(9_000)), 1, 1_024), Ok(()), "the root is nearer");
}

#[test]
fn a_leaf_is_not_paid_by_its_hash_and_a_node_is_no_leaf() {
    let tree = Tree::new(Hash([7; 32]), 8).expect("a power of two");
    let commitment = paytree::Commitment { root: tree.root(), unit: UNIT, leaves: 8 };
    let terms = terms(SchemeKind::Paytree(commitment));
    let paid = tree.proof(2).expect("a leaf");
    let next = tree.proof(3).expect("a leaf");
    // The proof of leaf 2 shows the hash of leaf 3, and the secret of leaf 2 gives the sibling that leaf 3 needs.
    let mut stolen = next.clone();
    stolen.secret = paid.siblings[0];
    let proof = Proof::Paytree(stolen);
    let payment = Payment { channel_id: terms.id(), cumulative_amount: None, proof };
    assert_eq!(VerifiedVoucher::verify(&terms, payment), Err(Unproven::InvalidSignature));
    // Fewer siblings, as if the node above were the leaf.
    let mut short = paid.clone();
    (short.index, short.secret) = (1, Hash(sha(&[&sha(&[&paid.secret.0]), &paid.siblings[0].0])));
    short.siblings.remove(0);
    for proof in [short, paytree::Proof { siblings: Vec::new(), ..paid }] {
        let payment =
            Payment { channel_id: terms.id(), cumulative_amount: None, proof: Proof::Paytree(proof) };
        assert!(VerifiedVoucher::verify(&terms, payment).is_err());
    }
}

#[test]
fn another_scheme_or_another_amount_is_not_proven() {
    let payword = Purse::payword(Hash([1; 32]), UNIT, 8).expect("a length");
    let paytree = Purse::paytree(Hash([1; 32]), UNIT, 8).expect("a size");
    let terms = terms(payword.scheme());
    let payment = |purse: &Purse, amount| purse.payment(terms.id(), Amount::new(amount)).expect("within");
    let wrong = verify(&terms, &payment(&paytree, 6), Check::FROM_TERMS);
    assert_eq!(wrong, Err(Unproven::WrongScheme { scheme: "payword" }));
    let other = PaymentRequest { cumulative_amount: Amount::new(9), ..payment(&payword, 6) };
    let proven = Amount::new(6);
    assert_eq!(verify(&terms, &other, Check::FROM_TERMS), Err(Unproven::OtherAmount { proven }));
    let elsewhere = PaymentRequest { channel_id: ChannelId([5; 32]), ..payment(&payword, 6) };
    assert_eq!(verify(&terms, &elsewhere, Check::FROM_TERMS), Err(Unproven::InvalidSignature));
}

#[test]
fn commitments_that_no_payment_can_be_made_under_are_refused_by_field() {
    let root = Hash([1; 32]);
    let payword =
        |unit, length| SchemeKind::Payword(payword::Commitment { root, unit: Amount::new(unit), length });
    let paytree =
        |unit, leaves| SchemeKind::Paytree(paytree::Commitment { root, unit: Amount::new(unit), leaves });
    let cases = [
        (payword(0, 5), Some("scheme.payword.unit")),
        (payword(u64::MAX, 2), Some("scheme.payword.unit")),
        (payword(1, 0), Some("scheme.payword.length")),
        (payword(1, STEPS_MAX + 1), Some("scheme.payword.length")),
        (payword(1, STEPS_MAX), None),
        (paytree(0, 4), Some("scheme.paytree.unit")),
        (paytree(1, 1), Some("scheme.paytree.leaves")),
        (paytree(1, 6), Some("scheme.paytree.leaves")),
        (paytree(1, 2 * STEPS_MAX), Some("scheme.paytree.leaves")),
        (paytree(1, STEPS_MAX), None),
    ];
    for (scheme, field) in cases {
        assert_eq!(scheme.check().err().map(|error| error.field), field, "{scheme:?}");
    }
}
