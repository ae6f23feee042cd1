//! `millrace recover` as an operator runs it.

use serde_json::Value;
use tempfile::TempDir;

use crate::binaries;
use crate::payer::Channel;
use crate::rig::Rig;

/// The command, for the Redis and issuer of a rig.
#[derive(Debug)]
pub struct Recover {
    base: Vec<String>,
    dir: TempDir,
}

impl Recover {
    /// For the payee of `rig`.
    ///
    /// # Panics
    /// There is no place for a ledger.
    pub fn of(rig: &Rig) -> Recover {
        let base = [
            "recover",
            "--json",
            "--payee",
            &rig.payee().to_string(),
            "--redis-url",
            &rig.redis.url(),
            "--issuer-url",
            &rig.issuer.url(),
        ];
        let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
        Recover { base: base.map(str::to_owned).to_vec(), dir }
    }

    /// A ledger of acknowledged vouchers, as a file.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn ledger(&self, paid: &[(&Channel, u64)]) -> String {
        let path = self.dir.path().join("ledger.ndjson");
        let lines: String = paid
            .iter()
            .map(|(channel, amount)| {
                let mut line = serde_json::to_value(channel.voucher(*amount)).expect("a voucher is JSON");
                line["outcome"] = "accepted".into();
                line["relayer"] = "http://127.0.0.1".into();
                line["at_ms"] = 0.into();
                format!("{line}\n")
            })
            .collect();
        std::fs::write(&path, lines).expect("a new file");
        path.display().to_string()
    }

    async fn output(&self, args: &[&str]) -> (bool, String, String) {
        let output = tokio::process::Command::new(binaries::path("millrace"))
            .args(&self.base)
            .args(args)
            .output()
            .await
            .expect("the program runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        (output.status.success(), text(output.stdout), text(output.stderr))
    }

    /// Runs it, and gives back what it prints.
    ///
    /// # Panics
    /// It fails.
    pub async fn run(&self, args: &[&str]) -> Value {
        let (success, stdout, stderr) = self.output(args).await;
        assert!(success, "{args:?}: {stderr}");
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    /// Runs it, and gives back why it fails.
    ///
    /// # Panics
    /// It does not fail.
    pub async fn fails(&self, args: &[&str]) -> String {
        let (success, stdout, stderr) = self.output(args).await;
        assert!(!success, "{args:?}: {stdout}");
        stderr
    }
}
