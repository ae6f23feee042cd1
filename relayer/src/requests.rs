//! What can be asked about one channel besides paying on it: where it stands, and that it be closed.

use std::time::Instant;

use common::channel::Status;
use common::ids::ChannelId;
use common::message;
use common::store::StoreError;
use common::store::read::StoredChannel;
use common::verify::{usable_key, verify_strict};
use common::voucher::Unproven;
use common::wire::{CloseAnswer, CloseRequest, IssuerChannel, Latest, Party, RelayerChannel};

use crate::accept::Acceptor;
use crate::channels::{Channel, LookupError, NotPayable};
use crate::error::Refusal;

impl Acceptor {
    /// Where a channel stands: as Redis has it, else as the issuer does.
    ///
    /// # Errors
    /// Why that cannot be said.
    pub(crate) async fn view(&self, id: &ChannelId) -> Result<RelayerChannel, Refusal> {
        match self.store.channel(id).await {
            Ok(Some(stored)) => return Ok(from_store(*id, stored)),
            Ok(None) => {}
            Err(error) => {
                self.health.store_failed(&error, "reading a channel");
                return Err(error.into());
            }
        }
        match self.terms(id, Instant::now()).await {
            Ok((channel, _)) => Ok(not_yet_stored(&channel)),
            Err(Refusal::Lookup(LookupError::NotPayable(NotPayable::Ended(channel)))) => Ok(ended(&channel)),
            Err(refusal) => Err(refusal),
        }
    }

    /// Asks for a close, in the name of payer or payee.
    ///
    /// # Errors
    /// Why it was not noted.
    pub(crate) async fn request_close(
        &self,
        id: &ChannelId,
        request: &CloseRequest,
    ) -> Result<CloseAnswer, Refusal> {
        let (channel, _) = self.terms(id, Instant::now()).await?;
        let terms = channel.terms.terms();
        let key = match request.requested_by {
            Party::Payer => &terms.payer,
            Party::Payee => &terms.payee,
        };
        let signed = usable_key(key)
            .is_some_and(|key| verify_strict(&key, &message::close_request(id), &request.signature));
        if !signed {
            return Err(Unproven::InvalidSignature.into());
        }
        if let Some(status) = self.note_close(id, request.requested_by).await? {
            channel.seen_in_store();
            return Ok(CloseAnswer { channel_id: *id, status });
        }
        if channel.is_in_store() {
            let error = self.store.report_lost(format!("channel {id} is gone"));
            self.health.store_failed(&error, "asking for a close");
            return Err(error.into());
        }
        // Nothing was ever paid on it here, and after its end the payer needs nobody's leave.
        self.refuse_expired(&channel)?;
        self.register(&channel).await?;
        let status = self.note_close(id, request.requested_by).await?;
        let gone =
            || StoreError::Unavailable { detail: "a channel is gone that was just registered".to_owned() };
        Ok(CloseAnswer { channel_id: *id, status: status.ok_or_else(gone)? })
    }

    async fn note_close(&self, id: &ChannelId, by: Party) -> Result<Option<Status>, Refusal> {
        self.store.request_close(id, by, self.clock.now_ms()).await.map_err(|error| {
            self.health.store_failed(&error, "asking for a close");
            error.into()
        })
    }
}

fn from_store(channel_id: ChannelId, stored: StoredChannel) -> RelayerChannel {
    let proof = stored.state.proof(stored.terms.scheme);
    RelayerChannel {
        channel_id,
        status: stored.state.status,
        capacity: stored.state.capacity,
        latest: proof.map(|proof| Latest { cumulative_amount: stored.state.amount, proof }),
        close_requested: stored.close_requested_at_ms.is_some(),
        receipt: stored.receipt,
        terms: stored.terms,
    }
}

/// A channel that the issuer has open and that was not paid on here yet.
fn not_yet_stored(channel: &Channel) -> RelayerChannel {
    let terms = channel.terms.terms();
    RelayerChannel {
        channel_id: channel.terms.id(),
        terms: terms.clone(),
        status: Status::Open,
        capacity: terms.capacity,
        latest: channel.settled.clone().map(|(cumulative_amount, proof)| Latest { cumulative_amount, proof }),
        close_requested: false,
        receipt: None,
    }
}

/// A channel that has ended without this Redis ever knowing it.
fn ended(channel: &IssuerChannel) -> RelayerChannel {
    RelayerChannel {
        channel_id: channel.channel_id,
        terms: channel.terms.clone(),
        status: Status::Closed,
        capacity: channel.terms.capacity,
        latest: channel.settled.clone(),
        close_requested: false,
        receipt: channel.receipt.clone(),
    }
}
