//! Proofs that lead to nothing that is known of their channel.

use common::voucher::Proof;
use common::wire::PaymentAnswer;
use tests::payer::{Channel, Scheme};
use tests::rig::{Rig, RigOptions};

use super::table::{Shown, json, refused_without_a_trace};

/// A channel that has paid 4 on the first relayer.
async fn paid(rig: &Rig, scheme: Scheme) -> Channel {
    let payer = rig.payer().await;
    let channel = payer.channel(rig.payee()).capacity(5_000).in_scheme(scheme, 4_095).open().await;
    rig.pay(0, &channel, 4).await.success::<PaymentAnswer>();
    channel
}

fn assert_goes_on_from(shown: &Shown, channel: &Channel) {
    let latest = shown.problem.latest.as_ref().expect("with the latest payment");
    assert_eq!(latest.cumulative_amount.units(), 4);
    assert_eq!(latest.proof, channel.voucher(4).proof);
}

pub(super) async fn a_leaf_without_siblings_that_are_not_known_lacks_them() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = paid(&rig, Scheme::Paytree).await;
    let mut payment = channel.compressed_after(9, 4);
    let Proof::Paytree(proof) = &mut payment.proof else { panic!("a leaf: {payment:?}") };
    proof.siblings.pop().expect("leaf 9 needs some after leaf 4");
    let shown = refused_without_a_trace(&rig, "missing_siblings", json(&payment)).await;
    assert_goes_on_from(&shown, &channel);
    assert_eq!(rig.present(0, json(&channel.compressed_after(9, 4))).await.status, 200, "with one more");
    shown
}

pub(super) async fn a_step_further_than_the_bound_is_too_large() -> Shown {
    let rig = Rig::start(RigOptions::default()).await;
    let channel = paid(&rig, Scheme::Payword).await;
    let shown = refused_without_a_trace(&rig, "step_too_large", json(&channel.voucher(1_029))).await;
    assert_goes_on_from(&shown, &channel);
    assert_eq!(rig.pay(0, &channel, 1_028).await.status, 200, "the bound itself can be paid");
    shown
}
