//! A Redis as production should have it: TLS with a certificate of its own authority, and the documented users.

use std::path::{Path, PathBuf};

use cli::stack::free_port;
use cli::stack::redis::RedisOptions;
use fred::clients::Client;
use fred::interfaces::ClientLike as _;
use fred::types::config::Config;
use fred::types::{Builder, ClusterHash, CustomCommand, Value};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tests::redis::{Redis, Tier};

/// What no output of any process may contain.
pub(crate) const RELAYER_PASSWORD: &str = "marker-of-the-relayers-password";
/// As well.
pub(crate) const SETTLER_PASSWORD: &str = "marker-of-the-settlers-password";

/// The server, and what its clients need.
pub(crate) struct Guarded {
    pub(crate) redis: Redis,
    tls_port: u16,
    dir: TempDir,
}

impl Guarded {
    pub(crate) async fn start() -> Guarded {
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        write_certificates(dir.path());
        write_authority(&dir.path().join("stranger.pem"));
        write_users(&dir.path().join("users.acl"));
        for (file, password) in
            [("relayer.password", RELAYER_PASSWORD), ("settler.password", SETTLER_PASSWORD)]
        {
            std::fs::write(dir.path().join(file), password).expect("a new file");
        }
        let tls_port = free_port().expect("loopback has a free port");
        let file = |name: &str| dir.path().join(name).display().to_string();
        let extra = [
            ("tls-port", tls_port.to_string()),
            ("tls-cert-file", file("server.pem")),
            ("tls-key-file", file("server.pem.key")),
            ("tls-ca-cert-file", file("ca.pem")),
            ("tls-auth-clients", "no".to_owned()),
            ("aclfile", file("users.acl")),
        ];
        let extra = extra.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let redis = Redis::start_in(Tier::Process, RedisOptions { extra, ..RedisOptions::default() }).await;
        Guarded { redis, tls_port, dir }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How a process of this role reaches the server.
    pub(crate) fn config(&self, role: &str) -> Vec<(&'static str, String)> {
        vec![
            ("redis.url", format!("rediss://127.0.0.1:{}", self.tls_port)),
            ("redis.tls_ca_file", self.file("ca.pem").display().to_string()),
            ("redis.username", role.to_owned()),
            ("redis.password", format!("file:{}", self.file(&format!("{role}.password")).display())),
        ]
    }

    /// A client with the rights of this user, past TLS.
    pub(crate) async fn client(&self, user: &str, password: &str) -> Client {
        let mut config = Config::from_url(&self.redis.url()).expect("the harness writes valid URLs");
        config.username = Some(user.to_owned());
        config.password = Some(password.to_owned());
        let client = Builder::from_config(config).build().expect("the client's settings are valid");
        client.init().await.expect("the documented user may log in");
        client
    }
}

/// Sends a command and gives back the server's error, if it is one.
pub(crate) async fn refusal(client: &Client, command: &[&str]) -> Option<String> {
    let (name, args) = command.split_first().expect("a command has a name");
    let custom = CustomCommand::new((*name).to_owned(), ClusterHash::FirstKey, false);
    let args: Vec<String> = args.iter().map(|part| (*part).to_owned()).collect();
    let reply: Result<Value, _> = client.custom(custom, args).await;
    reply.err().map(|error| error.details().to_owned())
}

/// The documented users, and one for the harness, which looks at everything over the port without TLS.
fn write_users(path: &Path) {
    let mut users = "user default on nopass sanitize-payload ~* &* +@all\n".to_owned();
    for (role, password) in [("relayer", RELAYER_PASSWORD), ("settler", SETTLER_PASSWORD)] {
        let file = format!("{}/../docs/acl/{role}.acl", env!("CARGO_MANIFEST_DIR"));
        let documented = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(documented.contains("REPLACE-THIS-PASSWORD"), "{file} holds a password");
        users.push_str(&documented.replace("REPLACE-THIS-PASSWORD", password));
    }
    std::fs::write(path, users).expect("a new file");
}

fn write_authority(path: &Path) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("a certificate");
    std::fs::write(path, authority.pem()).expect("a new file");
    authority
}

fn write_certificates(dir: &Path) {
    let authority = write_authority(&dir.join("ca.pem"));
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let certificate = params.signed_by(&key, &authority).expect("a certificate");
    std::fs::write(dir.join("server.pem"), certificate.pem()).expect("a new file");
    std::fs::write(dir.join("server.pem.key"), key.serialize_pem()).expect("a new file");
}
