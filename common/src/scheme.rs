//! Payment schemes: how a payment proves its amount. One file each, behind one trait; the accept script never changes.

mod ed25519;

use crate::channel::{CheckedTerms, SchemeKind};
use crate::voucher::{Payment, Unproven};

/// A way to prove an amount. Pure: no clock, no store.
pub trait Scheme: Send + Sync {
    /// Checks that `payment` proves its cumulative amount under `terms`.
    ///
    /// # Errors
    /// [`Unproven`] with the reason.
    fn verify(&self, terms: &CheckedTerms, payment: &Payment) -> Result<(), Unproven>;
}

/// The scheme behind a channel's terms.
pub fn of(kind: SchemeKind) -> &'static dyn Scheme {
    match kind {
        SchemeKind::Ed25519 => &ed25519::Ed25519,
    }
}
