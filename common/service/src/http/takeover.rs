//! From an answer to whoever has its connection from then on.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::net::TcpStream;

type Converse = Box<dyn FnOnce(TcpStream, Bytes) -> BoxFuture<'static, ()> + Send>;

/// What is done with a connection after the answer 101, among whose extensions this is. It is done in the connection's
/// own task: the connection goes on counting under `connections_max`, and the drain waits for it.
///
/// Not hyper's `OnUpgrade`: for that hyper must keep the connection, and then it cannot be taken from it while idle.
#[derive(Clone)]
pub(crate) struct Takeover(Arc<Mutex<Option<Converse>>>);

impl Takeover {
    /// By `converse`, which gets the socket and what was read from it already.
    pub(crate) fn by<F>(converse: impl FnOnce(TcpStream, Bytes) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let converse: Converse = Box::new(|stream, read| Box::pin(converse(stream, read)));
        Self(Arc::new(Mutex::new(Some(converse))))
    }

    /// Hands the connection over; `None` if one was before: an answer's extensions may be cloned, a connection not.
    pub(super) fn begin(self, stream: TcpStream, read: Bytes) -> Option<BoxFuture<'static, ()>> {
        let converse = self.0.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        Some(converse(stream, read))
    }
}

impl std::fmt::Debug for Takeover {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Takeover")
    }
}
