//! A payment that someone looks for: its payer called it something, its trace is recorded, or whoever runs the relayer
//! wants to see every payment (`debug`). All others have no trip, and cost nothing here.

use common::amount::Amount;
use common::ids::ChannelId;
use common::problem::Code;
use common::store::followed::Followed;
use common::trail::{RequestId, TraceId, Trail};
use common::voucher::VerifiedVoucher;
use service::spans::{Kind, Span};
use service::trail::{self, RequestTrail};

use crate::metrics::Ending;

/// What is known of such a payment on its way.
#[derive(Debug)]
pub(crate) struct Trip {
    request_id: RequestId,
    /// What goes with it through Redis, if anything does.
    trail: Option<Trail>,
    /// Whose it is, once it was read.
    channel_id: Option<ChannelId>,
    /// What it says is owed, once that is proven.
    amount: Option<Amount>,
    span: Span,
    /// The call to Redis that it is in.
    call: Span,
}

impl Trip {
    /// Begins the trip of a payment of the request that is at hand, if anyone looks for it.
    pub(crate) fn begin() -> Option<Box<Trip>> {
        trail::current_if(is_looked_for).map(|request| Box::new(Trip::of(&request)))
    }

    fn of(request: &RequestTrail) -> Trip {
        let span =
            request.trace().map_or(Span::none(), |trace| Span::begin("payment", Kind::Internal, Some(trace)));
        let trail = request.to_follow();
        let trail = trail.map(|trail| Trail { trace: span.context().or(trail.trace), ..trail });
        Trip { request_id: *request.id(), trail, channel_id: None, amount: None, span, call: Span::none() }
    }

    /// Notes whose it is.
    pub(crate) fn is_of(&mut self, channel_id: &ChannelId) {
        self.channel_id = Some(*channel_id);
        self.span.note("channel_id", || *channel_id);
    }

    /// Notes that it goes to Redis, in a call of so many. Gives what is to go with it.
    pub(crate) fn sent(&mut self, voucher: &VerifiedVoucher, vouchers: usize) -> Option<Followed> {
        let (channel_id, amount) = (*voucher.channel_id(), voucher.cumulative_amount());
        self.amount = Some(amount);
        self.span.note("amount", || amount);
        self.call = self.span.child("accept.lua", Kind::Client);
        self.call.note("vouchers", || vouchers);
        self.trail.map(|trail| Followed { channel_id, amount, trail })
    }

    /// Notes that it came back from there with nothing recorded.
    pub(crate) fn came_back(&mut self) {
        self.call = Span::none();
    }

    /// The end of it, and the one line that is said of it.
    pub(crate) fn end(mut self, ending: Ending) {
        self.came_back();
        let outcome = match ending {
            Ending::Taken(outcome) => outcome.as_str(),
            Ending::Refused(code) => code.as_str(),
            Ending::Abandoned => "abandoned",
        };
        self.span.note("outcome", || outcome);
        if let Ending::Refused(code) = ending {
            self.fail(code);
        }
        let trace = self.trail.and_then(|trail| trail.trace);
        // By itself: where it ends, another request's span may be open.
        tracing::debug!(
            parent: None,
            request_id = %self.request_id,
            trace_id = trace.map(|trace| tracing::field::display(TraceId(trace.trace_id))),
            channel_id = self.channel_id.map(tracing::field::display),
            amount = self.amount.map(tracing::field::display),
            outcome,
            "a payment has ended"
        );
    }

    /// What the payer did wrong is no failure of this process.
    fn fail(&mut self, code: Code) {
        if code.status() >= 500 {
            self.span.fail(code);
        }
    }
}

/// True if someone looks for the payments of this request.
pub(crate) fn is_looked_for(request: &RequestTrail) -> bool {
    request.to_follow().is_some() || tracing::enabled!(tracing::Level::DEBUG)
}
