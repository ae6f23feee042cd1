//! Row 5: what is held in memory: by Redis for each channel and payment, by a relayer for channels it knows and for
//! connections that nobody uses.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use cli::load::payers::PayingChannel;
use cli::payer;
use cli::stack::redis::RedisOptions;
use common::amount::Amount;
use common::channel::Terms;
use common::config::RedisConfig;
use common::ids::{ChannelId, Signature};
use common::problem::Code;
use common::voucher::Proof;
use common::wire::{Outcome, PaymentAnswer, PaymentRequest};
use futures::{StreamExt as _, TryStreamExt as _};
use tokio::task::JoinSet;

use crate::client::{Connection, Exchange, post};
use crate::figure::{Figure, Findings, Target};
use crate::machine::{Machine, open_files_allowed, resident};
use crate::payers::{Form, lines};
use crate::rows::Bench;
use crate::stage::{Scene, Stage, StageOptions, connect};
use crate::stats::{each, mib};

/// Memory of a relayer that has met a million channels, in MiB.
const KNOWN_TARGET: Target = Target::AtMost(256.0);

/// Memory of a relayer for [`IDLE_CONNECTIONS`], in MiB.
const IDLE_TARGET: Target = Target::AtMost(64.0);

/// Connections that the target is for: as many as a relayer takes by default.
const IDLE_CONNECTIONS: u64 = 10_000;

/// Files that this process and a relayer need beside those connections.
const OTHER_FILES: u64 = 256;

/// Channels that a relayer keeps by default, `channels.cache_max`.
const CACHE_MAX: usize = 100_000;

/// Connections and channels that payments are made on.
const CONNECTIONS: usize = 64;

/// Channels that are registered at once, by each of as many tasks as there are cores.
const REGISTERED_AT_ONCE: usize = 64;

/// Channels in one request that makes a relayer know them: its `batch_max`; and such requests at once.
const MET_IN_A_REQUEST: usize = 256;
const MET_AT_ONCE: usize = 4;

/// How long a relayer may go on giving memory back, and how long it must have given none.
const SETTLES_WITHIN: Duration = Duration::from_secs(20);
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// How often a relayer's memory is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// How long a relayer that is started anew may take.
const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How much is measured.
#[derive(Clone, Copy)]
struct Effort {
    known: usize,
    idle: u64,
    payments: u64,
}

const FULL: Effort = Effort { known: 1_000_000, idle: IDLE_CONNECTIONS, payments: 50_000 };
const BRIEF: Effort = Effort { known: 1_000, idle: 200, payments: 500 };

pub(super) async fn run(bench: &Bench) -> anyhow::Result<Findings> {
    let effort = bench.choose(FULL, BRIEF);
    let machine = &bench.machine;
    let allowed = open_files_allowed()?;
    // A million channels are a gigabyte of writes: nothing here depends on whether they are kept.
    let options = StageOptions {
        channels: CONNECTIONS,
        redis: RedisOptions { appendonly: false, ..RedisOptions::default() },
        relayer: vec![("redis.durability", "none")],
        ..StageOptions::default()
    };
    let mut findings = Findings::default();
    let mut scene = Scene::set(machine, options, CONNECTIONS, Form::Single).await?;
    let before = used_by_redis(&scene.stage).await?;
    let paid = scene.pay(machine, effort.payments).await?.run.payments;
    let used = used_by_redis(&scene.stage).await?.saturating_sub(before);
    let (mut stage, channels) = scene.end().await?;
    findings.figures.push(Figure::new("Redis, an unconsumed payment", each(used, paid), "bytes"));

    let idle = effort.idle.min(allowed.saturating_sub(OTHER_FILES));
    if idle < effort.idle {
        findings.notes.push(format!("{idle} idle connections: the system allows {allowed} open files"));
    }
    start_anew(machine, &mut stage).await?;
    findings.figures.push(idle_connections(&stage, &channels, idle).await?);

    start_anew(machine, &mut stage).await?;
    let terms = stage.terms(&channels.first().context("channels were opened")?.id).await?;
    let before = used_by_redis(&stage).await?;
    let known = register(machine, &stage.redis_config(), &terms, effort.known)?;
    let used = used_by_redis(&stage).await?.saturating_sub(before);
    let count = u64::try_from(known.len())?;
    findings.figures.push(Figure::new("Redis, an open channel", each(used, count), "bytes"));
    findings.figures.extend(known_channels(&stage, &known).await?);
    Ok(findings)
}

/// A relayer that has met nobody yet.
async fn start_anew(machine: &Machine, stage: &mut Stage) -> anyhow::Result<()> {
    for relayer in &mut stage.stack.relayers {
        machine.on(&[machine.server_core()], || relayer.restart())??;
        relayer.wait_ready(READY_DEADLINE).await?;
    }
    Ok(())
}

/// What a relayer holds for connections that each made one payment and are kept open.
async fn idle_connections(stage: &Stage, channels: &[PayingChannel], idle: u64) -> anyhow::Result<Figure> {
    let relayer = stage.stack.relayers[0].pid();
    let address = stage.relayer_addresses()?[0];
    let exchanges: Vec<Exchange> = channels.iter().map(latest_again).collect();
    // Everything that comes only once has come before.
    for exchange in &exchanges {
        Connection::open(address).await?.exchange(exchange).await?;
    }
    let before = resident(relayer)?;
    let mut kept = Vec::new();
    for exchange in exchanges.iter().cycle().take(usize::try_from(idle)?) {
        let mut connection = Connection::open(address).await?;
        connection.exchange(exchange).await?;
        kept.push(connection);
    }
    let used = settled(relayer).await?.saturating_sub(before);
    let used = used.saturating_mul(IDLE_CONNECTIONS).checked_div(idle).context("no idle connections")?;
    Ok(Figure::new("relayer, 10k idle connections", mib(used), "MiB").target(IDLE_TARGET))
}

/// A process' memory once it gives no more of it back: connections are parked a while after their last payment.
async fn settled(pid: u32) -> anyhow::Result<u64> {
    let began = Instant::now();
    let (mut least, mut since) = (resident(pid)?, began);
    while since.elapsed() < SETTLED_AFTER {
        ensure!(began.elapsed() < SETTLES_WITHIN, "the memory of process {pid} goes on falling");
        tokio::time::sleep(LOOK_EVERY).await;
        let now = resident(pid)?;
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    resident(pid)
}

/// A channel's latest voucher: a duplicate, which may come on any connection and at any time.
fn latest_again(channel: &PayingChannel) -> Exchange {
    let voucher = payer::voucher(&channel.key, channel.id, channel.latest, 0);
    let answer = PaymentAnswer {
        channel_id: channel.id.into(),
        cumulative_amount: channel.latest,
        outcome: Outcome::Duplicate,
        receipt: None,
    };
    Exchange {
        request: post("/v1/payments", "application/json", &lines(&[voucher])),
        answer: lines(&[answer]).trim_ascii_end().to_vec(),
        payments: 1,
    }
}

/// Registers `count` channels in Redis, which differ from `terms` in their salt. No issuer knows them, and nobody asks.
fn register(
    machine: &Machine,
    config: &RedisConfig,
    terms: &Terms,
    count: usize,
) -> anyhow::Result<Vec<ChannelId>> {
    let register_all = || {
        machine.unpin_this_thread()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = connect(config).await?;
            let tasks = machine.cores().len();
            let mut running = JoinSet::new();
            for first in 0..tasks {
                let (store, terms) = (store.clone(), terms.clone());
                running.spawn(async move {
                    futures::stream::iter((first..count).step_by(tasks))
                        .map(async |n| {
                            let salt = terms.salt.wrapping_add(1).wrapping_add(u64::try_from(n)?);
                            let terms = Terms { salt, ..terms.clone() }.check()?;
                            store.register_channel(&terms, None, 0).await?;
                            anyhow::Ok(terms.id())
                        })
                        .buffer_unordered(REGISTERED_AT_ONCE)
                        .try_collect::<Vec<_>>()
                        .await
                });
            }
            let mut ids = Vec::with_capacity(count);
            while let Some(registered) = running.join_next().await {
                ids.extend(registered??);
            }
            store.close().await;
            anyhow::Ok(ids)
        })
    };
    std::thread::scope(|scope| {
        scope.spawn(register_all).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What a relayer holds once it has met these channels, all of them and as many as it keeps.
async fn known_channels(stage: &Stage, known: &[ChannelId]) -> anyhow::Result<[Figure; 2]> {
    let relayer = stage.stack.relayers[0].pid();
    let address = stage.relayer_addresses()?[0];
    let (kept, more) = known.split_at(known.len().min(CACHE_MAX));
    let before = resident(relayer)?;
    meet(address, kept).await?;
    let held = resident(relayer)?.saturating_sub(before);
    meet(address, more).await?;
    let met = stage.metric("millrace_relayer_channel_cache_total{result=\"miss\"}").await?;
    ensure!(met >= u64::try_from(known.len())?, "the relayer met {met} of {} channels", known.len());
    let whole = resident(relayer)?;
    Ok([
        Figure::new("relayer, a channel that it keeps", each(held, u64::try_from(kept.len())?), "bytes"),
        Figure::new("relayer, a million known channels", mib(whole), "MiB").target(KNOWN_TARGET),
    ])
}

/// Makes a relayer look channels up: it does so before it checks the signature, and there is none that holds.
async fn meet(address: SocketAddr, channels: &[ChannelId]) -> anyhow::Result<()> {
    let share = channels.len().div_ceil(MET_AT_ONCE).max(1);
    futures::stream::iter(channels.chunks(share))
        .map(async |channels| {
            let mut connection = Connection::open(address).await?;
            for channels in channels.chunks(MET_IN_A_REQUEST) {
                let vouchers: Vec<PaymentRequest> = channels.iter().map(unsigned).collect();
                let request = post("/v1/payments/batch", "application/x-ndjson", &lines(&vouchers));
                let (status, answer) = connection.ask(&request).await?;
                let refused = std::str::from_utf8(answer)?.matches(Code::InvalidSignature.as_str()).count();
                ensure!(
                    status == 200 && refused >= channels.len(),
                    "{refused} of {} vouchers were refused for their signature",
                    channels.len()
                );
            }
            Ok(())
        })
        .buffer_unordered(MET_AT_ONCE)
        .try_collect()
        .await
}

/// A voucher that no one signed.
fn unsigned(channel_id: &ChannelId) -> PaymentRequest {
    PaymentRequest {
        channel_id: *channel_id,
        cumulative_amount: Amount::new(1),
        // Not even a number of the field: it is refused before the curve is touched.
        proof: Proof::Ed25519 { expires_at: 0, signature: Signature([0xff; Signature::LEN]) },
    }
}

/// Memory that Redis uses for data, in bytes.
async fn used_by_redis(stage: &Stage) -> anyhow::Result<u64> {
    let [used] = stage.redis_info([("memory", "used_memory")]).await?;
    Ok(used)
}
