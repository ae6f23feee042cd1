//! Followed payments: those whose payers brought an id or a trace, as the entry of their accept call names them. Nothing
//! that is owed depends on it: what cannot be read is left out.

use serde::{Deserialize, Serialize};

use crate::amount::Amount;
use crate::ids::ChannelId;
use crate::trail::{RequestId, TraceParent, Trail};

/// The field of an entry that names them. No channel's id is this short.
pub(super) const FIELD: &str = "trail";

/// Most followed payments of one call; others are recorded all the same, and not followed further. With it the field has
/// some 16 KiB at most.
pub const FOLLOWED_PER_CALL_MAX: usize = 64;

/// A payment of an accept call, and what its payer calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Followed {
    /// The channel that paid.
    pub channel_id: ChannelId,
    /// Total owed on it, with this payment.
    pub amount: Amount,
    /// What goes with it.
    pub trail: Trail,
}

/// Channel, amount, request id, `traceparent`: the latter two are empty where there is none.
#[derive(Serialize, Deserialize)]
struct Row(ChannelId, Amount, String, String);

/// The field's text, if there is anyone to follow.
pub(super) fn write(followed: &[Followed]) -> Option<String> {
    let text = |followed: &Followed| {
        let Trail { request_id, trace } = followed.trail;
        let request_id = request_id.map(|id| id.to_string()).unwrap_or_default();
        let trace = trace.map(|trace| trace.to_string()).unwrap_or_default();
        Row(followed.channel_id, followed.amount, request_id, trace)
    };
    let rows: Vec<Row> = followed.iter().take(FOLLOWED_PER_CALL_MAX).map(text).collect();
    if rows.is_empty() { None } else { serde_json::to_string(&rows).ok() }
}

/// What [`write`] has written.
pub(super) fn read(text: &[u8]) -> Vec<Followed> {
    let rows: Vec<Row> = serde_json::from_slice(text).unwrap_or_default();
    let followed = |Row(channel_id, amount, id, trace): Row| {
        let request_id = RequestId::of(id.as_bytes());
        let trail = Trail { request_id, trace: TraceParent::parse(trace.as_bytes()) };
        Followed { channel_id, amount, trail }
    };
    rows.into_iter().take(FOLLOWED_PER_CALL_MAX).map(followed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(amount: u64) -> Followed {
        let trace = TraceParent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let request_id = RequestId::given("x".repeat(64).as_bytes()).map(|id| id.of_message(u64::MAX));
        Followed {
            channel_id: ChannelId([7; 32]),
            amount: Amount::new(amount),
            trail: Trail { request_id, trace },
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut both = [followed(9_007_199_254_740_993), followed(2)];
        both[1].trail.trace = None;
        let text = write(&both).expect("two to follow");
        assert_eq!(read(text.as_bytes()), both);
        assert_eq!(write(&[]), None);
    }

    #[test]
    fn the_field_is_bounded() {
        let many: Vec<Followed> = (0..1_024).map(|_| followed(u64::MAX)).collect();
        let text = write(&many).expect("many to follow");
        assert!(text.len() <= 16 * 1_024, "{}", text.len());
        assert_eq!(read(text.as_bytes()).len(), FOLLOWED_PER_CALL_MAX);
    }

    #[test]
    fn what_cannot_be_read_follows_nobody() {
        for text in ["", "[]", "{}", "[1]", "[[\"a\",\"b\",\"c\",\"d\"]]"] {
            assert!(read(text.as_bytes()).is_empty(), "{text}");
        }
        let odd = write(&[followed(5)]).expect("one").replace("00-4bf9", "zz-4bf9");
        assert_eq!(read(odd.as_bytes())[0].trail.trace, None);
    }
}
