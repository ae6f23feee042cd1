//! `millrace openapi`: the description of a service's HTTP interface, for the making of clients.

#[cfg(test)]
mod page;

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::output::Printer;

const EXAMPLES: &str = "\
Examples:
  millrace openapi relayer > relayer.openapi.json
  millrace openapi issuer

A running service serves its own at /openapi.json.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct OpenapiArgs {
    /// Whose.
    #[arg(value_enum)]
    service: Service,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Service {
    Relayer,
    Issuer,
}

impl Service {
    fn description(self) -> &'static Value {
        match self {
            Service::Relayer => relayer::openapi(),
            Service::Issuer => issuer::openapi(),
        }
    }
}

pub(crate) fn run(args: OpenapiArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    printer.data(args.service.description(), |tree| format!("{tree:#}"))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const SERVICES: [Service; 2] = [Service::Relayer, Service::Issuer];

    fn docs() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
    }

    /// Checks that a file is what it would be made as now, or makes it so where `UPDATE_API` is set.
    fn is_current(name: &str, current: &str) {
        let file = docs().join(name);
        if std::env::var_os("UPDATE_API").is_some() {
            std::fs::write(&file, current).expect("docs is writable");
        }
        let kept = std::fs::read_to_string(&file).unwrap_or_default();
        let first = current.lines().zip(kept.lines()).find(|(now, kept)| now != kept);
        assert!(
            kept == current,
            "docs/{name}: run UPDATE_API=1 cargo test -p cli openapi, and look at the change; {first:?}"
        );
    }

    #[test]
    fn what_docs_say_of_the_api_is_current() {
        for service in SERVICES {
            let name = format!("schema/{service:?}.openapi.json").to_lowercase();
            is_current(&name, &format!("{:#}\n", service.description()));
        }
        is_current("API.md", &page::page(relayer::openapi(), issuer::openapi()));
    }

    #[test]
    fn every_message_that_is_signed_is_on_the_page() {
        let page = page::page(relayer::openapi(), issuer::openapi());
        let (_, section) = page.split_once("\n## What is signed\n").expect("the section");
        let code = std::fs::read_to_string(docs().join("../common/src/message.rs")).expect("the messages");
        let (code, _) = code.split_once("#[cfg(test)]").unwrap_or((&code, ""));
        // Of each function: its name, and the head that tells its message from every other.
        let functions: Vec<&str> = code.split("pub fn ").skip(1).collect();
        let heads = functions.iter().filter_map(|function| {
            let (name, body) = function.split_once('(')?;
            Some((name, body.split_once("b\"")?.1.split_once('"')?.0))
        });
        let mut found = 0;
        for (name, head) in heads {
            let row = section.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
            assert!(row.is_some_and(|row| row.contains(&format!("\"{head}\""))), "{name} {head}: {row:?}");
            found += 1;
        }
        assert_eq!(found, functions.len() - 1, "a voucher alone begins with bytes and no text");
    }

    /// Every place of a description that holds a schema beside examples of it: bodies, answers and parameters.
    fn exemplified<'tree>(tree: &'tree Value, found: &mut Vec<(&'tree Value, Vec<&'tree Value>)>) {
        if let (Some(schema), Some(examples)) = (tree.get("schema"), tree.get("examples")) {
            let examples = examples.as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
            found.push((schema, examples.collect()));
        }
        if let (Some(schema), Some(example)) = (tree.get("schema"), tree.get("example")) {
            found.push((schema, vec![example]));
        }
        let children: Vec<&Value> = match tree {
            Value::Object(fields) => fields.values().collect(),
            Value::Array(values) => values.iter().collect(),
            _ => Vec::new(),
        };
        children.into_iter().for_each(|child| exemplified(child, found));
    }

    #[test]
    fn every_example_is_what_its_schema_says() {
        for service in SERVICES {
            let tree = service.description();
            let mut found = Vec::new();
            exemplified(&tree["paths"], &mut found);
            let count: usize = found.iter().map(|(_, examples)| examples.len()).sum();
            assert!(count > 30, "{service:?}: {count} examples");
            for (schema, examples) in found {
                let whole = serde_json::json!({ "allOf": [schema], "components": tree["components"] });
                let validator = jsonschema::validator_for(&whole).expect("a schema");
                for example in examples {
                    let faults: Vec<String> =
                        validator.iter_errors(example).map(|fault| fault.to_string()).collect();
                    assert!(faults.is_empty(), "{service:?}: {example}: {faults:?}");
                }
                assert!(!validator.is_valid(&serde_json::json!(0)), "{schema} would take anything");
            }
        }
    }

    #[test]
    fn what_the_schema_of_a_payment_takes_is_what_a_relayer_reads() {
        use common::wire::payment_from_json;
        use serde_json::json;
        let tree = relayer::openapi();
        let whole =
            json!({ "$ref": "#/components/schemas/PaymentRequest", "components": tree["components"] });
        let validator = jsonschema::validator_for(&whole).expect("a schema");
        let examples =
            &tree["paths"]["/v1/payments"]["post"]["requestBody"]["content"]["application/json"]["examples"];
        let examples: Vec<&Value> =
            examples.as_object().expect("examples").values().map(|example| &example["value"]).collect();
        assert_eq!(examples.len(), 3, "one a scheme");
        let (mut taken, mut refused) = (0, 0);
        for example in examples {
            let others = [json!(null), json!(5), json!("0"), json!("05"), json!(-1), json!([]), json!({})];
            let fields = ["channel_id", "cumulative_amount", "expires_at", "signature", "proof", "unknown"];
            let spoiled = fields.iter().flat_map(|field| {
                let put = others.iter().map(move |other| {
                    let mut spoiled = example.clone();
                    spoiled[field] = other.clone();
                    spoiled
                });
                let mut without = example.clone();
                without.as_object_mut().expect("an object").remove(*field);
                put.chain([without])
            });
            for body in spoiled.chain([example.clone()]) {
                let read = payment_from_json(body.to_string().as_bytes());
                assert_eq!(validator.is_valid(&body), read.is_ok(), "{body}: {read:?}");
                if read.is_ok() { taken += 1 } else { refused += 1 }
            }
        }
        assert!(taken > 5 && refused > 50, "{taken} taken, {refused} refused");
    }
}
