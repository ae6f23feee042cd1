use super::*;
use common::amount::Amount;
use common::clock::Clock;
use common::ids::{ChannelId, Signature};
use common::problem::{Code, Problem};
use common::wire::SettlementRequest;
use tokio::sync::Semaphore;

/// An issuer that answers a request for each permit it is given, and takes batches up to a size.
struct Scripted {
    permits: Semaphore,
    /// Channels of each request, in the order in which they came.
    requests: Mutex<Vec<Vec<u8>>>,
    takes_max: usize,
    batch_error: Option<BatchError>,
}

impl Scripted {
    fn new(takes_max: usize, batch_error: Option<BatchError>) -> Self {
        Scripted { permits: Semaphore::new(0), requests: Mutex::default(), takes_max, batch_error }
    }

    async fn arrived(&self, settlements: &[ChannelSettlement]) {
        let channels = settlements.iter().map(|settlement| settlement.channel_id.0[0]).collect();
        self.requests.lock().expect("no panic").push(channels);
        self.permits.acquire().await.expect("never closed").forget();
    }

    /// The issuer's answer to one settlement: those of odd channels are refused.
    fn answer(settlement: &ChannelSettlement) -> Settled {
        if settlement.channel_id.0[0] % 2 == 1 {
            return Err(IssuerError::Refused(Box::new(Problem::new(Code::ChannelClosed))));
        }
        Ok(Receipt {
            channel_id: settlement.channel_id,
            settled_amount: settlement.request.cumulative_amount,
            refunded_amount: Amount::ZERO,
            closed: true,
            settled_at_ms: 5,
            signature: Signature([0; 64]),
            inclusion: None,
        })
    }
}

impl Issuer for Scripted {
    async fn settle(&self, settlement: &ChannelSettlement) -> Settled {
        self.arrived(std::slice::from_ref(settlement)).await;
        Self::answer(settlement)
    }

    async fn settle_all(&self, settlements: &[ChannelSettlement]) -> Result<Vec<Settled>, BatchError> {
        self.arrived(settlements).await;
        match &self.batch_error {
            Some(error) => Err(error.clone()),
            None if settlements.len() > self.takes_max => {
                Err(BatchError::NotTaken { detail: "too many".to_owned() })
            }
            None => Ok(settlements.iter().map(Self::answer).collect()),
        }
    }
}

struct Subject {
    batcher: Arc<Batcher<Scripted>>,
    answers: Vec<(u8, oneshot::Receiver<Settled>)>,
}

impl Subject {
    fn new(issuer: Scripted, per_request: usize, senders: usize) -> Self {
        let closes = ClosesConfig {
            settlements_per_request: per_request,
            requests_in_flight_max: senders,
            ..ClosesConfig::default()
        };
        let metrics = Metrics::new(&prometheus::Registry::new(), Clock::system()).expect("a fresh registry");
        Subject { batcher: Arc::new(Batcher::new(issuer, &closes, metrics)), answers: Vec::new() }
    }

    fn submit(&mut self, channel: u8) {
        let request = SettlementRequest::unsigned(Amount::new(u64::from(channel)), None, true, 1);
        let settlement = ChannelSettlement { channel_id: ChannelId([channel; 32]), request };
        let (answer, sender) = self.batcher.submit(settlement);
        if let Some(sender) = sender {
            tokio::spawn(sender);
        }
        self.answers.push((channel, answer));
    }

    fn requests(&self) -> Vec<Vec<u8>> {
        self.batcher.issuer.requests.lock().expect("no panic").clone()
    }

    /// Waits until so many requests have come; no other task can keep this one from seeing them.
    async fn requested(&self, times: usize) {
        while self.requests().len() < times {
            tokio::task::yield_now().await;
        }
    }

    /// Lets the issuer answer everything, and asserts that each close got its own result.
    async fn all_get_their_own(self) {
        self.batcher.issuer.permits.add_permits(1_000);
        for (channel, answer) in self.answers {
            let settled = answer.await.expect("answered");
            if channel % 2 == 1 {
                let error = settled.expect_err("odd ones are refused");
                assert_eq!(error.code(), Some(Code::ChannelClosed));
            } else {
                assert_eq!(settled.expect("settled").channel_id, ChannelId([channel; 32]));
            }
        }
    }
}

#[tokio::test]
async fn an_idle_batcher_sends_at_once_and_what_comes_meanwhile_goes_together() {
    let mut subject = Subject::new(Scripted::new(100, None), 64, 2);
    subject.submit(0);
    subject.requested(1).await;
    subject.submit(1);
    subject.requested(2).await;
    for channel in 2..8 {
        subject.submit(channel);
    }
    assert_eq!(subject.requests(), [vec![0], vec![1]], "two requests are under way, and no more");
    subject.batcher.issuer.permits.add_permits(1);
    subject.requested(3).await;
    assert_eq!(subject.requests()[2], [2, 3, 4, 5, 6, 7], "in the order in which they came");
    subject.all_get_their_own().await;
}

#[tokio::test]
async fn closes_that_submit_at_the_same_moment_share_a_request_and_none_is_too_large() {
    let mut subject = Subject::new(Scripted::new(100, None), 4, 1);
    for channel in 0..10 {
        subject.submit(channel);
    }
    subject.batcher.issuer.permits.add_permits(2);
    subject.requested(3).await;
    assert_eq!(subject.requests(), [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8, 9]]);
    subject.all_get_their_own().await;
}

#[tokio::test]
async fn a_batch_without_an_answer_is_unknown_for_each() {
    let error = BatchError::Unavailable { detail: "a timeout".to_owned() };
    let mut subject = Subject::new(Scripted::new(100, Some(error)), 64, 1);
    subject.submit(0);
    subject.submit(1);
    subject.batcher.issuer.permits.add_permits(1);
    for (_, answer) in std::mem::take(&mut subject.answers) {
        let unknown = IssuerError::Unavailable { detail: "a timeout".to_owned() };
        assert_eq!(answer.await.expect("answered"), Err(unknown));
    }
    assert_eq!(subject.requests(), [[0, 1]], "nothing is sent again behind the back of its close");
}

#[tokio::test]
async fn a_batch_that_is_not_taken_is_sent_one_by_one_and_the_next_is_smaller() {
    let mut subject = Subject::new(Scripted::new(2, None), 64, 1);
    for channel in 0..4 {
        subject.submit(channel);
    }
    subject.batcher.issuer.permits.add_permits(5);
    subject.requested(5).await;
    for channel in 4..9 {
        subject.submit(channel);
    }
    subject.batcher.issuer.permits.add_permits(2);
    subject.requested(8).await;
    let requests = subject.requests();
    assert_eq!(requests[..5], [vec![0, 1, 2, 3], vec![0], vec![1], vec![2], vec![3]]);
    assert_eq!(requests[5..], [vec![4, 5], vec![6, 7], vec![8]]);
    subject.all_get_their_own().await;
}

#[tokio::test]
async fn an_issuer_without_the_route_is_asked_for_it_once() {
    let mut subject = Subject::new(Scripted::new(100, Some(BatchError::NoRoute)), 64, 1);
    for channel in 0..3 {
        subject.submit(channel);
    }
    subject.batcher.issuer.permits.add_permits(4);
    subject.requested(4).await;
    for channel in 3..6 {
        subject.submit(channel);
    }
    subject.batcher.issuer.permits.add_permits(3);
    subject.requested(7).await;
    let batches = subject.requests().into_iter().filter(|request| request.len() > 1).count();
    assert_eq!(batches, 1);
    for channel in 6..9 {
        subject.submit(channel);
    }
    // None of these three is answered, and one request may be under way: they do not wait for one another.
    subject.requested(10).await;
    subject.all_get_their_own().await;
}

#[tokio::test]
async fn where_each_goes_alone_none_waits_for_another() {
    let mut subject = Subject::new(Scripted::new(100, None), 1, 1);
    for channel in 0..5 {
        subject.submit(channel);
    }
    subject.requested(5).await;
    subject.all_get_their_own().await;
}

#[tokio::test]
async fn a_close_that_is_gone_holds_up_no_other() {
    let mut subject = Subject::new(Scripted::new(100, None), 64, 1);
    for channel in [0, 2, 4] {
        subject.submit(channel);
    }
    drop(subject.answers.remove(1));
    subject.all_get_their_own().await;
}
