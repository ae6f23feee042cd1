//! A leader that stands at a point, and what becomes of its work.

use std::time::Duration;

use common::problem::{Code, Problem};
use common::store::Store;
use common::store::lease::{Acquired, Lease};
use common::store::scripts;
use common::wire::Outcome;
use nix::sys::signal::Signal;
use tests::issuer::{Route, Step};
use tests::payer::Channel;
use tests::rig::{FaultPoint, Rig, RigOptions, SOON};
use tests::{wait_for, wait_until};

use super::gate::Gate;

/// Channels that wait for their close when the leader begins.
const CHANNELS: u64 = 3;

/// What the successor settles of its own, so that the issuer has seen its token.
const OWN: u64 = 4;

/// Long enough for anything, and too long to wait for.
const HOUR: Duration = Duration::from_secs(3_600);

/// Where a leader is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Point {
    /// At the fault point of this name.
    At(&'static str),
    /// Its call of this script is on its way to Redis, and arrives when all is over. Its own clock has nothing to do
    /// with it any more.
    CallLate(&'static str),
    /// Its settlements are on their way to the issuer, and arrive when all is over.
    RequestLate,
    /// Its settlements are with an issuer that has not begun them.
    RequestSent,
    /// Its settlements are committed by the issuer, and not answered.
    IssuerCommitted,
}

/// A leader at a point of its work, and what it was at.
pub(crate) struct Scene {
    pub(crate) rig: Rig,
    store: Store,
    point: Point,
    held: Option<FaultPoint>,
    gate: Option<Gate>,
    /// With the amount that each must be settled for, sooner or later.
    channels: Vec<(Channel, u64)>,
    /// Further units that the payee has got.
    besides: u64,
}

impl Scene {
    /// Three channels wait for their close and one does not; the first settler leads, and stands at `point`.
    pub(crate) async fn at(point: Point) -> Scene {
        let options = RigOptions::default();
        Self::with(Rig::start(options).await, point, &[]).await
    }

    /// Likewise, with a rig that has no settler yet, and further config for its first one.
    pub(crate) async fn with(mut rig: Rig, point: Point, config: &[(&'static str, String)]) -> Scene {
        let store = rig.store().await;
        // Work piles up while nobody can lead.
        let lease = take_lease(&store, "a test").await;
        let mut channels = Vec::new();
        for i in 0..=CHANNELS {
            let channel = rig.channel(1_000).await;
            pay(&rig, &channel, 3).await;
            pay(&rig, &channel, 10 + i).await;
            if i < CHANNELS {
                channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
            }
            channels.push((channel, 10 + i));
        }
        match point {
            Point::At(_) | Point::RequestLate => {}
            Point::CallLate("retry_close.lua") => rig.front.always(Route::Settle, Step::Status(500)),
            Point::CallLate("fail_close.lua") => {
                let refusal = serde_json::to_string(&Problem::new(Code::OverCapacity)).expect("JSON");
                rig.front.next(Route::Settle, 1, Step::Json(Code::OverCapacity.status(), refusal));
            }
            Point::CallLate(_) => {}
            Point::RequestSent => rig.front.always(Route::Settle, Step::Hang),
            Point::IssuerCommitted => rig.front.always(Route::Settle, Step::ForwardThenHang),
        }
        let mut config = config.to_vec();
        let gate = match point {
            Point::CallLate(file) => {
                let gate =
                    Gate::before(after_scheme(&rig.redis.proxy_url()), call_of(&rig, file).await).await;
                config.push(("redis.url", format!("redis://{}", gate.address())));
                Some(gate)
            }
            Point::RequestLate => {
                let gate =
                    Gate::before(after_scheme(rig.front.url()), vec![b"\"payee_signature\"".to_vec()]).await;
                config.push(("issuer.url", format!("http://{}", gate.address())));
                Some(gate)
            }
            Point::At(_) | Point::RequestSent | Point::IssuerCommitted => None,
        };
        let settler = rig.spawn_settler(&config);
        let held = match point {
            Point::At(name) => Some(FaultPoint::arm(settler, name)),
            _ => None,
        };
        store.release_lease(&lease).await.expect("given back");
        match point {
            Point::RequestSent => rig.front.wait_for_count(Route::Settle, CHANNELS, SOON).await,
            Point::IssuerCommitted => rig.front.wait_for_forwarded(Route::Settle, CHANNELS, SOON).await,
            Point::At(_) | Point::CallLate(_) | Point::RequestLate => {}
        }
        if let Some(held) = &held {
            held.reached().await;
        }
        if let Some(gate) = &gate {
            gate.wait_for_held(if matches!(point, Point::RequestLate) { CHANNELS } else { 1 }).await;
        }
        Scene { rig, store, point, held, gate, channels, besides: 0 }
    }

    /// SIGKILL, exactly here.
    pub(crate) fn kill(&mut self) {
        self.rig.settlers[0].kill();
        self.rig.front.heal();
    }

    /// SIGSTOP, exactly here.
    pub(crate) fn pause(&mut self) {
        self.rig.settlers[0].signal(Signal::SIGSTOP).expect("it runs");
        self.rig.front.heal();
    }

    /// A second settler takes the lead when the first one's lease has run out, and settles what waited.
    pub(crate) async fn successor_settles(&mut self) {
        self.rig.spawn_settler(&[]).wait_ready(SOON).await.expect("a standby is ready");
        wait_until(SOON, "the successor leads", || async {
            self.rig.settler_status(1).await.is_some_and(|status| status.leader)
        })
        .await;
        for (channel, amount) in &self.channels[..self.channels.len() - 1] {
            self.rig.closed(channel, *amount).await;
        }
        let (open, _) = self.channels.last().expect("one was not asked to close");
        self.rig.read_by_leader(open).await;
        self.rig.assert_left_alone(open).await;
    }

    /// The successor sleeps from now on, with the lease in its hands and another channel to be closed.
    pub(crate) async fn successor_sleeps(&mut self) {
        self.rig.settlers[1].signal(Signal::SIGSTOP).expect("it runs");
        let lease = self.store.keys().lease();
        self.rig.redis.command(&["PEXPIRE", &lease, "60000"]).await;
        self.new_channel_to_close(5).await;
    }

    /// The test itself takes the lead as soon as it can, shuts the old leader out, and leaves all work undone: whatever
    /// is done now, the old leader does.
    pub(crate) async fn successor_only_takes_the_lead(&mut self) -> std::sync::Arc<Lease> {
        let lease = take_lease(&self.store, "a successor").await;
        for partition in 0..self.store.partitions() {
            self.store.take_partition(&lease, partition).await.expect("taken");
        }
        lease
    }

    /// The issuer has seen the token of whoever leads since.
    pub(crate) async fn issuer_hears_of_the_successor(&mut self, lease: &Lease) {
        let own = self.rig.channel(1_000).await;
        let token = lease.token().expect("it lasts for an hour").get();
        self.rig.settle_directly(&own, OWN, true, token).await;
        self.besides += OWN;
    }

    /// The old leader goes on from where it stands; gives back what it changes.
    pub(crate) async fn old_leader_goes_on(&mut self) -> Change {
        let (redis, paid) = (self.rig.dump().await, self.rig.earned().await);
        self.late_requests_arrive().await;
        if let Some(held) = &self.held {
            held.let_go();
        }
        self.rig.settlers[0].signal(Signal::SIGCONT).expect("it is there");
        let step_down = self.stepped_down().await;
        let status = self.rig.settler_status(0).await.expect("it runs on");
        assert_eq!((status.leader, status.token), (false, None));
        // As standby it has asked for the lease some times more: nothing of its leadership is left to come.
        let lease = self.store.keys().lease();
        for _ in 0..5 {
            self.rig.redis.proxy().look_out_for(lease.as_str()).wait(SOON).await;
        }
        self.rig.settlers[0].wait_ready(SOON).await.expect("it stands by");
        Change { redis: self.rig.dump().await != redis, paid: self.rig.earned().await - paid, step_down }
    }

    /// What the old leader had sent comes where it was sent to.
    pub(crate) async fn late_requests_arrive(&self) {
        if let Some(gate) = &self.gate {
            gate.open().await;
        }
    }

    /// Waits until the first settler has counted the end of its leadership, and says why it ended. One that never got
    /// to lead has nothing to count.
    async fn stepped_down(&self) -> String {
        let settler = &self.rig.settlers[0];
        if matches!(self.point, Point::At("lease_granted")) {
            wait_until(SOON, "the lease is found to be over", || async {
                self.rig.log(settler).contains("cannot be led on")
            })
            .await;
            return "expired".to_owned();
        }
        let reasons = ["expired", "fenced", "lost", "shutdown", "data_lost", "failed"];
        let reason = wait_for(SOON, "the deposed leader has stepped down", || async {
            for reason in reasons {
                let line = format!("millrace_settler_step_downs_total{{reason=\"{reason}\"}}");
                if self.rig.metric(settler.admin_url(), &line).await == Some(1) {
                    return Some(reason);
                }
            }
            None
        })
        .await;
        reason.to_owned()
    }

    /// The test gives back its lease: the old leader leads again.
    pub(crate) async fn old_leader_leads_again(&mut self, lease: &Lease) {
        self.store.release_lease(lease).await.expect("given back");
        assert_eq!(self.rig.leader().await, 0);
    }

    /// The successor wakes up, does its work, and leaves: the old leader leads again.
    pub(crate) async fn successor_leaves(&mut self) {
        self.rig.settlers[1].signal(Signal::SIGCONT).expect("it is there");
        let (channel, amount) = self.channels.last().expect("there are channels");
        self.rig.closed(channel, *amount).await;
        self.rig.settlers[1].stop(SOON).await.expect("it stops");
        assert_eq!(self.rig.leader().await, 0);
    }

    /// Whoever leads now settles all that is left and something new; every channel was settled once, for its amount.
    pub(crate) async fn all_is_settled_once(&mut self) {
        let open = &self.channels[usize::try_from(CHANNELS).expect("a few")].0;
        open.close(self.rig.relayer(0)).await.expect("an answer").body.expect("noted");
        self.new_channel_to_close(7).await;
        let mut sum = self.besides;
        for (channel, amount) in &self.channels {
            self.rig.closed(channel, *amount).await;
            sum += amount;
        }
        assert_eq!(self.rig.earned().await, sum);
        self.rig.assert_books_balance().await;
        for partition in 0..self.store.partitions() {
            let info = self.store.partition_info(partition).await.expect("Redis answers");
            assert_eq!((info.due, info.dead), (0, 0), "nothing is left, and nothing was given up on");
        }
    }

    async fn new_channel_to_close(&mut self, amount: u64) {
        let channel = self.rig.channel(1_000).await;
        pay(&self.rig, &channel, amount).await;
        channel.close(self.rig.relayer(0)).await.expect("an answer").body.expect("noted");
        self.channels.push((channel, amount));
    }
}

/// What a deposed leader changed when it went on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Anything in Redis.
    pub(crate) redis: bool,
    /// Units that the payee got from the issuer.
    pub(crate) paid: u64,
    /// Why it stepped down.
    pub(crate) step_down: String,
}

impl Change {
    /// Asserts that it changed nothing, and knew by its own clock or was told by the fence that it leads no more.
    pub(crate) fn assert_none(&self) {
        assert_eq!((self.redis, self.paid), (false, 0), "{self:?}");
        assert!(["expired", "fenced"].contains(&self.step_down.as_str()), "{self:?}");
    }
}

async fn pay(rig: &Rig, channel: &Channel, amount: u64) {
    let answer = channel.pay(rig.relayer(0), amount).await.expect("an answer");
    assert_eq!(answer.body.expect("taken").outcome, Outcome::Accepted);
}

/// What stands in a call of this script, fenced or not. Redis knows the script from now on, so that one message is all
/// that a call takes.
async fn call_of(rig: &Rig, file: &str) -> Vec<Vec<u8>> {
    let (_, script) = scripts::ALL.iter().find(|(name, _)| *name == file).expect("a script's file");
    let hash = rig.redis.command(&["SCRIPT", "LOAD", script.source()]).await;
    let (_, body) = script.source().split_once("-- After fence.lua").expect("a fenced script");
    vec![hash.trim_matches('"').into(), body.lines().next().expect("a header").into()]
}

fn after_scheme(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

/// The lease, as soon as it can be had.
pub(crate) async fn take_lease(store: &Store, holder: &str) -> std::sync::Arc<Lease> {
    wait_for(SOON, "the lease can be had", || async {
        match store.acquire_lease(holder, 1, HOUR).await.expect("Redis answers") {
            Acquired::Held(lease) => Some(lease),
            Acquired::HeldByOther { .. } => None,
        }
    })
    .await
}
