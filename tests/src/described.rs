//! Answers, checked against what their service says of them in its OpenAPI description.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use common::problem::{Code, Problem};
use jsonschema::Validator;
use reqwest::Method;
use serde_json::{Value, json};

use crate::http::Reply;

/// The descriptions of relayer and issuer, with the schemas that were needed so far.
struct Described {
    tree: &'static Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

static SERVICES: LazyLock<[Described; 2]> = LazyLock::new(|| {
    [relayer::openapi(), issuer::openapi()].map(|tree| Described { tree, validators: Mutex::default() })
});

/// What is wrong with an answer, by each service that has the route; nothing where one of them describes it so, or none
/// has the route. Which listener answered is not known, and one that has no such route may say so: that those that have it
/// do not is a test of its own, `tests/tests/api.rs`.
pub fn faults(method: &Method, path: &str, reply: &Reply) -> Vec<String> {
    let mut faults = Vec::new();
    if is_no_route(reply) {
        return faults;
    }
    for service in SERVICES.iter() {
        let Some(responses) = service.responses(method, path) else { continue };
        match service.fault(responses, reply) {
            Some(fault) => faults.push(fault),
            None => return Vec::new(),
        }
    }
    faults
}

/// True for the answers where there is no route, or none that takes the method.
fn is_no_route(reply: &Reply) -> bool {
    let problem: Option<Problem> = serde_json::from_str(&reply.body).ok();
    problem.is_some_and(|problem| {
        problem.status == reply.status && [Code::NotFound, Code::MethodNotAllowed].contains(&problem.code)
    })
}

impl Described {
    /// The answers of the route that takes this request.
    fn responses(&self, method: &Method, path: &str) -> Option<&'static Value> {
        let paths = self.tree["paths"].as_object().expect("a description has paths");
        let (_, item) = paths.iter().find(|(template, _)| fits(template, path))?;
        item.get(method.as_str().to_ascii_lowercase())?.get("responses")
    }

    fn fault(&self, responses: &Value, reply: &Reply) -> Option<String> {
        let Some(response) = responses.get(reply.status.to_string()) else {
            return Some(format!("status {} is not described", reply.status));
        };
        if response["headers"].get("Retry-After").is_some() != reply.retry_after.is_some() {
            return Some(format!("Retry-After: {:?}", reply.retry_after));
        }
        let Some(content) = response["content"].as_object() else {
            return (!reply.body.is_empty()).then(|| "a body is not described".to_owned());
        };
        let media_type = reply.content_type.as_deref().unwrap_or_default();
        let Some(media) = content.get(media_type) else {
            return Some(format!("the media type {media_type:?} is not described"));
        };
        match media.get("x-line-schema") {
            Some(schema) => reply.body.lines().find_map(|line| self.misfit(schema, line)),
            None => self.misfit(&media["schema"], &reply.body),
        }
    }

    /// Why a text is not JSON of this schema.
    fn misfit(&self, schema: &Value, text: &str) -> Option<String> {
        let value: Value = match serde_json::from_str(text) {
            Ok(value) => value,
            Err(error) => return Some(format!("{error} in {text}")),
        };
        let validator = self.validator(schema);
        validator.iter_errors(&value).next().map(|fault| format!("{fault} in {text}"))
    }

    fn validator(&self, schema: &Value) -> Arc<Validator> {
        let mut validators = self.validators.lock().unwrap_or_else(PoisonError::into_inner);
        let made = validators.entry(schema.to_string()).or_insert_with(|| {
            let whole = json!({ "allOf": [schema], "components": self.tree["components"] });
            Arc::new(jsonschema::validator_for(&whole).expect("a described schema is one"))
        });
        Arc::clone(made)
    }
}

/// True if `path` is one of those that `template` stands for.
fn fits(template: &str, path: &str) -> bool {
    let mut given = path.split('/');
    let all = template.split('/').all(|part| {
        given.next().is_some_and(|given| part == given || (part.starts_with('{') && !given.is_empty()))
    });
    all && given.next().is_none()
}
