//! Doing to a stack what the plan says, and undoing it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::fault::{FaultKind, Link, Part, Stop, Trouble};
use super::payers::Shared;
use super::plan::{Injection, Target};
use super::report::Report;
use crate::stack::process::Process;
use crate::stack::proxy::{Fault, FaultProxy};
use crate::stack::{Stack, StackError};

/// How long everything together may take until it is ready again, once all faults have ended.
const HEAL_WITHIN: Duration = Duration::from_secs(30);

/// How late what goes over a link comes, each way: longer than the settlers' patience with Redis, shorter than that of
/// the relayers, so that both kinds of lateness are seen.
const DELAY: Duration = Duration::from_millis(350);

/// How late an issuer's answers come: sometimes past the patience of whoever asked.
const ISSUER_DELAY: Duration = Duration::from_millis(600);

/// Injects faults, and keeps count.
pub(super) struct Injector<'a> {
    stack: &'a mut Stack,
    shared: &'a Shared,
    report: &'a mut Report,
    /// Acknowledged payments when a fault began, by its place in the plan.
    acknowledged_at: BTreeMap<usize, u64>,
    /// Processes that are down on purpose.
    down: BTreeSet<(Part, usize)>,
}

impl<'a> Injector<'a> {
    pub(super) fn new(stack: &'a mut Stack, shared: &'a Shared, report: &'a mut Report) -> Self {
        let (acknowledged_at, down) = (BTreeMap::new(), BTreeSet::new());
        Injector { stack, shared, report, acknowledged_at, down }
    }

    /// Begins a fault.
    pub(super) async fn begin(&mut self, n: usize, injection: &Injection) {
        self.look_after();
        self.acknowledged_at.insert(n, self.shared.acknowledged());
        match (injection.kind, injection.target) {
            (FaultKind::Process(part, stop), Target::One(i)) => self.stop(part, i, stop).await,
            (FaultKind::Link(link, trouble), target) => {
                let fault = fault(link, trouble);
                for proxy in self.proxies(link, target) {
                    proxy.set(fault.clone());
                }
            }
            (FaultKind::Process(..), Target::All) => {}
        }
    }

    /// Ends a fault.
    pub(super) async fn end(&mut self, n: usize, injection: &Injection) {
        match (injection.kind, injection.target) {
            (FaultKind::Process(part, stop), Target::One(i)) => self.go_on(part, i, stop).await,
            (FaultKind::Link(link, _), target) => {
                for proxy in self.proxies(link, target) {
                    proxy.pass();
                }
            }
            (FaultKind::Process(..), Target::All) => {}
        }
        let before = self.acknowledged_at.remove(&n).unwrap_or_default();
        let meanwhile = self.shared.acknowledged().saturating_sub(before);
        self.report.injected(injection.kind, meanwhile);
    }

    /// Ends whatever is left, and waits until everything is ready.
    pub(super) async fn heal(mut self) {
        self.look_after();
        for proxy in self.stack.links.iter().flat_map(|links| links.all()) {
            proxy.pass();
        }
        let deadline = std::time::Instant::now() + HEAL_WITHIN;
        let Stack { relayers, settlers, issuer, .. } = &mut *self.stack;
        for process in relayers.iter_mut().chain(settlers).chain([issuer]) {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            if let Err(error) = process.wait_ready(left).await {
                self.report.failures.push(format!("not healed: {error}"));
            }
        }
    }

    async fn stop(&mut self, part: Part, i: usize, stop: Stop) {
        if stop != Stop::Pause {
            self.down.insert((part, i));
        }
        let stopped = match (part, self.process(part, i)) {
            (Part::Redis, _) => match (&mut self.stack.redis, stop) {
                (Some(redis), Stop::Kill) => {
                    redis.kill();
                    Ok(())
                }
                (Some(redis), Stop::Term) => redis.signal(Signal::SIGTERM),
                (Some(redis), Stop::Pause) => redis.signal(Signal::SIGSTOP),
                (None, _) => Ok(()),
            },
            (_, Some(process)) => match stop {
                Stop::Kill => {
                    process.kill();
                    Ok(())
                }
                Stop::Term => process.signal(Signal::SIGTERM),
                Stop::Pause => process.signal(Signal::SIGSTOP),
            },
            (_, None) => Ok(()),
        };
        self.note(stopped);
    }

    async fn go_on(&mut self, part: Part, i: usize, stop: Stop) {
        self.down.remove(&(part, i));
        let going = match (part, stop) {
            (Part::Redis, stop) => match &mut self.stack.redis {
                Some(redis) if stop == Stop::Pause => redis.signal(Signal::SIGCONT),
                Some(redis) => redis.restart().await,
                None => Ok(()),
            },
            (_, Stop::Pause) => {
                self.process(part, i).map_or(Ok(()), |process| process.signal(Signal::SIGCONT))
            }
            (_, stop) => {
                let slow = stop == Stop::Term && self.process(part, i).is_some_and(Process::is_alive);
                if slow {
                    self.report.slow_stops += 1;
                }
                self.process(part, i).map_or(Ok(()), Process::restart)
            }
        };
        self.note(going);
    }

    /// No process may end unless it was told to: that is written down, and it is started again.
    fn look_after(&mut self) {
        let parts = [Part::Relayer, Part::Settler, Part::Issuer];
        for (part, i) in parts.into_iter().flat_map(|part| (0..16).map(move |i| (part, i))) {
            if self.down.contains(&(part, i)) {
                continue;
            }
            let Some(process) = self.process(part, i) else { continue };
            if process.is_alive() {
                continue;
            }
            let name = process.name().to_owned();
            let restarted = process.restart();
            self.report.failures.push(format!("{name} ended by itself; see its log"));
            self.note(restarted);
        }
    }

    fn note(&mut self, result: Result<(), StackError>) {
        if let Err(error) = result {
            self.report.failures.push(error.to_string());
        }
    }

    fn process(&mut self, part: Part, i: usize) -> Option<&mut Process> {
        match part {
            Part::Relayer => self.stack.relayers.get_mut(i),
            Part::Settler => self.stack.settlers.get_mut(i),
            Part::Issuer => (i == 0).then_some(&mut self.stack.issuer),
            Part::Redis => None,
        }
    }

    fn proxies(&self, link: Link, target: Target) -> impl Iterator<Item = &FaultProxy> {
        let links = self.stack.links.as_ref();
        let of_role = match link {
            Link::RelayerRedis | Link::RelayerIssuer => links.map(|links| &links.relayers),
            Link::SettlerRedis | Link::SettlerIssuer => links.map(|links| &links.settlers),
        };
        let chosen = move |i: usize| target == Target::All || target == Target::One(i);
        of_role.into_iter().flatten().enumerate().filter(move |(i, _)| chosen(*i)).map(move |(_, links)| {
            match link {
                Link::RelayerRedis | Link::SettlerRedis => &links.redis,
                Link::SettlerIssuer | Link::RelayerIssuer => &links.issuer,
            }
        })
    }
}

fn fault(link: Link, trouble: Trouble) -> Fault {
    let delay = match link {
        Link::RelayerRedis | Link::SettlerRedis => DELAY,
        Link::SettlerIssuer | Link::RelayerIssuer => ISSUER_DELAY,
    };
    match trouble {
        Trouble::Cut => Fault::Cut,
        Trouble::Delay => Fault::Delay { requests: delay, replies: delay },
        Trouble::SwallowReplies => Fault::SwallowReplies,
        Trouble::SwallowRequests => Fault::SwallowRequests,
        Trouble::Answer500 => Fault::AnswerStatus(500),
    }
}
