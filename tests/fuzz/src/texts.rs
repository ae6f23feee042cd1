//! Short texts and files: ids, amounts, configuration.

use std::fmt::Display;
use std::str::FromStr;

use common::amount::Amount;
use common::config::Config;
use common::ids::{ChannelId, PublicKey, Signature};
use common::trail::{RequestId, TraceParent};

/// A text that is taken is the one text of its value.
fn is_canonical<T: FromStr + Display + PartialEq>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        assert_eq!(value.to_string(), text, "two texts for one value");
    }
}

/// What callers write into headers.
fn trails(data: &[u8]) {
    if let Some(id) = RequestId::given(data) {
        assert_eq!(id.as_bytes(), data, "two texts for one id");
        assert!(RequestId::of(id.of_message(u64::MAX).as_bytes()).is_some());
    }
    if let Some(parent) = TraceParent::parse(data) {
        // A later version is read as far as it is known, and written as the one that is.
        let written = parent.to_string();
        assert!(!data.starts_with(b"00-") || written.as_bytes() == data, "two texts for one place");
        assert_eq!(TraceParent::parse(written.as_bytes()), Some(parent));
    }
}

pub(crate) fn ids(data: &[u8]) {
    trails(data);
    let Ok(text) = std::str::from_utf8(data) else { return };
    is_canonical::<ChannelId>(text);
    is_canonical::<PublicKey>(text);
    is_canonical::<Signature>(text);
    if let Ok(id) = text.parse::<ChannelId>() {
        assert!(id.partition(16) < 16);
        let json = serde_json::to_string(&id).expect("an id is JSON");
        assert_eq!(serde_json::from_str::<ChannelId>(&json).expect("its own JSON"), id);
    }
    if let Ok(key) = text.parse::<PublicKey>() {
        // Any 32 bytes are a key as a text; whether they are a point is asked before they are used.
        let _ = common::verify::usable_key(&key);
    }
}

pub(crate) fn amounts(data: &[u8]) {
    if let Ok(amount) = Amount::from_lua(data) {
        assert_eq!(amount.to_lua().as_bytes(), data, "two texts for one amount");
    }
    let from_json = serde_json::from_slice::<Amount>(data);
    let Ok(text) = std::str::from_utf8(data) else {
        assert!(from_json.is_err());
        return;
    };
    is_canonical::<Amount>(text);
    if let Ok(amount) = text.parse::<Amount>() {
        assert_eq!(Amount::from_lua(amount.to_lua().as_bytes()), Ok(amount));
        assert_eq!(amount.checked_sub(amount), Some(Amount::ZERO));
        assert_eq!(amount.checked_add(Amount::ZERO), Some(amount));
        assert!(from_json.is_err(), "a JSON number is no amount");
    }
}

pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // One line `NAME=value` at the top stands for the environment.
    let (variable, yaml) = match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("MILLRACE_") => (first.split_once('='), rest),
        _ => (None, text),
    };
    config_of::<relayer::Config>(variable, yaml);
    config_of::<settler::Config>(variable, yaml);
}

fn config_of<C: Config + PartialEq + std::fmt::Debug>(variable: Option<(&str, &str)>, yaml: &str) {
    let Ok(config) = common::config::parse::<C>("fuzz.yaml", yaml) else { return };
    let variables = variable.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let Ok(config) = common::config::override_from(config, variables.into_iter()) else { return };
    let valid = config.validate().is_ok();
    let shown = serde_json::to_string(&config).expect("a configuration can be shown");
    let again: C = common::config::parse("shown", &shown).expect("what is shown can be read");
    assert_eq!(again, config);
    assert_eq!(again.validate().is_ok(), valid);
}
