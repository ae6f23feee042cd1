//! What was acknowledged, what Redis recorded of it, and the rules that both must keep.

use std::collections::BTreeMap;

use common::amount::Amount;
use common::ids::ChannelId;
use common::problem::Code;
use common::store::Store;
use common::store::stream::EntryId;
use common::wire::Outcome;
use tests::payer::Channel;

/// Entries of a stream that are read at once.
const PAGE: u64 = 2_000;

/// Config of a relayer under which every channel is looked up, however many come at once: that limit is not what races
/// are about.
pub(super) fn unlimited_lookups() -> Vec<(&'static str, String)> {
    vec![
        ("channels.issuer_lookups_per_s", "100000".to_owned()),
        ("channels.issuer_lookups_in_flight_max", "1000".to_owned()),
    ]
}

/// Pays, and says whether it was acknowledged; `false` where a higher amount came first. Anything else is none of what
/// a race may end in.
pub(super) async fn pay(channel: &Channel, relayer: &str, amount: u64) -> bool {
    let answer = channel.pay(relayer, amount).await.expect("the relayer answers");
    match answer.body {
        Ok(taken) => {
            assert_eq!((*taken.channel_id, taken.cumulative_amount), (channel.id(), Amount::new(amount)));
            assert_eq!(taken.outcome, Outcome::Accepted, "each amount is presented once");
            true
        }
        Err(problem) => {
            assert_eq!(problem.code, Code::StaleAmount, "{problem:?}");
            let latest = problem.latest.expect("with the latest voucher").cumulative_amount;
            assert!(latest > Amount::new(amount), "{amount} is called stale after {latest}");
            false
        }
    }
}

/// True if the latest amount of a channel is not the highest that was acknowledged: an update was lost, or money came
/// from nowhere.
pub(super) fn is_wrong(latest: Amount, acknowledged: &[u64]) -> bool {
    latest.units() != acknowledged.iter().copied().max().unwrap_or(0)
}

/// How often each amount of each channel was recorded in the streams.
pub(super) async fn recorded(store: &Store) -> BTreeMap<(ChannelId, u64), usize> {
    let mut counts = BTreeMap::new();
    for partition in 0..store.partitions() {
        let mut from = EntryId::ZERO;
        loop {
            let page = store.entries(partition, from, PAGE).await.expect("Redis answers");
            let Some(last) = page.last().map(|entry| entry.id) else { break };
            for payment in page.into_iter().flat_map(|entry| entry.payments.expect("written by relayers")) {
                *counts.entry((payment.channel_id, payment.amount.units())).or_default() += 1;
            }
            from = EntryId { ms: last.ms, n: last.n + 1 };
        }
    }
    counts
}

/// Asserts that the streams hold what was acknowledged, each once, and nothing else.
pub(super) async fn assert_recorded_once(store: &Store, acknowledged: &[(ChannelId, Vec<u64>)]) {
    let expected: BTreeMap<(ChannelId, u64), usize> = acknowledged
        .iter()
        .flat_map(|(id, amounts)| amounts.iter().map(|amount| ((*id, *amount), 1)))
        .collect();
    let found = recorded(store).await;
    let odd = found.iter().find(|(payment, count)| expected.get(payment) != Some(count));
    assert_eq!(odd, None, "recorded twice, or never acknowledged");
    let missing = expected.keys().find(|payment| !found.contains_key(payment));
    assert_eq!(missing, None, "acknowledged and not recorded");
}
