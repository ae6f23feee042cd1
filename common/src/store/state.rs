//! The hot state of a channel: one short string with a fixed layout, so that a call for many payments is one MGET.

use crate::amount::Amount;
use crate::channel::{SchemeKind, Status};
use crate::voucher::Proof;

/// Bytes before the proof: status letter, amount (20 digits), capacity (20 digits).
pub const HEAD_LEN: usize = 41;

/// What Redis says of a channel in one read: no field of it can be newer than another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotState {
    /// Where the channel stands.
    pub status: Status,
    /// The latest accepted amount; 0 before the first payment.
    pub amount: Amount,
    /// The most that the channel can pay.
    pub capacity: Amount,
    /// The proof behind `amount`, as stored; empty before the first payment.
    pub proof: Vec<u8>,
}

impl HotState {
    /// Reads the stored string. `None` if no version of Millrace wrote it.
    pub fn parse(bytes: &[u8]) -> Option<HotState> {
        let (head, proof) = bytes.split_at_checked(HEAD_LEN)?;
        let (status, amounts) = head.split_first()?;
        let (amount, capacity) = amounts.split_at_checked(20)?;
        Some(HotState {
            status: Status::from_letter(*status)?,
            amount: Amount::from_lua(amount).ok()?,
            capacity: Amount::from_lua(capacity).ok()?,
            proof: proof.to_vec(),
        })
    }

    /// The proof, decoded. `None` before the first payment, or if it is not of the channel's scheme.
    pub fn proof(&self, scheme: SchemeKind) -> Option<Proof> {
        Proof::from_bytes(scheme, &self.proof).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hot_state_reads_what_the_scripts_write() {
        let text = format!("O{}{}proof", Amount::new(5).to_lua(), Amount::MAX.to_lua());
        let state = HotState::parse(text.as_bytes()).expect("the fixed layout");
        assert_eq!((state.status, state.amount), (Status::Open, Amount::new(5)));
        assert_eq!((state.capacity, state.proof.as_slice()), (Amount::MAX, b"proof".as_slice()));
        assert_eq!(HotState::parse(b"O5"), None);
        assert_eq!(HotState::parse(text.replace('O', "Z").as_bytes()), None);
    }
}
