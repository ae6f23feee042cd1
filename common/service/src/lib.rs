//! What every Millrace process does the same way around its own work: HTTP, error bodies, the admin listener,
//! signals, and the client of an issuer.
//!
//! # Layout
//!
//! * [`http`]: one listener, served with bounds on everything and drained on shutdown. [`websocket`]: from a request to
//!   a WebSocket connection.
//! * [`error`], [`body`]: every error leaves as a problem; every body comes in through one reader.
//! * [`admin`]: `/livez`, `/readyz`, `/metrics`. [`metrics`]: figures that one scrape must show together.
//! * [`openapi`]: routes together with their description.
//! * [`signals`], [`process`]: from the command line to two running listeners and back. [`reload`]: another configuration
//!   meanwhile.
//! * [`profiling`]: where CPU time goes and who holds memory, where that is turned on.
//! * [`probe`]: a health check that needs nothing beside the program itself.
//! * [`trail`]: what a request is called, for log lines and for whoever is asked on its behalf. [`spans`]: how long its parts
//!   took, for a collector.
//! * [`journal`]: where the journal's segments are kept.
//! * [`audit`]: what acknowledged, recorded and paid have to do with one another.
//! * [`issuer_client`]: how relayer and settler talk to an issuer. [`fitness`]: whether they may use a Redis.

/// The allocator of every Millrace binary: a server makes and drops small things by the million. Of these it makes less
/// work than the system's, gives back what is no longer needed, and can say who holds what.
pub use tikv_jemallocator::Jemalloc as Allocator;

pub mod admin;
pub mod audit;
pub mod body;
pub mod error;
pub mod fitness;
pub mod http;
pub mod issuer_client;
pub mod journal;
pub mod metrics;
pub mod openapi;
pub mod probe;
pub mod process;
pub mod profiling;
pub mod reload;
pub mod signals;
pub mod spans;
pub mod trail;
pub mod websocket;
