//! What Redis gives back: hot states, and entries of the stream.

use std::str::FromStr as _;

use common::amount::Amount;
use common::channel::SchemeKind;
use common::store::state::{HEAD_LEN, HotState};
use common::store::stream::{EntryId, parse_entries};
use common::trail::RequestId;
use fred::types::Value;

/// Deeper than any reply of Redis that Millrace asks for.
const DEPTH_MAX: usize = 5;

pub(crate) fn hot_state(data: &[u8]) {
    let Some(state) = HotState::parse(data) else { return };
    let mut written = vec![state.status.letter()];
    written.extend_from_slice(state.amount.to_lua().as_bytes());
    written.extend_from_slice(state.capacity.to_lua().as_bytes());
    assert_eq!(written.len(), HEAD_LEN);
    written.extend_from_slice(&state.proof);
    assert_eq!(written, data, "two texts for one state");
    if let Some(proof) = state.proof(SchemeKind::Ed25519) {
        assert_eq!(proof.to_bytes(), state.proof);
    }
}

pub(crate) fn stream(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(id) = EntryId::from_str(text)
    {
        assert_eq!(EntryId::from_str(&id.to_string()), Ok(id));
    }
    let Some(entries) = parse_entries(reply(&mut Bytes(data), 0)) else { return };
    for followed in entries.iter().flat_map(|entry| &entry.followed) {
        assert!(followed.trail.request_id.is_none_or(|id| RequestId::of(id.as_bytes()) == Some(id)));
    }
    for payment in entries.iter().filter_map(|entry| entry.payments.as_ref().ok()).flatten() {
        assert_eq!(Amount::from_lua(payment.amount.to_lua().as_bytes()), Ok(payment.amount));
    }
}

/// A reply of Redis, of any form, after a plan of bytes: a letter for the type, then its length, then its content.
/// Letters, so that the kept corpus can be read.
fn reply(plan: &mut Bytes<'_>, depth: usize) -> Value {
    match plan.next() {
        Some(b'[') if depth < DEPTH_MAX => {
            let length = plan.next().map_or(0, |byte| byte.saturating_sub(b'0'));
            Value::Array((0..length.min(16)).map(|_| reply(plan, depth + 1)).collect())
        }
        Some(b'"') => Value::String(String::from_utf8_lossy(plan.until(b'"')).into_owned().into()),
        Some(b'b') => {
            let length = plan.next().unwrap_or(0);
            Value::Bytes(plan.take(usize::from(length)).to_vec().into())
        }
        Some(b'i') => Value::Integer(plan.next().map_or(0, i64::from)),
        _ => Value::Null,
    }
}

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn until(&mut self, end: u8) -> &'a [u8] {
        let length = self.0.iter().position(|byte| *byte == end).unwrap_or(self.0.len());
        let taken = self.take(length);
        self.next();
        taken
    }
}
