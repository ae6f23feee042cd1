//! Payers that pay as fast as they are answered, and remember every amount that was acknowledged.

use std::time::Duration;

use common::problem::Code;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::payer::Channel;

/// Between two attempts to present a voucher that was not taken: payers that storm would keep a small machine from
/// recovering.
const PAUSE: Duration = Duration::from_millis(10);

/// One channel, when its payer has stopped.
#[derive(Clone, Debug)]
pub struct Paid {
    /// The channel.
    pub channel: Channel,
    /// The highest amount that a relayer said it had taken.
    pub acknowledged: u64,
    /// The highest amount that was presented, whatever became of it.
    pub presented: u64,
    /// What the payer was told, or found, each time a voucher was not taken.
    pub failures: Vec<String>,
}

/// Payers at work, one a channel: each pays 1, 2, 3, …, and presents a voucher until it is taken or its channel closes.
#[derive(Debug)]
pub struct Load {
    stop: CancellationToken,
    payers: JoinSet<Paid>,
    acknowledged: watch::Sender<u64>,
}

impl Load {
    /// Starts a payer for each channel. A voucher that one relayer does not take is presented to the next.
    pub fn start(channels: &[Channel], relayers: &[&str]) -> Load {
        let (stop, acknowledged) = (CancellationToken::new(), watch::Sender::default());
        let relayers: Vec<String> = relayers.iter().map(|url| (*url).to_owned()).collect();
        let mut payers = JoinSet::new();
        for (i, channel) in channels.iter().enumerate() {
            let urls = relayers.iter().cycle().skip(i % relayers.len()).take(relayers.len());
            let urls: Vec<String> = urls.cloned().collect();
            payers.spawn(pay(channel.clone(), urls, acknowledged.clone(), stop.clone()));
        }
        Load { stop, payers, acknowledged }
    }

    /// Waits until this many more payments were acknowledged.
    ///
    /// # Panics
    /// There are fewer within `deadline`.
    pub async fn wait_for(&self, payments: u64, deadline: Duration) {
        let mut watched = self.acknowledged.subscribe();
        let goal = *watched.borrow() + payments;
        if tokio::time::timeout(deadline, watched.wait_for(|count| *count >= goal)).await.is_err() {
            let missing = goal - *self.acknowledged.borrow();
            panic!("waited {} ms in vain for {missing} of {payments} payments", deadline.as_millis());
        }
    }

    /// Has every payer end its present attempt, and gives back what each has come to.
    ///
    /// # Panics
    /// A payer was told what cannot be.
    pub async fn stop(self) -> Vec<Paid> {
        self.stop.cancel();
        self.payers.join_all().await
    }
}

async fn pay(
    channel: Channel,
    relayers: Vec<String>,
    acknowledged: watch::Sender<u64>,
    stop: CancellationToken,
) -> Paid {
    let mut paid = Paid { channel, acknowledged: 0, presented: 0, failures: Vec::new() };
    let mut relayers = relayers.iter().cycle();
    let mut relayer = relayers.next().expect("there is a relayer to pay");
    while !stop.is_cancelled() {
        paid.presented = paid.acknowledged + 1;
        let voucher = paid.channel.voucher(paid.presented);
        match paid.channel.present(relayer, &voucher).await.map(|answer| answer.body) {
            Ok(Ok(_)) => {
                paid.acknowledged = paid.presented;
                acknowledged.send_modify(|count| *count += 1);
                continue;
            }
            // The seller has had enough.
            Ok(Err(problem)) if matches!(problem.code, Code::ChannelClosing | Code::ChannelClosed) => break,
            // Nothing was taken, or it is not known: the same voucher again.
            Ok(Err(problem)) => {
                assert!(
                    matches!(problem.code, Code::StoreUnavailable | Code::OutcomeUnknown | Code::Overloaded),
                    "a payer that pays in order is told {problem:?}"
                );
                paid.failures.push(problem.code.to_string());
            }
            Err(error) => paid.failures.push(format!("{error:?}")),
        }
        relayer = relayers.next().expect("it goes round for ever");
        tokio::time::sleep(PAUSE).await;
    }
    paid
}
