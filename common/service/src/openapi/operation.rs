//! What is said of one route: its purpose, what it takes, and every answer that it can give.

use std::collections::BTreeMap;

use common::problem::{CONTENT_TYPE, Code, Problem};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::examples;

/// The media type of one JSON value a line.
pub const LINES: &str = "application/x-ndjson";

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What any request can come to, whatever its route: a bug, and no answer within `http.request_timeout_ms`.
const ALWAYS: [Code; 2] = [Code::Internal, Code::OutcomeUnknown];

/// A body in one media type.
#[derive(Clone, Debug)]
pub struct Media {
    media_type: &'static str,
    schema: SchemaOf,
    /// Of lines: the schema of each.
    line: Option<SchemaOf>,
    examples: Map<String, Value>,
}

impl Media {
    /// A `T` as JSON.
    pub fn json<T: JsonSchema>() -> Self {
        Self::of("application/json", SchemaGenerator::subschema_for::<T>)
    }

    /// Whatever this schema allows, as JSON.
    pub fn json_of(schema: SchemaOf) -> Self {
        Self::of("application/json", schema)
    }

    /// A `T` a line.
    pub fn lines<T: JsonSchema>() -> Self {
        Media { line: Some(SchemaGenerator::subschema_for::<T>), ..Self::of(LINES, a_text_of_lines) }
    }

    fn of(media_type: &'static str, schema: SchemaOf) -> Self {
        Media { media_type, schema, line: None, examples: Map::new() }
    }

    /// Adds an example.
    pub fn example(mut self, name: &str, value: impl Serialize) -> Self {
        // What cannot be JSON shows as null, which fits no schema: the test of the examples fails.
        let value = serde_json::to_value(value).unwrap_or_default();
        self.examples.insert(name.to_owned(), json!({ "value": value }));
        self
    }

    fn write(&self, generator: &mut SchemaGenerator) -> Value {
        let mut media = json!({ "schema": (self.schema)(generator) });
        if let Some(line) = self.line {
            media["x-line-schema"] = line(generator).to_value();
        }
        if !self.examples.is_empty() {
            media["examples"] = Value::Object(self.examples.clone());
        }
        media
    }
}

fn a_text_of_lines(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "description": "one JSON value a line, each ended by a line feed" })
}

/// An array whose elements should be a `T`; one that is not is answered in its own place, and spoils no other.
pub fn array_of_any<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let element = generator.subschema_for::<T>();
    json_schema!({ "type": "array", "items": { "anyOf": [element, true] } })
}

/// An array of `T`.
pub fn array_of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let element = generator.subschema_for::<T>();
    json_schema!({ "type": "array", "items": element })
}

fn an_openapi_document(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "required": ["openapi", "info", "paths"] })
}

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    description: &'static str,
    bodies: Vec<Media>,
    headers: Vec<(&'static str, &'static str)>,
}

#[derive(Clone, Debug)]
struct Parameter {
    name: &'static str,
    description: &'static str,
    schema: SchemaOf,
    example: Value,
}

/// What is said of one route.
#[derive(Clone, Debug)]
pub struct Operation {
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    description: &'static str,
    path: Vec<Parameter>,
    query: Option<SchemaOf>,
    takes: Vec<Media>,
    answers: Vec<Answer>,
    codes: Vec<Code>,
    curl: Option<String>,
}

impl Operation {
    /// `id` is the name of the function that clients have for it.
    pub fn new(id: &'static str, tag: &'static str, summary: &'static str) -> Self {
        Operation {
            id,
            tag,
            summary,
            description: "",
            path: Vec::new(),
            query: None,
            takes: Vec::new(),
            answers: Vec::new(),
            codes: ALWAYS.to_vec(),
            curl: None,
        }
    }

    /// The route of the description itself.
    pub fn itself(tag: &'static str) -> Self {
        Self::new("openapi", tag, "This description, for the making of clients").answers(
            200,
            "An OpenAPI 3.1 document.",
            [Media::json_of(an_openapi_document)],
        )
    }

    /// Whatever there is to know beyond the summary, in Markdown.
    pub fn about(mut self, description: &'static str) -> Self {
        self.description = description;
        self
    }

    /// A parameter in the path.
    pub fn parameter<T: JsonSchema>(
        mut self,
        name: &'static str,
        description: &'static str,
        example: impl Serialize,
    ) -> Self {
        let schema = SchemaGenerator::subschema_for::<T>;
        let example = serde_json::to_value(example).unwrap_or_default();
        self.path.push(Parameter { name, description, schema, example });
        self
    }

    /// Parameters in the query: the fields of `T`, all of which may be absent.
    pub fn query<T: JsonSchema>(mut self) -> Self {
        self.query = Some(T::json_schema);
        self
    }

    /// What the body may be.
    pub fn takes<const N: usize>(mut self, bodies: [Media; N]) -> Self {
        self.takes.extend(bodies);
        self
    }

    /// An answer to what went well.
    pub fn answers<const N: usize>(
        mut self,
        status: u16,
        description: &'static str,
        bodies: [Media; N],
    ) -> Self {
        let bodies = bodies.to_vec();
        self.answers.push(Answer { status, description, bodies, headers: Vec::new() });
        self
    }

    /// A header of the last answer.
    pub fn with_header(mut self, name: &'static str, value: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, value));
        }
        self
    }

    /// The codes of everything else, beside those that any route may answer with.
    pub fn codes(mut self, codes: &[Code]) -> Self {
        self.codes.extend(codes);
        self
    }

    /// A command that shows it on a stack that `millrace dev` runs, with what `docs/API.md` has set before.
    pub fn curl(mut self, command: impl Into<String>) -> Self {
        self.curl = Some(command.into());
        self
    }

    /// The operation object.
    pub(super) fn write(&self, generator: &mut SchemaGenerator) -> Value {
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "responses": self.responses(generator),
        });
        if !self.description.is_empty() {
            operation["description"] = self.description.into();
        }
        let parameters = self.parameters(generator);
        if !parameters.is_empty() {
            operation["parameters"] = parameters.into();
        }
        if !self.takes.is_empty() {
            operation["requestBody"] =
                json!({ "required": true, "content": content(&self.takes, generator) });
        }
        if let Some(command) = &self.curl {
            operation["x-codeSamples"] = json!([{ "lang": "Shell", "source": command }]);
        }
        operation
    }

    fn parameters(&self, generator: &mut SchemaGenerator) -> Vec<Value> {
        let in_path = self.path.iter().map(|parameter| {
            json!({
                "name": parameter.name,
                "in": "path",
                "required": true,
                "description": parameter.description,
                "schema": (parameter.schema)(generator),
                "example": parameter.example,
            })
        });
        let mut parameters: Vec<Value> = in_path.collect();
        let query = self.query.map(|schema| schema(generator).to_value()).unwrap_or_default();
        for (name, schema) in query["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            let description = schema.as_object_mut().and_then(|fields| fields.remove("description"));
            if let Some(fields) = schema.as_object_mut() {
                fields.remove("format");
            }
            parameters.push(json!({
                "name": name,
                "in": "query",
                "required": false,
                "description": description,
                "schema": schema,
            }));
        }
        parameters
    }

    fn responses(&self, generator: &mut SchemaGenerator) -> Map<String, Value> {
        let mut responses = Map::new();
        for answer in &self.answers {
            let mut response = json!({ "description": answer.description });
            if !answer.bodies.is_empty() {
                response["content"] = content(&answer.bodies, generator);
            }
            for (name, value) in &answer.headers {
                response["headers"][name] = header("", json!({ "const": value }));
            }
            responses.insert(answer.status.to_string(), response);
        }
        let mut by_status = BTreeMap::<u16, Vec<Code>>::new();
        for code in &self.codes {
            let codes = by_status.entry(code.status()).or_default();
            if !codes.contains(code) {
                codes.push(*code);
            }
        }
        for (status, codes) in by_status {
            responses.insert(status.to_string(), refusal(status, &codes, generator));
        }
        for response in responses.values_mut() {
            response["headers"]["x-request-id"] = json!({
                "description": "What the request is called in logs and traces.",
                "schema": { "type": "string" },
            });
        }
        responses
    }
}

fn content(bodies: &[Media], generator: &mut SchemaGenerator) -> Value {
    bodies
        .iter()
        .map(|media| (media.media_type.to_owned(), media.write(generator)))
        .collect::<Map<_, _>>()
        .into()
}

fn header(description: &str, schema: Value) -> Value {
    match description {
        "" => json!({ "required": true, "schema": schema }),
        text => json!({ "required": true, "description": text, "schema": schema }),
    }
}

/// The answer with these codes, all of one status.
fn refusal(status: u16, codes: &[Code], generator: &mut SchemaGenerator) -> Value {
    let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let lines: Vec<String> = codes.iter().map(|code| format!("`{code}`: {}", code.title())).collect();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|code| (code.as_str().to_owned(), json!({ "value": examples::problem(*code) })))
        .collect();
    let problem = generator.subschema_for::<Problem>();
    let narrowed = json!({ "properties": { "status": { "const": status }, "code": { "enum": names } } });
    let mut response = json!({
        "description": lines.join("\n\n"),
        "content": {
            CONTENT_TYPE: { "schema": { "allOf": [problem, narrowed] }, "examples": examples },
        },
        "x-codes": names,
    });
    if matches!(status, 429 | 503) {
        let seconds = json!({ "type": "string", "pattern": "^[1-9][0-9]*$" });
        response["headers"]["Retry-After"] = header("Seconds to wait, as in `retry_after_s`.", seconds);
    }
    if status == Code::UpgradeRequired.status() {
        response["headers"]["Upgrade"] = header("", json!({ "const": "websocket" }));
        response["headers"]["Sec-WebSocket-Version"] = header("", json!({ "const": "13" }));
    }
    response
}
