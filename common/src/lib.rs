//! What every part of Millrace must agree on: words, bytes, states, and what Redis holds.
//!
//! # Layout
//!
//! Dependencies run one way, top to bottom.
//!
//! * [`ids`], [`amount`]: the raw values of the protocol and their one text form each.
//! * [`text`]: how JSON writes them, without copies.
//! * [`message`]: the exact bytes that each party signs. [`verify`]: the one check of a signature.
//! * [`channel`]: channel terms, their id, and the one table of status changes.
//! * [`voucher`], [`scheme`]: how a payment proves an amount; [`voucher::VerifiedVoucher`] can only be built here.
//! * [`client`]: the payer's side of the schemes that commit at opening.
//! * [`merkle`]: trees of hashes, as RFC 6962 has them. [`batch`]: settlements that go together, committed in one.
//! * [`wire`], [`problem`]: JSON bodies and error codes as they cross HTTP. No HTTP itself.
//! * [`store`]: the only code that names Redis: keys, scripts, streams, the lease.
//! * [`journal`], [`merkle`]: the form of the settler's lasting record, and what proves that nothing of it was changed.
//! * [`config`], [`secret`], [`tls`], [`clock`], [`telemetry`]: what a process needs around all this.
//! * [`trail`]: what a request is called on its way through all parts.
//! * [`fault_point`]: where tests stop a process; in no release build. `testing`: what unit tests start from.

pub mod amount;
pub mod batch;
pub mod channel;
pub mod client;
pub mod clock;
pub mod config;
pub mod fault_point;
pub mod ids;
pub mod journal;
pub mod merkle;
pub mod message;
pub mod problem;
pub mod scheme;
pub mod secret;
pub mod store;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod tls;
pub mod trail;
pub mod verify;
pub mod voucher;
pub mod wire;
