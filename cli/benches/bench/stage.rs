//! What is measured: a real Redis server, a real issuer, real relayers and settlers, started anew for each row, and
//! channels opened at the issuer to pay from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use cli::audit::audit;
use cli::audit::gather::{self, InLedger};
use cli::client::RelayerClient;
use cli::load::payers::{ChannelOptions, PayingChannel, ready};
use cli::payer::Scheme;
use cli::stack::PAYEE_KEY;
use cli::stack::process::Binary;
use cli::stack::redis::{AppendFsync, RedisOptions};
use cli::stack::{Stack, StackOptions};
use common::amount::Amount;
use common::channel::Terms;
use common::config::RedisConfig;
use common::ids::ChannelId;
use common::store::Store;
use common::store::diagnose::Probe;
use service::issuer_client::{IssuerClient, IssuerClientConfig};
use tempfile::TempDir;

use crate::client::{Connection, Queue, Run, closed_loop};
use crate::machine::{Machine, cpu_of};
use crate::payers::{Form, Payers};
use crate::stats::each;

/// How long a relayer that is started anew may take, and a connection to Redis.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// Deposit of each channel, in atomic units: far more than is paid from it.
const CAPACITY: Amount = Amount::new(100_000_000);

/// How long channels last, in seconds: far longer than a run.
const EXPIRES_IN_S: u64 = 86_400;

/// Payments on each channel before anything is measured: all is connected, registered and cached then.
const WARM_UP_PAYMENTS: u64 = 8;

/// What differs from the defaults in every relayer. First payments are not what is measured: all channels are met at
/// once. On a machine that others use a disk may stand still for seconds: that shows in the figures, and nothing gives up.
const RELAYER: [(&str, &str); 4] = [
    ("channels.issuer_lookups_per_s", "100000"),
    ("channels.issuer_lookups_in_flight_max", "1024"),
    ("redis.command_timeout_ms", "30000"),
    ("http.request_timeout_ms", "60000"),
];

/// The same patience for calls of our own, in ms.
const COMMAND_TIMEOUT_MS: u64 = 30_000;

/// What to start.
#[derive(Clone, Debug)]
pub(crate) struct StageOptions {
    /// Relayers: the `i`th keeps to the `i`th core, and again from the first where there are fewer.
    pub(crate) relayers: usize,
    /// Settlers. Without one, nothing consumes what is accepted.
    pub(crate) settlers: usize,
    /// Channels to pay from.
    pub(crate) channels: usize,
    /// How Redis keeps its data.
    pub(crate) redis: RedisOptions,
    /// Further config of the relayers.
    pub(crate) relayer: Vec<(&'static str, &'static str)>,
    /// How the channels pay.
    pub(crate) scheme: Scheme,
    /// Units that each channel's commitment has, where its scheme has one.
    pub(crate) units: u32,
    /// True: each payment shows all of its proof, also what the relayer knows already.
    pub(crate) complete: bool,
    /// True: the relayers sign a receipt for each payment, with the payee's key.
    pub(crate) receipts: bool,
}

impl Default for StageOptions {
    fn default() -> Self {
        StageOptions {
            relayers: 1,
            settlers: 0,
            channels: 0,
            redis: redis(AppendFsync::EverySec),
            relayer: Vec::new(),
            scheme: Scheme::Ed25519,
            units: 0,
            complete: false,
            receipts: false,
        }
    }
}

/// A Redis that keeps every write and is not interrupted by rewriting its file, which it would be once in so many
/// millions of payments.
pub(crate) fn redis(appendfsync: AppendFsync) -> RedisOptions {
    let extra = vec![("auto-aof-rewrite-percentage".to_owned(), "0".to_owned())];
    RedisOptions { appendfsync, extra, ..RedisOptions::default() }
}

/// A running stack.
pub(crate) struct Stage {
    /// Its processes.
    pub(crate) stack: Stack,
    issuer: IssuerClient,
    dir: TempDir,
    complete: bool,
}

impl Stage {
    /// Starts everything and opens the channels.
    ///
    /// # Errors
    /// A part does not come up, or a channel cannot be opened.
    pub(crate) async fn start(
        machine: &Machine,
        options: StageOptions,
    ) -> anyhow::Result<(Stage, Vec<PayingChannel>)> {
        let dir =
            tempfile::Builder::new().prefix("millrace-bench-").tempdir().context("no temporary directory")?;
        let binary = Binary::Millrace(PathBuf::from(env!("CARGO_BIN_EXE_millrace")));
        let mut stack_options = StackOptions::new(dir.path(), binary);
        stack_options.relayers = options.relayers;
        stack_options.settlers = options.settlers;
        stack_options.redis = options.redis;
        stack_options.config.relayer = RELAYER
            .iter()
            .chain(&options.relayer)
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        if options.receipts {
            let key = format!("file:{}", dir.path().join(PAYEE_KEY).display());
            let settings = [("receipts.enabled", "true".to_owned()), ("receipts.signing_key", key)];
            stack_options.config.relayer.extend(settings.map(|(name, value)| (name.to_owned(), value)));
        }
        let mut stack = Stack::start(stack_options).await.context("the stack did not start")?;
        let cores = machine.cores().iter().cycle();
        for (relayer, core) in stack.relayers.iter_mut().zip(cores) {
            machine.on(&[*core], || relayer.restart())??;
        }
        for relayer in &mut stack.relayers {
            relayer.wait_ready(READY_DEADLINE).await?;
        }
        let config = IssuerClientConfig { url: stack.issuer_url(), ..IssuerClientConfig::default() };
        let issuer = IssuerClient::new(&config)?;
        let stage = Stage { stack, issuer, dir, complete: options.complete };
        let channels = stage.open(options.channels, options.scheme, options.units).await;
        let channels = channels.context("cannot open channels")?;
        Ok((stage, channels))
    }

    async fn open(&self, channels: usize, scheme: Scheme, units: u32) -> anyhow::Result<Vec<PayingChannel>> {
        let wanted = ChannelOptions {
            payers: channels,
            payee: self.stack.payee(),
            asset: "usd".to_owned(),
            capacity: CAPACITY,
            expires_in_s: EXPIRES_IN_S,
            schemes: vec![scheme],
            unit: Amount::new(1),
            units,
            dir: None,
        };
        let relayer = RelayerClient::new(&self.stack.relayer_url(0))?;
        ready(&wanted, &self.issuer, &relayer, &AtomicU64::new(0)).await
    }

    /// Where logs and data are.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Where payers connect.
    ///
    /// # Errors
    /// A relayer's URL is none.
    pub(crate) fn relayer_addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let urls = self.stack.relayer_urls().into_iter();
        urls.map(|url| url.strip_prefix("http://").unwrap_or(&url).parse().context("a relayer's address"))
            .collect()
    }

    /// CPU that the relayers have used so far, all together.
    ///
    /// # Errors
    /// One is gone.
    pub(crate) fn relayer_cpu(&self) -> anyhow::Result<Duration> {
        self.stack.relayers.iter().map(|relayer| cpu_of(relayer.pid())).sum()
    }

    /// Process id of Redis.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn redis_pid(&self) -> anyhow::Result<u32> {
        Ok(self.stack.redis.as_ref().context("the stack has a Redis of its own")?.pid())
    }

    /// How to reach Redis.
    pub(crate) fn redis_config(&self) -> RedisConfig {
        RedisConfig {
            url: self.stack.redis_url().to_owned(),
            prefix: self.stack.prefix().to_owned(),
            command_timeout_ms: COMMAND_TIMEOUT_MS,
            ..RedisConfig::default()
        }
    }

    /// What was agreed on a channel, by the issuer's word.
    ///
    /// # Errors
    /// It does not answer, or does not know the channel.
    pub(crate) async fn terms(&self, id: &ChannelId) -> anyhow::Result<Terms> {
        Ok(self.issuer.channel(id).await?.context("the issuer knows the channel")?.terms)
    }

    /// Connects to Redis as relayers do.
    ///
    /// # Errors
    /// It does not answer.
    pub(crate) async fn store(&self) -> anyhow::Result<Store> {
        connect(&self.redis_config()).await
    }

    /// Numbers of Redis' `INFO`, each by section and name.
    ///
    /// # Errors
    /// It does not answer, or has no such number.
    pub(crate) async fn redis_info<const N: usize>(
        &self,
        wanted: [(&str, &str); N],
    ) -> anyhow::Result<[u64; N]> {
        let probe = Probe::connect(&self.redis_config(), READY_DEADLINE).await?;
        let mut numbers = [0; N];
        for (number, (section, name)) in numbers.iter_mut().zip(wanted) {
            let info = probe.info(section).await?;
            let found = info.get(name).and_then(|text| text.parse().ok());
            *number = found.with_context(|| format!("INFO {section} has no number {name}"))?;
        }
        Ok(numbers)
    }

    /// A metric of all relayers together, by the start of its line up to the value.
    ///
    /// # Errors
    /// A relayer does not answer, or has no such metric.
    pub(crate) async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let mut sum = 0;
        for relayer in &self.stack.relayers {
            let url = format!("{}/metrics", relayer.admin_url());
            let text = reqwest::get(&url).await?.text().await?;
            let value =
                text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok());
            sum += value.with_context(|| format!("{url} has no {name}"))?;
        }
        Ok(sum)
    }

    /// How vouchers shared calls so far.
    ///
    /// # Errors
    /// A relayer does not answer.
    pub(crate) async fn calls(&self) -> anyhow::Result<Calls> {
        let vouchers = self.metric("millrace_relayer_call_vouchers_sum").await?;
        Ok(Calls { vouchers, calls: self.metric("millrace_relayer_call_vouchers_count").await? })
    }

    /// Compares what was acknowledged with what relayers counted, Redis recorded and the issuer knows.
    ///
    /// # Errors
    /// Anything that does not agree: then no figure of the run is worth anything.
    pub(crate) async fn audit(&self, channels: &[PayingChannel]) -> anyhow::Result<()> {
        let of = |channel: &PayingChannel| InLedger { acknowledged: Some(channel.latest), unknown: None };
        let known: BTreeMap<_, _> = channels.iter().map(|channel| (channel.id, of(channel))).collect();
        let acknowledged: u128 = channels.iter().map(|channel| u128::from(channel.latest.units())).sum();
        let store = self.store().await?;
        let facts = gather::channels(known, &store, &self.issuer, &self.stack.issuer_key()).await?;
        store.close().await;
        let report = audit(&facts, &self.issuer.books().await?, false);
        ensure!(
            report.is_clean() && report.accepted == acknowledged,
            "{acknowledged} payments were acknowledged and {} recorded: {:?}",
            report.accepted,
            report.violations
        );
        Ok(())
    }
}

/// Connects to Redis as relayers do, on this thread's runtime.
///
/// # Errors
/// It does not answer, or does not promise what it must.
pub(crate) async fn connect(config: &RedisConfig) -> anyhow::Result<Store> {
    let store = Store::connect(config)?;
    store.wait_connected(READY_DEADLINE).await?;
    // A store that was not looked at does not write.
    store.preflight().await?;
    Ok(store)
}

/// A stage with payers at work on so many connections.
pub(crate) struct Scene {
    /// The stage.
    pub(crate) stage: Stage,
    payers: Payers,
    connections: Vec<Connection>,
    form: Form,
}

/// Vouchers that were recorded, and the calls that did it.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) vouchers: u64,
    calls: u64,
}

impl Calls {
    /// Those since `before`.
    pub(crate) fn since(self, before: Calls) -> Calls {
        let vouchers = self.vouchers.saturating_sub(before.vouchers);
        Calls { vouchers, calls: self.calls.saturating_sub(before.calls) }
    }

    /// Vouchers in a call.
    pub(crate) fn size(self) -> f64 {
        each(self.vouchers, self.calls)
    }
}

/// What came of a run, and what it cost.
pub(crate) struct Paid {
    /// Counts and latencies.
    pub(crate) run: Run,
    /// CPU of all relayers.
    pub(crate) relayer_cpu: Duration,
    /// CPU of Redis.
    pub(crate) redis_cpu: Duration,
}

impl Scene {
    /// Starts a stage and its payers, and has each channel pay a few times.
    ///
    /// # Errors
    /// As for [`Stage::start`] and [`Scene::pay`].
    pub(crate) async fn set(
        machine: &Machine,
        options: StageOptions,
        connections: usize,
        form: Form,
    ) -> anyhow::Result<Scene> {
        let (stage, channels) = Stage::start(machine, options).await?;
        Scene::on(machine, stage, channels, connections, form).await
    }

    /// Has the channels of a stage pay on so many connections.
    ///
    /// # Errors
    /// As for [`Scene::pay`].
    pub(crate) async fn on(
        machine: &Machine,
        stage: Stage,
        channels: Vec<PayingChannel>,
        connections: usize,
        form: Form,
    ) -> anyhow::Result<Scene> {
        let warm_up = WARM_UP_PAYMENTS * u64::try_from(channels.len())?;
        let addresses = stage.relayer_addresses()?;
        let mut connected = Connection::open_many(&addresses, connections).await?;
        if let Form::Stream(_) = form {
            for connection in &mut connected {
                connection.upgrade().await?;
            }
        }
        let payers = Payers::share_out(channels, connections, stage.complete);
        let mut scene = Scene { stage, payers, connections: connected, form };
        scene.pay(machine, warm_up).await.context("warming up")?;
        Ok(scene)
    }

    /// Makes so many payments, each connection as quickly as it is answered.
    ///
    /// # Errors
    /// A payment was not accepted.
    pub(crate) async fn pay(&mut self, machine: &Machine, payments: u64) -> anyhow::Result<Paid> {
        self.prepare(machine, payments)?;
        let redis = self.stage.redis_pid()?;
        let (relayer_before, redis_before) = (self.stage.relayer_cpu()?, cpu_of(redis)?);
        let exchanges = payments.div_ceil(self.form.vouchers());
        let run = closed_loop(&mut self.connections, &mut self.payers.queues, exchanges).await?;
        let relayer_cpu = self.stage.relayer_cpu()? - relayer_before;
        Ok(Paid { run, relayer_cpu, redis_cpu: cpu_of(redis)? - redis_before })
    }

    /// Signs and writes so many payments.
    ///
    /// # Errors
    /// Threads cannot be let loose.
    pub(crate) fn prepare(&mut self, machine: &Machine, payments: u64) -> anyhow::Result<()> {
        self.payers.prepare(machine, self.form, payments)
    }

    /// The connections, and what each is to send.
    pub(crate) fn line_up(&mut self) -> (&mut [Connection], &mut [Queue]) {
        (&mut self.connections, &mut self.payers.queues)
    }

    /// Compares all accounts, and gives the stage back with its channels.
    ///
    /// # Errors
    /// As for [`Stage::audit`].
    pub(crate) async fn end(self) -> anyhow::Result<(Stage, Vec<PayingChannel>)> {
        self.end_with([]).await
    }

    /// As [`Scene::end`], with `others` among the channels, which were paid on in another way.
    ///
    /// # Errors
    /// As for [`Stage::audit`].
    pub(crate) async fn end_with(
        self,
        others: impl IntoIterator<Item = PayingChannel>,
    ) -> anyhow::Result<(Stage, Vec<PayingChannel>)> {
        let mut channels = self.payers.end();
        channels.extend(others);
        self.stage.audit(&channels).await?;
        Ok((self.stage, channels))
    }
}
