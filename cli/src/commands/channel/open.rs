//! `millrace channel open`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use common::amount::Amount;
use common::channel::{SchemeKind, Terms};
use common::client::Purse;
use common::client::state::StateFile;
use common::clock::Clock;
use common::ids::{Hash, PublicKey};
use common::scheme::STEPS_MAX;

use crate::args::{IssuerArgs, KeyArgs, duration};
use crate::output::Printer;
use crate::payer::{self, Scheme};

#[derive(Debug, Args)]
pub(crate) struct OpenArgs {
    #[command(flatten)]
    key: KeyArgs,
    /// Who is to be paid: the payee's public key, base58 (`millrace dev` prints its own).
    #[arg(long, value_name = "KEY", env = "MILLRACE_PAYEE")]
    payee: PublicKey,
    /// The deposit, in atomic units: the most that the channel can pay.
    #[arg(long, value_name = "UNITS")]
    capacity: Amount,
    /// How long the channel lasts. What is not settled by then goes back to the payer.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    expires_in: Duration,
    /// What is paid in.
    #[arg(long, value_name = "NAME", default_value = "usd")]
    asset: String,
    /// The public key that signs vouchers, if it is not the payer's own.
    #[arg(long, value_name = "KEY")]
    authorizer: Option<PublicKey>,
    /// Tells channels of equal terms apart; random where absent. The same salt and terms give the same channel.
    #[arg(long, value_name = "N")]
    salt: Option<u64>,
    #[command(flatten)]
    commitment: CommitmentArgs,
    #[command(flatten)]
    issuer: IssuerArgs,
}

/// How payments are to be proven.
#[derive(Debug, Args)]
struct CommitmentArgs {
    /// Vouchers that a key signs, or a hash chain or tree of hashes that the channel is opened with.
    #[arg(long, value_name = "SCHEME", value_enum, default_value_t)]
    scheme: Scheme,
    /// Of payword and paytree: what each step or leaf pays, in atomic units [default: 1].
    #[arg(long, value_name = "UNITS", requires = "state")]
    unit: Option<Amount>,
    /// Of payword: steps of the chain [default: as many as the capacity pays].
    #[arg(long, value_name = "N", requires = "state", conflicts_with = "leaves")]
    length: Option<u32>,
    /// Of paytree: leaves of the tree, a power of two; the first pays nothing [default: enough for the capacity].
    #[arg(long, value_name = "N", requires = "state")]
    leaves: Option<u32>,
    /// Of payword and paytree: where to keep what pays from the channel. A new file, which is money: whoever reads it can
    /// pay, whoever loses it cannot. If it is there already, the same channel is opened again.
    #[arg(
        long,
        value_name = "FILE",
        required_if_eq_any([("scheme", "payword"), ("scheme", "paytree")])
    )]
    state: Option<PathBuf>,
}

pub(super) async fn run(args: OpenArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    args.commitment.check()?;
    let key = args.key.read()?;
    let issuer = args.issuer.client()?;
    let issuer_key = issuer.info().await?.public_key;
    let wanted = args.terms(PublicKey::of(&key), issuer_key)?;
    let (terms, held) = match &args.commitment.state {
        None => (wanted, None),
        Some(path) if path.exists() => {
            let (file, _) = StateFile::open(path)?;
            args.check_same(&file.state().terms, wanted, path)?;
            (file.state().terms.clone(), Some(file))
        }
        Some(path) => {
            let seed = Hash(rand::random());
            let terms = Terms { scheme: args.commitment.grow(seed, args.capacity)?.scheme(), ..wanted };
            terms.clone().check()?;
            // On disk before anyone hears of the channel: a deposit must not be locked behind a seed that is gone.
            (terms.clone(), Some(StateFile::create(path, terms, seed)?))
        }
    };
    terms.clone().check()?;
    let opened = issuer.open(&payer::opening(&key, terms)).await;
    let channel = opened.with_context(|| match &args.commitment.state {
        None => "cannot open the channel".to_owned(),
        Some(path) => {
            format!("cannot open the channel ({} is kept; the same command opens it again)", path.display())
        }
    })?;
    if held.is_some() {
        printer.note("keep the state file: nothing else can pay from this channel");
    }
    printer.data(&channel, |channel| channel.channel_id.to_string())?;
    Ok(ExitCode::SUCCESS)
}

impl OpenArgs {
    /// The terms that are asked for, but for a commitment.
    fn terms(&self, payer: PublicKey, issuer: PublicKey) -> anyhow::Result<Terms> {
        let lifetime_s = i64::try_from(self.expires_in.as_secs()).context("--expires-in is too long")?;
        ensure!(lifetime_s > 0, "--expires-in must be a second or more");
        Ok(Terms {
            issuer,
            payer,
            payer_authorizer: self.authorizer.unwrap_or(payer),
            payee: self.payee,
            asset: self.asset.clone(),
            capacity: self.capacity,
            expires_at: Clock::system().now_s().saturating_add(lifetime_s),
            salt: self.salt.unwrap_or_else(rand::random),
            scheme: SchemeKind::Ed25519,
        })
    }

    /// Checks that the channel of a state file is the one that is asked for. Its end and what tells it apart are its own.
    fn check_same(&self, kept: &Terms, wanted: Terms, path: &Path) -> anyhow::Result<()> {
        let salt = self.salt.unwrap_or(kept.salt);
        let same = Terms { expires_at: kept.expires_at, salt, scheme: kept.scheme, ..wanted };
        if same == *kept && self.commitment.agrees_with(&kept.scheme) {
            return Ok(());
        }
        bail!(
            "{} holds channel {}, of other terms than are asked for: give another --state to open another channel",
            path.display(),
            kept.id()
        )
    }
}

impl CommitmentArgs {
    fn check(&self) -> anyhow::Result<()> {
        let fits = match self.scheme {
            Scheme::Ed25519 => self.state.is_none(),
            Scheme::Payword => self.leaves.is_none(),
            Scheme::Paytree => self.length.is_none(),
        };
        let of = match self.scheme {
            Scheme::Ed25519 => "--state, --unit, --length and --leaves are of payword and paytree",
            Scheme::Payword => "--leaves is of paytree: give --length",
            Scheme::Paytree => "--length is of payword: give --leaves",
        };
        ensure!(fits, "{of}");
        Ok(())
    }

    /// What the payer commits to.
    fn grow(&self, seed: Hash, capacity: Amount) -> anyhow::Result<Purse> {
        let unit = self.unit.unwrap_or(Amount::new(1));
        ensure!(!unit.is_zero(), "--unit must be more than 0");
        match (self.length, self.leaves) {
            (Some(length), _) => Ok(Purse::payword(seed, unit, length).context("--length")?),
            (None, Some(leaves)) => Ok(Purse::paytree(seed, unit, leaves).context("--leaves")?),
            (None, None) => {
                let units = capacity.units() / unit.units();
                ensure!(units > 0, "--capacity is less than one --unit");
                let fits = u32::try_from(units).ok().filter(|units| *units < STEPS_MAX);
                let fits = fits.with_context(|| {
                    format!("--capacity is {units} units of {unit}, more than a commitment has: give a larger --unit")
                })?;
                self.scheme.purse(seed, unit, fits)?.context("ed25519 commits to nothing")
            }
        }
    }

    fn agrees_with(&self, kept: &SchemeKind) -> bool {
        let (unit, length, leaves) = match kept {
            SchemeKind::Ed25519 => (None, None, None),
            SchemeKind::Payword(of) => (Some(of.unit), Some(of.length), None),
            SchemeKind::Paytree(of) => (Some(of.unit), None, Some(of.leaves)),
        };
        Scheme::of(kept) == self.scheme
            && (self.unit.is_none() || self.unit == unit)
            && (self.length.is_none() || self.length == length)
            && (self.leaves.is_none() || self.leaves == leaves)
    }
}
