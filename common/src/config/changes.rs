//! Two configurations side by side: which keys differ, and which of these a running process can take up.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::Config;

/// A key whose value differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The key, as a dotted path.
    pub key: String,
    /// What it was. A secret appears as where it is kept.
    pub old: Value,
    /// What it is to be.
    pub new: Value,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} -> {}", self.key, self.old, self.new)
    }
}

/// Every key of a configuration with its default, in the order of their names.
pub fn keys<T: Config>() -> Vec<(String, Value)> {
    leaves(&T::default()).into_iter().collect()
}

/// Which keys differ between two configurations, in the order of their names.
pub fn changes<T: Config>(old: &T, new: &T) -> Vec<Change> {
    let (mut old, new) = (leaves(old), leaves(new));
    let mut changes: Vec<Change> = new
        .into_iter()
        .filter_map(|(key, new)| {
            let old = old.remove(&key).unwrap_or(Value::Null);
            (old != new).then_some(Change { key, old, new })
        })
        .collect();
    // What is left was in the old one alone: an optional section that is off now.
    let gone = old.into_iter().filter(|(_, value)| !value.is_null());
    changes.extend(gone.map(|(key, old)| Change { key, old, new: Value::Null }));
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

/// The keys among `changes` that only a restart can take up.
pub fn needs_restart<T: Config>(changes: &[Change]) -> Vec<String> {
    let fixed = changes.iter().filter(|change| !T::RELOADABLE.contains(&change.key.as_str()));
    fixed.map(|change| change.key.clone()).collect()
}

/// Every value that is no section, by its dotted path.
fn leaves<T: Config>(config: &T) -> BTreeMap<String, Value> {
    fn collect(value: Value, path: &str, leaves: &mut BTreeMap<String, Value>) {
        match value {
            Value::Object(section) => {
                for (key, value) in section {
                    let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                    collect(value, &path, leaves);
                }
            }
            value => drop(leaves.insert(path.to_owned(), value)),
        }
    }
    let mut leaves = BTreeMap::new();
    // A configuration is made of texts, numbers and sections: JSON has them all.
    collect(serde_json::to_value(config).unwrap_or_default(), "", &mut leaves);
    leaves
}

/// Notes at a key of a schema that it can be reloaded.
pub(super) fn mark_reloadable(schema: &mut Value, key: &str) {
    let mut pointer = String::new();
    for name in key.split('.') {
        let section = schema.pointer(&pointer).unwrap_or(&Value::Null);
        // A section stands elsewhere, under a name of its own.
        if let Some(elsewhere) = section.get("$ref").and_then(Value::as_str) {
            pointer = elsewhere.trim_start_matches('#').to_owned();
        }
        pointer.push_str("/properties/");
        pointer.push_str(name);
    }
    if let Some(Value::Object(at)) = schema.pointer_mut(&pointer) {
        at.insert("x-reloadable".to_owned(), Value::Bool(true));
    }
}
