//! The systemd units of `docs/deploy/systemd`, as systemd itself reads and judges them, and as the services do.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use cli::stack::process::Role;
use common::ids::PublicKey;
use ed25519_dalek::SigningKey;
use tests::binaries;

const SERVICES: [Role; 3] = [Role::Relayer, Role::Settler, Role::Issuer];

/// Exposure in tenths, as `systemd-analyze security` counts it, from 0 for none to 100.
const EXPOSURE_MAX: &str = "15";

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn unit(service: Role) -> String {
    let path = root().join(format!("docs/deploy/systemd/millrace-{}.service", service.as_str()));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn analyze(arguments: &[&str], file: &Path) -> Output {
    let run = Command::new("systemd-analyze").args(arguments).arg(file).output();
    run.unwrap_or_else(|error| panic!("systemd-analyze: {error}; tests/install-deps.sh installs it"))
}

/// What systemd has against a unit, its program being that of this build.
fn complaints(service: Role, unit: &str) -> String {
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let file = dir.path().join(format!("millrace-{}.service", service.as_str()));
    let installed = format!("/usr/local/bin/{}", service.as_str());
    assert!(unit.contains(&format!("ExecStart={installed} ")), "{unit}");
    let built = binaries::path(service.as_str()).display().to_string();
    std::fs::write(&file, unit.replace(&installed, &built)).expect("a writable directory");
    let Output { status, stderr, stdout } = analyze(&["verify", "--man=no"], &file);
    let mut said = String::from_utf8_lossy(&stderr).into_owned() + &String::from_utf8_lossy(&stdout);
    // It also reads the units that ours depend on, as this machine has them.
    said = said.lines().filter(|line| line.contains("millrace-")).collect::<Vec<_>>().join("\n");
    if !status.success() && said.is_empty() {
        said = format!("{status}: {}", String::from_utf8_lossy(&stderr));
    }
    said
}

fn is_confined(service: Role, unit: &str) -> bool {
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let file = dir.path().join(format!("millrace-{}.service", service.as_str()));
    std::fs::write(&file, unit).expect("a writable directory");
    let judged = analyze(&["security", "--offline=true", "--threshold", EXPOSURE_MAX, "--no-pager"], &file);
    let said = String::from_utf8_lossy(&judged.stdout);
    assert!(said.contains("Overall exposure level"), "{said}{}", String::from_utf8_lossy(&judged.stderr));
    judged.status.success()
}

#[test]
fn systemd_takes_every_unit() {
    for service in SERVICES {
        assert_eq!(complaints(service, &unit(service)), "");
        let broken = unit(service).replace("TimeoutStopSec=", "TimeoutStopsec=");
        assert!(complaints(service, &broken).contains("TimeoutStopsec"), "a slip is noticed");
    }
}

#[test]
fn units_give_services_no_more_than_they_need() {
    for service in SERVICES {
        let unit = unit(service);
        assert!(is_confined(service, &unit), "{}", service.as_str());
        let broken = unit.replace("DynamicUser=yes\n", "").replace("SystemCallFilter=", "# ");
        assert!(!is_confined(service, &broken), "a unit that runs as root is noticed");
    }
}

#[test]
fn services_take_what_their_units_set() {
    let dir = tempfile::tempdir().expect("the directory for temporary files is writable");
    let key = PublicKey::of(&SigningKey::from_bytes(&rand::random())).to_string();
    for service in SERVICES {
        let unit = unit(service);
        let file =
            unit.lines().find_map(|line| line.split_once("--config /etc/millrace/")).expect("a file").1;
        let file =
            root().join(if service == Role::Issuer { format!("issuer/{file}") } else { file.to_owned() });
        let mut variables: BTreeMap<String, String> = unit
            .lines()
            .filter_map(|line| line.strip_prefix("Environment="))
            .flat_map(str::split_whitespace)
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace("%d", &dir.path().display().to_string())))
            .collect();
        assert!(!variables.is_empty(), "{unit}");
        // What whoever installs it has to add.
        match service {
            Role::Relayer => {
                variables.insert(service.variable("payee"), key.clone());
                variables.insert(service.variable("issuer.public_key"), key.clone());
            }
            Role::Settler => {
                variables.insert(service.variable("issuer.public_key"), key.clone());
            }
            Role::Issuer => {}
        }
        let mut check = Command::new(binaries::path("millrace"));
        check.args(["config", "check", service.as_str(), "--config"]).arg(file).envs(variables);
        let checked = check.output().expect("the program runs");
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
