//! What services say of their routes is what they have: each described route answers, nothing else does, and answers that
//! are not described are noticed. `tests/api.sh` does more of it, with schemathesis.

use common::problem::{CONTENT_TYPE, Code};
use reqwest::Method;
use serde_json::Value;
use tests::described::faults;
use tests::http::{Http, Reply};
use tests::rig::{Rig, RigOptions};

/// The path of a route with the example of its parameter in place.
fn filled(path: &str, operation: &Value) -> String {
    let mut filled = path.to_owned();
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "path" {
            let [name, example] = ["name", "example"].map(|key| parameter[key].as_str().expect("a text"));
            filled = filled.replace(&format!("{{{name}}}"), example);
        }
    }
    assert!(!filled.contains('{'), "{path}: a parameter is not described");
    filled
}

/// What is wrong between the routes of a description and those that answer at `url`.
async fn differences(http: &Http, url: &str, tree: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, item) in tree["paths"].as_object().expect("paths") {
        let operations = item.as_object().expect("operations");
        let (_, any) = operations.iter().next().expect("a path has an operation");
        let target = format!("{url}{}", filled(path, any));
        for method in [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS]
        {
            let reply = http.send(method.clone(), &target).await;
            let is_missing = reply.content_type.as_deref() == Some(CONTENT_TYPE)
                && [Code::NotFound, Code::MethodNotAllowed].contains(&reply.problem().code);
            if operations.contains_key(&method.as_str().to_ascii_lowercase()) == is_missing {
                found.push(format!("{method} {path}: {}", reply.status));
            }
        }
    }
    found
}

#[tokio::test]
async fn what_is_described_is_what_is_routed() {
    let rig = Rig::start(RigOptions::default()).await;
    let (relayer, issuer) = (rig.relayer(0).to_owned(), rig.issuer.url());
    for (url, tree, count) in [(&relayer, relayer::openapi(), 6), (&issuer, issuer::openapi(), 10)] {
        assert_eq!(tree["paths"].as_object().map(serde_json::Map::len), Some(count));
        assert_eq!(differences(&rig.http, url, tree).await, [""; 0], "{url}");
        let served = rig.http.get(&format!("{url}/openapi.json")).await;
        assert_eq!(&served.success::<Value>(), tree, "{url}");

        // A route that is only described, and a method that is only routed, are both noticed.
        let mut broken = tree.clone();
        let (path, operation) =
            broken["paths"].as_object_mut().expect("paths").remove("/openapi.json").map_or_else(
                || panic!("{url} describes itself"),
                |item| ("/v2/openapi.json".to_owned(), item["get"].clone()),
            );
        broken["paths"][&path]["get"] = operation.clone();
        broken["paths"]["/openapi.json"]["put"] = operation;
        let mut found = differences(&rig.http, url, &broken).await;
        found.sort_unstable();
        assert_eq!(
            found,
            ["GET /openapi.json: 200", "GET /v2/openapi.json: 404", "PUT /openapi.json: 405"],
            "{url}"
        );
    }
}

#[tokio::test]
async fn a_limit_on_requests_holds_for_the_description_too() {
    let relayer = vec![("limits.per_address_per_s", "5".to_owned())];
    let rig = Rig::start(RigOptions { relayer, ..RigOptions::default() }).await;
    let url = format!("{}/openapi.json", rig.relayer(0));
    let mut refused = 0;
    for _ in 0..200 {
        let reply = rig.http.get(&url).await;
        if reply.status != 200 {
            assert_eq!(reply.problem().code, Code::RateLimited);
            refused += 1;
        }
    }
    assert!(refused > 0, "two hundred in a row");
}

#[test]
fn an_answer_that_is_not_described_is_noticed() {
    let reply = |status, content_type: &str, body: &str| Reply {
        status,
        content_type: Some(content_type.to_owned()),
        retry_after: None,
        body: body.to_owned(),
    };
    let problem = |code| serde_json::to_string(&common::problem::Problem::new(code)).expect("JSON");
    let of_payment = |reply: &Reply| faults(&Method::POST, "/v1/payments", reply);
    let good = reply(404, CONTENT_TYPE, &problem(Code::UnknownChannel));
    assert_eq!(of_payment(&good), [""; 0]);
    for bad in [
        reply(418, CONTENT_TYPE, &problem(Code::Malformed)),
        reply(404, "application/json", &problem(Code::UnknownChannel)),
        // A code that the route does not have, one of another status, and one that should say when to come again.
        reply(404, CONTENT_TYPE, &problem(Code::UnknownAccount)),
        reply(404, CONTENT_TYPE, &problem(Code::StaleAmount)),
        reply(503, CONTENT_TYPE, &problem(Code::Overloaded)),
        reply(200, "application/json", "{}"),
        reply(200, "application/json", ""),
    ] {
        assert_eq!(of_payment(&bad).len(), 1, "{bad:?}");
    }
    let line = reply(200, "application/x-ndjson", "{}\n");
    assert_eq!(faults(&Method::POST, "/v1/payments/batch", &line).len(), 1);
    // Both services have this route: what neither describes is noticed, and nothing is said of what is nobody's.
    assert_eq!(faults(&Method::GET, "/v1/channels/x", &reply(200, "application/json", "{}")).len(), 2);
    assert_eq!(faults(&Method::GET, "/livez", &line), [""; 0]);
}

#[tokio::test]
async fn the_admin_routes_that_the_page_names_are_there() {
    let options = RigOptions { settlers: 1, ..RigOptions::default() };
    let rig = Rig::start(options).await;
    let page =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/API.md")).expect("the page");
    let (_, admin) = page.split_once("\n## Admin listeners\n").expect("the section");
    let mut named = 0;
    for row in admin.lines().filter(|line| line.starts_with("| each |") || line.starts_with("| settler |")) {
        let (method, path) = row.split('`').nth(1).and_then(|route| route.split_once(' ')).expect("a route");
        let id = rig.payee().to_string();
        let path = path.replace("{id}", &id).replace("{partition}", "0").replace("{entry}", "1-1");
        let settler = rig.settlers[0].admin_url().to_owned();
        let each = [rig.relayers[0].admin_url().to_owned(), rig.issuer.admin_url(), settler.clone()];
        let urls = if row.starts_with("| each |") { each.to_vec() } else { vec![settler] };
        for url in urls {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let reply = rig.http.send(method, &format!("{url}{path}")).await;
            let is_missing = reply.content_type.as_deref() == Some(CONTENT_TYPE)
                && [Code::NotFound, Code::MethodNotAllowed].contains(&reply.problem().code);
            assert!(!is_missing, "{row}: {reply:?}");
            named += 1;
        }
    }
    assert!(named >= 13, "{named} routes");
}
