//! Settlements that came together: one transaction, and one signature of the issuer for all receipts that are new.

use std::collections::HashMap;

use common::batch::{ChannelSettlement, commit};
use common::ids::ChannelId;
use common::voucher::Unproven;

use super::settlements::{self, Settled};
use super::sql::{Lock, Tx};
use super::{LedgerError, Rules};

/// What became of one settlement: the text of its receipt, or why there is none.
pub type Settlement = Result<String, LedgerError>;

/// Redeems each voucher, in order; `proven` has what [`settlements::prove_ahead`] said of each. What is wrong with one is its own result, and leaves of it what it would have left
/// had it come alone.
///
/// # Errors
/// The database fails: nothing at all is kept.
pub(super) fn settle(
    tx: &dyn Tx,
    rules: &Rules,
    batch: &[ChannelSettlement],
    proven: &[Option<Result<(), Unproven>>],
) -> Result<Vec<Settlement>, LedgerError> {
    let concerned: Vec<ChannelId> = batch.iter().map(|settlement| settlement.channel_id).collect();
    tx.lock(Lock::PartiesOf(&concerned))?;
    // All receipts of a batch are of one time, which is signed with the root.
    let at_ms = rules.now_ms();
    let mut receipts = Vec::new();
    let mut results = Vec::with_capacity(batch.len());
    for (ChannelSettlement { channel_id, request }, proven) in batch.iter().zip(proven) {
        let key = (*channel_id, request.cumulative_amount, request.close);
        let settled =
            within_savepoint(tx, || settlements::settle(tx, rules, at_ms, channel_id, request, *proven))?;
        let settled = settled.and_then(|outcome| outcome.map_err(LedgerError::Refused));
        results.push(settled.map(|settled| match settled {
            Settled::Now(receipt) => {
                receipts.push(*receipt);
                (key, None)
            }
            Settled::Before(text) => (key, Some(text)),
        }));
    }
    commit(&mut receipts, &rules.signing_key);
    let mut texts = HashMap::with_capacity(receipts.len());
    // In order: of a channel that was settled twice, the later receipt is the one that the channel keeps.
    for receipt in &receipts {
        let key = (receipt.channel_id, receipt.settled_amount, receipt.closed);
        texts.insert(key, settlements::complete(tx, receipt)?);
    }
    results
        .into_iter()
        .map(|result| match result {
            // One of this batch, be it a repeat within it: then what was found was not yet complete.
            Ok((key, text)) => match texts.get(&key).cloned().or(text) {
                Some(text) => Ok(Ok(text)),
                None => Err(LedgerError::inconsistent("a settlement without a receipt")),
            },
            Err(error) => Ok(Err(error)),
        })
        .collect()
}

/// Runs one operation of several: what it wrote is undone where it fails. The outer error ends all of them.
fn within_savepoint<T>(
    tx: &dyn Tx,
    operation: impl FnOnce() -> Result<T, LedgerError>,
) -> Result<Result<T, LedgerError>, LedgerError> {
    let run = |sql| tx.execute(sql, &[]).map(drop);
    run("SAVEPOINT one_of_several")?;
    let result = operation();
    match &result {
        Ok(_) => {}
        // About this one alone: the others have nothing to do with it.
        Err(LedgerError::Refused(_) | LedgerError::Inconsistent { .. }) => run("ROLLBACK TO one_of_several")?,
        Err(_) => return result.map(Ok),
    }
    run("RELEASE one_of_several")?;
    Ok(result)
}
