//! What any bytes may do to a decoder of Millrace: be refused, or give a value that holds what its type promises. Never
//! a panic, never a value that reads back as another.
//!
//! # Layout
//!
//! * [`TARGETS`]: every decoder by name. `texts`: ids, amounts, configuration. `bodies`: what comes over HTTP.
//!   `stored`: what Redis gives back.
//! * [`seeds`]: what valid input looks like; the start of the kept corpus in `corpus/`.
//!
//! `tests/fuzz.sh` runs them under libFuzzer; `tests/corpus.rs` beside this, in every run of the tests, over the kept
//! corpus and over a few thousand mutations of it.

mod bodies;
pub mod seeds;
mod stored;
mod texts;

/// Feeds bytes to a decoder and panics if what comes out breaks a promise.
pub type Check = fn(&[u8]);

/// Every target.
pub const TARGETS: &[(&str, Check)] = &[
    ("amounts", texts::amounts),
    ("batch", bodies::batch),
    ("config", texts::config),
    ("hot_state", stored::hot_state),
    ("ids", texts::ids),
    ("issuer_answers", bodies::issuer_answers),
    ("issuer_requests", bodies::issuer_requests),
    ("payment", bodies::payment),
    ("stream", stored::stream),
];

/// The target of this name.
pub fn target(name: &str) -> Option<Check> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}
