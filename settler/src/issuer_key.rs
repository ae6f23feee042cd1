//! Whose receipts count. Receipts of one batch come together and share the issuer's signature of their tree: it is
//! checked once.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use common::ids::{Hash, Signature};
use common::verify::UsableKey;
use common::wire::Receipt;

/// Batches remembered: some more than there are requests under way at once.
const BATCHES_MAX: usize = 16;

/// What the issuer signs of a batch, with its signature.
type SignedRoot = (Hash, u64, i64, Signature);

/// The issuer's key, and the batches that it was last seen to have signed.
#[derive(Debug)]
pub struct IssuerKey {
    key: UsableKey,
    batches: Mutex<VecDeque<SignedRoot>>,
}

impl IssuerKey {
    /// The issuer that signs with this key.
    pub fn new(key: UsableKey) -> Self {
        IssuerKey { key, batches: Mutex::default() }
    }

    /// True if the issuer signed exactly this receipt.
    pub fn signed(&self, receipt: &Receipt) -> bool {
        receipt.is_signed_with(&self.key)
    }

    /// True if the receipt is in the batch that it names, and the issuer signed that one; or if it names none.
    pub fn includes(&self, receipt: &Receipt) -> bool {
        let Some(inclusion) = &receipt.inclusion else {
            return true;
        };
        if inclusion.leads_from(receipt).is_err() {
            return false;
        }
        let batch = (inclusion.root, inclusion.size, receipt.settled_at_ms, inclusion.signature);
        if self.batches.lock().unwrap_or_else(PoisonError::into_inner).contains(&batch) {
            return true;
        }
        let signed = inclusion.is_signed_with(&self.key, receipt.settled_at_ms);
        if signed {
            let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
            batches.truncate(BATCHES_MAX.saturating_sub(1));
            batches.push_front(batch);
        }
        signed
    }
}
