//! A configuration file that a test changes under a running process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// A file with these keys, written anew with each change.
#[derive(Debug)]
pub struct ConfigFile {
    path: PathBuf,
    keys: BTreeMap<String, Value>,
}

impl ConfigFile {
    /// A file of that name, with nothing in it yet.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn new(path: PathBuf) -> ConfigFile {
        let file = ConfigFile { path, keys: BTreeMap::new() };
        file.write();
        file
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it says anything of a key, given as a dotted path.
    pub fn has(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// Sets a key.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn set(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.keys.insert(key.to_owned(), value.into());
        self.write();
        self
    }

    /// Leaves a key out: it has its default again.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn unset(&mut self, key: &str) -> &mut Self {
        self.keys.remove(key);
        self.write();
        self
    }

    fn write(&self) {
        let mut tree = Value::Object(Map::new());
        for (key, value) in &self.keys {
            let place = key.split('.').fold(&mut tree, |place, name| &mut place[name]);
            *place = value.clone();
        }
        // As a whole, as whoever looks at it meanwhile must not see half of it. JSON is YAML.
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, tree.to_string()).expect("the directory is writable");
        std::fs::rename(&beside, &self.path).expect("the directory is writable");
    }
}
