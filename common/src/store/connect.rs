//! From configuration to connections.

use std::sync::Arc;
use std::time::Duration;

use fred::clients::SubscriberClient;
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::Builder;
use fred::types::config::{Config, ReconnectPolicy, TlsConnector, UnresponsiveConfig};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

use super::accept::Turns;
use super::keys::Keys;
use super::loss::Seen;
use super::preflight::Memory;
use super::replicas::Replicas;
use super::{Inner, Store, StoreError};
use crate::config::{ConfigError, RedisConfig};
use crate::tls::{self, TlsKeys};

/// Pauses between attempts to reconnect start here, in ms, and double.
const RECONNECT_DELAY_MIN_MS: u32 = 20;

const TLS_KEYS: TlsKeys = TlsKeys { url: "redis.url", ca_file: "redis.tls_ca_file" };

impl Store {
    /// Starts to connect, and goes on trying for ever: whether Redis is there now shows in [`Store::preflight`].
    ///
    /// # Errors
    /// The configuration does not make sense, or a secret cannot be read.
    pub fn connect(config: &RedisConfig) -> Result<Store, ConfigError> {
        let pool = builder(config)?
            .build_pool(config.connections.into())
            .map_err(|error| ConfigError::invalid("redis.url", error.to_string()))?;
        pool.connect();
        // Half of the time that an answer may take: the other half is for the way there and back.
        let within = Duration::from_millis((config.command_timeout_ms / 2).max(1));
        let inner = Arc::new(Inner {
            pool,
            keys: Keys::new(&config.prefix, config.partitions),
            durability: config.durability,
            is_cluster: config.url.contains("-cluster:"),
            replicas: (config.replicas_min > 0).then_some(Replicas { min: config.replicas_min, within }),
            memory: Memory::new(config.memory_high_percent, config.memory_low_percent),
            seen: Seen::new(config.partitions),
            schema: Default::default(),
            turns: Turns::default(),
        });
        watch_connections(&inner);
        Ok(Store { inner })
    }

    /// Waits until every connection stands.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] after `within`.
    pub async fn wait_connected(&self, within: Duration) -> Result<(), StoreError> {
        match tokio::time::timeout(within, self.inner.pool.wait_for_connect()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(StoreError::Unavailable { detail: error.to_string() }),
            Err(_) => Err(StoreError::Unavailable {
                detail: format!("not connected within {} ms", within.as_millis()),
            }),
        }
    }
}

pub(super) fn builder(config: &RedisConfig) -> Result<Builder, ConfigError> {
    config.validate()?;
    let invalid = |error: fred::error::Error| ConfigError::invalid("redis.url", error.to_string());
    // Without the second s: for it the client would set up TLS of its own, and panic as `tls` says.
    let mut redis = Config::from_url(&config.url.replacen("rediss", "redis", 1)).map_err(invalid)?;
    redis.fail_fast = false;
    redis.username.clone_from(&config.username);
    if let Some(password) = &config.password {
        let password =
            password.read().map_err(|error| ConfigError::invalid("redis.password", error.to_string()))?;
        redis.password = Some(password);
    }
    if config.url.starts_with("rediss") {
        redis.tls = Some(TlsConnector::from(tls::believing(config.tls_ca_file.as_deref(), TLS_KEYS)?).into());
    }
    let command_timeout = Duration::from_millis(config.command_timeout_ms);
    let connect_timeout = Duration::from_millis(config.connect_timeout_ms);
    let mut builder = Builder::from_config(redis);
    builder
        .with_connection_config(|connection| {
            connection.connection_timeout = connect_timeout;
            connection.internal_command_timeout = connect_timeout;
            // A command whose connection broke may have run: only the caller knows whether it may be repeated.
            connection.max_command_attempts = 1;
            connection.reconnect_on_auth_error = true;
            connection.tcp.nodelay = Some(true);
            connection.unresponsive = UnresponsiveConfig {
                max_timeout: Some(command_timeout.saturating_mul(2)),
                interval: command_timeout,
            };
        })
        .with_performance_config(|performance| performance.default_command_timeout = command_timeout)
        .set_policy(ReconnectPolicy::new_exponential(
            0,
            RECONNECT_DELAY_MIN_MS,
            config.reconnect_delay_max_ms.max(RECONNECT_DELAY_MIN_MS),
            2,
        ));
    Ok(builder)
}

/// Says once when a connection is lost and once when it is back, however many attempts lie between; and sees to it that
/// nothing is written on a new connection before what Redis holds was looked at. A reconnect comes after a pause
/// ([`RECONNECT_DELAY_MIN_MS`]), so the loss is noted before it.
fn watch_connections(inner: &Arc<Inner>) {
    for client in inner.pool.clients() {
        let mut errors = client.error_rx();
        let mut reconnects = client.reconnect_rx();
        // The watch ends with the store.
        let inner = Arc::downgrade(inner);
        tokio::spawn(async move {
            let mut lost = false;
            loop {
                tokio::select! {
                    error = errors.recv() => {
                        let Some(inner) = inner.upgrade() else { return };
                        inner.seen.disconnected();
                        match error {
                            Ok((error, _)) if !lost => {
                                lost = true;
                                tracing::warn!(%error, "Redis connection lost");
                            }
                            Err(RecvError::Closed) => return,
                            Ok(_) | Err(RecvError::Lagged(_)) => {}
                        }
                    }
                    server = reconnects.recv() => {
                        let Some(inner) = inner.upgrade() else { return };
                        inner.seen.look_soon();
                        match server {
                            Ok(server) if lost => {
                                lost = false;
                                tracing::info!(%server, "Redis connection is back");
                            }
                            Err(RecvError::Closed) => return,
                            Ok(_) | Err(RecvError::Lagged(_)) => {}
                        }
                    }
                }
            }
        });
    }
}

/// A connection of its own that listens for released leases: a listener on a shared one would hold up commands.
pub struct ReleaseNotices {
    client: SubscriberClient,
    seen: watch::Receiver<u64>,
}

impl ReleaseNotices {
    /// Starts to listen; a notice sent while the connection is down is missed, so waiting needs a deadline all the same.
    ///
    /// # Errors
    /// The configuration does not make sense.
    pub async fn listen(config: &RedisConfig, keys: &Keys) -> Result<ReleaseNotices, ConfigError> {
        let client = builder(config)?
            .build_subscriber_client()
            .map_err(|error| ConfigError::invalid("redis.url", error.to_string()))?;
        let (sender, seen) = watch::channel(0u64);
        let mut messages = client.message_rx();
        tokio::spawn(async move {
            // A listener that falls behind has been notified all the same.
            while !matches!(messages.recv().await, Err(RecvError::Closed)) {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        });
        client.connect();
        client.manage_subscriptions();
        let subscriber = client.clone();
        let topic = keys.released();
        tokio::spawn(async move {
            // The subscription is kept across reconnects by the client; the first one waits for the connection.
            let _ = subscriber.wait_for_connect().await;
            if let Err(error) = subscriber.subscribe(topic).await {
                tracing::warn!(%error, "cannot listen for released leases; standbys wait for leases to run out");
            }
        });
        Ok(ReleaseNotices { client, seen })
    }

    /// Waits for the next notice.
    pub async fn next(&mut self) {
        if self.seen.changed().await.is_err() {
            // The listener is gone with its client: there will be no notice any more.
            std::future::pending::<()>().await;
        }
    }

    /// Stops listening.
    pub async fn close(&self) {
        let _ = self.client.quit().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_can_be_set_up_and_an_authority_that_cannot_be_read_is_named() {
        let mut config = RedisConfig { url: "rediss://127.0.0.1:6379".to_owned(), ..RedisConfig::default() };
        // A machine without any authority is told so; no machine may panic.
        if let Err(error) = builder(&config) {
            assert!(error.to_string().starts_with("redis.url"), "{error}");
        }
        for not_pem in ["no such file", "Cargo.toml"] {
            config.tls_ca_file = Some(not_pem.into());
            let error = builder(&config).expect_err(not_pem).to_string();
            assert!(error.starts_with("redis.tls_ca_file"), "{error}");
        }
    }
}
