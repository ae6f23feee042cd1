//! Clients that leave before they are answered, wholly or with what they send.

use std::sync::Mutex;

use tokio::io::AsyncWriteExt as _;
use tokio::sync::oneshot;

use super::*;

/// What becomes of one request, and its release.
struct Watch {
    /// Once it is worked on.
    begun: oneshot::Receiver<()>,
    release: Arc<Notify>,
    /// `Ok` once it was worked on to its end, `Err` once it was given up.
    ended: oneshot::Receiver<()>,
}

/// A route that works on its one request until it is released.
fn held() -> (Router, Watch) {
    let (begins, begun) = oneshot::channel();
    let (ends, ended) = oneshot::channel();
    let release = Arc::new(Notify::new());
    let once = Arc::new(Mutex::new(Some((begins, ends))));
    let released = Arc::clone(&release);
    let work = async move || {
        let (begins, ends) = once.lock().expect("no panic").take().expect("one request");
        begins.send(()).expect("it is waited for");
        released.notified().await;
        let _ = ends.send(());
        "done"
    };
    (Router::new().route("/", get(work)), Watch { begun, release, ended })
}

#[tokio::test]
async fn a_request_is_given_up_when_its_client_leaves() {
    let (router, watch) = held();
    let served = Served::new(router).await;
    let mut client = served.connect().await;
    client.write(&get_of("/")).await;
    within("the request", watch.begun).await.expect("it is begun");
    drop(client);
    assert!(within("its end", watch.ended).await.is_err(), "it was worked on for nobody");
}

#[tokio::test]
async fn a_request_that_outlasts_its_client_is_worked_on_to_its_end() {
    let (router, watch) = held();
    let served = Served::with(Lasting(router), hasty(), Progress::is_idle).await;
    let mut client = served.connect().await;
    client.write(&get_of("/")).await;
    within("the request", watch.begun).await.expect("it is begun");
    drop(client);
    // The connection has gone through its quiet several times, and would have seen it.
    served.looks().await;
    watch.release.notify_one();
    within("its end", watch.ended).await.expect("it is worked on");
}

#[tokio::test]
async fn a_client_that_has_ended_what_it_sends_is_answered() {
    let (router, watch) = held();
    let served = Served::with(Lasting(router), hasty(), Progress::is_idle).await;
    let (mut writes, mut reads) = served.connect().await.split(Duration::ZERO);
    writes.write_all(&get_of("/")).await.expect("an open connection");
    within("the request", watch.begun).await.expect("it is begun");
    writes.shutdown().await.expect("an open connection");
    served.looks().await;
    watch.release.notify_one();
    assert_eq!(within("the answer", reads.body()).await.as_deref(), Ok(b"done".as_slice()));
}
