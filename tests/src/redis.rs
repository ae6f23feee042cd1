//! A private Redis for one test, with the handle methods that users of miniredis know.

mod container;
mod dump;
mod replica;
mod sentinel;
mod snapshot;
mod tier;

use std::time::Duration;

use cli::stack::redis::RedisOptions;
use fred::clients::Client;
use fred::interfaces::{ClientLike as _, KeysInterface as _, LuaInterface as _};
use fred::types::config::{Config, ReconnectPolicy};
use fred::types::{Builder, ClusterHash, CustomCommand};

use crate::proxy::{Fault, FaultProxy, Protocol};
use crate::wait_until;
use tier::Server;

pub use replica::Replica;
pub use sentinel::Sentinels;
pub use snapshot::Snapshot;
pub use tier::Tier;

/// How long the handle's own client waits for the server to come back.
const BACK_DEADLINE: Duration = Duration::from_secs(20);

/// Takes `ARGV[1]` ms from the time that every key with a TTL has left; what would then be past is deleted. One
/// script, so that no TTL is renewed between reading and writing it.
const FAST_FORWARD: &str = r"
local by = tonumber(ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 then
    if left <= by then
      redis.call('DEL', key)
    else
      redis.call('PEXPIRE', key, string.format('%.0f', left - by))
    end
  end
end
";

/// A private Redis server, gone with the test that started it.
#[derive(Debug)]
pub struct Redis {
    // The proxy and the client go first: they would complain of a server that is gone.
    proxy: FaultProxy,
    client: Client,
    server: Server,
    paused: bool,
}

impl Redis {
    /// A server with an append-only file that is brought to disk once a second, in the tier that
    /// `MILLRACE_TEST_REDIS` names, else in the first that this machine can have.
    ///
    /// # Panics
    /// No tier can be had; the message says what to install.
    pub async fn start() -> Redis {
        Self::start_with(RedisOptions::default()).await
    }

    /// As [`Redis::start`], with options of its own.
    ///
    /// # Panics
    /// As [`Redis::start`].
    pub async fn start_with(options: RedisOptions) -> Redis {
        Self::start_in(Tier::of_this_machine().await, options).await
    }

    /// A server in this very tier.
    ///
    /// # Panics
    /// The tier cannot be had here; the message says what to install.
    pub async fn start_in(tier: Tier, options: RedisOptions) -> Redis {
        let server = Server::start(tier, options).await;
        let client = connect(&server.url()).await;
        let proxy = FaultProxy::start(server.address(), Protocol::Redis).await;
        Redis { proxy, client, server, paused: false }
    }

    /// What the server runs in.
    pub fn tier(&self) -> Tier {
        self.server.tier()
    }

    /// The server's own address.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// The address of the fault proxy in front of the server: what a test gives to the code under test.
    pub fn proxy_url(&self) -> String {
        format!("redis://{}", self.proxy.address())
    }

    /// The fault proxy in front of the server.
    pub fn proxy(&self) -> &FaultProxy {
        &self.proxy
    }

    /// A client of its own, connected to the server itself, past the proxy. It reconnects when the server comes back.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn client(&self) -> Client {
        connect(&self.url()).await
    }

    /// A client connected through the proxy: it meets what the code under test meets.
    ///
    /// # Panics
    /// The server does not answer, or the proxy keeps it from answering.
    pub async fn proxied_client(&self) -> Client {
        connect(&self.proxy_url()).await
    }

    /// Sends any command and gives back the reply as text, as `redis-cli` would show it.
    ///
    /// # Panics
    /// The server answers with an error.
    pub async fn command(&self, parts: &[&str]) -> String {
        let (name, args) = parts.split_first().expect("a command has a name");
        let command = CustomCommand::new((*name).to_owned(), ClusterHash::FirstKey, false);
        let args: Vec<String> = args.iter().map(|part| (*part).to_owned()).collect();
        let reply: fred::types::Value =
            self.client.custom(command, args).await.unwrap_or_else(|error| panic!("{parts:?}: {error}"));
        dump::text(&reply)
    }

    /// Moves time for every TTL, as if `by` had passed. Clocks do not move: not the server's, not anyone's.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn fast_forward(&self, by: Duration) {
        let ms = by.as_millis().to_string();
        let () = self
            .client
            .eval(FAST_FORWARD, Vec::<String>::new(), vec![ms])
            .await
            .expect("a live server moves its TTLs");
    }

    /// Deletes everything.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn flush_all(&self) {
        let () = self.client.flushall(false).await.expect("a live server can be emptied");
    }

    /// The string at `key`, if there is one.
    ///
    /// # Panics
    /// The key holds another type, or the server does not answer.
    pub async fn get(&self, key: &str) -> Option<String> {
        self.client.get(key).await.unwrap_or_else(|error| panic!("GET {key}: {error}"))
    }

    /// Whether `key` exists.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn exists(&self, key: &str) -> bool {
        self.client.exists(key).await.expect("a live server knows its keys")
    }

    /// Asserts that the string at `key` is `expected`.
    ///
    /// # Panics
    /// It is not; the message shows both, and all keys.
    pub async fn check_get(&self, key: &str, expected: &str) {
        let found = self.get(key).await;
        assert!(
            found.as_deref() == Some(expected),
            "{key}: expected {expected:?}, found {found:?}; keys: {:?}",
            self.keys("*").await
        );
    }

    /// The keys that fit a glob pattern, sorted.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn keys(&self, pattern: &str) -> Vec<String> {
        let command = CustomCommand::new_static("KEYS", ClusterHash::FirstKey, false);
        let mut keys: Vec<String> =
            self.client.custom(command, vec![pattern]).await.expect("a live server knows its keys");
        keys.sort();
        keys
    }

    /// All that the server holds, as text: one block a key, sorted, streams with their groups.
    ///
    /// # Panics
    /// The server does not answer.
    pub async fn dump(&self) -> String {
        dump::dump(&self.client, self.keys("*").await).await
    }

    /// Through the proxy, every command is answered with this error and none is carried out; `None` heals.
    pub fn set_error(&self, error: Option<&str>) {
        self.proxy.set(error.map_or(Fault::Pass, |text| Fault::AnswerError(text.to_owned())));
    }

    /// Freezes the server: connections stay, nothing is answered.
    ///
    /// # Panics
    /// It does not run.
    pub async fn pause(&mut self) {
        self.server.pause().await;
        self.paused = true;
    }

    /// Lets a frozen server go on.
    ///
    /// # Panics
    /// It does not run.
    pub async fn resume(&mut self) {
        self.server.resume().await;
        self.paused = false;
    }

    /// SIGKILL: what the system has not been given yet is lost. [`Redis::restart`] brings the server back.
    ///
    /// # Panics
    /// The engine does not do it.
    pub async fn kill(&mut self) {
        self.server.kill().await;
        self.paused = false;
    }

    /// Stops the server if it runs and starts it again at the same address, on the same data.
    ///
    /// # Panics
    /// It does not come back.
    pub async fn restart(&mut self) {
        if self.paused {
            self.resume().await;
        }
        self.server.restart().await;
        let client = &self.client;
        wait_until(BACK_DEADLINE, "the handle's client is connected again", || async move {
            client.ping::<String>(None).await.is_ok()
        })
        .await;
    }
}

/// A client that reconnects for ever and gives up a command after five seconds.
async fn connect(url: &str) -> Client {
    let config = Config::from_url(url).expect("the harness writes valid URLs");
    let client = Builder::from_config(config)
        .with_performance_config(|performance| performance.default_command_timeout = Duration::from_secs(5))
        .with_connection_config(|connection| connection.reconnect_on_auth_error = true)
        .set_policy(ReconnectPolicy::new_constant(0, 20))
        .build()
        .expect("the client's settings are valid");
    client.init().await.expect("the server answers, for it was waited for");
    client
}
