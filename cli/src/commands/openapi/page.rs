//! `docs/API.md`, for a person, made of the two descriptions.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use common::problem::Code;
use serde_json::Value;

const HEAD: &str = "\
# The API

Every public route of relayer and issuer, made of the descriptions that they serve at `/openapi.json` and that are kept
beside this page, for the making of clients: [schema/relayer.openapi.json](schema/relayer.openapi.json),
[schema/issuer.openapi.json](schema/issuer.openapi.json) (OpenAPI 3.1; also `millrace openapi relayer`). Do not edit: change
the code, then `UPDATE_API=1 cargo test -p cli openapi`. `tests/api.sh` runs the commands of this page, and schemathesis
against both services.

The commands go against `millrace dev`, with this before:

```sh
RELAYER=http://127.0.0.1:7710
ISSUER=http://127.0.0.1:7700
PAYEE=$(cat .millrace/dev/payee.pub)
millrace keys new payer.key
millrace account register --key payer.key
PAYER=$(millrace keys show payer.key)
CHANNEL=$(millrace channel open --key payer.key --capacity 1000 --payee \"$PAYEE\")
```
";

const MESSAGES: &str = "
## What is signed

Ed25519 over these bytes, checked strictly. Integers are little-endian, keys and ids raw.

| message | signed by | bytes |
|---|---|---|
| `voucher` | payer authorizer | `0x56 0x01` `channel_id[32]` `u64(cumulative_amount)` `i64(expires_at)` |
| `open` | payer | `\"millrace:open:1\"` `channel_id[32]` |
| `close_request` | payer or payee | `\"millrace:close:1\"` `channel_id[32]` |
| `refund` | payer | `\"millrace:refund:1\"` `channel_id[32]` |
| `settle` | payee | `\"millrace:settle:1\"` `channel_id[32]` `u64(cumulative_amount)` `u8(close)` `u64(fencing_token)` |
| `receipt` | issuer | `\"millrace:receipt:1\"` `channel_id[32]` `u64(settled_amount)` `u64(refunded_amount)` `u8(closed)` `i64(settled_at_ms)` |
| `batch` | issuer | `\"millrace:batch:1\"` `root[32]` `u64(size)` `i64(settled_at_ms)` |
| `payment_receipt` | payee, or a key that it certified | `\"millrace:payment:1\"` `channel_id[32]` `u64(cumulative_amount)` `i64(accepted_at_ms)` |
| `receipt_key` | payee | `\"millrace:receipt-key:1\"` `key[32]` `i64(expires_at)` |

The id of a channel is SHA-256 over `\"millrace:channel:1\"` `issuer[32]` `payer[32]` `payer_authorizer[32]` `payee[32]`
`u16(len(asset))` `asset` `u64(capacity)` `i64(expires_at)` `u64(salt)` `u8(scheme)`, the scheme being 0 for `ed25519`, 1 for
`payword` with `root[32]` `u64(unit)` `u64(length)` after it, 2 for `paytree` with `root[32]` `u64(unit)` `u64(leaves)`.
";

const ADMIN: &str = "
## Admin listeners

Each service has a second listener, for its operator alone ([OPERATIONS.md](OPERATIONS.md)). It is no part of the
descriptions.

| of | route | answers |
|---|---|---|
| each | `GET /livez` | 200 `ok` while the process runs |
| each | `GET /readyz` | 200 `{\"ready\":true}`, or 503 `{\"ready\":false,\"reason\":…}` in words |
| each | `GET /metrics` | the figures, as text for Prometheus ([METRICS.md](METRICS.md)) |
| settler | `GET /status` | whether it leads, under which token, as JSON |
| settler | `GET /console` | the console, HTML: also `/console/channels`, `/console/channels/{id}`, `/console/dead`, `/console/audit` ([CONSOLE.md](CONSOLE.md)) |
| settler | `POST /console/channels/{id}/close` | asks for a close, as the payee |
| settler | `POST /console/channels/{id}/retry` | tries a failed close again |
| settler | `POST /console/dead/{partition}/{entry}/requeue` | has an entry read once more |
| settler | `POST /console/audit` | begins an audit, 303 to its page |

The first three posts of the console take the operator's token, as `Authorization: Bearer TOKEN` or as the form's field
`token`; without `Accept: text/html` they answer with JSON: what was done (`{\"action\":\"close\",\"channel_id\":…}`), or a
problem: `malformed`, `actions_disabled`, `wrong_token`, `unknown_channel`, `unknown_entry`, `channel_not_failed`,
`rate_limited`, `store_unavailable`.
";

/// The page.
pub(super) fn page(relayer: &Value, issuer: &Value) -> String {
    let mut text = HEAD.to_owned();
    let mut schemas = BTreeMap::new();
    for (name, tree) in [("Relayer", relayer), ("Issuer", issuer)] {
        service(&mut text, name, tree);
        for (name, schema) in tree["components"]["schemas"].as_object().into_iter().flatten() {
            let before = schemas.insert(name, schema);
            assert!(before.is_none_or(|before| before == schema), "two schemas are called {name}");
        }
    }
    text.push_str("\n## Bodies\n");
    for (name, schema) in schemas {
        if name != "Code" {
            body(&mut text, name, schema);
        }
    }
    text.push_str(
        "\n## Code\n\nEvery code of a problem, and its status.\n\n| code | status | says |\n|---|---|---|\n",
    );
    for code in Code::ALL {
        line(&mut text, format_args!("| `{code}` | {} | {} |", code.status(), code.title()));
    }
    text.push_str(MESSAGES);
    text.push_str(ADMIN);
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a text takes what is written into it");
}

fn service(text: &mut String, name: &str, tree: &Value) {
    line(text, format_args!("\n## {name}\n\n{}", string(&tree["info"]["description"])));
    for tag in tree["tags"].as_array().into_iter().flatten() {
        let about = string(&tag["description"]);
        line(text, format_args!("\n### {name}: {}\n\n{about}", string(&tag["name"])));
        for (path, methods) in tree["paths"].as_object().into_iter().flatten() {
            for (method, operation) in methods.as_object().into_iter().flatten() {
                if operation["tags"][0] == tag["name"] {
                    route(text, &method.to_uppercase(), path, operation);
                }
            }
        }
    }
}

fn route(text: &mut String, method: &str, path: &str, operation: &Value) {
    line(text, format_args!("\n#### `{method} {path}`\n\n{}.", string(&operation["summary"])));
    if let Some(about) = operation["description"].as_str() {
        line(text, format_args!("\n{about}"));
    }
    let parameters = operation["parameters"].as_array().map(Vec::as_slice).unwrap_or_default();
    if !parameters.is_empty() {
        line(text, format_args!("\n| parameter | in | type | |\n|---|---|---|---|"));
        for parameter in parameters {
            let [name, place, about] = ["name", "in", "description"].map(|key| string(&parameter[key]));
            line(text, format_args!("| `{name}` | {place} | {} | {about} |", kind(&parameter["schema"])));
        }
    }
    for (media_type, media) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
        line(text, format_args!("\nTakes `{media_type}`: {}.", media_kind(media)));
        example(text, media_type, media);
    }
    line(text, format_args!("\n| answers | with | when |\n|---|---|---|"));
    for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
        answers(text, status, answer);
    }
    let shown =
        operation["responses"].as_object().into_iter().flatten().find(|(status, _)| status.starts_with('2'));
    for (media_type, media) in
        shown.and_then(|(_, answer)| answer["content"].as_object()).into_iter().flatten()
    {
        if media.get("examples").is_some() {
            line(text, format_args!("\nAn answer in `{media_type}`:"));
            example(text, media_type, media);
        }
    }
    if let Some(command) = operation["x-codeSamples"][0]["source"].as_str() {
        line(text, format_args!("\n```sh\n{command}\n```"));
    }
}

fn answers(text: &mut String, status: &str, answer: &Value) {
    if let Some(codes) = answer["x-codes"].as_array() {
        let retry = if answer["headers"].get("Retry-After").is_some() { ", `Retry-After`" } else { "" };
        for code in codes {
            let code = Code::ALL.iter().find(|known| known.as_str() == code).expect("a code");
            line(text, format_args!("| {status} | `{code}`{retry} | {} |", code.title()));
        }
        return;
    }
    let content = answer["content"].as_object().into_iter().flatten();
    let kinds: Vec<String> =
        content.map(|(media_type, media)| format!("`{media_type}`: {}", media_kind(media))).collect();
    line(text, format_args!("| {status} | {} | {} |", kinds.join("; "), string(&answer["description"])));
}

/// The first example of a body, by its name, as it goes over the wire; JSON is set in lines.
fn example(text: &mut String, media_type: &str, media: &Value) {
    let Some((_, first)) = media["examples"].as_object().and_then(|examples| examples.iter().next()) else {
        return;
    };
    match &first["value"] {
        Value::String(lines) => line(text, format_args!("\n```json\n{}\n```", lines.trim_end())),
        value => {
            assert_eq!(media_type, "application/json");
            line(text, format_args!("\n```json\n{value:#}\n```"));
        }
    }
}

fn media_kind(media: &Value) -> String {
    match media.get("x-line-schema") {
        Some(schema) => format!("{} a line", kind(schema)),
        None => kind(&media["schema"]),
    }
}

fn body(text: &mut String, name: &str, schema: &Value) {
    line(text, format_args!("\n### {name}\n"));
    if let Some(about) = schema["description"].as_str() {
        line(text, format_args!("{}\n", sentence(about)));
    }
    let Some(properties) = schema["properties"].as_object() else {
        line(text, format_args!("{}.", kind(schema)));
        for alternative in alternatives(schema) {
            if let Some(about) = alternative["description"].as_str() {
                line(text, format_args!("\n* {}: {}", kind(alternative), flat(about)));
            }
        }
        return;
    };
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    line(text, format_args!("| field | type | |\n|---|---|---|"));
    for (field, schema) in properties {
        let optional = if required.contains(&field.as_str()) { "" } else { "optional " };
        let about = schema["description"].as_str().map(flat).unwrap_or_default();
        line(text, format_args!("| `{field}` | {optional}{} | {about} |", kind(schema)));
    }
    if schema["additionalProperties"] == Value::Bool(false) {
        line(text, format_args!("\nNo other fields."));
    }
}

fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten()
}

/// What a value is, in a few words.
fn kind(schema: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(value) = schema.get("const") {
        return format!("`{value}`");
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{value}`")).collect::<Vec<_>>().join(", ");
    }
    let either: Vec<String> =
        alternatives(schema).filter(|alternative| **alternative != Value::Bool(true)).map(kind).collect();
    if !either.is_empty() {
        return either.join(" or ");
    }
    match &schema["type"] {
        Value::Array(types) => types.iter().map(string).collect::<Vec<_>>().join(" or "),
        Value::String(one) => match one.as_str() {
            "array" => match &schema["items"] {
                Value::Bool(_) | Value::Null => "array".to_owned(),
                items => format!("array of {}", kind(items)),
            },
            "object" => match schema["properties"].as_object() {
                Some(fields) => fields
                    .iter()
                    .map(|(field, schema)| format!("`{field}`: {}", kind(schema)))
                    .collect::<Vec<_>>()
                    .join(", "),
                None => "object".to_owned(),
            },
            other => format!("{other}{}", bounds(schema)),
        },
        _ => "anything".to_owned(),
    }
}

fn bounds(schema: &Value) -> String {
    let bound = |key: &str| schema.get(key).map(Value::to_string);
    let mut text = match (bound("minimum"), bound("maximum")) {
        (Some(least), Some(most)) => format!(" from {least} to {most}"),
        (Some(least), None) => format!(" from {least}"),
        (None, Some(most)) => format!(" up to {most}"),
        (None, None) => String::new(),
    };
    match (bound("minLength"), bound("maxLength")) {
        (Some(least), Some(most)) => text.push_str(&format!(" of {least} to {most} characters")),
        (None, Some(most)) => text.push_str(&format!(" of at most {most} characters")),
        _ => {}
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        text.push_str(&format!(" `{}`", pattern.replace('|', "\\|")));
    }
    text
}

fn string(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// In one line, as a table needs it.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn sentence(text: &str) -> String {
    let text = flat(text);
    let mut characters = text.chars();
    let first: String = characters.next().into_iter().flat_map(char::to_uppercase).collect();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}
