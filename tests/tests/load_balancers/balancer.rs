//! A load balancer as a process: the shipped configuration, with this test's addresses in it.

use std::path::{Path, PathBuf};
use std::process::Command;

use cli::stack::child::Supervised;
use cli::stack::free_port;
use tempfile::TempDir;
use tests::rig::{Rig, SOON};
use tests::wait_for;

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Haproxy,
}

/// A running load balancer. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Balancer {
    url: String,
    child: Supervised,
    _dir: TempDir,
}

/// Where relayers are, as a balancer sees them: address, and port of the admin listener.
pub(crate) type Upstream = (String, u16);

/// The rig's three relayers.
pub(crate) fn upstreams(rig: &Rig) -> Vec<Upstream> {
    (0..3).map(|i| (address(rig.relayer(i)).to_owned(), admin_port(rig, i))).collect()
}

/// The port that a relayer's readiness is asked on.
fn admin_port(rig: &Rig, i: usize) -> u16 {
    let (_, port) = rig.relayers[i].admin_url().rsplit_once(':').expect("a URL with a port");
    port.parse().expect("a port")
}

/// `host:port` of a URL.
pub(crate) fn address(url: &str) -> &str {
    url.strip_prefix("http://").expect("plain HTTP")
}

/// The shipped configuration.
pub(crate) fn shipped(kind: Kind) -> String {
    let name = match kind {
        Kind::Nginx => "nginx.conf",
        Kind::Haproxy => "haproxy.cfg",
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/deploy").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with the only `from` in it replaced.
///
/// # Panics
/// It is not there, or more than once: the test would run another configuration than it means to.
pub(crate) fn replaced(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from:?} in\n{text}");
    text.replace(from, to)
}

impl Balancer {
    /// Starts the program with the shipped configuration in front of three relayers.
    pub(crate) async fn start(kind: Kind, upstreams: &[Upstream]) -> Balancer {
        Self::start_with(kind, &shipped(kind), upstreams).await
    }

    /// Starts it with this configuration, which is the shipped one but for what a test breaks in it.
    ///
    /// # Panics
    /// The program is not installed, or does not answer in time.
    pub(crate) async fn start_with(kind: Kind, config: &str, upstreams: &[Upstream]) -> Balancer {
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        let listen = format!("127.0.0.1:{}", free_port().expect("loopback has a free port"));
        let placed = match kind {
            Kind::Nginx => in_nginx(config, &listen, upstreams, dir.path()),
            Kind::Haproxy => in_haproxy(config, &listen, upstreams),
        };
        let file = dir.path().join("config");
        std::fs::write(&file, placed).expect("a writable directory");
        let mut command = match kind {
            Kind::Nginx => Command::new(program("nginx")),
            Kind::Haproxy => Command::new(program("haproxy")),
        };
        match kind {
            // In one process: a killed master would leave workers behind.
            Kind::Nginx => {
                command.args(["-e", "stderr", "-g", "daemon off; master_process off;", "-c"]).arg(&file)
            }
            Kind::Haproxy => command.args(["-db", "-f"]).arg(&file),
        };
        let log = dir.path().join("log");
        let mut child = Supervised::spawn("the balancer", command, &log).expect("an installed program runs");
        let http = reqwest::Client::builder().no_proxy().build().expect("no option that could be wrong");
        let alive = format!("http://{listen}/lb");
        let answer = wait_for(SOON, "the balancer answers", || async {
            Some(http.get(&alive).send().await.ok()?.status().as_u16())
        });
        assert_eq!(answer.await, 200);
        assert!(child.exited().is_none(), "it is another who answers: {}", child.log_tail());
        Balancer { url: format!("http://{listen}"), child, _dir: dir }
    }

    /// Where payers reach it.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The last lines of what it has said.
    pub(crate) fn log_tail(&self) -> String {
        self.child.log_tail()
    }
}

fn in_nginx(config: &str, listen: &str, upstreams: &[Upstream], dir: &Path) -> String {
    let dir = dir.display();
    let paths: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("    {kind}_temp_path {dir}/{kind};\n"))
        .collect();
    let mut placed = replaced(config, "\nhttp {\n", &format!("\nhttp {{\n{paths}"));
    placed = replaced(&placed, "pid /run/nginx.pid;", &format!("pid {dir}/pid;"));
    placed = replaced(&placed, "\n        listen 8080 ", &format!("\n        listen {listen} "));
    for (i, (address, _)) in upstreams.iter().enumerate() {
        placed = replaced(&placed, &format!("server 10.0.0.1{}:8080 ", i + 1), &format!("server {address} "));
    }
    placed
}

fn in_haproxy(config: &str, listen: &str, upstreams: &[Upstream]) -> String {
    let mut placed = replaced(config, "\n    bind :8080\n", &format!("\n    bind {listen}\n"));
    for (i, (address, admin)) in upstreams.iter().enumerate() {
        let to = format!("server relayer-{0} {address} port {admin}\n", i + 1);
        placed = replaced(&placed, &format!("server relayer-{0} 10.0.0.1{0}:8080\n", i + 1), &to);
    }
    placed
}

/// The program, which may lie where only administrators look.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = dirs.map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: tests/install-deps.sh installs it"))
}
