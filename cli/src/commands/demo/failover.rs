//! Finding the leader, killing it, and timing its successor.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::stack::process::Process;

/// How often settlers are asked.
const POLL: Duration = Duration::from_millis(5);

/// The part of a settler's `GET /status` that matters here.
#[derive(Deserialize)]
struct Status {
    leader: bool,
}

/// Waits for one of `settlers` to lead; gives its place.
pub(super) async fn wait_leader(settlers: &mut [Process], within: Duration) -> anyhow::Result<usize> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    let start = Instant::now();
    loop {
        for (i, settler) in settlers.iter_mut().enumerate() {
            if settler.is_alive() && leads(&client, settler.admin_url()).await {
                return Ok(i);
            }
        }
        if start.elapsed() >= within {
            bail!("no settler took the lead within {} s", within.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn leads(client: &reqwest::Client, admin_url: &str) -> bool {
    let ask = async {
        let response = client.get(format!("{admin_url}/status")).send().await?.error_for_status()?;
        response.json::<Status>().await
    };
    ask.await.is_ok_and(|status: Status| status.leader)
}

/// Kills the leader with SIGKILL, waits for another to lead, and gives the time in between.
pub(super) async fn kill_leader(
    settlers: &mut [Process],
    within: Duration,
    killed: impl FnOnce(&str, u32),
) -> anyhow::Result<Duration> {
    let leader = wait_leader(settlers, within).await.context("before the kill")?;
    let start = Instant::now();
    settlers[leader].kill();
    killed(settlers[leader].name(), settlers[leader].pid());
    wait_leader(settlers, within).await.context("after the leader was killed")?;
    Ok(start.elapsed())
}
