//! A real Prometheus that scrapes a real stack answers every panel's expression, with data.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use cli::stack::child::Supervised;
use cli::stack::{Stack, StackOptions, free_port};
use serde_json::Value;
use tests::payer::Payer;
use tests::{binaries, wait_for, wait_until};

use super::{dashboards, read, root};

const SOON: Duration = Duration::from_secs(30);

/// What Grafana puts in place of its variable, at the least.
const RATE_INTERVAL: &str = "1m";

struct Prometheus {
    url: String,
    client: reqwest::Client,
    _child: Supervised,
}

impl Prometheus {
    /// One that scrapes these, each under its job, and knows the alerts.
    async fn start(dir: &Path, targets: &[(&str, Vec<String>)]) -> Prometheus {
        let mut config =
            "global: {scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 250ms}\n"
                .to_owned();
        config += &format!(
            "rule_files: [{}]\nscrape_configs:\n",
            root().join("tilt/prometheus/alerts.yaml").display()
        );
        for (job, targets) in targets {
            let targets: Vec<&str> = targets.iter().map(|url| url.trim_start_matches("http://")).collect();
            config += &format!("  - {{job_name: {job}, static_configs: [{{targets: {targets:?}}}]}}\n");
        }
        std::fs::write(dir.join("prometheus.yml"), config).expect("writable");
        let address = format!("127.0.0.1:{}", free_port().expect("loopback has a free port"));
        let mut command = Command::new("prometheus");
        command
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"));
        let child = Supervised::spawn("prometheus", command, &dir.join("prometheus.log"))
            .unwrap_or_else(|error| panic!("{error}; tests/install-deps.sh installs it"));
        let client = reqwest::Client::builder().no_proxy().build().expect("a plain client");
        let prometheus = Prometheus { url: format!("http://{address}"), client, _child: child };
        wait_until(SOON, "Prometheus is ready", || async {
            let ready = prometheus.client.get(format!("{}/-/ready", prometheus.url)).send().await;
            ready.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
        prometheus
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut url = reqwest::Url::parse(&format!("{}{path}", self.url)).expect("a URL");
        url.query_pairs_mut().extend_pairs(query);
        let answer = self.client.get(url).send().await.expect("an answer").text().await.expect("text");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// How many series an expression gives at this moment.
    async fn query(&self, expression: &str) -> Result<usize, String> {
        let answer = self.get("/api/v1/query", &[("query", expression)]).await;
        match answer["data"]["result"].as_array() {
            Some(series) if answer["status"] == "success" => Ok(series.len()),
            _ => Err(answer.to_string()),
        }
    }
}

/// Pays on two channels and has one of them closed, so that everything has moved.
async fn pay_and_close(stack: &Stack) {
    let payer = Payer::register(&stack.issuer_url()).await;
    let (open, closed) =
        (payer.channel(stack.payee()).open().await, payer.channel(stack.payee()).open().await);
    for channel in [&open, &closed] {
        for amount in 1..=5 {
            channel.pay(&stack.relayer_url(0), amount).await.expect("an answer").body.expect("taken");
        }
    }
    closed.close(&stack.relayer_url(0)).await.expect("an answer").body.expect("taken");
    let issuer = payer.issuer();
    wait_until(SOON, "the channel is closed", || async {
        let found = issuer.channel(&closed.id()).await.expect("the issuer answers").expect("a channel");
        found.settled_amount.units() == 5
    })
    .await;
}

/// Panels that have data only while something goes on, or goes wrong.
fn may_be_empty(expression: &str) -> bool {
    expression.ends_with("> 0")
}

#[tokio::test]
async fn stack_every_panel_has_data_and_no_alert_fires() {
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let mut options = StackOptions::new(dir.path().join("stack"), binaries::millrace());
    (options.relayers, options.settlers) = (1, 2);
    let stack = Stack::start(options).await.expect("a stack");
    let admin = |processes: &[cli::stack::process::Process]| -> Vec<String> {
        processes.iter().map(|process| process.admin_url().to_owned()).collect()
    };
    let targets = [
        ("millrace-relayer", admin(&stack.relayers)),
        ("millrace-settler", admin(&stack.settlers)),
        ("millrace-issuer", vec![stack.issuer.admin_url().to_owned()]),
    ];
    let prometheus = Prometheus::start(dir.path(), &targets).await;
    wait_until(SOON, "everything is scraped", || async { prometheus.query("sum(up) == 4").await == Ok(1) })
        .await;
    pay_and_close(&stack).await;
    let settled = "max(millrace_settler_money_units{state=\"settled\"}) == 5";
    wait_until(SOON, "what was settled is scraped", || async { prometheus.query(settled).await == Ok(1) })
        .await;

    for (name, dashboard) in dashboards::all() {
        for panel in dashboard.panels() {
            for (expression, _) in &panel.targets {
                let expression = expression.replace("$__rate_interval", RATE_INTERVAL);
                assert!(!expression.contains('$'), "{expression} has a variable that is not known here");
                let least = usize::from(!may_be_empty(&expression));
                wait_for(SOON, &format!("{name}, {}: {expression} has data", panel.title), || async {
                    match prometheus.query(&expression).await {
                        Ok(series) => (series >= least).then_some(()),
                        Err(error) => panic!("{name}, {}: {expression}: {error}", panel.title),
                    }
                })
                .await;
            }
        }
    }
    let rules = prometheus.get("/api/v1/rules", &[]).await;
    let rules = rules["data"]["groups"].as_array().expect("groups").iter();
    let rules: Vec<&Value> = rules.flat_map(|group| group["rules"].as_array().expect("rules")).collect();
    assert_eq!(rules.len(), read("tilt/prometheus/alerts.yaml").matches("- alert: ").count());
    for rule in rules {
        assert_eq!((&rule["health"], &rule["state"]), (&"ok".into(), &"inactive".into()), "{rule}");
    }
}
