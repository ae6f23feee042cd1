//! Which channels are being dealt with, so that none is taken up a second time.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use common::ids::ChannelId;

/// The channels of one partition that are being dealt with: none of them is taken up a second time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holds(Arc<Mutex<HashSet<ChannelId>>>);

impl Holds {
    /// Those held at this moment.
    pub(crate) fn snapshot(&self) -> HashSet<ChannelId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Holds a channel until the hold is dropped. `None` if it is held already.
    pub(crate) fn hold(&self, id: ChannelId) -> Option<Hold> {
        let fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        fresh.then(|| Hold { id, holds: self.clone(), for_good: false })
    }
}

/// A channel that is being dealt with.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) id: ChannelId,
    holds: Holds,
    for_good: bool,
}

impl Hold {
    /// Leaves the channel alone for the rest of this leadership: it cannot be dealt with, and would come up again
    /// and again.
    pub(crate) fn keep(mut self) {
        self.for_good = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(channel_id = %self.id, "dealing with this channel panicked: left to the next leader");
        } else if !self.for_good {
            self.holds.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_held_once_and_free_again_after() {
        let holds = Holds::default();
        let id = ChannelId([1; 32]);
        let hold = holds.hold(id).expect("free");
        assert!(holds.hold(id).is_none());
        assert!(holds.snapshot().contains(&id));
        drop(hold);
        assert!(holds.snapshot().is_empty());
        holds.hold(id).expect("free again").keep();
        assert!(holds.hold(id).is_none(), "kept for good");
    }
}
