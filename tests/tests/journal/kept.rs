//! A rig whose settlers keep a journal, and what must be in it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::ids::ChannelId;
use common::journal::line::Line;
use common::journal::segment;
use common::journal::verify::{Expect, Report, Verifier};
use common::store::Store;
use common::verify::usable_key;
use service::journal::JournalStore;
use tests::load::Paid;
use tests::payer::Channel;
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

/// How long a segment takes in records, unless a test says otherwise: long enough for several payments.
const SEGMENT_MAX_AGE_MS: &str = "50";

/// A rig, and every payment that its relayers took.
pub(crate) struct Kept {
    pub(crate) rig: Rig,
    pub(crate) store: Store,
    /// What a settler is started with.
    pub(crate) config: Vec<(&'static str, String)>,
    accepted: BTreeMap<ChannelId, Vec<u64>>,
}

impl Kept {
    /// Without a settler yet.
    pub(crate) async fn start() -> Kept {
        Self::with(&[]).await
    }

    /// Likewise, with further config for its settlers.
    pub(crate) async fn with(config: &[(&'static str, &str)]) -> Kept {
        let rig = Rig::start(RigOptions::default()).await;
        let store = rig.store().await;
        let mut all = vec![
            ("journal.url", "journal".to_owned()),
            ("journal.segment_max_age_ms", SEGMENT_MAX_AGE_MS.to_owned()),
            // Long enough for a flush on a busy machine: what is cut short is for another test.
            ("drain_timeout_ms", "2000".to_owned()),
        ];
        all.extend(config.iter().map(|(key, value)| (*key, (*value).to_owned())));
        Kept { rig, store, config: all, accepted: BTreeMap::new() }
    }

    /// Starts another settler and waits until it stands by or leads.
    pub(crate) async fn settler(&mut self) -> usize {
        let config = self.config.clone();
        self.rig.spawn_settler(&config).wait_ready(SOON).await.unwrap_or_else(|error| panic!("{error}"));
        self.rig.settlers.len() - 1
    }

    /// Where the segments are.
    pub(crate) fn dir(&self) -> PathBuf {
        self.rig.dir().join("journal")
    }

    pub(crate) fn journal(&self) -> JournalStore {
        JournalStore::at(&self.dir().display().to_string()).expect("a directory")
    }

    /// Pays these amounts one after another, a request each.
    pub(crate) async fn pay(&mut self, channel: &Channel, amounts: impl IntoIterator<Item = u64>) {
        for amount in amounts {
            let reply = self.rig.pay(0, channel, amount).await;
            assert_eq!(reply.status, 200, "{reply:?}");
            self.accepted.entry(channel.id()).or_default().push(amount);
        }
    }

    /// Pays these amounts in one request, which is one entry.
    pub(crate) async fn pay_at_once(&mut self, channel: &Channel, amounts: impl IntoIterator<Item = u64>) {
        let amounts: Vec<u64> = amounts.into_iter().collect();
        let vouchers: Vec<_> = amounts.iter().map(|amount| channel.voucher(*amount)).collect();
        let body = serde_json::to_vec(&vouchers).expect("vouchers are JSON");
        let reply = self.rig.http.post(&format!("{}/v1/payments/batch", self.rig.relayer(0)), body).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        self.accepted.entry(channel.id()).or_default().extend(amounts);
    }

    /// What payers under load have paid: 1, 2, 3 and so on.
    pub(crate) fn paid(&mut self, paid: &[Paid]) {
        for paid in paid {
            assert_eq!(paid.acknowledged, paid.presented, "the relayer was there throughout");
            self.accepted.insert(paid.channel.id(), (1..=paid.acknowledged).collect());
        }
    }

    /// All records in the journal, segment by segment.
    pub(crate) async fn records(&self) -> Vec<Line> {
        let mut records = Vec::new();
        let journal = self.journal();
        for listed in journal.list().await.expect("a journal") {
            let bytes = journal.get(listed.number).await.expect("listed");
            let read = segment::read(listed.number, &bytes, |_, line, _| records.push(line.clone()));
            read.unwrap_or_else(|fault| panic!("{fault}"));
        }
        records
    }

    /// The payments in the journal, by channel, the lowest first: those of one channel may stand in several streams, which
    /// have no common order.
    pub(crate) async fn payments(&self) -> BTreeMap<ChannelId, Vec<u64>> {
        let mut found: BTreeMap<ChannelId, Vec<u64>> = BTreeMap::new();
        for record in self.records().await {
            if let Line::Payment(line) = record {
                found.entry(line.paid.channel_id).or_default().push(line.paid.cumulative_amount.units());
            }
        }
        found.values_mut().for_each(|amounts| amounts.sort_unstable());
        found
    }

    /// Waits until nothing is left in the streams: all is journaled, acknowledged and trimmed.
    pub(crate) async fn nothing_waits(&self) {
        wait_until(SOON, "the streams are empty", || async {
            for partition in 0..self.store.partitions() {
                let info = self.store.partition_info(partition).await.expect("Redis answers");
                let settled = self.store.keys().settled(partition);
                if info.entries + info.unacknowledged > 0 || self.length(&settled).await > 0 {
                    return false;
                }
            }
            true
        })
        .await;
    }

    async fn length(&self, stream: &str) -> u64 {
        self.rig.redis.command(&["XLEN", stream]).await.trim().parse().expect("a number")
    }

    /// Waits until all is journaled, and asserts that it is every accepted payment, once, and nothing else, and that the
    /// whole journal is true.
    pub(crate) async fn all_is_kept_once(&self) -> Report {
        self.nothing_waits().await;
        assert_eq!(self.payments().await, self.accepted);
        let report = self.verified().await;
        assert_eq!(report.faults, []);
        assert_eq!(report.proofs, report.payments);
        report
    }

    /// What there is to be said of the journal.
    pub(crate) async fn verified(&self) -> Report {
        let issuer = usable_key(&self.rig.issuer.public_key());
        let mut verifier = Verifier::new(Expect { issuer, root: None });
        let journal = self.journal();
        for listed in journal.list().await.expect("a journal") {
            verifier.segment(listed.number, &journal.get(listed.number).await.expect("listed"));
        }
        verifier.finish()
    }

    /// Waits until a settler has written a line like this.
    pub(crate) async fn logged(&self, settler: usize, words: &str) {
        wait_until(SOON, &format!("settler {settler} logs {words:?}"), || async {
            self.rig.log(&self.rig.settlers[settler]).contains(words)
        })
        .await;
    }
}
