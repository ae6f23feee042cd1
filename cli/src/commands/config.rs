//! `millrace config`: what a service would run with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use common::config::{Config, load, schema};
use serde_json::{Value, json};

use crate::output::Printer;

const EXAMPLES: &str = "\
Examples:
  millrace config check relayer --config config.relayer.yaml
  MILLRACE_RELAYER__BATCH_MAX=64 millrace config show relayer
  millrace config schema settler > settler.schema.json

Every key can be overridden from the environment: MILLRACE_SETTLER__LEASE__TTL_MS sets lease.ttl_ms of a settler.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum ConfigCommand {
    /// Say whether the service would start with this file and this environment, and if not, which key is at fault.
    Check(ConfigArgs),
    /// Show every value that the service would run with. Secrets appear as where they are kept, never as themselves.
    Show(ConfigArgs),
    /// Print the JSON Schema of the configuration, for editors.
    Schema {
        /// Whose configuration.
        #[arg(value_enum)]
        service: Service,
    },
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// Whose configuration.
    #[arg(value_enum)]
    service: Service,
    /// The file; built-in defaults where absent.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    Relayer,
    Settler,
    Issuer,
}

impl Service {
    fn load(self, file: Option<&Path>) -> anyhow::Result<Value> {
        fn tree<T: Config>(file: Option<&Path>) -> anyhow::Result<Value> {
            Ok(serde_json::to_value(load::<T>(file)?)?)
        }
        match self {
            Service::Relayer => tree::<relayer::Config>(file),
            Service::Settler => tree::<settler::Config>(file),
            Service::Issuer => tree::<issuer::Config>(file),
        }
    }

    fn schema(self) -> Value {
        match self {
            Service::Relayer => schema::<relayer::Config>(),
            Service::Settler => schema::<settler::Config>(),
            Service::Issuer => schema::<issuer::Config>(),
        }
    }
}

pub(crate) fn run(command: ConfigCommand, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        ConfigCommand::Check(args) => {
            args.service.load(args.config.as_deref())?;
            printer.data(&json!({ "ok": true }), |_| "ok".to_owned())?;
        }
        ConfigCommand::Show(args) => {
            let tree = args.service.load(args.config.as_deref())?;
            printer.data(&tree, |tree| {
                let mut text = String::new();
                yaml(tree, 0, &mut text);
                text
            })?;
        }
        ConfigCommand::Schema { service } => {
            printer.data(&service.schema(), |schema| format!("{schema:#}"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a tree of objects the way the configuration files do. Scalars are JSON, which YAML contains.
fn yaml(tree: &Value, depth: usize, text: &mut String) {
    for (key, value) in tree.as_object().into_iter().flatten() {
        let indent = "  ".repeat(depth);
        match value {
            Value::Object(section) if !section.is_empty() => {
                text.push_str(&format!("{indent}{key}:\n"));
                yaml(value, depth + 1, text);
            }
            scalar => text.push_str(&format!("{indent}{key}: {scalar}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICES: [Service; 3] = [Service::Relayer, Service::Settler, Service::Issuer];

    fn schema_file(service: Service) -> PathBuf {
        let name = format!("{service:?}.schema.json").to_lowercase();
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schema").join(name)
    }

    #[test]
    fn schemas_under_docs_are_current() {
        for service in SERVICES {
            let current = format!("{:#}\n", service.schema());
            let file = schema_file(service);
            if std::env::var_os("UPDATE_SCHEMAS").is_some() {
                std::fs::write(&file, &current).expect("docs/schema is writable");
            }
            let kept = std::fs::read_to_string(&file).unwrap_or_default();
            // Not the two texts: where they part is what one wants to see.
            let mut lines = current.lines().zip(kept.lines()).filter(|(now, kept)| now != kept);
            let first = lines.next().map(|(now, kept)| format!("is {now}, kept {kept}"));
            assert!(
                kept == current,
                "{service:?} ({}): run UPDATE_SCHEMAS=1 cargo test -p cli, and look at the change",
                first.unwrap_or_else(|| "one is longer".to_owned())
            );
        }
    }

    #[test]
    fn shipped_files_fit_their_schemas() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (service, file) in [
            (Service::Relayer, "config.relayer.yaml"),
            (Service::Settler, "config.settler.yaml"),
            (Service::Issuer, "issuer/config.issuer.yaml"),
        ] {
            let text = std::fs::read_to_string(root.join(file)).expect(file);
            let tree: Value = serde_saphyr::from_str(&text).expect(file);
            let validator = jsonschema::validator_for(&service.schema()).expect("a schema");
            let faults: Vec<String> = validator.iter_errors(&tree).map(|error| error.to_string()).collect();
            assert!(faults.is_empty(), "{file}: {faults:?}");
            let mut unknown = tree;
            unknown["no_such_key"] = json!(1);
            assert!(!validator.is_valid(&unknown), "{file}: unknown keys are refused by the schema as well");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        let tree = serde_json::to_value(settler::Config::default()).expect("JSON");
        let mut text = String::new();
        yaml(&tree, 0, &mut text);
        let read: settler::Config = common::config::parse("shown", &text).expect("YAML");
        assert_eq!(serde_json::to_value(read).expect("JSON"), tree);
    }
}
