//! The checker against simulated runs: a correct one never yields a violation, one with a single thing spoilt always
//! does.

mod simulation;
mod spoiling;

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::Kind;
use simulation::World;
use spoiling::SPOILS;

/// Simulated runs.
const RUNS: u64 = 400;

#[test]
fn a_correct_run_never_yields_a_violation() {
    let (mut lines, mut closed) = (0, 0);
    for seed in 0..RUNS {
        let world = World::simulate(seed);
        let violations = world.check();
        assert!(violations.is_empty(), "seed {seed}: {violations:?}");
        lines += world.histories.iter().map(Vec::len).sum::<usize>();
        closed += world.issuer.settlements.len();
    }
    assert!(lines > 20_000 && closed > 300, "the runs are worth checking: {lines} lines, {closed} closes");
}

#[test]
fn one_thing_spoilt_in_a_run_is_always_named() {
    let mut spoilt = 0;
    for seed in 0..RUNS {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::simulate(seed);
        let spoil = &SPOILS[rng.random_range(0..SPOILS.len())];
        if !(spoil.apply)(&mut world, &mut rng) {
            continue;
        }
        spoilt += 1;
        let kinds = world.kinds();
        assert!(kinds.contains(&spoil.kind), "seed {seed}: {} yields {kinds:?}", spoil.name);
    }
    assert!(spoilt > RUNS / 2, "{spoilt}");
}

#[test]
fn every_kind_of_violation_is_found_in_the_smallest_run_that_has_it() {
    let clean = World::minimal();
    assert_eq!(clean.check(), [], "two payments, a close and its settlement");
    let mut found = BTreeSet::new();
    for spoil in SPOILS {
        let mut world = World::minimal();
        assert!((spoil.apply)(&mut world, &mut StdRng::seed_from_u64(1)), "{}", spoil.name);
        let kinds = world.kinds();
        assert!(kinds.contains(&spoil.kind), "{} yields {kinds:?}", spoil.name);
        found.insert(spoil.kind);
    }
    use Kind::*;
    let all = [
        AcknowledgedMissing,
        AmountFell,
        CapacityPassed,
        AcceptedAfterClose,
        SettledWrongAmount,
        SettledTwice,
        PostingsUnbalanced,
        ReceiptWrong,
        Contradiction,
        RecordedTwice,
        NeverSent,
        RefusedButRecorded,
        ProofInvalid,
        CloseFailed,
        MissingAtIssuer,
    ];
    assert_eq!(found, BTreeSet::from(all));
}

#[test]
fn what_was_under_way_at_once_may_come_in_any_order() {
    // 8 was told before 5 was, but 5 had left before 8 was told.
    let mut world = World::minimal();
    let (first, second) = (world.histories[0][0].clone(), world.histories[0][2].clone());
    let (mut told_first, mut told_second) = (world.histories[0][1].clone(), world.histories[0][3].clone());
    let mut lines = vec![first, second];
    (lines[1].seq, told_second.attempt) = (1, Some(1));
    (told_second.seq, told_first.seq) = (2, 3);
    lines.extend([told_second, told_first]);
    world.histories[0].splice(0..4, lines);
    assert_eq!(world.check(), []);
    // Had 5 left after 8 was told, it could not have been accepted.
    world.histories[0][3].attempt = Some(3);
    world.histories[0][0].seq = 3;
    world.histories[0][3].seq = 4;
    assert!(world.kinds().contains(&Kind::AmountFell), "{:?}", world.check());
}
