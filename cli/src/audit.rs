//! `millrace audit`: collecting what is looked at ([`gather`]), the journal beside it ([`journal`]), and what the services say
//! of themselves ([`metrics`]). What is looked at and what is wrong with it is decided in [`service::audit`], for the
//! settler's console as well.

pub mod gather;
pub mod journal;
pub mod metrics;

pub use service::audit::*;
