//! `millrace config`: what a service would run with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use common::config::{Config, keys, load, schema};
use serde::Serialize;
use serde_json::{Value, json};

use crate::output::{Printer, table, yes_no};

const EXAMPLES: &str = "\
Examples:
  millrace config check relayer --config config.relayer.yaml
  MILLRACE_RELAYER__BATCH_MAX=64 millrace config show relayer
  millrace config schema settler > settler.schema.json
  millrace config keys relayer

A running service reads its configuration again on SIGHUP. `millrace config keys` says which keys it can take up; \
a change of any other refuses the whole, and needs a restart.

Every key can be overridden from the environment: MILLRACE_SETTLER__LEASE__TTL_MS sets lease.ttl_ms of a settler.";

#[derive(Debug, Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum ConfigCommand {
    /// Say whether the service would start with this file and this environment, and if not, which key is at fault.
    Check(ConfigArgs),
    /// Show every value that the service would run with. Secrets appear as where they are kept, never as themselves.
    Show(ConfigArgs),
    /// List every key with its default, and whether a running service can take up a change of it.
    Keys {
        /// Whose configuration.
        #[arg(value_enum)]
        service: Service,
    },
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

    fn keys(self) -> Vec<Key> {
        fn of<T: Config>() -> Vec<Key> {
            let is_reloadable = |key: &String| T::RELOADABLE.contains(&key.as_str());
            let known = keys::<T>().into_iter();
            known.map(|(key, default)| Key { reloadable: is_reloadable(&key), key, default }).collect()
        }
        match self {
            Service::Relayer => of::<relayer::Config>(),
            Service::Settler => of::<settler::Config>(),
            Service::Issuer => of::<issuer::Config>(),
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

/// A key, as JSON.
#[derive(Debug, Serialize)]
struct Key {
    key: String,
    default: Value,
    reloadable: bool,
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
        ConfigCommand::Keys { service } => {
            printer.data(&service.keys(), |keys| {
                let rows =
                    keys.iter().map(|key| [key.key.clone(), key.default.to_string(), yes_no(key.reloadable)]);
                table(["key", "default", "without a restart"], rows)
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
    use common::config::{changes, needs_restart};

    /// The files that a newcomer starts from.
    const SHIPPED: [(Service, &str); 3] = [
        (Service::Relayer, "config.relayer.yaml"),
        (Service::Settler, "config.settler.yaml"),
        (Service::Issuer, "issuer/config.issuer.yaml"),
    ];

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
        for (service, file) in SHIPPED {
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

    /// The default configuration with another value under this key, and with nothing else changed.
    fn with_another<T: Config + Clone>(key: &str) -> T {
        let candidates = [
            json!(null),
            json!(true),
            json!(false),
            json!(7),
            json!("7"),
            json!("json"),
            json!("always"),
            json!("env:OTHER"),
            json!("127.0.0.1:9"),
            json!("11111111111111111111111111111112"),
            json!(["11111111111111111111111111111112"]),
            json!(["env:OTHER"]),
            json!(["other.json"]),
        ];
        let tree = serde_json::to_value(T::default()).expect("JSON");
        let pointer = format!("/{}", key.replace('.', "/"));
        let another = candidates.into_iter().find_map(|candidate| {
            let mut tree = tree.clone();
            *tree.pointer_mut(&pointer).expect("a key") = candidate;
            let config: T = serde_json::from_value(tree.clone()).ok()?;
            // A list of texts is read from one text as well, and the other way round: what counts is what it became.
            let became = serde_json::to_value(&config).expect("JSON");
            (became.pointer(&pointer) != serde_json::to_value(T::default()).expect("JSON").pointer(&pointer))
                .then_some(config)
        });
        another.unwrap_or_else(|| panic!("{key} takes none of the values tried"))
    }

    #[test]
    fn a_change_of_any_key_takes_effect_or_is_refused_by_name() {
        fn check<T: Config + Clone>() {
            let known = keys::<T>();
            assert!(known.len() > 10);
            for (key, _) in &known {
                let found = changes(&T::default(), &with_another::<T>(key));
                assert_eq!(found.iter().map(|change| &change.key).collect::<Vec<_>>(), [key]);
                let fixed = needs_restart::<T>(&found);
                assert_eq!(fixed.is_empty(), T::RELOADABLE.contains(&key.as_str()), "{key}");
            }
            for key in T::RELOADABLE {
                assert!(known.iter().any(|(known, _)| known == key), "{key} is a key");
            }
        }
        check::<relayer::Config>();
        check::<settler::Config>();
        check::<issuer::Config>();
    }

    #[test]
    fn shipped_files_and_schemas_mark_what_is_reloadable_and_nothing_else() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        for (service, file) in SHIPPED {
            let text = std::fs::read_to_string(root.join(file)).expect(file);
            let mut path: Vec<&str> = Vec::new();
            for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
                let Some((name, _)) = line.trim_start().split_once(':') else { continue };
                path.truncate((line.len() - line.trim_start().len()) / 2);
                path.push(name);
                let key = path.join(".");
                let keys = service.keys();
                let is_reloadable = keys.iter().any(|known| known.key == key && known.reloadable);
                assert_eq!(line.ends_with("# reloadable"), is_reloadable, "{file}: {line}");
            }
            let marked = service.schema().to_string().matches("x-reloadable").count();
            assert_eq!(marked, service.keys().iter().filter(|key| key.reloadable).count());
        }
    }
}
