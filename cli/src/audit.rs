//! `millrace audit`: collecting what is looked at ([`gather`]), and the journal beside it ([`journal`]). What is looked at and
//! what is wrong with it is decided in [`service::audit`], for the settler's console as well.

pub mod gather;
pub mod journal;

pub use service::audit::*;
