//! One payer's side of one channel: where it stands, and what it shows next.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use common::amount::Amount;
use common::channel::SchemeKind;
use common::client::Purse;
use common::client::state::StateFile;
use common::ids::{ChannelId, PublicKey};
use common::problem::{Code, Problem};
use common::wire::{Latest, PaymentAnswer, PaymentRequest};

use crate::client::{RelayerClient, RelayerError};
use crate::output::{self, Printer};
use crate::payer::{self, Means, Paying};

/// How often a payer that fell behind takes up the relayer's latest payment, for one payment.
const RESYNCS_MAX: u32 = 5;

/// How often the same payment is sent while its outcome is unknown.
const ATTEMPTS_MAX: u32 = 5;

/// Steps of a chain that are taken in one payment, unless a relayer says that it takes fewer: what relayers take where
/// nobody configured anything else. A payer shows nothing further away although it wants to get there, as whoever holds
/// a value can redeem all that leads to it.
const STRIDE: u32 = 1_024;

/// What the payments of a channel are made with, and what is kept of them.
pub(super) struct Pays {
    means: Means,
    state: Option<StateFile>,
    /// Of vouchers.
    expires_at: i64,
    /// All siblings are shown, needed or not.
    complete: bool,
}

impl Pays {
    pub(super) fn signed(means: Means, expires_at: i64) -> Pays {
        Pays { means, state: None, expires_at, complete: false }
    }

    pub(super) fn committed(purse: Arc<Purse>, state: StateFile, complete: bool) -> Pays {
        Pays { means: Means::Purse(purse), state: Some(state), expires_at: 0, complete }
    }
}

/// How much is to be paid.
#[derive(Clone, Copy, Debug)]
pub(super) enum Goal {
    /// So much in total.
    Total(Amount),
    /// So much on top of the latest amount, wherever that stands by now.
    Add(Amount),
}

pub(super) struct Till<'a> {
    id: ChannelId,
    pays: Pays,
    relayer: RelayerClient,
    printer: &'a Printer,
    latest: Option<Latest>,
    stride: u32,
    /// How often something was learned from a refusal since the last payment.
    resyncs: u32,
}

impl<'a> Till<'a> {
    pub(super) fn new(id: ChannelId, pays: Pays, relayer: RelayerClient, printer: &'a Printer) -> Self {
        Till { id, pays, relayer, printer, latest: None, stride: STRIDE, resyncs: 0 }
    }

    /// True if what is shown depends on what the relayer has.
    pub(super) fn needs_latest(&self) -> bool {
        self.pays.state.is_some() && !self.pays.complete
    }

    /// What `step` on top of the latest amount comes to.
    pub(super) fn after(&self, step: Amount) -> anyhow::Result<Amount> {
        self.standing().checked_add(step).context("the sum is past what an amount can be")
    }

    fn standing(&self) -> Amount {
        self.latest.as_ref().map_or(Amount::ZERO, |latest| latest.cumulative_amount)
    }

    /// Goes on from what the relayer has of this payer.
    pub(super) async fn resync(&mut self) -> anyhow::Result<()> {
        let channel = self.relayer.channel(&self.id).await.context("cannot read the channel")?;
        if let Means::Key(key) = &self.pays.means {
            ensure!(
                channel.terms.scheme == SchemeKind::Ed25519,
                "the channel pays in another scheme ({}): give the --state file that it was opened with",
                output::scheme(&channel.terms.scheme)
            );
            ensure!(
                channel.terms.payer_authorizer == PublicKey::of(key),
                "--key is not the key that signs for this channel: its payer authorizer is {}",
                channel.terms.payer_authorizer
            );
        }
        match channel.latest {
            Some(latest) => self.take_up(latest),
            None => {
                self.latest = None;
                Ok(())
            }
        }
    }

    /// Goes on from what a relayer calls the latest payment, if it was made here and shown.
    fn take_up(&mut self, latest: Latest) -> anyhow::Result<()> {
        let amount = latest.cumulative_amount;
        ensure!(
            self.pays.means.made(&self.id, &latest),
            "the relayer names {amount} as the latest amount, with {}: do not pay there",
            match self.pays.means {
                Means::Key(_) => "a signature that is not of this key",
                Means::Purse(_) => "a proof that does not grow from this state file",
            }
        );
        if let Some(state) = &self.pays.state {
            let shown = state.state().shown;
            ensure!(
                amount <= shown,
                "the relayer names {amount} as the latest amount, and no more than {shown} was ever shown from this \
                 state file: it is an old copy, or someone else has its seed; not going on"
            );
        }
        self.latest = Some(latest);
        Ok(())
    }

    /// Prints the payments up to `target` as they would be sent.
    pub(super) fn print(&mut self, target: Amount) -> anyhow::Result<()> {
        loop {
            let next = self.towards(target)?;
            let paying = self.paying(next)?;
            // What is printed can be sent by anyone.
            self.show(next)?;
            let json = serde_json::to_string(&paying.sent)?;
            self.printer.data(&paying.sent, |_| json)?;
            self.paid(paying.complete);
            if next == target {
                return Ok(());
            }
        }
    }

    /// Pays, in as many payments as the relayer takes steps at once, and reports each.
    pub(super) async fn pay(&mut self, goal: Goal) -> anyhow::Result<()> {
        let mut target = match goal {
            Goal::Total(amount) => amount,
            Goal::Add(step) => self.after(step)?,
        };
        loop {
            let next = self.towards(target)?;
            let paying = self.paying(next)?;
            self.show(next)?;
            let error = match self.present(&paying.sent).await {
                Ok(answer) => {
                    report(self.printer, &answer)?;
                    self.paid(paying.complete);
                    if next == target {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => error,
            };
            let before = self.standing();
            let goes_on = match &error {
                RelayerError::Refused(problem) => self.learn(problem, goal, &paying)?,
                _ => false,
            };
            if !goes_on {
                return Err(error).with_context(|| match &self.latest {
                    Some(_) => format!("payment of {next} in total; {before} was paid before"),
                    None => format!("payment of {next} in total"),
                });
            }
            if let Goal::Add(_) = goal {
                // What was still to be paid is now to be paid on top of what the relayer has.
                let left = target.checked_sub(before).context("the target is never below what was paid")?;
                target = self.after(left)?;
            }
        }
    }

    /// Takes up what a refusal says. False if it does not help to pay.
    fn learn(&mut self, problem: &Problem, goal: Goal, refused: &Paying) -> anyhow::Result<bool> {
        let mut again = || {
            self.resyncs += 1;
            self.resyncs <= RESYNCS_MAX
        };
        match (problem.code, &problem.latest) {
            (Code::StaleAmount, Some(latest)) if matches!(goal, Goal::Add(_)) && again() => {
                self.take_up(latest.clone())?;
            }
            (Code::MissingSiblings, latest) if refused.sent != refused.complete && again() => match latest {
                Some(latest) => self.take_up(latest.clone())?,
                // It does not say what it knows, so it gets to see everything.
                None => self.pays.complete = true,
            },
            (Code::StepTooLarge, latest) if self.stride > 1 => {
                if let Some(latest) = latest {
                    self.take_up(latest.clone())?;
                }
                self.stride /= 2;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// The next amount on the way to `target`: a relayer hashes only so many steps of a chain for one payment.
    fn towards(&self, target: Amount) -> anyhow::Result<Amount> {
        let Means::Purse(purse) = &self.pays.means else { return Ok(target) };
        if matches!(purse.scheme(), SchemeKind::Paytree(_)) {
            return Ok(target);
        }
        // Says what is wrong with the target before anything is paid towards it.
        self.complete(target)?;
        let stride = purse.unit().units().saturating_mul(u64::from(self.stride));
        let next = self.standing().checked_add(Amount::new(stride));
        Ok(next.map_or(target, |next| next.min(target)))
    }

    fn complete(&self, amount: Amount) -> anyhow::Result<PaymentRequest> {
        match &self.pays.means {
            Means::Key(key) => Ok(payer::voucher(key, self.id, amount, self.pays.expires_at)),
            Means::Purse(purse) => {
                purse.payment(self.id, amount).with_context(|| format!("{amount} in total"))
            }
        }
    }

    fn paying(&self, amount: Amount) -> anyhow::Result<Paying> {
        let complete = self.complete(amount)?;
        let known = self.latest.as_ref().filter(|_| !self.pays.complete).map(|latest| &latest.proof);
        Ok(Paying::after(complete, known))
    }

    /// Notes on disk that a proof is about to leave this machine.
    fn show(&mut self, amount: Amount) -> anyhow::Result<()> {
        match &mut self.pays.state {
            Some(state) => Ok(state.raise(amount)?),
            None => Ok(()),
        }
    }

    fn paid(&mut self, PaymentRequest { cumulative_amount, proof, .. }: PaymentRequest) {
        self.latest = Some(Latest { cumulative_amount, proof });
        self.resyncs = 0;
    }

    /// Presents a payment, again as long as its outcome is unknown: it cannot be charged twice.
    async fn present(&self, payment: &PaymentRequest) -> Result<PaymentAnswer, RelayerError> {
        let mut attempt = 1;
        loop {
            match self.relayer.pay(payment).await {
                Err(error) if error.outcome_is_unknown() && attempt < ATTEMPTS_MAX => {
                    tokio::time::sleep(Duration::from_millis(100 * u64::from(attempt))).await;
                    attempt += 1;
                }
                result => return result,
            }
        }
    }
}

fn report(printer: &Printer, answer: &PaymentAnswer) -> anyhow::Result<()> {
    printer.data(answer, |answer| {
        format!("{:?}: {} in total", answer.outcome, answer.cumulative_amount).to_lowercase()
    })
}
