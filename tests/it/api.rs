//! The API's answers are as `/api/v1/openapi.json`, served beside them, describes them: nothing else is in them, and
//! all that is described comes.

use crate::support::{Exchange, Gate, Origin, Proxy, nobody};
use serde_json::Value;
use std::collections::BTreeSet;

/// A description, which of its properties could have come so far, and which have.
struct Described {
    all: Value,
    expected: BTreeSet<String>,
    came: BTreeSet<String>,
}

impl Described {
    fn of(proxy: &Proxy) -> Self {
        let all = proxy.admin_json("GET", "/api/v1/openapi.json");
        Self { all, expected: BTreeSet::new(), came: BTreeSet::new() }
    }

    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.all.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        }
    }

    /// Holds the answer of a path to what is described for this method and status.
    #[track_caller]
    fn answer(&mut self, method: &str, path: &str, status: &str, answer: &Value) {
        let content = &self.all["paths"][path][method]["responses"][status]["content"];
        let kind = if status == "200" { "application/json" } else { "application/problem+json" };
        let schema = content[kind]["schema"].clone();
        assert!(schema.is_object(), "{method} {path}: {status} is not described");
        let mut expected = std::mem::take(&mut self.expected);
        self.properties(&schema, path, &mut expected);
        self.expected = expected;
        self.check(&schema, answer, path);
    }

    /// Holds a value to its schema.
    #[track_caller]
    fn check(&mut self, schema: &Value, value: &Value, at: &str) {
        let schema = self.resolved(schema).clone();
        if let Some(any) = schema["oneOf"].as_array() {
            let null = any.iter().any(|one| one["type"] == "null");
            let some = any.iter().find(|one| one["type"] != "null").unwrap();
            return if value.is_null() { assert!(null, "{at} is null") } else { self.check(some, value, at) };
        }
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = |name: &str| name == kind || (name, kind) == ("number", "integer");
        match &schema["type"] {
            Value::Null => return,
            Value::String(name) => assert!(fits(name), "{at}: {value} is no {name}"),
            names => {
                let names = names.as_array().unwrap();
                assert!(
                    names.iter().any(|name| fits(name.as_str().unwrap())),
                    "{at}: {value} is none of {names:?}"
                );
            }
        }
        if let Some(known) = schema["enum"].as_array() {
            assert!(known.contains(value), "{at}: {value} is none of {known:?}");
        }
        for item in value.as_array().into_iter().flatten() {
            assert!(schema["items"].is_object(), "{at}: its members are not described");
            self.check(&schema["items"], item, &format!("{at}[]"));
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            let here = format!("{at}.{name}");
            let others = &schema["additionalProperties"];
            match schema["properties"].get(name) {
                Some(known) => {
                    self.came.insert(here.clone());
                    self.check(known, member, &here);
                }
                None if others.is_object() => self.check(others, member, &here),
                None => assert!(schema["properties"].is_null(), "{here} is not described: {member}"),
            }
        }
    }

    /// The paths of all described properties.
    fn properties(&self, schema: &Value, at: &str, found: &mut BTreeSet<String>) {
        let schema = self.resolved(schema);
        for one in schema["oneOf"].as_array().into_iter().flatten() {
            self.properties(one, at, found);
        }
        if schema["items"].is_object() {
            self.properties(&schema["items"], &format!("{at}[]"), found);
        }
        for (name, member) in schema["properties"].as_object().into_iter().flatten() {
            let here = format!("{at}.{name}");
            self.properties(member, &here, found);
            found.insert(here);
        }
    }
}

/// A validator, and what is left of a range that was asked for.
fn partial(x: &mut Exchange) {
    let fields = ["Cache-Control: max-age=60", "ETag: \"v\"", "Content-Range: bytes 0-3/10"];
    match x.request.field("range") {
        Some(_) => x.reply("206 Partial Content", &fields, "0123"),
        None => x.reply("200 OK", &fields[..2], "0123456789"),
    }
}

#[test]
fn answers_are_as_they_are_described() {
    let origin = Origin::start();
    let stored = [
        "Cache-Control: max-age=60",
        "Vary: X-A",
        "Age: 1",
        "Last-Modified: Thu, 01 Jan 2026 00:00:00 GMT",
        "Cache-Tag: a",
        "Content-Type: text/plain",
    ];
    origin.on("/x", move |x| x.reply("200 OK", &stored, "x"));
    origin.serve("/private", "200 OK", &["Cache-Control: private"], b"x");
    origin.on("/part", partial);
    origin.on("/broken", |x| {
        x.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nx");
        x.close();
    });
    origin.serve("/fresh", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let gate = Gate::new();
    let held = gate.clone();
    origin.on("/held", move |x| {
        x.write("HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 2\r\n\r\nx");
        held.pass();
        x.write("x");
    });
    let held = nobody();
    let rules = "access.ports = [80, '1024-65535']\n[[rules]]\nname = \"named\"\nhosts = [\"127.0.0.1\"]\nignore_query = [\"utm_*\"]\n";
    let proxy = Proxy::with(rules);
    let mut described = Described::of(&proxy);
    for path in ["/x", "/x", "/private", "/broken"] {
        let mut client = proxy.client();
        client.begin("GET", &origin.url(path), &["X-A: 1"], "");
        client.try_response("GET").ok();
    }
    proxy.get_with(&origin.url("/part"), &["Range: bytes=0-3"]).assert_status(206);
    proxy.get(&format!("http://{held}/")).assert_status(502);
    proxy.get("http://127.0.0.1:22/").assert_status(403);
    // The second one joins the first.
    let mut both = [proxy.client(), proxy.client()];
    for client in &mut both {
        client.begin("GET", &origin.url("/held"), &[], "");
        client.head("GET").assert_status(200);
    }
    gate.open();
    drop(both);
    proxy.log.wait_count("the log", 9, |_| true);

    let url = |path: &str| origin.url(path).replace(':', "%3A");
    let explain = |path: &str, more: &str| format!("/api/v1/explain?url={}{more}", url(path));
    let ask = |described: &mut Described, path: &str| {
        let answer = proxy.admin_json("GET", path);
        described.answer("get", path.split('?').next().unwrap(), "200", &answer);
    };
    for path in ["stats", "exchanges", "stored", "sites", "config"] {
        ask(&mut described, &format!("/api/v1/{path}"));
    }
    ask(&mut described, &explain("/x", "&header=X-A:%201"));
    ask(&mut described, &explain("/x", "&header=Cache-Control:%20no-cache&header=Cookie:%20a&offline=true"));
    ask(&mut described, &explain("/private", ""));
    ask(&mut described, &explain("/fresh", ""));
    ask(&mut described, &explain("/new", "&header=Cache-Control:%20only-if-cached"));
    ask(&mut described, &explain("/part", ""));
    ask(&mut described, &explain("/x?utm_a=1", "&method=HEAD&header=Cache-Control:%20max-age%3D0"));
    ask(&mut described, &format!("/api/v1/explain?url=http%3A//{held}/"));
    ask(&mut described, "/api/v1/explain?url=http%3A//127.0.0.1:22/");

    let change = |described: &mut Described, path: &str, content: &str, status: u16, as_described: &str| {
        let answer = proxy.admin("POST", path, &["Content-Type: application/json"], content);
        answer.assert_status(status);
        described.answer("post", path, as_described, &serde_json::from_slice(&answer.body).unwrap());
    };
    change(&mut described, "/api/v1/purge", r#"{"all": true, "dry_run": true}"#, 200, "200");
    change(&mut described, "/api/v1/purge", r#"{"all": 1}"#, 400, "default");
    proxy.write_config(&(rules.to_owned() + "hide = true\n"));
    change(&mut described, "/api/v1/reload", "", 422, "422");
    proxy.write_config(&format!("log.query = true\nserver.drain = '9s'\n{rules}"));
    change(&mut described, "/api/v1/reload", "", 200, "200");
    ask(&mut described, "/api/v1/config");
    // Where clients have to say who they are.
    let users = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(users.path(), "bob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n").unwrap();
    let asking = Proxy::with(&format!("access.basic_file = '{}'", users.path().display()));
    asking.get_with(&origin.url("/x"), &["Proxy-Authorization: Basic Ym9iOnNlY3JldA=="]).assert_status(200);
    asking.log.wait("the log", |_| true);
    described.answer("get", "/api/v1/exchanges", "200", &asking.admin_json("GET", "/api/v1/exchanges"));
    // Those of a problem that concern no configuration.
    let elsewhere = "/api/v1/purge.errors";
    let missing: Vec<_> =
        described.expected.difference(&described.came).filter(|path| *path != elsewhere).collect();
    assert!(missing.is_empty(), "described, and never told: {missing:#?}");
}
