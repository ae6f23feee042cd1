//! Each rule on its own, at its boundary, then all of them together.

use super::*;
use proptest::prelude::*;

const NOW_MS: u64 = 1_700_000_000_000;

/// A policy of which only the expiry is on.
fn off() -> PolicyConfig {
    PolicyConfig {
        owed_max: None,
        unsettled_age_max_s: None,
        idle_max_s: None,
        capacity_used_percent: None,
        expiry_margin_s: 300,
    }
}

/// A channel that owes 10 of 100 since ten seconds, and lasts another 1000 s.
fn view() -> View {
    View {
        amount: Amount::new(10),
        settled_before: Amount::ZERO,
        capacity: Amount::new(100),
        first_at_ms: Some(NOW_MS - 10_000),
        last_at_ms: Some(NOW_MS - 4_000),
        expires_at: 1_700_001_000,
        close_requested: false,
        now_ms: NOW_MS,
    }
}

const EXPIRY_LESS_MARGIN_MS: u64 = 1_700_000_700_000;

#[test]
fn without_a_reason_a_channel_waits_for_its_expiry() {
    assert_eq!(decide(&off(), &view()), Decision::Wait { until_ms: EXPIRY_LESS_MARGIN_MS });
}

#[test]
fn a_requested_close_comes_at_once_even_if_nothing_is_owed() {
    let asked = View { close_requested: true, ..view() };
    assert_eq!(decide(&off(), &asked), Decision::Close(Reason::CloseRequested));
    let unpaid = View { amount: Amount::ZERO, first_at_ms: None, last_at_ms: None, ..asked };
    assert_eq!(decide(&off(), &unpaid), Decision::Close(Reason::CloseRequested));
}

#[test]
fn used_capacity_counts_from_the_percent_on() {
    let policy = |percent| PolicyConfig { capacity_used_percent: Some(percent), ..off() };
    let used = |amount: u64, capacity: u64, percent| {
        let view = View { amount: Amount::new(amount), capacity: Amount::new(capacity), ..view() };
        decide(&policy(percent), &view) == Decision::Close(Reason::Full)
    };
    assert!(!used(99, 100, 100) && used(100, 100, 100));
    assert!(!used(79, 100, 80) && used(80, 100, 80));
    assert!(!used(1, 3, 34) && used(2, 3, 34), "34 percent of 3 are more than 1");
    assert!(!used(u64::MAX - 1, u64::MAX, 100) && used(u64::MAX, u64::MAX, 100));
    // The edge of the largest capacity at half: 9223372036854775807.5.
    assert!(!used(9_223_372_036_854_775_807, u64::MAX, 50) && used(9_223_372_036_854_775_808, u64::MAX, 50));
}

#[test]
fn what_is_owed_counts_from_what_was_settled_before() {
    let owes = |amount: u64, before: u64, max: u64| {
        let policy = PolicyConfig { owed_max: Some(Amount::new(max)), ..off() };
        let view = View {
            amount: Amount::new(amount),
            settled_before: Amount::new(before),
            capacity: Amount::MAX,
            ..view()
        };
        decide(&policy, &view) == Decision::Close(Reason::Owed)
    };
    assert!(!owes(9, 0, 10) && owes(10, 0, 10));
    assert!(!owes(19, 10, 10) && owes(20, 10, 10));
    assert!(owes(u64::MAX, 0, u64::MAX) && !owes(u64::MAX, 1, u64::MAX));
    // One more than 2^53 is not 2^53.
    assert!(!owes(9_007_199_254_740_992, 0, 9_007_199_254_740_993));
}

#[test]
fn age_counts_from_the_oldest_unsettled_payment() {
    let policy = |seconds| PolicyConfig { unsettled_age_max_s: Some(seconds), ..off() };
    assert_eq!(decide(&policy(10), &view()), Decision::Close(Reason::Age));
    assert_eq!(decide(&policy(11), &view()), Decision::Wait { until_ms: NOW_MS + 1_000 });
    let just_before = View { now_ms: NOW_MS + 999, ..view() };
    assert_eq!(decide(&policy(11), &just_before), Decision::Wait { until_ms: NOW_MS + 1_000 });
    assert_eq!(
        decide(&policy(u64::MAX), &view()),
        Decision::Wait { until_ms: EXPIRY_LESS_MARGIN_MS },
        "a bound beyond all time is none"
    );
}

#[test]
fn idleness_counts_from_the_last_payment() {
    let policy = |seconds| PolicyConfig { idle_max_s: Some(seconds), ..off() };
    assert_eq!(decide(&policy(4), &view()), Decision::Close(Reason::Idle));
    assert_eq!(decide(&policy(5), &view()), Decision::Wait { until_ms: NOW_MS + 1_000 });
    let paid_again = view().with_payments(Amount::new(11), NOW_MS, NOW_MS);
    assert_eq!(decide(&policy(5), &paid_again), Decision::Wait { until_ms: NOW_MS + 5_000 });
}

#[test]
fn the_expiry_less_its_margin_is_never_missed() {
    let unpaid = View { amount: Amount::ZERO, first_at_ms: None, last_at_ms: None, ..view() };
    for channel in [view(), unpaid] {
        let at = |now_ms| decide(&off(), &View { now_ms, ..channel.clone() });
        assert_eq!(at(EXPIRY_LESS_MARGIN_MS - 1), Decision::Wait { until_ms: EXPIRY_LESS_MARGIN_MS });
        assert_eq!(at(EXPIRY_LESS_MARGIN_MS), Decision::Close(Reason::Expiring));
        assert_eq!(at(u64::MAX), Decision::Close(Reason::Expiring), "late is better than never");
    }
    for expires_at in [i64::MIN, 0, 299] {
        let past = View { expires_at, ..view() };
        assert_eq!(decide(&off(), &past), Decision::Close(Reason::Expiring));
    }
}

#[test]
fn a_channel_on_which_nothing_is_owed_waits_for_a_request_or_its_expiry() {
    let policy = PolicyConfig {
        owed_max: Some(Amount::new(1)),
        unsettled_age_max_s: Some(0),
        idle_max_s: Some(0),
        capacity_used_percent: Some(1),
        expiry_margin_s: 300,
    };
    let unpaid = View { amount: Amount::ZERO, first_at_ms: None, last_at_ms: None, ..view() };
    let settled = View { settled_before: Amount::new(10), ..view() };
    for channel in [unpaid, settled] {
        assert_eq!(decide(&policy, &channel), Decision::Wait { until_ms: EXPIRY_LESS_MARGIN_MS });
    }
}

#[test]
fn payments_move_the_last_time_on_and_the_first_back() {
    let seen = view().with_payments(Amount::new(7), NOW_MS, NOW_MS + 1);
    assert_eq!((seen.amount, seen.first_at_ms), (Amount::new(10), view().first_at_ms));
    assert_eq!(seen.last_at_ms, Some(NOW_MS + 1));
    // Read late, from another stream.
    let seen = view().with_payments(Amount::new(7), 5, 6);
    assert_eq!((seen.first_at_ms, seen.last_at_ms), (Some(5), view().last_at_ms));
    let first = View { first_at_ms: None, last_at_ms: None, ..view() };
    let seen = first.with_payments(Amount::new(12), 5, 6);
    assert_eq!((seen.amount, seen.first_at_ms, seen.last_at_ms), (Amount::new(12), Some(5), Some(6)));
}

#[test]
fn reasons_are_read_back_as_they_are_written() {
    for reason in Reason::ALL {
        assert_eq!(Reason::parse(reason.as_str()), Some(reason));
    }
    assert_eq!(Reason::parse("boredom"), None);
}

fn any_policy() -> impl Strategy<Value = PolicyConfig> {
    let seconds = || proptest::option::of(prop_oneof![0..100_000u64, any::<u64>()]);
    let margin = prop_oneof![1..100_000u64, 1..u64::MAX];
    (proptest::option::of(1..u64::MAX), seconds(), seconds(), proptest::option::of(1..=100u8), margin)
        .prop_map(|(owed_max, unsettled_age_max_s, idle_max_s, capacity_used_percent, expiry_margin_s)| {
            PolicyConfig {
                owed_max: owed_max.map(Amount::new),
                unsettled_age_max_s,
                idle_max_s,
                capacity_used_percent,
                expiry_margin_s,
            }
        })
}

fn any_view() -> impl Strategy<Value = View> {
    let near =
        |now: u64| prop_oneof![now.saturating_sub(200_000_000)..now.saturating_add(1_000), any::<u64>()];
    let amounts = (any::<u64>(), any::<u64>(), any::<u64>());
    let times = (proptest::option::of(near(NOW_MS)), proptest::option::of(near(NOW_MS)));
    let expiry = prop_oneof![1_699_000_000i64..1_701_000_000, any::<i64>()];
    (amounts, times, expiry, any::<bool>()).prop_map(|(amounts, (first, last), expires_at, asked)| View {
        amount: Amount::new(amounts.0),
        settled_before: Amount::new(amounts.1),
        capacity: Amount::new(amounts.2),
        first_at_ms: first,
        last_at_ms: last,
        expires_at,
        close_requested: asked,
        now_ms: NOW_MS,
    })
}

proptest! {
    #[test]
    fn waiting_ends_by_the_expiry_and_in_a_close(policy in any_policy(), view in any_view()) {
        if let Decision::Wait { until_ms } = decide(&policy, &view) {
            prop_assert!(until_ms > view.now_ms);
            prop_assert!(until_ms <= closes_at_ms(&policy, view.expires_at));
            let then = View { now_ms: until_ms, ..view.clone() };
            prop_assert!(matches!(decide(&policy, &then), Decision::Close(_)));
            let before = View { now_ms: until_ms - 1, ..view };
            prop_assert_eq!(decide(&policy, &before), Decision::Wait { until_ms });
        }
    }
}
