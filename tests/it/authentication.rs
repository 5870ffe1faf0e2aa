//! Who may use the proxy has to say who it is: Basic and Digest, by raw requests and by curl, over reloads. RFC 9110
//! section 11.7, RFC 7616, RFC 7617.

use crate::clients::{installed, plain};
use crate::limits::outward;
use crate::support::authority::Authority;
use crate::support::proxy::{Terminal, command};
use crate::support::{Client, Origin, Proxy, Response, skip};
use larder::access::authentication::digest::{self, Algorithm};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use tempfile::TempDir;

/// alice's is "correct-horse" and bob's is "secret".
const PASSWORDS: &str = "alice:$2y$04$abcdefghijklmnopqrstuuPoaPXzWjiVz4HaNq2LJXksWbO79E.S6\n\
                         bob:$apr1$abcdefgh$h9FWgUz3n9YxylKLlR5SQ/\n";
const ALICE: &str = "Proxy-Authorization: Basic YWxpY2U6Y29ycmVjdC1ob3JzZQ==";
pub(crate) const BOB: &str = "Proxy-Authorization: Basic Ym9iOnNlY3JldA==";
const WRONG: &str = "Proxy-Authorization: Basic Ym9iOmh1bnRlcjI=";

/// The files of users beside a proxy.
pub(crate) struct Users(TempDir);

impl Users {
    pub(crate) fn new() -> Self {
        let users = Self(TempDir::new().unwrap());
        std::fs::write(users.basic(), PASSWORDS).unwrap();
        let line = |algorithm| digest::line("carol", "larder", b"circle of life", algorithm);
        std::fs::write(users.digest(), Algorithm::ALL.map(line).join("\n")).unwrap();
        users
    }

    pub(crate) fn basic(&self) -> PathBuf {
        self.0.path().join("users.htpasswd")
    }

    fn digest(&self) -> PathBuf {
        self.0.path().join("users.htdigest")
    }

    fn only_basic(&self) -> Proxy {
        Proxy::with(&format!("access.basic_file = '{}'", self.basic().display()))
    }

    fn both(&self) -> Proxy {
        self.start("")
    }

    /// With both files, and more of a configuration.
    pub(crate) fn start(&self, more: &str) -> Proxy {
        let (basic, digest) = (self.basic(), self.digest());
        Proxy::with(&format!(
            "access.basic_file = '{}'\naccess.digest_file = '{}'\n{more}",
            basic.display(),
            digest.display()
        ))
    }
}

/// What stands between quotes behind `name`.
fn quoted(challenge: &str, name: &str) -> String {
    let rest =
        challenge.split(&format!("{name}=\"")).nth(1).unwrap_or_else(|| panic!("no {name}: {challenge}"));
    rest.split('"').next().unwrap().to_owned()
}

fn md5(text: &str) -> String {
    use md5::Digest as _;
    md5::Md5::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The field by which carol answers a challenge for MD5. RFC 7616 section 3.4.1.
pub(crate) fn carol(challenge: &str, method: &str, uri: &str, count: u32) -> String {
    assert!(challenge.contains("algorithm=MD5,"), "{challenge}");
    let (realm, nonce, count) =
        (quoted(challenge, "realm"), quoted(challenge, "nonce"), format!("{count:08x}"));
    let first = md5(&format!("carol:{realm}:circle of life"));
    let second = md5(&format!("{method}:{uri}"));
    let response = md5(&format!("{first}:{nonce}:{count}:c:auth:{second}"));
    format!(
        "Proxy-Authorization: Digest username=\"carol\", realm=\"{realm}\", uri=\"{uri}\", algorithm=MD5, \
         nonce=\"{nonce}\", nc={count}, cnonce=\"c\", qop=auth, response=\"{response}\""
    )
}

#[track_caller]
fn assert_asked(response: &Response, schemes: &[&str]) {
    response.assert_error(407, "http_request_denied");
    let challenges = response.head.all("proxy-authenticate");
    assert_eq!(challenges.len(), schemes.len(), "{response}");
    for (challenge, scheme) in challenges.iter().zip(schemes) {
        assert!(challenge.starts_with(scheme), "{challenge} is not {scheme}");
    }
}

/// With `status`, and the rule that refused.
#[track_caller]
fn assert_denied(response: &Response, rule: &str) {
    assert!(response.proxy_status().contains(rule), "{response}");
}

#[test]
fn who_does_not_say_who_it_is_is_asked_and_answers_on_the_same_connection() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60", "Vary: Proxy-Authorization"], b"x");
    let users = Users::new();
    let proxy = users.both();
    let mut client = proxy.client();
    let asked = client.get(&origin.url("/x"));
    assert_asked(&asked, &["Digest", "Digest", "Basic realm=\"larder\", charset=\"UTF-8\""]);
    assert_denied(&asked, "rule=\"authentication\"");
    assert_eq!(asked.field("connection"), None);
    assert_eq!(origin.hits("/x"), 0);
    client.get_with(&origin.url("/x"), &[WRONG]).assert_status(407);
    client.get_with(&origin.url("/x"), &[ALICE]).assert_status(200).assert_body("x");
    // Another user gets what the first one has fetched: nobody's name is in the key, or selects a variant.
    client.get_with(&origin.url("/x"), &[BOB]).assert_hit().assert_body("x");
    let seen = origin.last("/x");
    assert_eq!((origin.hits("/x"), seen.field("proxy-authorization")), (1, None));
    assert!((proxy.metric("larder_denials_total", &["rule=\"authentication\""]) - 2.0).abs() < 0.1);
    let told = proxy.log.wait_count("the log", 4, |l| l.contains("/x"));
    for (line, user) in told.iter().zip([None, None, Some("alice"), Some("bob")]) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["user"].as_str(), user, "{line}");
    }
    let shown = proxy.admin("GET", "/api/v1/exchanges", &[], "").text();
    assert!(shown.contains("\"user\": \"alice\""), "{shown}");
    let all = told.join("\n") + &shown + &proxy.diagnostics.all().join("\n");
    let all = all + &proxy.admin("GET", "/metrics", &[], "").text();
    for secret in ["correct-horse", "YWxpY2U6", "hunter2", "$apr1$"] {
        assert!(!all.contains(secret), "{secret} in {all}");
    }
    // What was not read is not the next request.
    let posted = proxy.request("POST", &origin.url("/x"), &[], "body");
    assert_asked(&posted, &["Digest", "Digest", "Basic"]);
    assert_eq!(posted.field("connection").as_deref(), Some("close"));
}

#[test]
fn rules_of_access_may_be_for_users() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let users = Users::new();
    let file = users.basic();
    let rules = "[[access.rules]]\nname = 'readers'\naction = 'deny'\nusers = ['bob']\nmethods = ['POST']\n\
                 [[access.rules]]\nname = 'alice-only'\naction = 'deny'\nusers = ['bob']\nhosts = ['127.0.0.1']\n";
    let proxy = Proxy::with(&format!("access.basic_file = '{}'\n{rules}", file.display()));
    proxy.get(&origin.url("/x")).assert_status(407);
    proxy.get_with(&origin.url("/x"), &[ALICE]).assert_status(200).assert_body("x");
    let refused = proxy.get_with(&origin.url("/x"), &[BOB]);
    refused.assert_error(403, "http_request_denied");
    assert_denied(&refused, "rule=\"alice-only\"");
    let refused = proxy.request("POST", &origin.url("/x"), &[BOB], "x");
    assert_denied(&refused, "rule=\"readers\"");
    assert_eq!(origin.hits("/x"), 1);
    // Nobody would be one of these users without a file of them.
    proxy.write_config(rules);
    let told = proxy.run(&["reload"]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let says = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(says.contains("access.rules[0].users: found users, and nobody has to say who it is"), "{says}");
}

/// Who is served by the grace of a rule has to say who it is, as all others have.
#[test]
fn a_client_that_a_rule_lets_in_has_to_say_who_it_is() {
    let Some(outward) = outward() else { return skip("a client beyond loopback", "no network") };
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let users = Users::new();
    let config = format!(
        "access.basic_file = '{}'\naccess.clients = ['192.0.2.1']\n[[access.rules]]\naction = 'allow'\n\
         clients = ['{outward}']\n",
        users.basic().display()
    );
    let proxy = Proxy::builder().config(&config).listen(&["0.0.0.0:0"]).start();
    let mut client = Client::connect(SocketAddr::new(outward, proxy.address.port()));
    assert_asked(&client.get(&origin.url("/x")), &["Basic"]);
    client.get_with(&origin.url("/x"), &[ALICE]).assert_status(200);
    assert_eq!(origin.hits("/x"), 1);
    // Without the rule it is not served at all, whoever it is.
    let config = config.split("[[access.rules]]").next().unwrap();
    proxy.write_config(config);
    assert!(proxy.run(&["reload"]).status.success());
    let mut client = Client::connect(SocketAddr::new(outward, proxy.address.port()));
    let refused = client.get_with(&origin.url("/x"), &[ALICE]);
    refused.assert_error(403, "http_request_denied");
    assert_denied(&refused, "rule=\"client\"");
}

#[test]
fn a_tunnel_is_for_users_too_and_its_client_may_ask_again_on_the_connection() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let users = Users::new();
    let proxy = users.only_basic();
    let mut client = proxy.client();
    let connect = |client: &mut Client, fields: &str| {
        let authority = origin.address;
        client.send(format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{fields}\r\n"));
        client.head("CONNECT")
    };
    let asked = connect(&mut client, "");
    let asked = client.finish(asked);
    assert_asked(&asked, &["Basic"]);
    assert_eq!(asked.field("connection"), None);
    connect(&mut client, &format!("{ALICE}\r\n")).assert_status(200);
    client.send(format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address));
    client.response("GET").assert_body("x");
    assert_eq!(origin.last("/x").field("proxy-authorization"), None);
    drop(client);
    proxy.log.wait("the log", |l| l.contains("\"tunnel\"") && l.contains("\"user\":\"alice\""));
}

#[test]
fn the_proxys_own_pages_are_for_everybody() {
    let users = Users::new();
    let proxy = users.only_basic();
    for request in ["GET /proxy.pac HTTP/1.1", "GET / HTTP/1.1", "OPTIONS * HTTP/1.1"] {
        let answer = proxy.raw(format!("{request}\r\nHost: {}\r\n\r\n", proxy.address));
        answer.assert_status(200);
    }
    // Malformed is malformed, whoever sends it.
    proxy.raw(format!("GET http://h/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n{WRONG}\r\n\r\n")).assert_status(400);
    let none = proxy.raw("OPTIONS http://h/ HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n");
    assert_asked(&none, &["Basic"]);
}

/// What was not offered is refused like what is malformed: with a fresh challenge, on the same connection.
#[test]
fn forms_of_digest_that_are_not_offered_are_asked_again() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let users = Users::new();
    let proxy = users.both();
    let url = origin.url("/x");
    let mut client = proxy.client();
    let mut challenge = client.get(&url).head.all("proxy-authenticate")[1].to_owned();
    for (from, to) in [
        ("algorithm=MD5", "algorithm=MD5-sess"),
        ("algorithm=MD5", "algorithm=SHA-256-sess"),
        ("algorithm=MD5", "algorithm=SHA-512-256"),
        ("algorithm=MD5", "algorithm=\"\""),
        ("qop=auth", "qop=auth-int"),
        ("qop=auth", "qop=\"auth,auth-int\""),
        (", qop=auth", ""),
        ("cnonce=\"c\"", "cnonce=\"c\", userhash=true"),
        ("username=\"carol\"", "username*=UTF-8''carol"),
        ("username=\"carol\"", "username=\"carol\", username*=UTF-8''carol, userhash=true"),
        ("username=\"carol\"", "username=\"\""),
        ("nc=00000001", "nc=100000001"),
        ("nc=00000001", "nc=ffffffffffffffff"),
        ("response=\"", "response=\"00"),
        ("Digest ", "Digest \u{e4}=\u{e4}, "),
    ] {
        let field = carol(&challenge, "GET", &url, 1);
        assert!(field.contains(from), "{from}");
        let asked = client.get_with(&url, &[&field.replacen(from, to, 1)]);
        assert_asked(&asked, &["Digest", "Digest", "Basic"]);
        assert_eq!(asked.field("connection"), None, "{to}");
        let fresh = asked.head.all("proxy-authenticate")[1].to_owned();
        assert_ne!(quoted(&fresh, "nonce"), quoted(&challenge, "nonce"), "{to}");
        challenge = fresh;
    }
    // None of them was a guess, and the last challenge is good.
    client.get_with(&url, &[&carol(&challenge, "GET", &url, 1)]).assert_status(200).assert_body("x");
    assert_eq!(origin.hits("/x"), 1);
    assert!(proxy.metric("larder_panics_total", &[]) < 0.5);
}

/// What a reload says holds from the next request on, also on connections that are open. A tunnel was granted: it goes
/// on until it ends, or the process does.
#[test]
fn an_open_tunnel_outlives_the_reload_that_removes_its_user_and_its_rule() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: no-store"], b"x");
    let users = Users::new();
    let rule = "[[access.rules]]\nname = 'alice'\naction = 'allow'\nusers = ['alice', 'bob']\n\
                [[access.rules]]\nname = 'rest'\naction = 'deny'\n";
    let config = format!("access.basic_file = '{}'\n", users.basic().display());
    let proxy = Proxy::with(&format!("{config}{rule}"));
    let mut kept = proxy.client();
    kept.get_with(&origin.url("/x"), &[ALICE]).assert_status(200);
    let tunnel = |client: &mut Client| {
        client.send(format!("CONNECT {0} HTTP/1.1\r\nHost: {0}\r\n{ALICE}\r\n\r\n", origin.address));
        client.head("CONNECT").status
    };
    let mut through = proxy.client();
    assert_eq!(tunnel(&mut through), 200);
    let asks_through = |through: &mut Client| {
        through.send(format!("GET /x HTTP/1.1\r\nHost: {}\r\n\r\n", origin.address));
        through.response("GET").assert_body("x");
    };
    asks_through(&mut through);
    // The rule goes, then the user.
    proxy.write_config(&format!("{config}[[access.rules]]\nname = 'rest'\naction = 'deny'\n"));
    assert!(proxy.run(&["reload"]).status.success());
    kept.get_with(&origin.url("/x"), &[ALICE]).assert_error(403, "http_request_denied");
    assert_eq!(tunnel(&mut proxy.client()), 403);
    asks_through(&mut through);
    std::fs::write(users.basic(), PASSWORDS.lines().nth(1).unwrap()).unwrap();
    proxy.write_config(&config);
    assert!(proxy.run(&["reload"]).status.success());
    let mut kept = proxy.client();
    kept.get_with(&origin.url("/x"), &[ALICE]).assert_status(407);
    assert_eq!(tunnel(&mut proxy.client()), 407);
    asks_through(&mut through);
}

#[test]
fn the_user_has_a_place_in_every_format() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let users = Users::new();
    for (format, part) in [
        ("text", " user=alice "),
        ("squid", "/x alice HIER_DIRECT/"),
        ("combined", "127.0.0.1 - alice ["),
        ("json", "\"user\":\"alice\""),
    ] {
        let proxy = Proxy::with(&format!(
            "access.basic_file = '{}'\nlog.access = '{format}'",
            users.basic().display()
        ));
        proxy.get_with(&origin.url("/x"), &[ALICE]).assert_status(200);
        let line = proxy.log.wait("the log", |l| l.contains("/x"));
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn a_reload_reads_the_files_again_and_a_wrong_one_replaces_nothing() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let users = Users::new();
    let proxy = users.both();
    let url = origin.url("/x");
    proxy.get_with(&url, &[BOB]).assert_status(200);
    std::fs::write(users.basic(), format!("{PASSWORDS}dora:hunter2\n")).unwrap();
    std::fs::write(users.digest(), "carol:larder:12\n").unwrap();
    let told = proxy.run(&["reload"]);
    assert_eq!(told.status.code(), Some(2), "{told:?}");
    let text = String::from_utf8_lossy(&told.stderr).into_owned();
    assert!(text.contains("users.htpasswd:3:1: access.basic_file: found what looks like a plain"), "{text}");
    assert!(text.contains("users.htdigest:1:1: access.digest_file: found 2 digits"), "{text}");
    assert!(!text.contains("hunter2"), "{text}");
    proxy.get_with(&url, &[BOB]).assert_status(200);
    std::fs::write(users.basic(), PASSWORDS.lines().next().unwrap()).unwrap();
    std::fs::write(users.digest(), "").unwrap();
    let told = proxy.run(&["reload", "--json"]);
    assert!(told.status.success(), "{told:?}");
    let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["live"], serde_json::json!(["access.basic_file", "access.digest_file"]));
    // He was verified before, which is forgotten.
    proxy.get_with(&url, &[BOB]).assert_status(407);
    proxy.get_with(&url, &[ALICE]).assert_status(200);
    std::fs::remove_file(users.basic()).unwrap();
    let told = proxy.run(&["reload"]);
    assert!(
        String::from_utf8_lossy(&told.stderr).contains("users.htpasswd, which is not there, expected"),
        "{told:?}"
    );
    proxy.get_with(&url, &[ALICE]).assert_status(200);
    proxy.write_config("");
    assert!(proxy.run(&["reload"]).status.success());
    proxy.get(&url).assert_status(200);
}

#[test]
fn who_asks_a_running_proxy_need_not_be_able_to_read_its_users() {
    let users = Users::new();
    let proxy = users.only_basic();
    // Whoever runs the tests may read every file: one that is wrong stands for one that may not be read.
    std::fs::write(users.basic(), "dora:hunter2").unwrap();
    let file = proxy.config_file().display().to_string();
    let told = proxy.run(&["stats", "--config", &file]);
    assert!(told.status.success(), "{told:?}");
    for arguments in [&["check", &file][..], &["reload", "--config", &file]] {
        let told = proxy.run(arguments);
        assert!(told.status.code() == Some(2) && !told.stderr.is_empty(), "{told:?}");
    }
}

#[test]
fn wrong_passwords_are_slowed_and_a_known_one_is_not() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let users = Users::new();
    let proxy = users.only_basic();
    let url = origin.url("/x");
    proxy.get_with(&url, &[ALICE]).assert_status(200);
    let statuses: Vec<_> = (0..20).map(|_| proxy.get_with(&url, &[WRONG]).status).collect();
    let slowed = statuses.iter().filter(|status| **status == 429).count();
    // Some are let through, one a second.
    assert!(statuses[..5] == [407; 5] && slowed > 5, "{statuses:?}");
    let answer = proxy.get_with(&url, &[ALICE]);
    answer.assert_hit();
    let counted = proxy.metric("larder_denials_total", &["rule=\"authentication-limit\""]);
    assert!((counted - slowed as f64).abs() < 0.1, "{counted}");
}

/// A password of this cost takes a second and more in a debug build: what is remembered does not.
#[test]
fn a_password_is_verified_once() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    let users = Users::new();
    let slow = "bob:$6$rounds=200000$saltsalt$KIxokzdpd7LKAYpcFF2gzdBmn/H5QW5uzrQTMGe5wOOY04iJwz7bq6VsrGlmj40xZRvV///sdvBQWCaURFvL61\n";
    std::fs::write(users.basic(), slow).unwrap();
    let proxy = users.only_basic();
    let took = |proxy: &Proxy| {
        let since = larder::clock::Stopwatch::start();
        proxy.get_with(&origin.url("/x"), &[BOB]).assert_status(200);
        since.elapsed()
    };
    let first = took(&proxy);
    let second = (0..3).map(|_| took(&proxy)).min().unwrap();
    assert!(second < first / 4, "{first:?} and then {second:?}");
}

/// curl through the proxy: what it printed, with all heads.
#[track_caller]
fn curl(proxy: &Proxy, arguments: &[&str]) -> String {
    let output = plain("curl")
        .args(["-sS", "-i", "-x", &format!("http://{}", proxy.address)])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).replace('\r', "")
}

#[test]
fn curl_says_who_it_is_by_each_scheme() {
    if !installed("curl") {
        return skip("curl's authentication", "not installed");
    }
    let authority = Authority::new();
    let secure = authority.origin(&["localhost"]);
    secure.serve("/s", "200 OK", &[], b"secure");
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"the body");
    let users = Users::new();
    let (basic, both) = (users.only_basic(), users.both());
    let ca = authority.file.path().display().to_string();
    let (plain, tunnelled) = (origin.url("/x?a=b"), secure.url_at("localhost", "/s"));
    for (proxy, scheme, user) in [
        (&basic, "--proxy-basic", "alice:correct-horse"),
        (&both, "--proxy-basic", "bob:secret"),
        (&both, "--proxy-digest", "carol:circle of life"),
        (&both, "--proxy-anyauth", "carol:circle of life"),
        (&basic, "--proxy-anyauth", "bob:secret"),
    ] {
        let told = curl(proxy, &[scheme, "-U", user, &plain, &plain]);
        assert_eq!(told.matches("the body").count(), 2, "{scheme} {user}: {told}");
        let told = curl(proxy, &[scheme, "-U", user, "-d", "posted", &plain]);
        assert!(told.ends_with("the body"), "{scheme} {user}: {told}");
        let told = curl(proxy, &[scheme, "-U", user, "--cacert", &ca, &tunnelled]);
        assert!(told.ends_with("secure"), "{scheme} {user}: {told}");
        let name = user.split(':').next().unwrap();
        proxy
            .log
            .wait("the tunnel", |l| l.contains("\"tunnel\"") && l.contains(&format!("\"user\":\"{name}\"")));
        let wrong = curl(proxy, &[scheme, "-U", &format!("{name}:wrong"), &plain]);
        assert!(wrong.contains(" 407 ") && !wrong.contains("the body"), "{scheme} {user}: {wrong}");
    }
    for request in origin.requests("/x").iter().chain(&secure.requests("/s")) {
        assert_eq!(request.field("proxy-authorization"), None);
    }
    let log = both.log.all().join("\n");
    assert!(!log.contains("circle") && !log.contains("response=") && !log.contains("nonce"), "{log}");
}

#[test]
fn htdigest_writes_what_the_proxy_reads() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let users = Users::new();
    let file = users.digest();
    std::fs::write(&file, format!("# kept\nerin:other:{}\n", "0".repeat(32))).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let set = |user: &str, password: &str| {
        let mut child = command();
        child.arg("htdigest").args([&file]).args([user, "--realm", "office"]);
        let mut child = child.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    for (user, password) in [("frank", "old"), ("gina", "g"), ("frank", "new one")] {
        let told = set(user, password);
        assert!(told.status.success() && told.stderr.is_empty(), "{told:?}");
    }
    for (user, password) in [("a:b", "x"), ("a", ""), ("a", "x\ty")] {
        let told = set(user, password);
        assert!(told.status.code() == Some(1) && !told.stderr.is_empty(), "{told:?}");
    }
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("# kept\nerin:other:0") && text.lines().count() == 6, "{text}");
    assert!(!text.contains("new one"), "{text}");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode() & 0o777;
    // Others may not read it; a group that could, may.
    assert_eq!(mode, 0o640);
    assert_eq!(std::fs::read_dir(users.0.path()).unwrap().count(), 2, "nothing is left beside it");
    let proxy = Proxy::with(&format!("access = {{ digest_file = '{}', realm = 'office' }}", file.display()));
    if !installed("curl") {
        return skip("curl with what htdigest wrote", "not installed");
    }
    let told = curl(&proxy, &["--proxy-digest", "-U", "frank:new one", &origin.url("/x")]);
    assert!(told.ends_with('x'), "{told}");
    let told = curl(&proxy, &["--proxy-digest", "-U", "frank:old", &origin.url("/x")]);
    assert!(told.contains(" 407 "), "{told}");
}

#[test]
fn htdigest_asks_on_a_terminal_that_shows_nothing() {
    if !Terminal::exists() {
        return skip("a terminal for htdigest", "no script(1)");
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("users");
    let larder = env!("CARGO_BIN_EXE_larder");
    let mut terminal = Terminal::run(&format!("{larder} htdigest {} alice; echo code=$?", file.display()));
    for prompt in ["Password of alice:", "Again:"] {
        // A prompt is no whole line: what follows it is asked for when it has come.
        terminal.keys("");
        std::thread::sleep(std::time::Duration::from_millis(500));
        terminal.keys("battery-staple\n");
        terminal.told.wait(prompt, |line| line.contains(prompt));
    }
    terminal.told.wait("the end", |line| line.contains("code=0"));
    assert_eq!(terminal.ended(), Some(0));
    assert!(!terminal.told.all().join("\n").contains("battery"), "{:?}", terminal.told.all());
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(&digest::line("alice", "larder", b"battery-staple", Algorithm::Md5)), "{text}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_overheard_is_not_sent_again() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[], b"x");
    let users = Users::new();
    let proxy = users.both();
    let url = origin.url("/x");
    let asked = proxy.get(&url);
    let challenge = asked.head.all("proxy-authenticate")[0].to_owned();
    let nonce = challenge.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap();
    let answer = |count: u32| {
        let hash = |parts: &[&str]| {
            Algorithm::Sha256.hash(&parts.iter().map(|part| part.as_bytes()).collect::<Vec<_>>())
        };
        let (first, second) = (hash(&["carol", "larder", "circle of life"]), hash(&["GET", &url]));
        let response = hash(&[&first, nonce, &format!("{count:08x}"), "c", "auth", &second]);
        format!(
            "Proxy-Authorization: Digest username=\"carol\", realm=\"larder\", nonce=\"{nonce}\", uri=\"{url}\", \
             algorithm=SHA-256, qop=auth, nc={count:08x}, cnonce=\"c\", response=\"{response}\""
        )
    };
    proxy.get_with(&url, &[&answer(1)]).assert_status(200);
    let again = proxy.get_with(&url, &[&answer(1)]);
    assert_asked(&again, &["Digest", "Digest", "Basic"]);
    let told = again.head.all("proxy-authenticate");
    assert!(told[0].contains("stale=true") && !told[0].contains(nonce), "{told:?}");
    proxy.get_with(&url, &[&answer(2)]).assert_status(200);
    proxy.request("HEAD", &url, &[&answer(3)], "").assert_status(407);
    proxy.get_with(&origin.url("/y"), &[&answer(4)]).assert_status(407);
}
