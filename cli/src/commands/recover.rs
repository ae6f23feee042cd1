//! `millrace recover`: see what Redis lost, take back what payers and issuer can still prove, and go on.

mod survey;
mod take_back;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use common::clock::Clock;
use common::config::Durability;
use common::ids::PublicKey;
use common::store::loss::Seq;
use common::store::preflight::Meta;
use serde::Serialize;
use service::fitness::highest_token;

use crate::args::{IssuerArgs, RedisArgs};
use crate::output::{Printer, figures, grouped};
use survey::Survey;
use take_back::TakeBack;

const EXAMPLES: &str = "\
Examples:
  millrace recover --payee PAYEE                                       show what was lost
  millrace recover --payee PAYEE --ledger run.ndjson                   … beside what was acknowledged
  millrace recover --payee PAYEE --ledger run.ndjson --take-back       put these vouchers back
  millrace recover --payee PAYEE --ledger run.ndjson --take-back --yes … and open again
  millrace recover --payee PAYEE --halt 'restored the backup of 3 am'  stop everyone: nobody has noticed

Try first to bring the data back: an append-only file, a snapshot, a replica. \
Relayers and settlers wait until then. docs/RECOVERY.md goes through it step by step.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RecoverArgs {
    /// The payee whose relayers and settlers refuse to work. Given more than once, all keys that channels of this Redis
    /// pay.
    #[arg(long, value_name = "KEY", env = "MILLRACE_PAYEE", required = true, value_delimiter = ',')]
    payee: Vec<PublicKey>,
    /// Ledgers of acknowledged vouchers, as `millrace load --ledger` and payers write them.
    #[arg(long, value_name = "FILE")]
    ledger: Vec<PathBuf>,
    /// Put the ledgers' vouchers back where Redis holds less. Each is verified as if it were paid.
    #[arg(long, requires = "ledger")]
    take_back: bool,
    /// Open again, without whatever is still missing.
    #[arg(long)]
    yes: bool,
    /// Stop everyone first, for this reason: after a loss that no running process could notice.
    #[arg(long, value_name = "REASON")]
    halt: Option<String>,
    #[command(flatten)]
    redis: RedisArgs,
    #[command(flatten)]
    issuer: IssuerArgs,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    payees: Vec<PublicKey>,
    /// What was noticed, where someone did.
    halted: Option<String>,
    /// Partitions that are halted, of how many, and how many hold no seq.
    halted_partitions: usize,
    missing_partitions: usize,
    partitions: u16,
    /// Highest fencing token that the issuer has seen, and that Redis knows of.
    token_at_issuer: u64,
    token_in_redis: u64,
    #[serde(flatten)]
    survey: Survey,
    taken_back: Option<TakeBack>,
    /// True once this command has opened Redis again.
    recovered: bool,
}

pub(crate) async fn run(args: RecoverArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    let (_, store) = args.redis.connect(Durability::None).await?;
    let issuer = args.issuer.client()?;
    let token_at_issuer =
        highest_token(&issuer, &args.payee).await.context("cannot ask the issuer about this payee")?;
    let token_in_redis = store.highest_token().await?;
    let empty = store.meta().await? == Meta::Absent;
    if let Some(reason) = &args.halt {
        store.halt(reason).await.context("cannot halt every partition: try again")?;
    }
    let seqs = store.seqs().await?;
    let halted = seqs.iter().filter(|seq| matches!(seq, Seq::Halted { .. })).count();
    let missing = seqs.iter().filter(|seq| matches!(seq, Seq::Absent | Seq::Unreadable(_))).count();
    let is_down = empty || halted + missing > 0;
    let survey = survey::survey(&store, &issuer, &args.payee, &args.ledger).await?;
    let mut report = Report {
        payees: args.payee.clone(),
        halted: reason(&seqs),
        halted_partitions: halted,
        missing_partitions: missing,
        partitions: store.partitions(),
        token_at_issuer,
        token_in_redis,
        survey,
        taken_back: None,
        recovered: false,
    };
    if !is_down && (args.take_back || args.yes || !report.survey.shows_loss()) {
        printer.data(&report, text)?;
        bail!(
            "this Redis works, and nobody has noticed a loss: there is nothing to recover from; if you know better, \
             --halt REASON stops everyone first"
        );
    }
    if args.take_back || args.yes {
        // A Redis that is empty, or halted in part, is halted as a whole while vouchers are put back.
        store.halt("recovering").await.context("cannot halt every partition: try again")?;
        let mut taken = TakeBack::default();
        if args.take_back {
            taken.vouchers(&store, &issuer, &args.payee, &args.ledger).await?;
        }
        for payee in &args.payee {
            taken.settlements(&store, &issuer, *payee).await?;
        }
        report.taken_back = Some(taken);
    }
    if args.yes {
        let now_us = Clock::system().now_ms().saturating_mul(1_000);
        store.reopen(token_at_issuer, now_us).await.context("cannot open every partition: try again")?;
        report.recovered = true;
    } else {
        printer.note(MEANING);
    }
    printer.data(&report, text)?;
    printer.note(if args.yes {
        "Redis is open again: relayers and settlers that wait go on by themselves."
    } else {
        "Everyone stays halted. With --yes, Redis is opened again without what is missing."
    });
    Ok(ExitCode::SUCCESS)
}

fn reason(seqs: &[Seq]) -> Option<String> {
    seqs.iter().find_map(|seq| match seq {
        Seq::Halted { reason, .. } => Some(reason.clone()),
        _ => None,
    })
}

const MEANING: &str = "\
Redis lost data. Going on without it means:
  - vouchers that are neither in Redis nor taken back nor settled are gone, unless their payers present them again:
    they owe at most what they signed, and at most the capacity of their channels;
  - what the issuer has settled stays settled, and is put back into Redis where that holds less;
  - fencing tokens go on above the highest that the issuer has seen, so that no older settler can settle.";

fn text(report: &Report) -> String {
    let survey = &report.survey;
    let mut rows = vec![
        ("payee", report.payees.iter().map(PublicKey::to_string).collect::<Vec<_>>().join(", ")),
        ("halted", report.halted.clone().unwrap_or_else(|| "no".to_owned())),
        ("  partitions halted", format!("{} of {}", report.halted_partitions, report.partitions)),
        ("  partitions without a seq", report.missing_partitions.to_string()),
        ("highest fencing token seen by the issuer", report.token_at_issuer.to_string()),
        ("highest fencing token in Redis", report.token_in_redis.to_string()),
        ("open channels at the issuer", grouped(survey.open_channels.into())),
        ("  their deposits", grouped(survey.open_capacity)),
        ("  recorded in Redis or settled", grouped(survey.open_known)),
        ("  lost at most", grouped(survey.open_capacity.saturating_sub(survey.open_known))),
        ("channels settled above what Redis holds", grouped(survey.behind_issuer.into())),
        ("  by", grouped(survey.behind_issuer_by)),
    ];
    if survey.ledger_channels > 0 {
        rows.extend([
            ("channels in the ledgers", grouped(survey.ledger_channels.into())),
            ("  acknowledged above what Redis holds", grouped(survey.behind_ledger.into())),
            ("  by", grouped(survey.behind_ledger_by)),
        ]);
    }
    if let Some(taken) = &report.taken_back {
        rows.extend([
            ("vouchers taken back from the ledgers", grouped(taken.from_ledger.into())),
            ("  units", grouped(taken.from_ledger_units)),
            ("vouchers taken back from the issuer", grouped(taken.from_issuer.into())),
            ("  units", grouped(taken.from_issuer_units)),
            ("not taken back", grouped(taken.refused.len() as u128)),
        ]);
    }
    let mut text = figures(rows);
    for refused in report.taken_back.iter().flat_map(|taken| &taken.refused) {
        text.push_str(&format!(
            "\nnot taken back: {} {}: {}",
            refused.channel_id, refused.amount, refused.reason
        ));
    }
    text
}
