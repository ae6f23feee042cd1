//! Where each process of a stack listens, which keys it has, and the config that follows.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use common::ids::PublicKey;
use common::secret::{read_signing_key, write_signing_key};
use ed25519_dalek::SigningKey;

use super::error::StackError;
use super::port::free_port;
use super::process::{ProcessSpec, Role, name_of};
use super::{Links, ProcessLinks, StackOptions};

/// A public listener and its admin listener.
#[derive(Clone, Copy, Debug)]
struct Listeners {
    public: u16,
    admin: u16,
}

/// All that is decided before the services start.
#[derive(Debug)]
pub(super) struct Plan {
    options: StackOptions,
    redis_url: String,
    issuer_key: PublicKey,
    payee_key: SigningKey,
    issuer: Listeners,
    relayers: Vec<Listeners>,
    settlers: Vec<u16>,
    /// URLs of Redis and issuer as each relayer and each settler sees them, where these are not the true ones.
    relayer_ways: Vec<[(String, String); 2]>,
    settler_ways: Vec<[(String, String); 2]>,
}

impl Plan {
    /// Chooses ports, and makes the keys that the directory does not have yet.
    pub(super) fn make(options: StackOptions, redis_url: String) -> Result<Plan, StackError> {
        let port = |offset, i, step| match options.port_base {
            Some(base) => nth(base, offset, i, step),
            None => free_port().map_err(StackError::io("no free port")),
        };
        let issuer = Listeners { public: port(0, 0, 0)?, admin: port(1, 0, 0)? };
        let relayers = (0..options.relayers)
            .map(|i| Ok(Listeners { public: port(10, i, 2)?, admin: port(11, i, 2)? }))
            .collect::<Result<_, StackError>>()?;
        let settlers = (0..options.settlers).map(|i| port(100, i, 1)).collect::<Result<_, StackError>>()?;
        let issuer_key = PublicKey::of(&signing_key(&options.dir.join(ISSUER_KEY))?);
        let payee_key = signing_key(&options.dir.join(PAYEE_KEY))?;
        Ok(Plan {
            options,
            redis_url,
            issuer_key,
            payee_key,
            issuer,
            relayers,
            settlers,
            relayer_ways: Vec::new(),
            settler_ways: Vec::new(),
        })
    }

    /// Has relayers and settlers go through proxies.
    pub(super) fn go_through(&mut self, links: &Links) {
        let way = |links: &ProcessLinks| {
            [
                set("redis.url", format_args!("redis://{}", links.redis.address())),
                set("issuer.url", format_args!("http://{}", links.issuer.address())),
            ]
        };
        self.relayer_ways = links.relayers.iter().map(way).collect();
        self.settler_ways = links.settlers.iter().map(way).collect();
    }

    pub(super) fn options(&self) -> &StackOptions {
        &self.options
    }

    pub(super) fn redis_url(&self) -> &str {
        &self.redis_url
    }

    pub(super) fn issuer_url(&self) -> String {
        url(self.issuer.public)
    }

    pub(super) fn relayer_url(&self, i: usize) -> String {
        url(self.relayers[i].public)
    }

    pub(super) fn issuer_key(&self) -> PublicKey {
        self.issuer_key
    }

    pub(super) fn payee(&self) -> PublicKey {
        PublicKey::of(&self.payee_key)
    }

    pub(super) fn payee_key(&self) -> &SigningKey {
        &self.payee_key
    }

    /// How to start the issuer.
    pub(super) fn issuer(&self) -> ProcessSpec {
        let config = vec![
            set("listen", loopback(self.issuer.public)),
            set("admin_listen", loopback(self.issuer.admin)),
            set("database", self.options.dir.join("issuer.db").display()),
            set("signing_key", self.key_file(ISSUER_KEY)),
            set("development.enabled", true),
        ];
        self.spec(Role::Issuer, Role::Issuer.as_str().to_owned(), config, self.issuer.admin)
    }

    /// How to start each relayer.
    pub(super) fn relayers(&self) -> impl Iterator<Item = ProcessSpec> {
        self.relayers.iter().enumerate().map(|(i, ports)| {
            let mut config = vec![
                set("listen", loopback(ports.public)),
                set("admin_listen", loopback(ports.admin)),
                set("payee", self.payee()),
            ];
            config.extend(self.shared());
            config.extend(self.relayer_ways.get(i).into_iter().flatten().cloned());
            self.spec(Role::Relayer, name_of(Role::Relayer, i), config, ports.admin)
        })
    }

    /// How to start each settler.
    pub(super) fn settlers(&self) -> impl Iterator<Item = ProcessSpec> {
        self.settlers.iter().enumerate().map(|(i, &admin)| {
            let mut config =
                vec![set("admin_listen", loopback(admin)), set("payee_key", self.key_file(PAYEE_KEY))];
            config.push(set("journal.url", self.options.journal()));
            config.extend(self.shared());
            config.extend(self.settler_ways.get(i).into_iter().flatten().cloned());
            self.spec(Role::Settler, name_of(Role::Settler, i), config, admin)
        })
    }

    /// What relayers and settlers must agree on.
    fn shared(&self) -> [(String, String); 4] {
        [
            set("redis.url", &self.redis_url),
            set("redis.prefix", &self.options.prefix),
            set("issuer.url", self.issuer_url()),
            set("issuer.public_key", self.issuer_key),
        ]
    }

    fn key_file(&self, name: &str) -> String {
        format!("file:{}", self.options.dir.join(name).display())
    }

    fn spec(&self, role: Role, name: String, config: Vec<(String, String)>, admin: u16) -> ProcessSpec {
        let further = match role {
            Role::Issuer => &self.options.config.issuer,
            Role::Relayer => &self.options.config.relayer,
            Role::Settler => &self.options.config.settler,
        };
        ProcessSpec {
            name,
            role,
            binary: self.options.binary.clone(),
            config: config.into_iter().chain(further.iter().cloned()).collect(),
            file: None,
            admin_url: url(admin),
            dir: self.options.dir.clone(),
        }
    }
}

const ISSUER_KEY: &str = "issuer.key";
/// File of the payee's key, in the directory of a stack.
pub const PAYEE_KEY: &str = "payee.key";

/// The port `base + offset + i * step`.
pub(super) fn nth(base: u16, offset: u16, i: usize, step: u16) -> Result<u16, StackError> {
    u16::try_from(i)
        .ok()
        .and_then(|i| i.checked_mul(step)?.checked_add(offset)?.checked_add(base))
        .ok_or_else(|| StackError::Io {
            what: format!("no port number {base}+{offset}+{i}*{step}"),
            source: std::io::ErrorKind::InvalidInput.into(),
        })
}

/// Reads the key file, or makes it with a new key.
fn signing_key(path: &Path) -> Result<SigningKey, StackError> {
    if !path.exists() {
        let key = SigningKey::from_bytes(&rand::random());
        write_signing_key(path, &key).map_err(StackError::io(format!("cannot write {}", path.display())))?;
    }
    Ok(read_signing_key(path)?)
}

fn set(key: &str, value: impl ToString) -> (String, String) {
    (key.to_owned(), value.to_string())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn url(port: u16) -> String {
    format!("http://{}", loopback(port))
}
