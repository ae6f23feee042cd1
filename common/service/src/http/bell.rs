//! Whom hyper has woken when a connection can go on: its task, but not when there is nothing to go on with.
//!
//! hyper hands a body to its reader piece by piece, and has itself woken when one is taken, to hand over the next. Nothing
//! follows the last one, and yet the connection's task would go over everything once more, which costs a payment as much
//! as ten hashes. So the taking of a piece is [`hush`]ed, and whoever takes it says whether the bell is to ring after all.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Wake, Waker};

/// What a thread does with a ring.
enum Ear {
    /// Passes it on.
    Open,
    /// Keeps it back.
    Hushed,
    /// Has kept one back.
    Rung(Waker),
}

thread_local! {
    /// Of this thread alone: what another one rings meanwhile is about something else.
    static EAR: Cell<Ear> = const { Cell::new(Ear::Open) };
}

/// The waker that hyper gets for a connection, made anew where the connection goes on in another task.
#[derive(Default)]
pub(super) struct Bell(Option<(Waker, Waker)>);

impl Bell {
    /// One that wakes `task`.
    pub(super) fn of(&mut self, task: &Waker) -> &Waker {
        let known = self.0.take().filter(|(known, _)| known.will_wake(task));
        &self.0.insert(known.unwrap_or_else(|| (task.clone(), Arc::new(Clapper(task.clone())).into()))).1
    }
}

struct Clapper(Waker);

impl Wake for Clapper {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        match EAR.replace(Ear::Open) {
            Ear::Open => self.0.wake_by_ref(),
            Ear::Hushed => EAR.set(Ear::Rung(self.0.clone())),
            Ear::Rung(before) => {
                before.wake();
                EAR.set(Ear::Rung(self.0.clone()));
            }
        }
    }
}

/// A ring that was kept back, if there was one. Dropped, it is forgotten.
#[must_use]
pub(super) struct Rung(Option<Waker>);

impl Rung {
    /// Passes it on.
    pub(super) fn ring(self) {
        if let Some(task) = self.0 {
            task.wake();
        }
    }
}

/// Does something, and keeps back what it rings on this thread.
pub(super) fn hush<T>(work: impl FnOnce() -> T) -> (T, Rung) {
    /// Opens the ear again, also where `work` panics.
    struct Opens;
    impl Drop for Opens {
        fn drop(&mut self) {
            EAR.set(Ear::Open);
        }
    }
    let _opens = Opens;
    EAR.set(Ear::Hushed);
    let done = work();
    let rung = match EAR.replace(Ear::Open) {
        Ear::Rung(task) => Some(task),
        _ => None,
    };
    (done, Rung(rung))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Counted {
        fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    #[test]
    fn a_hushed_ring_is_passed_on_or_forgotten() {
        let counted = Arc::new(Counted::default());
        let mut bell = Bell::default();
        let waker = bell.of(&counted.clone().into()).clone();
        waker.wake_by_ref();
        assert_eq!(counted.times(), 1, "nothing is hushed");
        let ((), rung) = hush(|| waker.wake_by_ref());
        assert_eq!(counted.times(), 1, "kept back");
        rung.ring();
        assert_eq!(counted.times(), 2);
        drop(hush(|| waker.wake_by_ref()).1);
        hush(|| ()).1.ring();
        assert_eq!(counted.times(), 2, "forgotten, and nothing to pass on");
        waker.wake();
        assert_eq!(counted.times(), 3, "the ear is open again");
    }

    #[test]
    fn another_thread_is_heard_meanwhile() {
        let counted = Arc::new(Counted::default());
        let waker = Bell::default().of(&counted.clone().into()).clone();
        let ring = || std::thread::scope(|scope| scope.spawn(|| waker.wake_by_ref()).join().is_ok());
        let (rang, rung) = hush(ring);
        assert!(rang);
        assert_eq!(counted.times(), 1, "it is about something else");
        drop(rung);
    }

    #[test]
    fn after_a_panic_the_ear_is_open() {
        let counted = Arc::new(Counted::default());
        let waker = Bell::default().of(&counted.clone().into()).clone();
        let panicked = std::panic::catch_unwind(|| hush(|| panic!("on purpose")));
        assert!(panicked.is_err());
        waker.wake();
        assert_eq!(counted.times(), 1);
    }

    #[test]
    fn a_bell_wakes_the_task_that_polls_now() {
        let (first, second) = (Arc::new(Counted::default()), Arc::new(Counted::default()));
        let mut bell = Bell::default();
        bell.of(&first.clone().into()).wake_by_ref();
        bell.of(&second.clone().into()).wake_by_ref();
        assert_eq!((first.times(), second.times()), (1, 1));
    }
}
