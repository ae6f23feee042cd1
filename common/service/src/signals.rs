//! Signals: those that ask the process to end, and the one that asks it to read its configuration again.

use tokio_util::sync::CancellationToken;

/// A token that SIGTERM or SIGINT cancels. Call it once, inside the runtime.
///
/// # Errors
/// Where the system does not let the process listen for signals.
pub fn try_shutdown() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancel = token.clone();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!(signal = name, "shutting down");
            cancel.cancel();
        });
    }
    #[cfg(not(unix))]
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            cancel.cancel();
        }
    });
    Ok(token)
}

/// As [`try_shutdown`]; where signals cannot be listened for, says so in the log and never cancels.
pub fn shutdown() -> CancellationToken {
    try_shutdown().unwrap_or_else(|error| {
        tracing::error!(%error, "cannot listen for signals: the process will end without draining");
        CancellationToken::new()
    })
}

/// SIGHUP, which ends a process that does not listen for it.
#[derive(Debug)]
pub struct Hangup(#[cfg(unix)] Option<tokio::signal::unix::Signal>);

impl Hangup {
    /// Listens from now on; where signals cannot be listened for, says so in the log. Call it inside the runtime.
    pub fn listen() -> Self {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            let hangup = signal(SignalKind::hangup());
            Hangup(hangup.inspect_err(|error| tracing::error!(%error, "cannot listen for SIGHUP")).ok())
        }
        #[cfg(not(unix))]
        Hangup()
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        #[cfg(unix)]
        if let Some(hangup) = &mut self.0
            && hangup.recv().await.is_some()
        {
            return;
        }
        std::future::pending().await
    }
}
