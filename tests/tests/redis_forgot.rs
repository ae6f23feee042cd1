//! A Redis that lost what it had acknowledged: whoever notices stops everyone, also those that could not notice, until
//! `millrace recover` has taken back what can be proven and opens again (promise I7).

use cli::stack::redis::RedisOptions;
use common::amount::Amount;
use common::channel::Status;
use common::problem::Code;
use common::wire::Outcome;
use tests::payer::Channel;
use tests::recover::Recover;
use tests::redis::{Redis, Tier};
use tests::rig::{Rig, RigOptions, SOON};
use tests::wait_until;

/// A rig on a Redis whose files can be put back.
async fn rig(relayers: usize, settlers: usize) -> Rig {
    let redis = Redis::start_in(Tier::Process, RedisOptions::default()).await;
    Rig::start_on(redis, RigOptions { relayers, settlers, ..RigOptions::default() }).await
}

async fn pay(rig: &Rig, relayer: usize, channel: &Channel, amount: u64) -> Outcome {
    let answer = channel.pay(rig.relayer(relayer), amount).await.expect("an answer");
    answer.body.expect("taken").outcome
}

/// Two channels of different partitions: a process that serves one need not know of the other's.
async fn two_apart(rig: &Rig) -> (Channel, Channel) {
    let first = rig.channel(1_000).await;
    loop {
        let second = rig.channel(1_000).await;
        if second.id().partition(16) != first.id().partition(16) {
            return (first, second);
        }
    }
}

/// Asserts that every relayer refuses every one of these vouchers, time and again, and that each process says why.
async fn everyone_is_halted(rig: &Rig, vouchers: &[(&Channel, u64)]) {
    for process in rig.relayers.iter().chain(&rig.settlers) {
        let reason = rig.not_ready(process, "lost data").await;
        assert!(reason.contains("millrace recover"), "{reason}");
        assert!(rig.log(process).contains("lost data"), "{} says so in its log", process.name());
        let gauge = match process.name().split('-').next() {
            Some("relayer") => "millrace_relayer_redis_lost_data",
            _ => "millrace_settler_redis_lost_data",
        };
        assert_eq!(rig.metric(process.admin_url(), gauge).await, Some(1), "{}", process.name());
    }
    for _ in 0..3 {
        for (i, relayer) in rig.relayers.iter().enumerate() {
            for (channel, amount) in vouchers {
                let answer = channel.pay(rig.relayer(i), *amount).await.expect("an answer");
                assert_eq!(answer.code(), Some("store_unavailable"), "{}", relayer.name());
            }
        }
    }
    for i in 0..rig.settlers.len() {
        wait_until(SOON, "nobody leads", || async {
            rig.settler_status(i).await.is_some_and(|status| !status.leader)
        })
        .await;
    }
}

/// Asserts that everyone works again, by themselves.
async fn everyone_works(rig: &mut Rig) {
    for process in rig.relayers.iter_mut().chain(&mut rig.settlers) {
        process.wait_ready(SOON).await.expect("it is ready again");
    }
}

async fn close(rig: &Rig, channel: &Channel, amount: u64) {
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    rig.closed(channel, amount).await;
}

#[tokio::test]
async fn an_older_file_that_is_restored_stops_everyone_until_told_and_vouchers_are_taken_back() {
    let mut rig = rig(2, 1).await;
    let (first, second) = two_apart(&rig).await;
    // Relayer 1 knows nothing of the second channel's partition but what it saw when it looked.
    for (channel, amount) in [(&first, 10), (&second, 20)] {
        assert_eq!(pay(&rig, 0, channel, amount).await, Outcome::Accepted);
    }
    let backup = rig.redis.snapshot();
    for (channel, amount) in [(&first, 15), (&second, 27)] {
        assert_eq!(pay(&rig, 0, channel, amount).await, Outcome::Accepted);
    }
    rig.redis.restore(&backup).await;
    everyone_is_halted(&rig, &[(&first, 12), (&second, 27), (&second, 28)]).await;

    // One that starts now has seen nothing, and does not go on either.
    let late = rig.spawn_relayer(&[]).name().to_owned();
    everyone_is_halted(&rig, &[(&first, 12)]).await;
    rig.relayers[0].restart().expect("the program runs");
    everyone_is_halted(&rig, &[(&first, 12), (&second, 21)]).await;
    assert_eq!(rig.relayers[2].name(), late);

    let recover = Recover::of(&rig);
    let ledger = recover.ledger(&[(&first, 15), (&second, 27)]);
    let found = recover.run(&["--ledger", &ledger]).await;
    assert_eq!(found["behind_ledger"], 2, "{found}");
    assert_eq!(found["behind_ledger_by"], "12", "5 of the first and 7 of the second");
    assert!(found["halted"].as_str().expect("a reason").contains("was at"), "{found}");
    everyone_is_halted(&rig, &[(&first, 12)]).await;

    let done = recover.run(&["--ledger", &ledger, "--take-back", "--yes"]).await;
    assert_eq!(done["taken_back"]["from_ledger_units"], "12", "{done}");
    assert_eq!(done["recovered"], true);
    everyone_works(&mut rig).await;
    // What was paid before buys nothing again, on any relayer.
    for i in 0..3 {
        for (channel, old, latest) in [(&first, 12, 15), (&second, 26, 27)] {
            let answer = channel.pay(rig.relayer(i), old).await.expect("an answer");
            let problem = answer.body.expect_err("an old voucher");
            assert_eq!(problem.code, Code::StaleAmount);
            assert_eq!(problem.latest.expect("the latest").cumulative_amount, Amount::new(latest));
            assert_eq!(pay(&rig, i, channel, latest).await, Outcome::Duplicate);
        }
    }
    assert_eq!(pay(&rig, 1, &first, 16).await, Outcome::Accepted);
    close(&rig, &first, 16).await;
    close(&rig, &second, 27).await;
    assert_eq!(rig.earned().await, 16 + 27);
    rig.assert_books_balance().await;
}

#[tokio::test]
async fn a_redis_that_was_emptied_stops_everyone_and_is_filled_again() {
    let mut rig = rig(2, 1).await;
    let (first, second) = two_apart(&rig).await;
    let closed = rig.channel(1_000).await;
    for (channel, amount) in [(&first, 10), (&second, 20), (&closed, 30)] {
        assert_eq!(pay(&rig, 0, channel, amount).await, Outcome::Accepted);
    }
    close(&rig, &closed, 30).await;
    let token = rig.token_at_issuer().await;
    rig.redis.flush_all().await;
    everyone_is_halted(&rig, &[(&first, 10), (&second, 5), (&closed, 31)]).await;

    let recover = Recover::of(&rig);
    let ledger = recover.ledger(&[(&first, 10), (&closed, 30)]);
    let done = recover.run(&["--ledger", &ledger, "--take-back", "--yes"]).await;
    assert_eq!(done["taken_back"]["from_ledger_units"], "10", "{done}");
    assert_eq!(done["taken_back"]["refused"], serde_json::json!([]), "the closed one was settled in full");
    everyone_works(&mut rig).await;
    assert_eq!(pay(&rig, 1, &first, 10).await, Outcome::Duplicate);
    // Nobody could prove what the second had paid: what its payer presents is what it owes.
    assert_eq!(pay(&rig, 1, &second, 20).await, Outcome::Accepted);
    let answer = closed.pay(rig.relayer(0), 31).await.expect("an answer");
    assert_eq!(answer.code(), Some("channel_closed"), "what was settled stays settled");
    close(&rig, &first, 10).await;
    close(&rig, &second, 20).await;
    assert!(rig.token_at_issuer().await > token, "tokens go on above what the issuer has seen");
    assert_eq!(rig.earned().await, 60);
}

#[tokio::test]
async fn a_rollback_while_nobody_runs_is_noticed_by_the_issuers_tokens() {
    let mut rig = rig(1, 1).await;
    let channel = rig.channel(1_000).await;
    assert_eq!(pay(&rig, 0, &channel, 10).await, Outcome::Accepted);
    let backup = rig.redis.snapshot();
    // Another leader, and it settles: its token is in the issuer's books.
    rig.settlers[0].stop(SOON).await.expect("it stops");
    rig.settlers[0].restart().expect("the program runs");
    rig.leader().await;
    close(&rig, &channel, 10).await;
    rig.relayers[0].stop(SOON).await.expect("it stops");
    rig.settlers[0].stop(SOON).await.expect("it stops");
    rig.redis.restore(&backup).await;

    rig.relayers[0].restart().expect("the program runs");
    rig.settlers[0].restart().expect("the program runs");
    let reason = rig.not_ready(&rig.relayers[0], "fencing token").await;
    assert!(reason.contains("lost data"), "{reason}");
    everyone_is_halted(&rig, &[(&channel, 11)]).await;
    let recover = Recover::of(&rig);
    let done = recover.run(&["--yes"]).await;
    assert_eq!(done["recovered"], true);
    everyone_works(&mut rig).await;
    // Redis has it open, as it was then; the settler finds it settled for just this.
    close(&rig, &channel, 10).await;
    assert_eq!(rig.earned().await, 10);
}

#[tokio::test]
async fn a_close_that_finds_more_settled_than_recorded_stops_everyone() {
    let mut rig = rig(1, 1).await;
    let (channel, other) = two_apart(&rig).await;
    assert_eq!(pay(&rig, 0, &channel, 10).await, Outcome::Accepted);
    assert_eq!(pay(&rig, 0, &other, 5).await, Outcome::Accepted);
    // A settlement under the same token from a time that Redis has lost, which nothing else shows.
    let token = rig.token_at_issuer().await;
    rig.settle_directly(&channel, 30, true, token).await;
    channel.close(rig.relayer(0)).await.expect("an answer").body.expect("noted");
    let reason = rig.not_ready(&rig.settlers[0], "the issuer has paid 30 already").await;
    assert!(reason.contains("lost data"), "{reason}");
    everyone_is_halted(&rig, &[(&channel, 11), (&other, 6)]).await;
    let recover = Recover::of(&rig);
    let done = recover.run(&["--yes"]).await;
    assert_eq!(done["behind_issuer_by"], "20", "{done}");
    everyone_works(&mut rig).await;
    // It was closing for 10, and what was settled is what it closes for.
    assert_eq!(done["taken_back"]["from_issuer_units"], "20", "{done}");
    rig.closed(&channel, 30).await;
    close(&rig, &other, 5).await;
    assert_eq!(rig.earned().await, 35);
}

#[tokio::test]
async fn a_loss_that_nobody_could_notice_can_be_declared() {
    let mut rig = rig(1, 1).await;
    let channel = rig.channel(1_000).await;
    assert_eq!(pay(&rig, 0, &channel, 10).await, Outcome::Accepted);
    let recover = Recover::of(&rig);
    assert!(recover.fails(&["--yes"]).await.contains("nothing to recover from"));
    assert_eq!(pay(&rig, 0, &channel, 11).await, Outcome::Accepted);
    recover.run(&["--halt", "restored the backup of 3 am"]).await;
    let reason = rig.not_ready(&rig.relayers[0], "restored the backup of 3 am").await;
    assert!(reason.contains("lost data"), "{reason}");
    everyone_is_halted(&rig, &[(&channel, 12)]).await;
    recover.run(&["--yes"]).await;
    everyone_works(&mut rig).await;
    assert_eq!(pay(&rig, 0, &channel, 12).await, Outcome::Accepted);
    assert_eq!(rig.in_status(&channel, Status::Open).await.state.amount, Amount::new(12));
    // And a second time, in the same processes.
    rig.redis.flush_all().await;
    everyone_is_halted(&rig, &[(&channel, 11), (&channel, 12), (&channel, 13)]).await;
    let ledger = recover.ledger(&[(&channel, 12)]);
    recover.run(&["--ledger", &ledger, "--take-back", "--yes"]).await;
    everyone_works(&mut rig).await;
    wait_until(SOON, "the same voucher is known", || async {
        let answer = channel.pay(rig.relayer(0), 12).await.expect("an answer");
        answer.body.is_ok_and(|answer| answer.outcome == Outcome::Duplicate)
    })
    .await;
    close(&rig, &channel, 12).await;
    assert_eq!(rig.earned().await, 12);
}
