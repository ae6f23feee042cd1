//! The OpenAPI 3.1 description of a listener, made of what its routes are registered with: [`Routes`] takes a handler and
//! its description in one call, and is the only way to a public route, so neither is there without the other.
//!
//! # Layout
//!
//! * [`Routes`]: routes on their way to a router and to a description. [`Description`]: as it is served.
//! * [`operation`]: what is said of one route. [`examples`]: one channel's life, for the examples.

pub mod examples;
pub mod operation;

use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodFilter, on};
use bytes::Bytes;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use schemars::transform::transform_subschemas;
use serde_json::{Map, Value, json};

use crate::error::with_fallbacks;
pub use operation::{Media, Operation};

/// Where a listener serves its description.
pub const PATH: &str = "/openapi.json";

/// What a description says of the service as a whole.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// Its name.
    pub title: &'static str,
    /// What it is for and what holds for all routes, in Markdown.
    pub description: &'static str,
    /// Groups of routes, in the order in which a person wants to read of them: name, and what it is about.
    pub tags: &'static [(&'static str, &'static str)],
}

/// Routes, each with what is said of it.
pub struct Routes<S> {
    router: Router<S>,
    operations: Vec<(Method, &'static str, Operation)>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { router: Router::new(), operations: Vec::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    /// A route that takes `GET`.
    pub fn get<H, T>(self, path: &'static str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.add(Method::GET, MethodFilter::GET, path, handler, operation)
    }

    /// A route that takes `POST`.
    pub fn post<H, T>(self, path: &'static str, handler: H, operation: Operation) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.add(Method::POST, MethodFilter::POST, path, handler, operation)
    }

    fn add<H, T>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: H,
        operation: Operation,
    ) -> Self
    where
        H: Handler<T, S>,
        T: 'static,
    {
        self.operations.push((method, path, operation));
        Self { router: self.router.route(path, on(filter, handler)), operations: self.operations }
    }

    /// The router, with both fallbacks. `layered` may put layers around the routes before.
    pub fn into_router(self, layered: impl FnOnce(Router<S>) -> Router<S>) -> Router<S> {
        with_fallbacks(layered(self.router))
    }

    /// The description.
    pub fn describe(&self, about: &About) -> Description {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        let mut generator = settings.into_generator();
        let mut paths = Map::new();
        for (method, path, operation) in &self.operations {
            let item = paths.entry(*path).or_insert_with(|| json!({}));
            item[method.as_str().to_ascii_lowercase()] = operation.write(&mut generator);
        }
        let tags: Vec<Value> =
            about.tags.iter().map(|(name, text)| json!({ "name": name, "description": text })).collect();
        let mut tree = json!({
            "openapi": "3.1.0",
            "info": {
                "title": about.title,
                "version": env!("CARGO_PKG_VERSION"),
                "description": about.description,
                "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
            },
            "servers": [{ "url": "/", "description": "the listener that serves this description" }],
            "tags": tags,
            "paths": paths,
            "components": { "schemas": schemas(&mut generator) },
        });
        plain_texts(&mut tree);
        Description { body: Bytes::from(tree.to_string()), tree }
    }
}

/// The schemas that were referred to.
fn schemas(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut schemas = generator.take_definitions(true);
    for schema in schemas.values_mut() {
        if let Ok(schema) = schema.try_into() {
            whole_numbers(schema);
        }
    }
    schemas
}

/// Rust's names of integers that no registry of formats knows are left out; their bounds say as much.
fn whole_numbers(schema: &mut schemars::Schema) {
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
    transform_subschemas(&mut whole_numbers, schema);
}

/// Comments refer to Rust's items; a reader of the description knows the messages by their name alone.
fn plain_texts(tree: &mut Value) {
    match tree {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" => *text = plain_text(text),
                    other => plain_texts(other),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(plain_texts),
        _ => {}
    }
}

fn plain_text(text: &str) -> String {
    let mut plain =
        text.replace("[`crate::message::", "the message `").replace("[`message::", "the message `");
    plain =
        plain.replace("[`", "`").replace("`]", "`").replace("crate::", "").replace("Code::title", "title");
    plain
}

/// The description of a listener.
#[derive(Clone, Debug)]
pub struct Description {
    tree: Value,
    body: Bytes,
}

impl Description {
    /// As JSON.
    pub fn tree(&self) -> &Value {
        &self.tree
    }
}

impl IntoResponse for &Description {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], self.body.clone()).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use axum::http::Request;
    use common::problem::Code;
    use common::wire::AccountRequest;
    use tower::ServiceExt as _;

    fn routes() -> Routes<()> {
        let operation = |id| Operation::new(id, "t", "s").codes(&[Code::Malformed, Code::Overloaded]);
        Routes::default().get("/a", || async {}, operation("read")).post(
            "/a",
            || async {},
            operation("write").takes([Media::json::<AccountRequest>()]),
        )
    }

    const ABOUT: About = About { title: "t", description: "d", tags: &[("t", "tests")] };

    #[tokio::test]
    async fn what_is_described_is_what_answers() {
        let description = routes().describe(&ABOUT);
        let methods: Vec<&String> =
            description.tree()["paths"]["/a"].as_object().expect("a path").keys().collect();
        assert_eq!(methods, ["get", "post"]);
        let router = routes().into_router(|router| router);
        for (method, status) in [("GET", 200), ("POST", 200), ("PUT", 405)] {
            let request = Request::builder().method(method).uri("/a").body(Body::empty()).expect("a request");
            let answer = router.clone().oneshot(request).await.expect("infallible");
            assert_eq!(answer.status().as_u16(), status, "{method}");
            assert_eq!(answer.headers().contains_key(header::ALLOW), status == 405, "{method}");
        }
    }

    #[test]
    fn codes_stand_under_their_status_with_when_to_come_again() {
        let description = routes().describe(&ABOUT);
        let answers = &description.tree()["paths"]["/a"]["get"]["responses"];
        assert_eq!(answers["400"]["x-codes"], json!(["malformed"]));
        assert_eq!(answers["503"]["headers"]["Retry-After"]["required"], json!(true));
        assert!(answers["400"]["headers"]["Retry-After"].is_null());
        assert_eq!(answers["500"]["x-codes"], json!(["internal"]), "any route may fail");
        assert_eq!(answers["504"]["x-codes"], json!(["outcome_unknown"]), "or take too long");
    }

    #[test]
    fn descriptions_name_nothing_of_rust() {
        let text = plain_text("Signature of [`crate::message::open`], see [`crate::batch`].");
        assert_eq!(text, "Signature of the message `open`, see `batch`.");
    }
}
