//! Secrets in configuration: named by where they are kept, never written out.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::SigningKey;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a secret is kept: `env:NAME` or `file:/path`. Reading it gives its text without surrounding white space.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^(env:.+|file:.+)$"))]
pub enum SecretRef {
    /// The value of an environment variable.
    Env(String),
    /// The content of a file.
    File(String),
}

/// Why a secret could not be had. Never carries the secret itself.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither `env:` nor `file:`.
    #[error("expected env:NAME or file:/path, so that no secret is written into a config file")]
    NotAReference,
    /// The environment variable is not set.
    #[error("environment variable {name} is not set")]
    MissingEnv {
        /// The variable.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not an Ed25519 seed.
    #[error("{place} does not hold a signing key: expected base58 of a 32-byte seed")]
    NotAKey {
        /// Where it was read from.
        place: String,
    },
}

impl FromStr for SecretRef {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(SecretRef::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(SecretRef::File(path.to_owned())),
            _ => Err(SecretError::NotAReference),
        }
    }
}

impl TryFrom<String> for SecretRef {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SecretRef> for String {
    fn from(secret: SecretRef) -> Self {
        secret.to_string()
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::File(path) => write!(f, "file:{path}"),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl SecretRef {
    /// Reads the secret.
    pub fn read(&self) -> Result<String, SecretError> {
        let text = match self {
            SecretRef::Env(name) => {
                std::env::var(name).map_err(|_| SecretError::MissingEnv { name: name.clone() })?
            }
            SecretRef::File(path) => std::fs::read_to_string(path)
                .map_err(|source| SecretError::Unreadable { path: path.clone(), source })?,
        };
        Ok(text.trim().to_owned())
    }

    /// Reads the secret as an Ed25519 signing key: base58 of its 32-byte seed.
    pub fn read_signing_key(&self) -> Result<SigningKey, SecretError> {
        parse_signing_key(&self.read()?).ok_or_else(|| SecretError::NotAKey { place: self.to_string() })
    }
}

/// Reads a signing key file as [`write_signing_key`] makes it.
pub fn read_signing_key(path: &Path) -> Result<SigningKey, SecretError> {
    SecretRef::File(path.display().to_string()).read_signing_key()
}

/// Writes the base58 seed of `key` to a new file that only its owner can read. Refuses to replace a file.
pub fn write_signing_key(path: &Path, key: &SigningKey) -> std::io::Result<()> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{}", bs58::encode(key.as_bytes()).into_string())?;
    file.sync_all()
}

fn parse_signing_key(text: &str) -> Option<SigningKey> {
    let seed: [u8; 32] = bs58::decode(text).into_vec().ok()?.try_into().ok()?;
    Some(SigningKey::from_bytes(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_written_out_is_refused_and_not_repeated() {
        let error = "hunter2".parse::<SecretRef>().expect_err("not a reference");
        assert!(!error.to_string().contains("hunter2"));
        let wrong = std::env::temp_dir().join(format!("millrace-secret-{}", std::process::id()));
        std::fs::write(&wrong, "hunter2").expect("temp dir is writable");
        let error = read_signing_key(&wrong).expect_err("not a key");
        std::fs::remove_file(&wrong).expect("just written");
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
