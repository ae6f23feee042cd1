//! How vouchers are gathered, and what becomes of them when Redis fails or their payer leaves.

use std::sync::Mutex;

use common::amount::Amount;
use common::problem::Code;
use common::store::accept::LatestStored;
use prometheus::Registry;
use service::admin::Readiness;
use tokio::sync::Semaphore;

use super::*;
use crate::channels::Channel;
use crate::testing::{terms, voucher};

type Script = Box<dyn Fn(&VerifiedVoucher) -> Result<Verdict, StoreError> + Send + Sync>;

/// A Redis that answers each call once it is let go on, and remembers what it was sent.
struct Fake {
    script: Script,
    calls: Mutex<Vec<Vec<u64>>>,
    go_on: Semaphore,
}

impl Recorder for Arc<Fake> {
    fn lanes(&self) -> u16 {
        1
    }

    fn lane_of(&self, _: &ChannelId) -> u16 {
        0
    }

    async fn accept(
        &self,
        vouchers: &[Arc<VerifiedVoucher>],
        _: &[Followed],
    ) -> Result<Vec<Verdict>, StoreError> {
        let amounts = vouchers.iter().map(|voucher| voucher.cumulative_amount().units()).collect();
        self.calls.lock().expect("no panic").push(amounts);
        self.go_on.acquire().await.expect("never closed").forget();
        vouchers.iter().map(|voucher| (self.script)(voucher)).collect()
    }

    fn report_lost(&self, detail: String) -> StoreError {
        StoreError::LostData { detail }
    }
}

struct Bench {
    fake: Arc<Fake>,
    batchers: Batchers<Arc<Fake>>,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    registry: Registry,
    channel: Arc<Channel>,
}

fn bench(
    config: BatcherConfig,
    script: impl Fn(&VerifiedVoucher) -> Result<Verdict, StoreError> + Send + Sync + 'static,
) -> Bench {
    let registry = Registry::new();
    let metrics = Metrics::register(&registry).expect("new names");
    let health = Health::new(Readiness::new("starting"), Arc::clone(&metrics));
    let fake = Arc::new(Fake { script: Box::new(script), calls: Mutex::default(), go_on: Semaphore::new(0) });
    let batchers = Batchers::start(&config, Arc::clone(&fake), &health, &metrics);
    let channel = Channel::new(terms(1).check().expect("usable"), None, false, 0);
    Bench { fake, batchers, health, metrics, registry, channel }
}

impl Bench {
    fn submit(&self, amount: u64) -> Result<oneshot::Receiver<Answer>, Refusal> {
        let ticket = self.metrics.receive_one(usize::MAX).expect("room");
        self.batchers.submit(Job {
            voucher: voucher(1, amount).into(),
            channel: Arc::clone(&self.channel),
            ticket,
            since: Instant::now(),
        })
    }

    fn calls(&self) -> Vec<Vec<u64>> {
        self.fake.calls.lock().expect("no panic").clone()
    }

    async fn called(&self, times: usize) {
        let called = async {
            while self.calls().len() < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(10), called).await.expect("called in time");
    }

    fn counted(&self, outcome: &str) -> u64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).expect("text");
        let line = format!("millrace_relayer_payments_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|l| l.strip_prefix(&line)).map_or(0, |n| n.parse().expect("a count"))
    }
}

async fn final_code(answer: oneshot::Receiver<Answer>) -> Result<Outcome, Code> {
    match answer.await.expect("answered") {
        Answer::Final(result) => result.map_err(|refusal| refusal.code()),
        Answer::Unregistered(_) => panic!("unregistered"),
    }
}

#[tokio::test]
async fn what_comes_during_a_call_goes_together_in_the_next() {
    let config = BatcherConfig { vouchers_per_call_max: 3, ..BatcherConfig::default() };
    let bench = bench(config, |_| Ok(Verdict::Accepted));
    let first = bench.submit(1).expect("room");
    bench.called(1).await;
    let rest: Vec<_> = (2..=5).map(|amount| bench.submit(amount).expect("room")).collect();
    assert_eq!(bench.calls(), [vec![1]], "a lone voucher does not wait; one call at a time");
    bench.fake.go_on.add_permits(3);
    for answer in std::iter::once(first).chain(rest) {
        assert_eq!(final_code(answer).await, Ok(Outcome::Accepted));
    }
    assert_eq!(bench.calls(), [vec![1], vec![2, 3, 4], vec![5]], "in order, at most three");
}

/// A call of four; then one that waits, and three that are being checked. Which go in the second call.
async fn second_call(gather_max_us: u64) -> Vec<u64> {
    let config = BatcherConfig { gather_max_us, ..BatcherConfig::default() };
    let bench = bench(config, |_| Ok(Verdict::Accepted));
    let mut answers: Vec<_> = (1..=4).map(|amount| bench.submit(amount).expect("room")).collect();
    bench.called(1).await;
    answers.push(bench.submit(5).expect("room"));
    bench.fake.go_on.add_permits(10);
    for amount in 6..=8 {
        let started = Instant::now();
        while started.elapsed() < IDLE_ROUND * 2 {
            std::hint::spin_loop();
        }
        answers.push(bench.submit(amount).expect("room"));
        tokio::task::yield_now().await;
    }
    for answer in answers {
        assert_eq!(final_code(answer).await, Ok(Outcome::Accepted));
    }
    bench.calls().swap_remove(1)
}

#[tokio::test]
async fn vouchers_that_are_being_checked_go_along() {
    assert_eq!(second_call(60_000_000).await, [5, 6, 7, 8], "and for others nobody waits");
    assert_eq!(second_call(0).await, [5, 6], "only what is there");
}

#[tokio::test]
async fn a_full_queue_refuses() {
    let bench = bench(BatcherConfig { queue_max: 1, ..BatcherConfig::default() }, |_| Ok(Verdict::Accepted));
    let on_its_way = bench.submit(1).expect("room");
    bench.called(1).await;
    let waits = bench.submit(2).expect("room");
    assert_eq!(bench.submit(3).expect_err("full").code(), Code::Overloaded);
    bench.fake.go_on.add_permits(2);
    assert_eq!(final_code(on_its_way).await, Ok(Outcome::Accepted));
    assert_eq!(final_code(waits).await, Ok(Outcome::Accepted));
    assert_eq!((bench.counted("accepted"), bench.counted("overloaded")), (2, 1));
}

#[tokio::test]
async fn each_voucher_of_a_call_gets_its_own_answer() {
    let stale = || LatestStored { amount: Amount::new(9), proof: Vec::new() };
    let bench = bench(BatcherConfig::default(), move |voucher| {
        Ok(match voucher.cumulative_amount().units() {
            1 => Verdict::Accepted,
            2 => Verdict::Unreadable,
            3 => Verdict::Stale(stale()),
            _ => Verdict::Duplicate,
        })
    });
    let answers: Vec<_> = (1..=4).map(|amount| bench.submit(amount).expect("room")).collect();
    bench.fake.go_on.add_permits(4);
    let mut codes = Vec::new();
    for answer in answers {
        codes.push(final_code(answer).await);
    }
    let expected =
        [Ok(Outcome::Accepted), Err(Code::Internal), Err(Code::StaleAmount), Ok(Outcome::Duplicate)];
    assert_eq!(codes, expected);
}

#[tokio::test]
async fn a_call_without_an_answer_leaves_every_outcome_unknown() {
    let error = || StoreError::OutcomeUnknown { detail: "late".to_owned() };
    let bench = bench(BatcherConfig::default(), move |_| Err(error()));
    let answers = [bench.submit(1).expect("room"), bench.submit(2).expect("room")];
    bench.fake.go_on.add_permits(2);
    for answer in answers {
        assert_eq!(final_code(answer).await, Err(Code::OutcomeUnknown));
    }
    assert_eq!(bench.counted("outcome_unknown"), 2);
}

#[tokio::test]
async fn a_payment_is_recorded_and_counted_though_its_payer_has_left() {
    let bench = bench(BatcherConfig::default(), |_| Ok(Verdict::Accepted));
    drop(bench.submit(1).expect("room"));
    bench.called(1).await;
    bench.fake.go_on.add_permits(1);
    bench.batchers.close().await;
    assert_eq!((bench.counted("accepted"), bench.counted("abandoned")), (1, 0));
}

#[tokio::test]
async fn closing_answers_all_that_was_submitted_and_takes_no_more() {
    let bench = bench(BatcherConfig::default(), |_| Ok(Verdict::Accepted));
    let answers: Vec<_> = (1..=4).map(|amount| bench.submit(amount).expect("room")).collect();
    bench.fake.go_on.add_permits(4);
    bench.batchers.close().await;
    for answer in answers {
        assert_eq!(final_code(answer).await, Ok(Outcome::Accepted));
    }
    assert_eq!(bench.submit(5).expect_err("closed").code(), Code::StoreUnavailable);
}

#[tokio::test]
async fn a_channel_that_redis_forgot_is_data_lost() {
    let known = std::sync::atomic::AtomicBool::new(true);
    let bench = bench(BatcherConfig::default(), move |_| {
        let known = known.swap(false, std::sync::atomic::Ordering::SeqCst);
        Ok(if known { Verdict::Accepted } else { Verdict::UnknownChannel })
    });
    bench.fake.go_on.add_permits(2);
    assert_eq!(final_code(bench.submit(1).expect("room")).await, Ok(Outcome::Accepted));
    assert_eq!(final_code(bench.submit(2).expect("room")).await, Err(Code::StoreUnavailable));
    assert!(!bench.health.is_accepting());
}

#[tokio::test]
async fn a_channel_that_redis_never_knew_is_handed_back() {
    let bench = bench(BatcherConfig::default(), |_| Ok(Verdict::UnknownChannel));
    bench.fake.go_on.add_permits(1);
    let answer = bench.submit(1).expect("room").await.expect("answered");
    let Answer::Unregistered(job) = answer else { panic!("{answer:?}") };
    assert_eq!(job.voucher.cumulative_amount(), Amount::new(1));
    drop(job);
    assert_eq!(bench.counted("abandoned"), 1, "its ticket came with it");
}

#[tokio::test]
async fn a_panic_leaves_its_outcomes_unknown_and_the_partition_alive() {
    let bench = bench(BatcherConfig::default(), |voucher| match voucher.cumulative_amount().units() {
        1 => panic!("on purpose"),
        _ => Ok(Verdict::Accepted),
    });
    bench.fake.go_on.add_permits(2);
    assert!(bench.submit(1).expect("room").await.is_err());
    assert_eq!(final_code(bench.submit(2).expect("room")).await, Ok(Outcome::Accepted));
    assert_eq!(bench.counted("outcome_unknown"), 1);
}
