//! The threads behind connections to the database: a transaction blocks, so it is kept away from the async threads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::LedgerError;
use super::sql::Connection;

type Job = Box<dyn FnOnce(&mut dyn Connection) + Send>;

/// Connections, each on a thread of its own, with one bounded queue in front of them. They end when the last handle is
/// dropped.
#[derive(Clone, Debug)]
pub(super) struct Worker {
    jobs: mpsc::Sender<Job>,
}

impl Worker {
    /// Starts a thread for each connection.
    pub(super) fn start<C: Connection + 'static>(
        name: &str,
        connections: Vec<C>,
        queue_max: usize,
    ) -> std::io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>(queue_max);
        let queue = Arc::new(Mutex::new(queue));
        for mut connection in connections {
            let queue = queue.clone();
            std::thread::Builder::new().name(name.to_owned()).spawn(move || {
                // Whoever waits for a job holds the queue, and lets go of it with the job in hand.
                let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                while let Some(job) = next() {
                    // A panic undoes the transaction as it unwinds, and must not end the jobs behind it.
                    if catch_unwind(AssertUnwindSafe(|| job(&mut connection))).is_err() {
                        tracing::error!("a ledger operation panicked");
                    }
                }
            })?;
        }
        Ok(Self { jobs })
    }

    /// Runs `work` when its turn comes. Once queued it runs to its end, whether or not the caller still waits.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut dyn Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The caller may have gone; what was committed is found again by its repeat.
            let _ = answer.send(work(connection));
        });
        self.jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => LedgerError::Overloaded,
            TrySendError::Closed(_) => LedgerError::Stopped,
        })?;
        answered.await.unwrap_or(Err(LedgerError::Stopped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc as blocking;

    fn worker(queue_max: usize) -> Worker {
        let connection = rusqlite::Connection::open_in_memory().expect("an in-memory database");
        Worker::start("test", vec![connection], queue_max).expect("a thread")
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let worker = worker(1);
        let (started, starts) = blocking::channel();
        let (release, waits) = blocking::channel::<()>();
        let busy = worker.clone();
        let running = tokio::spawn(async move {
            busy.run(move |_| {
                started.send(()).expect("the test listens");
                waits.recv().expect("the test releases");
                Ok(())
            })
            .await
        });
        tokio::task::spawn_blocking(move || starts.recv()).await.expect("no panic").expect("it started");
        let waiting = tokio::spawn({
            let worker = worker.clone();
            async move { worker.run(|_| Ok(())).await }
        });
        while worker.jobs.capacity() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(worker.run(|_| Ok(())).await, Err(LedgerError::Overloaded)));
        release.send(()).expect("the job waits");
        assert!(running.await.expect("no panic").is_ok() && waiting.await.expect("no panic").is_ok());
    }

    #[tokio::test]
    async fn jobs_run_side_by_side_on_as_many_connections_as_there_are() {
        let connections =
            (0..3).map(|_| rusqlite::Connection::open_in_memory().expect("in memory")).collect();
        let worker = Worker::start("test", connections, 3).expect("threads");
        let all_at_once = Arc::new(std::sync::Barrier::new(3));
        let jobs = futures::future::join_all((0..3).map(|_| {
            let all_at_once = all_at_once.clone();
            worker.run(move |_| {
                all_at_once.wait();
                Ok(())
            })
        }));
        let done = tokio::time::timeout(std::time::Duration::from_secs(20), jobs).await;
        assert!(done.expect("none waits for another's end").iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn a_panic_ends_its_own_job_only() {
        let worker = worker(4);
        let panicked = worker.run(|_| -> Result<(), LedgerError> { panic!("on purpose") }).await;
        assert!(matches!(panicked, Err(LedgerError::Stopped)));
        assert!(worker.run(|_| Ok(())).await.is_ok());
    }
}
