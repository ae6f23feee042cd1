//! A running process says what it is doing, where it is asked to: profiles of real processes, one of them under load.

use axum::body::Bytes;
use cli::stack::process::{Process, Role};
use common::problem::Problem;
use nix::sys::signal::Signal;
use pprof::protos::{Message as _, Profile};
use serde_json::Value;
use tests::binaries;
use tests::load::Load;
use tests::rig::{Rig, RigOptions, SOON};
use tests::{wait_for, wait_until};

const ROUTES: [&str; 3] = ["profile?seconds=1", "heap", "heap/profile"];
/// Of the tests' own, so that a profile shows whether it was heard.
const FREQUENCY_HZ: i64 = 250;

fn on() -> Vec<(&'static str, String)> {
    vec![("profiling.enabled", "true".to_owned()), ("profiling.frequency_hz", FREQUENCY_HZ.to_string())]
}

async fn rig() -> Rig {
    Rig::start(RigOptions { relayers: 1, relayer: on(), ..RigOptions::default() }).await
}

/// Status, media type and body of what an admin listener answers under `/debug`.
async fn ask(admin_url: &str, route: &str) -> reqwest::Result<(u16, String, Bytes)> {
    // Longer than the longest profile that is waited for to its end.
    let client = reqwest::Client::builder().no_proxy().timeout(4 * SOON).build()?;
    let answer = client.get(format!("{admin_url}/debug/{route}")).send().await?;
    let media_type = answer.headers()["content-type"].to_str().expect("ASCII").to_owned();
    Ok((answer.status().as_u16(), media_type, answer.bytes().await?))
}

async fn refusal(admin_url: &str, route: &str) -> Problem {
    let (status, _, body) = ask(admin_url, route).await.expect("an answer");
    let problem: Problem = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("{status}: a profile"));
    assert_eq!(problem.status, status);
    problem
}

/// The profile that `route` answers.
async fn profile(admin_url: &str, route: &str) -> Bytes {
    let (status, media_type, body) = ask(admin_url, route).await.expect("an answer");
    assert_eq!((status, media_type.as_str()), (200, "application/octet-stream"), "{body:?}");
    body
}

/// The functions that a profile names.
fn names(profile: &Profile) -> Vec<&str> {
    let functions = profile.function.iter();
    functions.map(|it| profile.string_table[usize::try_from(it.name).expect("an index")].as_str()).collect()
}

/// Begins a profile and waits until it is being taken, which shows in that another is refused.
async fn begin(
    admin_url: &str,
    seconds: u64,
) -> tokio::task::JoinHandle<reqwest::Result<(u16, String, Bytes)>> {
    let url = admin_url.to_owned();
    let route = format!("profile?format=pprof&seconds={seconds}");
    let first = tokio::spawn(async move {
        // The question below may be quicker, and is then what is being taken.
        wait_for(4 * SOON, "no other profile is being taken", || async {
            let answer = ask(&url, &route).await;
            (!matches!(&answer, Ok((429, ..)))).then_some(answer)
        })
        .await
    });
    wait_until(SOON, "a profile is being taken", || async {
        let second = ask(admin_url, "profile?seconds=1").await;
        matches!(second, Ok((429, ..)))
    })
    .await;
    first
}

#[tokio::test]
async fn a_cpu_profile_names_what_a_relayer_does() {
    let rig = rig().await;
    let channels = [rig.channel(1_000_000).await, rig.channel(1_000_000).await];
    let load = Load::start(&channels, &[rig.relayer(0)]);
    load.wait_for(10, SOON).await;
    let admin = rig.relayers[0].admin_url();

    let (status, media_type, svg) = ask(admin, "profile?seconds=2").await.expect("an answer");
    let svg = String::from_utf8_lossy(&svg);
    assert_eq!((status, media_type.as_str()), (200, "image/svg+xml"), "{svg}");
    assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
    assert!(svg.contains("<title>relayer::"), "no function of the relayer in {svg}");
    assert!(svg.contains(&format!("{FREQUENCY_HZ} samples a CPU second")), "{svg}");

    let bytes = profile(admin, "profile?seconds=2&format=pprof").await;
    let found = Profile::decode(bytes).expect("a profile");
    assert!(names(&found).iter().any(|name| name.starts_with("relayer::")), "{:?}", names(&found));
    assert_eq!(found.period, 1_000_000_000 / FREQUENCY_HZ);
    assert!((2_000_000_000..20_000_000_000).contains(&found.duration_nanos), "{}", found.duration_nanos);
    assert!(found.sample.iter().all(|sample| sample.value[0] > 0) && !found.sample.is_empty());
    load.wait_for(10, SOON).await;
    load.stop().await;
}

#[tokio::test]
async fn what_is_off_says_so_and_how_it_is_turned_on() {
    let rig = Rig::start(RigOptions { relayers: 1, settlers: 1, ..RigOptions::default() }).await;
    let issuer = rig.issuer.admin_url();
    for admin in [rig.relayers[0].admin_url(), rig.settlers[0].admin_url(), issuer.as_str()] {
        for route in ROUTES {
            let problem = refusal(admin, route).await;
            assert_eq!(problem.code.as_str(), "not_found", "{route}");
            assert!(problem.detail.is_some_and(|detail| detail.contains("profiling.enabled")), "{route}");
        }
    }
}

#[tokio::test]
async fn every_service_has_the_same_routes_on_its_admin_listener_alone() {
    // Shorter than the profiles below, which take their own time.
    let within = || [on(), vec![("http.request_timeout_ms", "1500".to_owned())]].concat();
    let options = RigOptions {
        relayers: 1,
        settlers: 1,
        relayer: within(),
        settler: within(),
        issuer: |config| {
            config.profiling.enabled = true;
            config.http.request_timeout_ms = 1_500;
        },
        ..RigOptions::default()
    };
    let rig = Rig::start(options).await;
    let issuer = rig.issuer.admin_url();
    for admin in [rig.relayers[0].admin_url(), rig.settlers[0].admin_url(), issuer.as_str()] {
        let (status, _, heap) = ask(admin, "heap").await.expect("an answer");
        let heap: Value = serde_json::from_slice(&heap).expect("JSON");
        assert_eq!(status, 200, "{heap}");
        let bytes = |key: &str| heap[key].as_u64().unwrap_or_else(|| panic!("{key} in {heap}"));
        let order = ["allocated_bytes", "active_bytes", "resident_bytes", "mapped_bytes"].map(bytes);
        assert!(order[0] > 100_000 || admin == issuer, "these processes hold more than that: {heap}");
        assert!(order[..3].is_sorted() && order[3] > 0 && bytes("metadata_bytes") > 0, "{heap}");
        assert!(heap["retained_bytes"].is_u64(), "{heap}");

        Profile::decode(profile(admin, "profile?seconds=2&format=pprof").await).expect("a profile");
        let problem = refusal(admin, "heap/profile").await;
        assert_eq!(problem.code.as_str(), "not_found");
        assert!(problem.detail.is_some_and(|detail| detail.contains("_RJEM_MALLOC_CONF=prof:true")));
        let answer = rig.http.post(&format!("{admin}/debug/heap"), "{}").await;
        assert_eq!(answer.problem().code.as_str(), "method_not_allowed");
    }
    for public in [rig.relayer(0), &rig.issuer.url()] {
        for route in ROUTES {
            let problem = rig.http.get(&format!("{public}/debug/{route}")).await.problem();
            assert_eq!(problem.code.as_str(), "not_found");
            assert_eq!(problem.detail, None, "payers do not even learn that there is such a route");
        }
    }
}

#[tokio::test]
async fn a_query_out_of_its_bounds_names_its_field() {
    let rig = rig().await;
    for (query, field) in
        [("seconds=61", "seconds"), ("seconds=0", "seconds"), ("format=png", "format"), ("hz=9", "hz")]
    {
        let problem = refusal(rig.relayers[0].admin_url(), &format!("profile?{query}")).await;
        assert_eq!((problem.code.as_str(), problem.field.as_deref()), ("malformed", Some(field)));
    }
}

#[tokio::test]
async fn a_profile_is_taken_alone_and_ends_with_its_client() {
    let rig = rig().await;
    let admin = rig.relayers[0].admin_url();
    let first = begin(admin, 60).await;
    let problem = refusal(admin, "profile?seconds=1").await;
    assert_eq!((problem.code.as_str(), problem.retry_after_s), ("rate_limited", Some(60)));
    // Its connection goes with it. Were it waited for to its end, the next would be refused for a minute.
    first.abort();
    wait_until(SOON, "another profile can be taken", || async {
        matches!(ask(admin, "profile?seconds=1").await, Ok((200, ..)))
    })
    .await;
}

#[tokio::test]
async fn a_profile_that_is_being_taken_holds_up_no_shutdown_and_shows_what_there_is() {
    let mut rig = rig().await;
    let first = begin(rig.relayers[0].admin_url(), 60).await;
    let relayer = &mut rig.relayers[0];
    relayer.signal(Signal::SIGTERM).expect("it runs");
    let status = relayer.wait_exit(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    assert!(status.success(), "{status}");
    let (status, _, body) = first.await.expect("no panic").expect("an answer before the end");
    assert_eq!(status, 200, "{body:?}");
    let found = Profile::decode(body).expect("a profile");
    assert!(found.duration_nanos < 59_000_000_000, "{} ns", found.duration_nanos);
}

/// Starts a process like this one, with the allocator's own profiler on: the harness sets keys and no other variables.
fn with_heap_profiler(process: &Process) -> tokio::process::Child {
    let spec = process.spec();
    let mut command = tokio::process::Command::new(binaries::path(Role::Relayer.as_str()));
    command.envs(spec.config.iter().map(|(key, value)| (spec.role.variable(key), value)));
    command.env("_RJEM_MALLOC_CONF", "prof:true,lg_prof_sample:12").current_dir(&spec.dir);
    command.kill_on_drop(true).spawn().expect("the program runs")
}

#[tokio::test]
async fn a_heap_profile_names_who_holds_memory() {
    let mut rig = rig().await;
    rig.relayers[0].stop(SOON).await.unwrap_or_else(|error| panic!("{error}"));
    let _child = with_heap_profiler(&rig.relayers[0]);
    let admin = rig.relayers[0].admin_url();
    wait_until(SOON, "it is ready", || async {
        reqwest::get(format!("{admin}/readyz")).await.is_ok_and(|answer| answer.status() == 200)
    })
    .await;
    let channel = rig.channel(1_000).await;
    assert_eq!(rig.pay(0, &channel, 1).await.status, 200);

    // Before the profile, which reads the program's tables into memory.
    let (_, _, heap) = ask(admin, "heap").await.expect("an answer");
    let heap: Value = serde_json::from_slice(&heap).expect("JSON");
    let allocated = heap["allocated_bytes"].as_i64().expect("a number");
    let bytes = profile(admin, "heap/profile").await;
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes.as_ref()), &mut plain).expect("gzip");
    let found = Profile::decode(plain.as_slice()).expect("a profile");
    assert!(names(&found).iter().any(|name| name.contains("relayer::")), "{:?}", names(&found));
    let held: i64 = found.sample.iter().map(|sample| sample.value[0]).sum();
    // An estimate from one sample in 4 KiB. The statistics count as allocated what threads keep at hand, too, and pages of
    // which each sample takes some of its own.
    assert!((allocated / 100..allocated * 2).contains(&held), "{held} of {allocated}");
}
