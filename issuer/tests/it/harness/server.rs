//! A PostgreSQL server of this process' own, started for real and gone with the last who uses it.
//!
//! `initdb` runs once a machine: each server gets a copy of what it made. The server runs as another user where this is
//! root, as it insists on, and is told to end where its test is killed.

use std::fs::{File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;
use tokio_postgres::{Client, NoTls};

/// How long a server may take to start, or to stop.
const WITHIN: Duration = Duration::from_secs(60);

/// A server in a directory of its own.
pub(crate) struct Server {
    dir: TempDir,
    port: u16,
    settings: Vec<String>,
    process: Mutex<Option<Process>>,
    databases: AtomicU32,
}

/// The running server: ended by whoever drops `ends`.
struct Process {
    pid: Pid,
    ends: mpsc::Receiver<()>,
}

impl Server {
    /// The server that the tests of this process share. It does not flush: no test of its own cuts the power.
    pub(crate) fn shared() -> Arc<Server> {
        static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return server;
        }
        let server = Arc::new(Server::start());
        *shared = Arc::downgrade(&server);
        server
    }

    /// A server of a test's own, which is reached through its socket.
    pub(crate) fn start() -> Server {
        Self::start_with(&[], |_| ())
    }

    /// As [`Server::start`], with further settings, and with something done to its files before it starts.
    pub(crate) fn start_with(settings: &[&str], prepare: impl FnOnce(&Server)) -> Server {
        let dir = tempfile::Builder::new().prefix("mr-pg").tempdir().expect("a temp dir");
        let data = dir.path().join("data");
        run(Command::new("cp").arg("-a").arg(template()).arg(&data));
        if let Some(user) = other_user() {
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
        }
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            free.local_addr().expect("an address").port()
        };
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let server = Server { dir, port, settings, process: Mutex::new(None), databases: AtomicU32::new(0) };
        prepare(&server);
        server.run();
        server
    }

    /// Where the server keeps its socket, and whoever needs one its files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The port that it listens on, where it is told to listen.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Hands a file in [`Server::dir`] over to the server's user, who alone can read it then.
    pub(crate) fn give(&self, name: &str, content: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::write(&path, content).expect("a new file");
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its owner may");
        if let Some(user) = other_user() {
            chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
        }
        path
    }

    /// Where a database of it is, through its socket.
    pub(crate) fn url(&self, database: &str) -> String {
        let host = self.dir().display().to_string().replace('/', "%2F");
        format!("postgres://postgres@{host}:{}/{database}", self.port)
    }

    /// A new, empty database.
    pub(crate) async fn database(&self) -> String {
        let name = format!("ledger_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        let client = self.client("postgres").await;
        client.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("made");
        name
    }

    /// A connection past the issuer.
    pub(crate) async fn client(&self, database: &str) -> Client {
        connect(&self.url(database)).await.expect("it answers")
    }

    /// Stops the server as after a crash: connections are cut, and what was committed is found in its log.
    pub(crate) fn stop(&self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take().expect("it runs");
        kill(process.pid, Signal::SIGQUIT).expect("it is there");
        assert!(has_ended(&process), "it ends");
    }

    /// Starts a stopped server again, on the same data and at the same address.
    pub(crate) fn run(&self) {
        let mut command = as_server("postgres", "--pdeathsig=QUIT");
        command.arg("-D").arg(self.dir().join("data")).arg("-k").arg(self.dir());
        command.args(["-p", &self.port.to_string()]);
        let given = self.settings.iter().map(String::as_str);
        for setting in FOR_TESTS.into_iter().chain(given) {
            command.args(["-c", setting]);
        }
        let log = File::options().create(true).append(true).open(self.dir().join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log again")).stderr(log);
        let (started, starts) = mpsc::channel();
        let (ended, ends) = mpsc::channel();
        // A thread that lasts as long as the server: its end would be taken for that of the test.
        std::thread::spawn(move || {
            let child = command.spawn();
            let pid = child.as_ref().map(Child::id).map_err(ToString::to_string);
            let _ = started.send(pid);
            if let Ok(mut child) = child {
                let _ = child.wait();
            }
            drop(ended);
        });
        let pid = starts.recv().expect("a word").expect("the server can be started");
        let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(Process { pid, ends });
        self.wait_until_it_answers();
    }

    /// On a thread of its own: the caller may be in a runtime already.
    fn wait_until_it_answers(&self) {
        let url = self.url("postgres");
        let socket = self.dir().join(format!(".s.PGSQL.{}", self.port));
        let answers = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.expect("a runtime");
            let deadline = Instant::now() + WITHIN;
            while !socket.exists() || runtime.block_on(connect(&url)).is_err() {
                if Instant::now() > deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            true
        });
        if !answers.join().expect("no panic") {
            let log = std::fs::read_to_string(self.dir().join("log")).unwrap_or_default();
            panic!("PostgreSQL does not answer:\n{log}");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(process) = process {
            // Already gone is fine too.
            let _ = kill(process.pid, Signal::SIGQUIT);
            has_ended(&process);
        }
    }
}

/// Whether it ended in time. Nothing is ever sent: the channel closes with the process.
fn has_ended(process: &Process) -> bool {
    process.ends.recv_timeout(WITHIN) == Err(mpsc::RecvTimeoutError::Disconnected)
}

/// Small, and quick to start.
const FOR_TESTS: [&str; 8] = [
    "listen_addresses=",
    "fsync=off",
    "shared_buffers=16MB",
    "max_connections=200",
    "max_wal_size=64MB",
    "autovacuum=off",
    "jit=off",
    "bgwriter_lru_maxpages=0",
];

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Who runs the server where this is root.
fn other_user() -> Option<User> {
    let find = |name| User::from_name(name).expect("the users can be read");
    geteuid().is_root().then(|| find("postgres").or_else(|| find("nobody")).expect("a user that is not root"))
}

/// A program of PostgreSQL, as the user that may run it.
fn as_server(program: &str, further: &str) -> Command {
    let program = programs().join(program);
    if !cfg!(target_os = "linux") {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    if let Some(user) = other_user() {
        command
            .arg(format!("--reuid={}", user.uid))
            .arg(format!("--regid={}", user.gid))
            .arg("--clear-groups");
    }
    command.arg(further).arg(program).current_dir("/");
    command
}

/// Where PostgreSQL's programs are: Debian has them out of PATH, by version.
fn programs() -> PathBuf {
    if let Some(named) = std::env::var_os("POSTGRES_BIN_DIR") {
        return named.into();
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let installed =
        versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists());
    let by_version = |bin: &PathBuf| -> Option<u32> { bin.parent()?.file_name()?.to_str()?.parse().ok() };
    if let Some(newest) = installed.max_by_key(by_version) {
        return newest;
    }
    let said = Command::new("pg_config").arg("--bindir").output().ok().filter(|said| said.status.success());
    said.map(|said| PathBuf::from(String::from_utf8_lossy(&said.stdout).trim())).expect(
        "PostgreSQL is not installed: run tests/install-deps.sh, or name its programs in POSTGRES_BIN_DIR",
    )
}

/// What `initdb` made, once for all tests: whoever comes first makes it, and the others wait.
fn template() -> PathBuf {
    let said = Command::new(programs().join("postgres")).arg("--version").output().expect("it runs");
    let version: String =
        String::from_utf8_lossy(&said.stdout).chars().filter(char::is_ascii_alphanumeric).collect();
    let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = all.join(format!("{version}-{}", geteuid()));
    let lock = File::create(all.join("initdb.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if !made.exists() {
        let dir = tempfile::tempdir().expect("a temp dir");
        if let Some(user) = other_user() {
            chown(dir.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("root may");
        }
        let new = dir.path().join("new");
        let mut initdb = as_server("initdb", "--pdeathsig=KILL");
        initdb.args(["--no-sync", "--auth=trust", "--username=postgres", "--encoding=UTF8", "--locale=C"]);
        run(initdb.args(["--wal-segsize=1", "-D"]).arg(&new));
        // By another name until it is whole: half a copy must not be taken for the template.
        let half = made.with_extension("half");
        run(Command::new("rm").arg("-rf").arg(&half));
        run(Command::new("cp").arg("-a").arg(&new).arg(&half));
        std::fs::rename(&half, &made).expect("the same directory");
    }
    made
}

fn run(command: &mut Command) {
    let said = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(said.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said.stderr));
}
