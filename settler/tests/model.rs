//! The lease, the fence, the stream, the close and the issuer as a model, checked exhaustively: every order of events
//! for two settlers and two channels, with every fault that the bounds of a run allow.
//!
//! `config` says what is checked, `steps` what can happen (each step names the function that it stands for), `servers`
//! what Redis and the issuer do, `settlers` what a settler does, `properties` what must hold. `docs/MODEL.md` says what
//! this proves and what it does not.

#[path = "model/config.rs"]
mod config;
#[path = "model/properties.rs"]
mod properties;
#[path = "model/servers.rs"]
mod servers;
#[path = "model/settlers.rs"]
mod settlers;
#[path = "model/state.rs"]
mod state;
#[path = "model/steps.rs"]
mod steps;

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use config::{Clock, Config, TICKS, Variant, Work};
use properties::{
    I3, I4_ISSUER, I4_REDIS, I5_EXACTLY, I5_IN_THE_END, I5_ONCE, ONE_LEADER, RECEIPT, STREAM,
    STREAM_IN_THE_END,
};
use state::{Faults, State};
use stateright::{Checker, HasDiscoveries, Model};

/// Leaders that close channels, with clocks that may do anything. `any` are faults of every kind, in sum.
fn closes(terms: u8, any: u8) -> Config {
    let faults = Faults { any, ..Faults::default() };
    Config { variant: Variant::AsBuilt, clock: Clock::Free, work: Work::Closes, vouchers: 2, terms, faults }
}

/// Leaders that read the stream, likewise.
fn stream(terms: u8, any: u8) -> Config {
    Config { work: Work::Stream, ..closes(terms, any) }
}

/// Leaders with clocks that tick, one tick missed, one lease given back; nothing but the lease is looked at.
fn lease(terms: u8, any: u8, renewals: u8) -> Config {
    let faults = Faults { any, renewals, releases: 1, slow_ticks: 1, ..Faults::default() };
    Config { clock: TICKS, work: Work::Nothing, faults, ..closes(terms, any) }
}

/// Closes, stream, and clocks that tick, with one voucher a channel.
fn everything(any: u8) -> Config {
    let faults = Faults { any, slow_ticks: 1, ..Faults::default() };
    Config { clock: TICKS, work: Work::Everything, vouchers: 1, faults, ..closes(2, any) }
}

/// The same, where a partition may go over to a replica that lagged.
fn with_rollback(config: Config) -> Config {
    Config { faults: Faults { rollbacks: 1, ..config.faults }, ..config }
}

/// Visits every state; nothing that must hold fails, and all that must be possible is found.
fn holds(config: Config) {
    let began = Instant::now();
    let checker = config.checker().spawn_bfs().join();
    report(&checker, began, config);
    checker.assert_properties();
}

/// Finds what a broken system breaks; then visits every state to see that it breaks exactly that.
fn breaks(variant: Variant, config: Config, expected: &[&'static str]) {
    let config = Config { variant, ..config };
    let expected: BTreeSet<&'static str> = expected.iter().copied().collect();
    if !expected.is_empty() {
        let began = Instant::now();
        let checker =
            config.checker().finish_when(HasDiscoveries::AllOf(expected.clone())).spawn_bfs().join();
        report(&checker, began, config);
        for (name, path) in checker.discoveries() {
            if expected.contains(name) {
                eprintln!("  \"{name}\" fails by {:?}", path.into_actions());
            }
        }
    }
    let checker = config.checker().spawn_bfs().join();
    let discoveries = checker.discoveries();
    let failed =
        discoveries.into_keys().filter(|name| config.property(name).expectation.discovery_is_failure());
    assert_eq!(failed.collect::<BTreeSet<_>>(), expected, "{config:?}");
}

fn report(checker: &impl Checker<Config>, began: Instant, config: Config) {
    let (states, steps, depth) = (checker.unique_state_count(), checker.state_count(), checker.max_depth());
    eprintln!("{states} states, {steps} steps, {depth} deep, {:.1?}: {config:?}", began.elapsed());
}

#[test]
fn closes_keep_i3_to_i5_through_three_terms_and_any_fault() {
    holds(closes(3, 1));
}

#[test]
fn closes_keep_i3_to_i5_through_any_two_faults() {
    holds(closes(2, 2));
}

#[test]
fn the_stream_loses_nothing_through_any_fault() {
    holds(stream(2, 1));
    holds(stream(3, 0));
}

#[test]
fn no_two_settlers_lead_by_their_own_clocks() {
    holds(lease(3, 1, 2));
}

#[test]
fn closes_stream_and_ticking_clocks_hold_together() {
    holds(everything(0));
}

#[test]
#[ignore = "minutes: run it alone and with --release"]
fn more_faults_find_nothing_more() {
    holds(closes(3, 2));
    holds(stream(3, 1));
    holds(stream(2, 2));
    holds(lease(4, 2, 2));
    holds(everything(1));
    holds(with_late_release(everything(0)));
}

/// What makes the checker's `eventually` sound: no run comes back to where it was.
#[test]
fn every_run_ends() {
    for config in [closes(2, 1), stream(2, 0), lease(2, 1, 1), everything_without_clocks()] {
        assert!(ends(config), "{config:?} runs in a circle");
    }
}

fn everything_without_clocks() -> Config {
    Config { clock: Clock::Free, ..everything(0) }
}

/// Depth first; a state met again before all that follows it was visited closes a circle.
fn ends(config: Config) -> bool {
    let mut finished: HashMap<State, bool> = HashMap::new();
    let mut stack: Vec<(State, bool)> =
        config.init_states().into_iter().map(|state| (state, false)).collect();
    while let Some((state, leaving)) = stack.pop() {
        if leaving {
            finished.insert(state, true);
            continue;
        }
        if finished.contains_key(&state) {
            continue;
        }
        finished.insert(state, false);
        stack.push((state, true));
        for next in config.next_states(&state) {
            match finished.get(&next) {
                Some(true) => {}
                Some(false) => return false,
                None => stack.push((next, false)),
            }
        }
    }
    true
}

#[test]
fn settler_without_fence_breaks_i4_in_redis() {
    breaks(Variant::SettlerWithoutFence, closes(2, 1), &[I4_REDIS]);
}

#[test]
fn reading_without_fence_breaks_i4_and_strands_entries() {
    breaks(Variant::ReadingWithoutFence, stream(2, 0), &[I4_REDIS, STREAM_IN_THE_END]);
}

/// Idempotency alone saves I5 here: a deposed leader settles what its successor would have settled.
#[test]
fn issuer_without_token_check_breaks_i4_and_not_i5() {
    breaks(Variant::IssuerWithoutTokenCheck, closes(2, 1), &[I4_ISSUER]);
}

#[test]
fn lease_counted_from_the_answer_lets_two_lead() {
    breaks(Variant::LeaseCountedFromTheAnswer, lease(3, 0, 1), &[ONE_LEADER]);
}

#[test]
fn begin_close_in_two_steps_settles_less_than_was_accepted() {
    breaks(Variant::BeginCloseInTwoSteps, closes(2, 0), &[I5_EXACTLY, I5_IN_THE_END]);
}

#[test]
fn settlement_that_is_not_idempotent_pays_twice() {
    breaks(Variant::SettlementNotIdempotent, closes(2, 0), &[I5_ONCE, I5_IN_THE_END]);
}

#[test]
fn accept_in_two_steps_accepts_after_begin_close() {
    breaks(Variant::AcceptInTwoSteps, closes(1, 0), &[I3, I5_EXACTLY, I5_IN_THE_END]);
}

#[test]
fn trimming_what_is_not_acknowledged_loses_entries() {
    breaks(Variant::TrimsUnacknowledged, stream(2, 0), &[STREAM, STREAM_IN_THE_END]);
}

/// What is pinned never changes, so nothing but a Redis that forgot can bring a receipt for another amount.
#[test]
fn finish_close_without_amount_check_matters_once_redis_forgot() {
    breaks(Variant::FinishCloseIgnoresAmount, closes(2, 1), &[]);
    let lost = [I3, I5_EXACTLY, I5_IN_THE_END];
    breaks(Variant::AsBuilt, with_rollback(closes(2, 1)), &lost);
    breaks(Variant::FinishCloseIgnoresAmount, with_rollback(closes(2, 1)), &[&lost[..], &[RECEIPT]].concat());
}

/// Two ticks missed of three: more than the margin of a lease. The fence and the issuer do not care; see the runs with
/// free clocks.
#[test]
fn clocks_slower_than_the_margin_let_two_lead() {
    let config = lease(2, 0, 0);
    let slow = Config { faults: Faults { slow_ticks: 2, ..config.faults }, ..config };
    breaks(Variant::AsBuilt, slow, &[ONE_LEADER]);
}

fn with_late_release(config: Config) -> Config {
    Config { faults: Faults { late_releases: 1, ..config.faults }, ..config }
}

#[test]
fn late_release_of_an_earlier_term_changes_nothing() {
    holds(with_late_release(lease(3, 1, 1)));
}

/// What the lease was before it named the term of its holder. The fence holds all the same.
#[test]
fn lease_without_term_lets_a_late_release_make_two_lead() {
    breaks(Variant::LeaseWithoutTerm, with_late_release(lease(2, 0, 1)), &[ONE_LEADER]);
}
