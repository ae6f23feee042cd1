//! What a request is called, so that it can be found again wherever it leads: the id that its caller gave it or that it
//! got here, and its place in the caller's trace ([W3C Trace Context](https://www.w3.org/TR/trace-context/)).

use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Longest id that a caller may give, in bytes.
pub const GIVEN_MAX: usize = 64;

/// Longest id in all: one that was given, and the number of a message.
const LENGTH_MAX: usize = 88;

/// Characters of the part of an id that is this process' own.
const PREFIX_LEN: usize = 13;

/// What a request is called. Of letters, digits, `.`, `_`, `:` and `-`, and so safe in a log line, a header and a URL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RequestId {
    bytes: [u8; LENGTH_MAX],
    length: u8,
}

impl RequestId {
    /// The id that a caller gave, if it is one: 1 to [`GIVEN_MAX`] of the characters above.
    pub fn given(value: &[u8]) -> Option<RequestId> {
        if value.len() > GIVEN_MAX { None } else { RequestId::of(value) }
    }

    /// As [`RequestId::given`]; what was given may have got the number of a message since.
    pub fn of(value: &[u8]) -> Option<RequestId> {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
        if value.is_empty() || !value.iter().all(is_plain) {
            return None;
        }
        let mut bytes = [0; LENGTH_MAX];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(RequestId { bytes, length: u8::try_from(value.len()).ok()? })
    }

    /// An id that no other request has: the process' own beginning, which is random, and a number.
    pub fn made() -> RequestId {
        static PREFIX: OnceLock<[u8; PREFIX_LEN]> = OnceLock::new();
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let prefix = PREFIX.get_or_init(|| {
            let mut prefix = [b'-'; PREFIX_LEN];
            // Twelve digits fit: the rest of the room is the dash.
            let _ = write!(prefix.as_mut_slice(), "{:012x}", rand::random::<u64>() >> 16);
            prefix
        });
        RequestId::joined(prefix, b"", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The id of a message of a connection that was asked for by this request.
    #[must_use]
    pub fn of_message(&self, number: u64) -> RequestId {
        RequestId::joined(self.as_bytes(), b":", number)
    }

    /// At most 64 bytes, one and the 20 digits of a number: there is room.
    fn joined(first: &[u8], mark: &[u8], number: u64) -> RequestId {
        let mut bytes = [0; LENGTH_MAX];
        let mut room = bytes.as_mut_slice();
        let _ = room.write_all(first);
        let _ = room.write_all(mark);
        let _ = room.write_all(itoa::Buffer::new().format(number).as_bytes());
        let left = room.len();
        RequestId { bytes, length: u8::try_from(LENGTH_MAX.saturating_sub(left)).unwrap_or(0) }
    }

    /// Its characters.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    /// Its characters, as a text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A place in a trace: the header `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; never 0.
    pub trace_id: u128,
    /// The span that what follows is part of; never 0.
    pub span_id: u64,
    /// Bit 0: the trace is recorded.
    pub flags: u8,
}

/// Characters of a `traceparent` of version 00.
const PARENT_LEN: usize = 55;

impl TraceParent {
    /// Reads the header. Of a later version what this one knows is read, as the specification has it. `None` for what is
    /// malformed: then there is no trace.
    pub fn parse(value: &[u8]) -> Option<TraceParent> {
        let (known, rest) = value.split_at_checked(PARENT_LEN)?;
        let known = std::str::from_utf8(known).ok()?;
        let mut parts = known.split('-');
        let [version, trace, span, flags] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
        let is_hex = |text: &str, length: usize| {
            let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            text.len() == length && text.bytes().all(digit)
        };
        let is_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
        let may_go_on = version != "00" && rest.first() == Some(&b'-');
        if !is_formed || parts.next().is_some() || version == "ff" || !(rest.is_empty() || may_go_on) {
            return None;
        }
        let trace_id = u128::from_str_radix(trace, 16).ok()?;
        let span_id = u64::from_str_radix(span, 16).ok()?;
        let flags = u8::from_str_radix(flags, 16).ok()?;
        // Of a later version the meaning of one flag alone is known.
        let flags = if version == "00" { flags } else { flags & 1 };
        (trace_id != 0 && span_id != 0).then_some(TraceParent { trace_id, span_id, flags })
    }

    /// The beginning of a trace that nobody records.
    pub fn unrecorded() -> TraceParent {
        TraceParent {
            trace_id: rand::random::<u128>().max(1),
            span_id: rand::random::<u64>().max(1),
            flags: 0,
        }
    }

    /// True if whoever is above records the trace.
    pub fn is_sampled(&self) -> bool {
        self.flags & 1 == 1
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

/// What goes with a payment on its way through Redis: only what its payer brought, or what is recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trail {
    /// What the payer calls the request.
    pub request_id: Option<RequestId>,
    /// Where in a trace the payment is.
    pub trace: Option<TraceParent>,
}

/// The id of a trace, as it stands in a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceId(pub u128);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_is_taken_as_it_is_or_not_at_all() {
        let longest = "a".repeat(GIVEN_MAX);
        for id in ["a", "7f3a-1.B_c:9", longest.as_str()] {
            assert_eq!(RequestId::given(id.as_bytes()).expect(id).as_str(), id);
        }
        let too_long = "a".repeat(GIVEN_MAX + 1);
        for id in ["", "a b", "a\n", "ä", "a\"", "a;b", too_long.as_str()] {
            assert_eq!(RequestId::given(id.as_bytes()), None, "{id:?}");
        }
    }

    #[test]
    fn ids_that_are_made_differ_and_could_have_been_given() {
        let (first, second) = (RequestId::made(), RequestId::made());
        assert_ne!(first, second);
        assert_eq!(first.as_bytes()[..PREFIX_LEN], second.as_bytes()[..PREFIX_LEN], "of one process");
        assert!(first.as_bytes()[..PREFIX_LEN - 1].iter().all(u8::is_ascii_hexdigit), "{first}");
        assert_eq!(RequestId::given(first.as_bytes()), Some(first));
    }

    #[test]
    fn a_message_is_called_after_its_connection_however_long_that_is() {
        let id = RequestId::given("a".repeat(GIVEN_MAX).as_bytes()).expect("an id");
        let message = id.of_message(u64::MAX);
        assert_eq!(message.as_str(), format!("{id}:{}", u64::MAX));
        assert_eq!(RequestId::of(message.as_bytes()), Some(message));
    }

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = TraceParent::parse(text.as_bytes()).expect("its own example");
        assert!(parent.is_sampled());
        assert_eq!((parent.to_string().as_str(), parent.span_id), (text, 0x00f0_67aa_0ba9_02b7));
        assert_eq!(TraceId(parent.trace_id).to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let later = text.replacen("00", "cc", 1).replace("-01", "-09-what-comes-later");
        let read = TraceParent::parse(later.as_bytes()).expect("as far as it is known");
        assert_eq!(read, parent);
    }

    #[test]
    fn what_is_malformed_is_no_trace() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for bad in [
            "",
            "00",
            &good[..54],
            &format!("{good}-"),
            &format!("{good} "),
            &good.to_uppercase(),
            &good.replacen("00", "ff", 1),
            &good.replace("00f067aa0ba902b7", "0000000000000000"),
            &good.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &good.replace("-01", "-0g"),
            &good.replace("-01", "+01"),
            &good.replace('-', "_"),
            &good.replace("4bf9", "+bf9"),
            &good.replacen("00", "cc", 1).replace("-01", "-01."),
        ] {
            assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
