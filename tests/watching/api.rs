//! The description of the API and the node hold each other: every route is described, and whatever is asked, the answer is
//! one that the description knows, with the body that it says.

use std::collections::BTreeSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::support::http::{Connection, Request, Response};
use super::support::process::NodeOptions;
use super::support::{NodeProcess, mine};

/// Requests of the random run: a few seconds of a slow machine.
const REQUESTS: usize = 1_500;

fn document(node: &NodeProcess) -> Value {
    node.get("/openapi.json").expect(200).json()
}

#[test]
fn every_route_of_the_code_is_described_and_nothing_else() {
    let node = NodeProcess::start(NodeOptions::new());
    let document = document(&node);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1.")), "{}", document["openapi"]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    // Pages for people are no API.
    let pages = ["/", "/docs", "/explorer/{name}"];
    let routed: BTreeSet<(String, String)> = dolmen::http::route_names()
        .iter()
        .filter(|route| !pages.contains(&route.path))
        .flat_map(|route| route.methods.split(", ").map(|method| (route.path.to_owned(), method.to_lowercase())))
        // HEAD answers as GET does.
        .filter(|(_, method)| method != "head")
        .collect();
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| item.as_object().expect("an item").keys().map(|method| (path.clone(), method.clone())))
        .collect();
    assert_eq!(described, routed);
    let mut ids = BTreeSet::new();
    for (path, item) in paths {
        for (method, operation) in item.as_object().expect("an item") {
            let id = operation["operationId"].as_str().expect("a name for programs");
            assert!(ids.insert(id.to_owned()), "{id} stands twice");
            assert!(
                operation["summary"].as_str().is_some_and(|text| text.len() > 10),
                "{method} {path} has a sentence"
            );
        }
    }
    for page in ["/", "/docs"] {
        assert!(node.get(page).expect(200).text().contains("</html>"));
    }
    for part in ["docs.js", "docs.css"] {
        let part = node.get(&format!("/explorer/{part}")).expect(200);
        assert!(!part.text().contains("http://") && !part.text().contains("https://"), "nothing comes from elsewhere");
    }
    let docs = node.get("/docs").expect(200);
    let policy = docs.header("Content-Security-Policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    assert!(!docs.text().contains("http://") && !docs.text().contains("https://"), "nothing comes from elsewhere");
}

/// Whether a value is what a schema says.
fn fits(document: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).ok_or("a reference to nothing")?;
        return fits(document, target, value);
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let fitting = choices.iter().filter(|choice| fits(document, choice, value).is_ok()).count();
            return if fitting > 0 { Ok(()) } else { Err(format!("{value} fits none of {schema}")) };
        }
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let whole = kind == "integer" && types.contains(&"number");
    if !types.contains(&kind) && !whole {
        return Err(format!("{value} is {kind}, not {types:?}"));
    }
    if let Some(items) = value.as_array() {
        items.iter().try_for_each(|item| fits(document, &schema["items"], item))?;
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            return Err(format!("{value} lacks {required}"));
        }
    }
    for (name, field) in fields {
        let described = &schema["properties"][name];
        if described.is_null() {
            return Err(format!("the field {name} is not described"));
        }
        fits(document, described, field).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

/// Whether an answer is one that its operation describes.
fn is_described(document: &Value, operation: &Value, answer: &Response) -> Result<(), String> {
    let described = &operation["responses"][answer.status.to_string()];
    if described.is_null() {
        return Err(format!("status {} is not described: {}", answer.status, String::from_utf8_lossy(&answer.body)));
    }
    for name in described["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        answer.header(name).ok_or_else(|| format!("the header {name} is missing"))?;
    }
    let Some(content) = described["content"].as_object() else {
        return if answer.body.is_empty() { Ok(()) } else { Err("a body that is not described".to_owned()) };
    };
    let kind = answer.header("Content-Type").unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default();
    let (_, media) = content
        .iter()
        .find(|(name, _)| name.split(';').next() == Some(essence))
        .ok_or_else(|| format!("the type {kind:?} is not described"))?;
    if !essence.ends_with("json") {
        return Ok(());
    }
    let value: Value = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
    fits(document, &media["schema"], &value)
}

/// A value that mostly fits a schema, and sometimes does not.
fn value(document: &Value, schema: &Value, rng: &mut StdRng) -> Value {
    if rng.random_ratio(1, 12) {
        return [json!(null), json!(-1), json!(1.5), json!("x"), json!([]), json!({}), json!(true), json!(1u64 << 60)]
            [rng.random_range(0..8)]
        .clone();
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).expect("a schema");
        return value(document, target, rng);
    }
    if !schema["example"].is_null() && rng.random_ratio(1, 3) {
        // Where the example says somebody's own node may listen, and would take what is mined here; nobody does at 2.
        let text = schema["example"].to_string().replace(":6006", ":2");
        return serde_json::from_str(&text).expect("JSON as before");
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => kinds[rng.random_range(0..kinds.len())].as_str(),
        kind => kind.as_str(),
    };
    match kind {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let mut object = serde_json::Map::new();
            for (name, field) in fields {
                if !rng.random_ratio(1, 15) {
                    object.insert(name.clone(), value(document, field, rng));
                }
            }
            Value::Object(object)
        }
        Some("array") => (0..rng.random_range(0..4)).map(|_| value(document, &schema["items"], rng)).collect(),
        Some("string") => json!(text(rng)),
        Some("integer") => json!(rng.random_range(0..1_000u64)),
        _ => Value::Null,
    }
}

fn text(rng: &mut StdRng) -> String {
    const TEXTS: [&str; 12] = [
        "Hello",
        "",
        "돌",
        "\"\\\n\u{0}",
        "ws://127.0.0.1:1",
        "ws:localhost:2",
        "http://x",
        "10.9.8.7",
        "fd00::7",
        "tip",
        "0",
        "replicated:0",
    ];
    match rng.random_range(0..14) {
        12 => "A".repeat(64),
        13 => "x".repeat(rng.random_range(0..70_000)),
        place => TEXTS[place].to_owned(),
    }
}

fn in_path(text: &str) -> String {
    let text: String = text.chars().take(200).collect();
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[test]
fn whatever_is_asked_the_answer_is_described() {
    let seed = std::env::var("DOLMEN_TEST_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("DOLMEN_TEST_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let node = NodeProcess::start(NodeOptions::new());
    mine(&node, "first");
    let document = document(&node);
    let tip = node.get("/blocks/tip").expect(200).header("Block-Hash").expect("a hash").to_owned();
    let operations: Vec<(&String, &String, &Value)> = document["paths"]
        .as_object()
        .expect("paths")
        .iter()
        // That answer has no end.
        .filter(|(path, _)| path.as_str() != "/events")
        .flat_map(|(path, item)| item.as_object().expect("an item").iter().map(move |(method, of)| (path, method, of)))
        .collect();
    let mut connection: Option<Connection> = None;
    let mut seen = BTreeSet::new();
    for number in 0..REQUESTS {
        let (path, method, operation) = operations[number % operations.len()];
        let mut target = path.clone();
        let mut query = Vec::new();
        let mut headers = Vec::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().expect("a name");
            let good = match (name, rng.random_range(0..4)) {
                ("name" | "hash", 0) => tip.clone(),
                ("id", 0) => format!("{tip}-0"),
                ("name" | "id" | "from" | "limit", 1) => rng.random_range(0..4u32).to_string(),
                ("timeout", 0..3) => "1ms".to_owned(),
                ("wait", 0..3) => "replicated:0".to_owned(),
                ("address", 0) => "10.9.8.7".to_owned(),
                _ => text(&mut rng),
            };
            match parameter["in"].as_str() {
                Some("path") => target = target.replace(&format!("{{{name}}}"), &in_path(&good)),
                Some("query") if rng.random_ratio(1, 2) => query.push(format!("{name}={}", in_path(&good))),
                Some("header") if rng.random_ratio(1, 3) => {
                    headers.push((
                        name.to_owned(),
                        good.chars().filter(char::is_ascii_graphic).take(300).collect::<String>(),
                    ));
                }
                _ => {}
            }
        }
        // An empty part of a path is another path.
        if target.contains("//") || target.ends_with('/') {
            continue;
        }
        if !query.is_empty() {
            target = format!("{target}?{}", query.join("&"));
        }
        let mut request = Request::new(&method.to_uppercase(), &target);
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        if method == "post" {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            let body = match rng.random_range(0..12) {
                0 => "{".to_owned(),
                1 => String::new(),
                _ if schema.is_null() => "{}".to_owned(),
                _ => value(&document, schema, &mut rng).to_string(),
            };
            let kind = if rng.random_ratio(1, 20) { "text/plain" } else { "application/json" };
            request = request.header("Content-Type", kind).body(body);
        }
        if rng.random_ratio(1, 40) {
            request = request.header("Host", "evil.example");
        }
        let used = connection.take().unwrap_or_else(|| node.connect());
        let (answer, used) = ask(&node, used, &request);
        connection = used;
        seen.insert((path, method, answer.status));
        if let Err(why) = is_described(&document, operation, &answer) {
            panic!("seed {seed}, request {number}: {request:.2000?}\n{why}");
        }
        assert!(answer.status < 500, "request {number}: {request:.2000?} is answered with {}", answer.status);
    }
    // The run is worth something only if requests succeed, too.
    for (path, method, operation) in &operations {
        let succeeded = seen.iter().any(|(p, m, status)| p == path && m == method && *status < 300);
        let seldom = path.contains("/forks/{hash}") || ["/peers/{id}", "/bans/{address}"].contains(&path.as_str());
        assert!(seldom || succeeded, "{method} {path} never succeeded");
        let foreign = Request::new(&method.to_uppercase(), path).header("Host", "evil.example");
        let answer = node.request(&foreign).expect(421);
        is_described(&document, operation, &answer).unwrap_or_else(|why| panic!("{method} {path}: {why}"));
    }
    let _ = node.post_json("/bans", r#"{"address":"10.9.8.7"}"#).expect(200);
    let answer = node.request(&Request::new("DELETE", "/bans/10.9.8.7")).expect(204);
    is_described(&document, &document["paths"]["/bans/{address}"]["delete"], &answer).expect("described");
    let _ = node.get("/livez").expect(200);
}

/// Sends on a connection that the node may have closed after the last answer: then on a new one.
fn ask(node: &NodeProcess, mut connection: Connection, request: &Request) -> (Response, Option<Connection>) {
    match connection.send(request) {
        Ok(answer) => {
            let closed = answer.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            (answer, (!closed).then_some(connection))
        }
        Err(_) => (node.request(request), None),
    }
}
