//! What a test looks at when all is said and done: channels, books, readiness, logs.

use std::collections::HashMap;
use std::time::Duration;

use cli::stack::process::Process;
use common::amount::Amount;
use common::channel::Status;
use common::ids::{ChannelId, Signature};
use common::message;
use common::store::read::StoredChannel;
use common::store::stream::EntryId;
use common::wire::{IssuerStatus, Receipt, SettlementRequest};
use serde::Deserialize;

use super::{Rig, SOON};
use crate::load::Paid;
use crate::payer::Channel;
use crate::wait::wait_for;

/// Entries of a stream that are read at once.
const ENTRIES_PER_READ: u64 = 1_000;

#[derive(Deserialize)]
struct Ready {
    reason: Option<String>,
}

impl Rig {
    /// What Redis holds of a channel.
    ///
    /// # Panics
    /// It holds nothing, or does not answer.
    pub async fn stored(&self, channel: &Channel) -> StoredChannel {
        let found = self.store().await.channel(&channel.id()).await.expect("Redis answers");
        found.expect("Redis knows the channel")
    }

    /// Waits until Redis has a channel in this status.
    ///
    /// # Panics
    /// It does not come to it in time.
    pub async fn in_status(&self, channel: &Channel, status: Status) -> StoredChannel {
        let store = self.store().await;
        wait_for(SOON, &format!("the channel is {status:?}"), || async {
            let found = store.channel(&channel.id()).await.expect("Redis answers")?;
            (found.state.status == status).then_some(found)
        })
        .await
    }

    /// Waits until the leader has put the payments on a channel into the books.
    ///
    /// # Panics
    /// It does not in time.
    pub async fn read_by_leader(&self, channel: &Channel) -> StoredChannel {
        let store = self.store().await;
        wait_for(SOON, "the leader has read the payments", || async {
            let found = store.channel(&channel.id()).await.expect("Redis answers")?;
            found.first_at_ms.is_some().then_some(found)
        })
        .await
    }

    /// Waits until a channel is closed in Redis, and asserts that Redis, the receipt and the issuer agree that exactly
    /// `amount` was paid and the rest given back.
    ///
    /// # Panics
    /// It is not closed in time, or they do not agree.
    pub async fn closed(&self, channel: &Channel, amount: u64) -> StoredChannel {
        let found = self.in_status(channel, Status::Closed).await;
        let id = channel.id();
        assert_eq!(found.state.amount, Amount::new(amount), "the amount that is pinned in Redis");
        let receipt = found.receipt.clone().expect("a closed channel has its receipt");
        assert!(receipt.is_signed_by(&self.issuer.public_key()), "{receipt:?}");
        let refunded = channel.terms().capacity.units() - amount;
        let told = (receipt.channel_id, receipt.settled_amount, receipt.refunded_amount, receipt.closed);
        assert_eq!(told, (id, Amount::new(amount), Amount::new(refunded), true), "the receipt in Redis");
        let issued = self.issuer.client().channel(&id).await.expect("the issuer answers").expect("a channel");
        assert_eq!((issued.status, issued.settled_amount), (IssuerStatus::Closed, Amount::new(amount)));
        assert_eq!(issued.receipt, Some(receipt), "Redis keeps the receipt that the issuer keeps");
        let due = self.store().await.due_at(&id).await.expect("Redis answers");
        assert_eq!(due, None, "a closed channel does not come up again");
        found
    }

    /// Asserts that a channel is open with Redis and issuer, with nothing settled, and that the leader has it down for
    /// later.
    ///
    /// # Panics
    /// It is not.
    pub async fn assert_left_alone(&self, channel: &Channel) {
        let found = self.stored(channel).await;
        assert_eq!((found.state.status, found.closing_at_ms), (Status::Open, None), "{found:?}");
        let due = self.store().await.due_at(&channel.id()).await.expect("Redis answers");
        let now_ms = common::clock::Clock::system().now_ms();
        assert!(due.expect("an open channel comes up again") > now_ms, "{due:?} is not after {now_ms}");
        let issuer = self.issuer.client();
        let issued = issuer.channel(&channel.id()).await.expect("the issuer answers").expect("a channel");
        assert_eq!((issued.status, issued.settled_amount), (IssuerStatus::Open, Amount::ZERO));
    }

    /// What the payee has got from all its channels.
    ///
    /// # Panics
    /// The issuer does not answer.
    pub async fn earned(&self) -> u64 {
        let account = self.issuer.client().account(&self.payee()).await.expect("the payee has an account");
        let usd = account.balances.iter().find(|balance| balance.asset == "usd").expect("play money");
        let start = issuer::Config::default().development.starting_balance;
        usd.available.checked_sub(start).expect("a payee only ever gets").units()
    }

    /// The highest fencing token that the issuer has seen from the payee.
    ///
    /// # Panics
    /// The issuer does not answer.
    pub async fn token_at_issuer(&self) -> u64 {
        let account = self.issuer.client().account(&self.payee()).await.expect("the payee has an account");
        account.highest_fencing_token
    }

    /// Asserts that the issuer's books balance, added up anew.
    ///
    /// # Panics
    /// They do not.
    pub async fn assert_books_balance(&self) {
        let books = self.issuer.client().books().await.expect("the issuer answers");
        assert!(books.balanced, "{books:?}");
    }

    /// Settles with the issuer behind everyone's back, as a settler with this token would.
    ///
    /// # Panics
    /// The issuer refuses.
    pub async fn settle_directly(&self, channel: &Channel, amount: u64, close: bool, token: u64) -> Receipt {
        let message = message::settle(&channel.id(), Amount::new(amount), close, token);
        let proof = channel.voucher(amount).proof;
        let unsigned = SettlementRequest::unsigned(Amount::new(amount), Some(proof), close, token);
        let payee_signature = Signature::of(self.payee_key(), &message);
        let request = SettlementRequest { payee_signature, ..unsigned };
        self.issuer.client().settle(&channel.id(), &request).await.expect("the issuer settles")
    }

    /// Asserts of every payer's channel that Redis holds at least what was acknowledged, and at most what was
    /// presented; and, as no leader has read the streams, that every amount was recorded there exactly once.
    ///
    /// # Panics
    /// Something is missing, or was recorded twice.
    pub async fn assert_kept(&self, paid: &[Paid]) {
        let in_streams = self.in_streams().await;
        for Paid { channel, acknowledged, presented, .. } in paid {
            let id = channel.id();
            let recorded = self.stored(channel).await.state.amount.units();
            assert!(
                (*acknowledged..=*presented).contains(&recorded),
                "{id}: acknowledged {acknowledged}, presented {presented}, recorded {recorded}"
            );
            let amounts = in_streams.get(&id).map(Vec::as_slice).unwrap_or_default();
            let all: Vec<u64> = (1..=recorded).collect();
            assert!(amounts == all, "{id}: {} entries for the amounts to {recorded}", amounts.len());
        }
    }

    /// The amounts of every payment that stands in a stream, by channel, in the order of their recording.
    ///
    /// # Panics
    /// Redis does not answer, or an entry cannot be read.
    pub async fn in_streams(&self) -> HashMap<ChannelId, Vec<u64>> {
        let store = self.store().await;
        let mut entries = Vec::new();
        for partition in 0..store.partitions() {
            let mut from = EntryId::ZERO;
            loop {
                let page = store.entries(partition, from, ENTRIES_PER_READ).await.expect("Redis answers");
                let Some(last) = page.last().map(|entry| entry.id) else { break };
                entries.extend(page);
                from = EntryId { ms: last.ms, n: last.n + 1 };
            }
        }
        let mut amounts: HashMap<ChannelId, Vec<(u64, u64)>> = HashMap::new();
        for entry in entries {
            for payment in entry.payments.expect("relayers write entries that can be read") {
                amounts.entry(payment.channel_id).or_default().push((entry.id.ms, payment.amount.units()));
            }
        }
        let in_order = |mut of_channel: Vec<(u64, u64)>| {
            // Streams that are written to in the same ms do not say which was first: the lower amount was.
            of_channel.sort_unstable();
            of_channel.into_iter().map(|(_, amount)| amount).collect()
        };
        amounts.into_iter().map(|(id, of_channel)| (id, in_order(of_channel))).collect()
    }

    /// Waits until a process is not ready for a reason that contains `words`, and gives back the reason.
    ///
    /// # Panics
    /// It is ready, or not ready for another reason, all the time.
    pub async fn not_ready(&self, process: &Process, words: &str) -> String {
        let url = format!("{}/readyz", process.admin_url());
        let http = reqwest::Client::builder().no_proxy().build().expect("no option that could be wrong");
        wait_for(SOON, &format!("{} is not ready: {words}", process.name()), || async {
            let answer = http.get(&url).timeout(Duration::from_secs(1)).send().await.ok()?;
            let body = answer.bytes().await.ok()?;
            let ready: Ready = serde_json::from_slice(&body).expect("an answer to /readyz");
            ready.reason.filter(|reason| reason.contains(words))
        })
        .await
    }

    /// Everything that a process has logged.
    ///
    /// # Panics
    /// Its log cannot be read.
    pub fn log(&self, process: &Process) -> String {
        std::fs::read_to_string(process.log()).expect("every process has a log")
    }

    /// All that Redis holds but for the sign of life of those who look at it, so that two dumps are equal when nothing
    /// has changed.
    ///
    /// # Panics
    /// Redis does not answer.
    pub async fn dump(&self) -> String {
        let dump = self.redis.dump().await;
        dump.lines().filter(|line| !line.contains("probed_at_s")).collect::<Vec<_>>().join("\n")
    }
}
