//! What package clients and version control get out of the cache: each runs twice, through Larder, and a line tells
//! what the second run was answered from. `tests/run` prints all lines at its end.
//!
//! Sources outside never decide whether a run is green: where a client fails, it is run without Larder, and only
//! what works there and fails here is a failure.

use crate::clients::{installed, plain};
use crate::support::authority::Authority;
use crate::support::dns::NameServer;
use crate::support::proxy::{command, root};
use crate::support::{Exchange, Origin, Proxy, eventually, nobody, pattern, skip};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// How exchanges ended, in the words of the log: its result, and the reason where there is one.
pub(crate) type Counts = BTreeMap<String, u64>;

/// How often something ended so, for whatever reason.
fn count(counts: &Counts, result: &str) -> u64 {
    let is = |told: &&String| told.split(',').next() == Some(result);
    counts.keys().filter(is).map(|told| counts[told]).sum()
}

/// Exchanges that are through, once none is under way: a tunnel counts when both its sides are closed, which may come
/// after its client's end.
fn total(proxy: &Proxy) -> usize {
    let stats = eventually("the end of all connections", || {
        let stats = proxy.admin_json("GET", "/api/v1/stats");
        let open = ["connections", "tunnels"].map(|figure| stats["server"][figure].as_u64().unwrap());
        (open == [0, 0]).then_some(stats)
    });
    usize::try_from(stats["requests"]["total"].as_u64().unwrap()).unwrap()
}

/// Tells what a client's second run got.
pub(crate) fn tell(client: &str, source: &str, counts: &Counts) {
    let told = counts.iter().map(|(ended, count)| {
        let more = if ended == "tunnel" { " (https: passed on unread)" } else { "" };
        format!("{count} {ended}{more}")
    });
    let line = format!("{client}, {source}: {}\n", told.collect::<Vec<_>>().join("; "));
    eprint!("{line}");
    if let Some(list) = std::env::var_os("LARDER_TEST_CLIENTS") {
        let mut list = std::fs::OpenOptions::new().create(true).append(true).open(list).unwrap();
        std::io::Write::write_all(&mut list, line.as_bytes()).unwrap();
    }
}

fn run(mut command: Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let told = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    output.status.success().then_some(()).ok_or(told)
}

/// Runs a client twice, and counts what the second run asked for.
fn twice(proxy: &Proxy, ask: impl Fn(Option<&Proxy>) -> Command) -> Result<Counts, String> {
    run(ask(Some(proxy)))?;
    let before = total(proxy);
    run(ask(Some(proxy)))?;
    let lines = proxy.log.wait_count("the log", total(proxy), |_| true);
    let mut counts = Counts::new();
    for line in &lines[before..] {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let reason = line["reason"].as_str().map(|reason| format!(", {reason}")).unwrap_or_default();
        *counts.entry(line["result"].as_str().unwrap().to_owned() + &reason).or_default() += 1;
    }
    Ok(counts)
}

/// The same with a source outside; `None`: it was skipped.
fn outside(client: &str, proxy: &Proxy, ask: impl Fn(Option<&Proxy>) -> Command) -> Option<Counts> {
    compared(client, proxy, ask).map_err(|why| skip(client, &why)).ok()
}

/// What the second run got, or why the source tells nothing of Larder. Where only the way through Larder fails, it
/// ends the test.
fn compared(client: &str, proxy: &Proxy, ask: impl Fn(Option<&Proxy>) -> Command) -> Result<Counts, String> {
    let failed = match twice(proxy, &ask) {
        Ok(counts) => return Ok(counts),
        Err(failed) => failed,
    };
    run(ask(None)).map_err(|without| format!("the source fails without Larder too: {without}"))?;
    // It may have come back meanwhile.
    match twice(proxy, &ask) {
        Ok(counts) => Ok(counts),
        Err(again) => panic!(
            "{client} works without Larder, and not through it: {failed}; {again}; {:#?}",
            proxy.log.all()
        ),
    }
}

/// curl, which fails where the answer is no success.
fn curl(url: &str, proxy: Option<&Proxy>) -> Command {
    let mut curl = plain("curl");
    curl.args(["-sSf", url]);
    if let Some(proxy) = proxy {
        curl.args(["-x", &address(proxy)]);
    }
    curl
}

#[test]
fn a_source_that_fails_without_larder_too_is_skipped() {
    if !installed("curl") {
        return skip("sources that fail", "curl is not installed");
    }
    let (nobody, proxy) = (nobody(), Proxy::open());
    let asked = std::cell::Cell::new(Vec::new());
    let why = compared("curl", &proxy, |proxy| {
        asked.set([asked.take(), vec![proxy.is_some()]].concat());
        curl(&format!("http://{nobody}/"), proxy)
    });
    assert!(why.clone().unwrap_err().starts_with("the source fails without Larder too: curl: "), "{why:?}");
    assert_eq!(asked.take(), [true, false], "through Larder, and without it");
}

#[test]
fn a_source_that_fails_through_larder_alone_is_a_failure() {
    if !installed("curl") {
        return skip("sources that fail through Larder", "curl is not installed");
    }
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &["Cache-Control: max-age=60"], b"x");
    // It leads to no private network.
    let proxy = Proxy::closed().start();
    let compare = || compared("curl", &proxy, |proxy| curl(&origin.url("/x"), proxy));
    let failure = std::panic::catch_unwind(std::panic::AssertUnwindSafe(compare)).unwrap_err();
    let told = failure.downcast::<String>().unwrap();
    assert!(told.starts_with("curl works without Larder, and not through it: "), "{told}");
    assert_eq!(origin.hits("/x"), 1, "without Larder");
}

#[test]
fn a_source_that_has_come_back_counts() {
    if !installed("curl") {
        return skip("sources that come back", "curl is not installed");
    }
    let origin = Origin::start();
    origin.on("/x", |x| match x.number {
        1 => x.reply("503 Service Unavailable", &["Cache-Control: no-store"], ""),
        _ => x.reply("200 OK", &["Cache-Control: max-age=60"], "x"),
    });
    let proxy = Proxy::open();
    let counts = compared("curl", &proxy, |proxy| curl(&origin.url("/x"), proxy));
    assert_eq!(counts, Ok(Counts::from([("hit".to_owned(), 1)])));
    assert_eq!(origin.hits("/x"), 3, "the failure, the run without Larder, and one for the cache");
}

/// Whether what `client` needs is there, and outside sources may be asked.
fn asks_outside(client: &str, program: &str) -> bool {
    if std::env::var_os("LARDER_TEST_OUTSIDE").is_none() {
        skip(client, "outside sources are asked only by tests/run");
        return false;
    }
    if !installed(program) {
        skip(client, "not installed");
        return false;
    }
    true
}

/// A file of `config/examples`.
fn example(name: &str) -> String {
    std::fs::read_to_string(root().join("config/examples").join(name)).unwrap()
}

#[test]
fn every_example_is_a_configuration_and_names_no_registry() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(root().join("config/examples")).unwrap() {
        let path = entry.unwrap().path();
        run({
            let mut check = command();
            check.arg("check").arg(&path);
            check
        })
        .unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains("https://") || text.contains("https://REGISTRY_HOST"), "{path:?}");
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(names, ["apt.toml", "downloads.toml", "git.toml", "npm.toml", "tunnelled.toml"]);
}

fn address(proxy: &Proxy) -> String {
    format!("http://{}", proxy.address)
}

/// A site of this machine that clients have to reach through the proxy, since nobody else knows its name.
fn local(config: &str) -> (Origin, NameServer, Proxy, String) {
    let origin = Origin::start();
    let names = NameServer::start();
    names.address_of("site.test", [127, 0, 0, 1]);
    let proxy = Proxy::with(&(names.config() + config));
    let url = format!("http://site.test:{}", origin.address.port());
    (origin, names, proxy, url)
}

/// A proxy whose configuration is an example, with nothing in front of it but what a site of this machine needs: its
/// name, leave to reach it, and `more`. Rules know no ports, so that the example's one is for the site at any.
fn under(name: &str, more: &str) -> (NameServer, Proxy) {
    let names = NameServer::start();
    names.address_of("site.test", [127, 0, 0, 1]);
    let before = format!("access.allow_hosts = ['site.test']\n{}{more}", names.config());
    let example = example(name).replace("REGISTRY_HOST", "site.test");
    let proxy = Proxy::closed().config(&(before + &example)).start();
    (names, proxy)
}

/// The same in front of an origin that speaks nothing but TLS, and the http URL by which clients ask for it.
fn over_tls(name: &str) -> (Origin, NameServer, Proxy, String) {
    let authority = Authority::new();
    let origin = authority.origin(&["site.test"]);
    let (names, proxy) = under(name, &authority.config());
    let url = origin.url_at("site.test", "").replace("https:", "http:");
    (origin, names, proxy, url)
}

fn serve(origin: &Origin, path: &str, body: Vec<u8>) {
    origin.on(path, move |x| x.reply("200 OK", &["Cache-Control: max-age=60"], &body));
}

/// Serves every file below a directory, at its path below `root`.
fn serve_files(origin: &Origin, root: &str, directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let at = format!("{root}/{}", path.file_name().unwrap().to_string_lossy());
        if path.is_dir() {
            serve_files(origin, &at, &path);
        } else {
            serve(origin, &at, std::fs::read(path).unwrap());
        }
    }
}

/// A directory, in which git knows nothing of the machine's own configuration.
fn git(at: &Path, arguments: &[&str]) -> Command {
    let mut git = plain("git");
    git.current_dir(at).env("HOME", at);
    git.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null");
    git.args(["-c", "user.name=a", "-c", "user.email=a@site.test"]).args(arguments);
    git
}

/// A repository `bare.git` with one commit of `file`.
fn repository() -> TempDir {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    run(git(at, &["init", "-q", "work"])).unwrap();
    std::fs::write(at.join("work/file"), "content\n").unwrap();
    run(git(at, &["-C", "work", "add", "file"])).unwrap();
    run(git(at, &["-C", "work", "commit", "-q", "-m", "one"])).unwrap();
    run(git(at, &["clone", "-q", "--bare", "work", "bare.git"])).unwrap();
    directory
}

/// Clones twice, and counts what the second clone asked for.
fn clones(at: &Path, proxy: &Proxy, from: &str) -> Counts {
    let counts = twice(proxy, |proxy| {
        std::fs::remove_dir_all(at.join("clone")).ok();
        git(at, &["-c", &format!("http.proxy={}", address(proxy.unwrap())), "clone", "-q", from, "clone"])
    })
    .unwrap();
    assert_eq!(std::fs::read_to_string(at.join("clone/file")).unwrap(), "content\n", "{counts:?}");
    counts
}

/// Clones a repository of files twice: the second time its objects come from the cache.
fn clones_of_files(origin: &Origin, proxy: &Proxy, url: &str) -> Counts {
    let directory = repository();
    let at = directory.path();
    run(git(at, &["-C", "bare.git", "update-server-info"])).unwrap();
    serve_files(origin, "/bare.git", &at.join("bare.git"));
    let counts = clones(at, proxy, &format!("{url}/bare.git"));
    assert!(count(&counts, "hit") >= 3 && count(&counts, "tunnel") == 0, "{counts:?}");
    // It asks for the list of branches with no-cache each time; objects never change.
    let seen = origin.all();
    let objects =
        seen.iter().filter(|seen| seen.target.contains("/objects/") && !seen.target.contains("/info/"));
    assert!(objects.clone().count() >= 3);
    assert!(objects.clone().all(|seen| origin.hits(&seen.target) == 1), "{:#?}", proxy.log.all());
    counts
}

#[test]
fn git_clones_over_http_from_the_cache() {
    if !installed("git") {
        return skip("git", "not installed");
    }
    let (origin, _names, proxy, url) = local("");
    let counts = clones_of_files(&origin, &proxy, &url);
    tell("git, the dumb protocol", "a local repository over http", &counts);
}

#[test]
fn git_clones_by_http_under_its_example_what_is_fetched_over_tls() {
    if !installed("git") {
        return skip("git under its example", "not installed");
    }
    let (origin, _names, proxy, url) = over_tls("git.toml");
    let counts = clones_of_files(&origin, &proxy, &url);
    tell("git, the dumb protocol", "a local repository by http, fetched over https", &counts);
    // As the example says it to git. By https it would fail: nothing but the proxy trusts the origin's authority.
    let https = url.replace("http:", "https:");
    let directory = TempDir::new().unwrap();
    let proxied = format!("http.proxy={}", address(&proxy));
    let instead = format!("url.{url}/.insteadOf={https}/");
    let from = format!("{https}/bare.git");
    run(git(directory.path(), &["-c", &proxied, "-c", &instead, "clone", "-q", &from, "clone"])).unwrap();
}

/// Downloads a file twice in the way that `ask` says: the second time it comes from the cache.
fn downloads(client: &str, ask: impl Fn(&Proxy, &str) -> Command) {
    if !installed(client) {
        return skip(&format!("{client} under the example for downloads"), "not installed");
    }
    let (origin, _names, proxy, url) = over_tls("downloads.toml");
    let content = pattern(300_000);
    serve(&origin, "/file.bin", content.clone());
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file.bin");
    let counts = twice(&proxy, |proxy| {
        std::fs::remove_file(&file).ok();
        let mut command = ask(proxy.unwrap(), &format!("{url}/file.bin"));
        command.current_dir(directory.path());
        command
    })
    .unwrap();
    assert!(std::fs::read(&file).unwrap() == content, "{client} wrote another file");
    assert_eq!(counts, Counts::from([("hit".to_owned(), 1)]));
    assert_eq!(origin.hits("/file.bin"), 1, "{client}");
    tell(client, "a local file by http, fetched over https", &counts);
}

#[test]
fn curl_downloads_by_http_under_the_example_what_is_fetched_over_tls() {
    downloads("curl", |proxy, url| {
        let mut curl = curl(url, Some(proxy));
        curl.arg("-O");
        curl
    });
}

#[test]
fn wget_downloads_by_http_under_the_example_what_is_fetched_over_tls() {
    downloads("wget", |proxy, url| {
        let mut wget = plain("wget");
        wget.args(["-nv", "--tries=1", "-e", "use_proxy=on"]);
        wget.args(["-e", &format!("http_proxy={}", address(proxy)), url]);
        wget
    });
}

/// Answers as git's own program for web servers does. RFC 3875.
fn http_backend(x: &mut Exchange, root: &Path) {
    let (path, query) = x.request.target.split_once('?').unwrap_or((&x.request.target, ""));
    let mut backend = git(root, &["http-backend"]);
    backend.env("GIT_PROJECT_ROOT", root).env("GIT_HTTP_EXPORT_ALL", "1").env("REMOTE_USER", "a");
    backend.env("PATH_INFO", path).env("QUERY_STRING", query).env("REQUEST_METHOD", &x.request.method);
    let named = [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ];
    for (field, variable) in named {
        backend.envs(x.request.field(field).map(|value| (variable, value)));
    }
    let content = x.body();
    backend.env("CONTENT_LENGTH", content.len().to_string());
    backend.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut running = backend.spawn().unwrap();
    let mut input = running.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(&content));
    let output = running.wait_with_output().unwrap().stdout;
    writing.join().unwrap().ok();
    let head = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    let fields = String::from_utf8_lossy(&output[..head]).into_owned();
    let (status, fields): (Vec<&str>, _) = fields.lines().partition(|line| line.starts_with("Status: "));
    let status = status.first().map_or("200 OK", |line| line.trim_start_matches("Status: "));
    x.reply(status, &fields, &output[head + 4..]);
}

/// What git asks by POST is passed on, in both directions and in chunks too.
#[test]
fn git_clones_and_pushes_by_the_smart_protocol() {
    if !installed("git") {
        return skip("git, the smart protocol", "not installed");
    }
    let (origin, _names, proxy, url) = local("");
    let directory = repository();
    let at = directory.path();
    for path in ["info/refs", "git-upload-pack", "git-receive-pack"] {
        let root = at.to_owned();
        origin.on(&format!("/bare.git/{path}"), move |x| http_backend(x, &root));
    }
    let counts = clones(at, &proxy, &format!("{url}/bare.git"));
    assert_eq!(count(&counts, "hit"), 0, "{counts:?}");
    assert!(origin.hits("/bare.git/git-upload-pack") >= 2, "each clone asks for objects: {counts:?}");
    tell("git, the smart protocol", "a local repository over http", &counts);

    // More than git keeps in memory goes out in chunks, and does not shrink.
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(at.join("clone/large"), &large).unwrap();
    run(git(at, &["-C", "clone", "add", "large"])).unwrap();
    run(git(at, &["-C", "clone", "commit", "-q", "-m", "two"])).unwrap();
    let proxied = format!("http.proxy={}", address(&proxy));
    let push = ["-C", "clone", "-c", &proxied, "-c", "core.compression=0", "push", "-q", "origin", "HEAD"];
    run(git(at, &push)).unwrap();
    let pushed = origin.requests("/bare.git/git-receive-pack").pop().unwrap();
    assert_eq!(pushed.field("transfer-encoding").as_deref(), Some("chunked"));
    assert_eq!(git(at, &["-C", "bare.git", "show", "HEAD:large"]).output().unwrap().stdout, large);
}

/// An npm that knows nothing of this machine's settings and keeps nothing.
fn npm(at: &Path, registry: &str, proxy: Option<&Proxy>, package: &str) -> Command {
    for path in ["cache", "prefix"] {
        std::fs::remove_dir_all(at.join(path)).ok();
    }
    std::fs::create_dir_all(at.join("prefix")).unwrap();
    let mut npm = plain("npm");
    npm.current_dir(at.join("prefix")).args(["install", "--no-audit", "--no-fund", "--loglevel=error"]);
    npm.args(["--fetch-retries=0", "--noproxy=", "--registry", registry, "--cache"]).arg(at.join("cache"));
    if let Some(proxy) = proxy {
        npm.args(["--proxy", &address(proxy), "--https-proxy", &address(proxy)]);
    }
    npm.arg(package);
    npm
}

#[test]
fn npm_installs_from_an_http_registry_out_of_the_cache() {
    if !installed("npm") {
        return skip("npm", "not installed");
    }
    let (origin, _names, proxy, url) = local("");
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let package = at.join("package");
    std::fs::create_dir(&package).unwrap();
    std::fs::write(package.join("package.json"), r#"{"name":"larder-test","version":"1.0.0"}"#).unwrap();
    let mut pack = plain("npm");
    run({
        pack.args(["pack", "--loglevel=error"]).current_dir(&package);
        pack
    })
    .unwrap();
    let tarball = std::fs::read(package.join("larder-test-1.0.0.tgz")).unwrap();
    serve(&origin, "/larder-test/-/larder-test-1.0.0.tgz", tarball);
    let document = format!(
        r#"{{"name":"larder-test","dist-tags":{{"latest":"1.0.0"}},"versions":{{"1.0.0":{{"name":"larder-test","version":"1.0.0","dist":{{"tarball":"{url}/larder-test/-/larder-test-1.0.0.tgz"}}}}}}}}"#
    );
    serve(&origin, "/larder-test", document.into_bytes());
    let counts = twice(&proxy, |proxy| npm(at, &url, proxy, "larder-test")).unwrap();
    assert!(at.join("prefix/node_modules/larder-test/package.json").exists());
    assert_eq!(counts, Counts::from([("hit".to_owned(), 2)]));
    assert_eq!(origin.hits("/larder-test"), 1);
    tell("npm", "a local registry over http", &counts);
}

/// The registry that npm is set to, asked for by http: the example for it, with its host filled in.
#[test]
fn npm_installs_from_its_own_registry_under_a_rule_that_fetches_over_https() {
    const CLIENT: &str = "npm from its own registry";
    if !asks_outside(CLIENT, "npm") {
        return;
    }
    let registry = plain("npm").args(["config", "get", "registry"]).output().unwrap();
    let registry = String::from_utf8(registry.stdout).unwrap();
    let Some((host, path)) =
        registry.trim().strip_prefix("https://").map(|r| r.split_once('/').unwrap_or((r, "")))
    else {
        return skip(CLIENT, "its registry is no https URL");
    };
    let example =
        std::fs::read_to_string(crate::support::proxy::root().join("config/examples/npm.toml")).unwrap();
    let proxy = Proxy::with(&example.replace("REGISTRY_HOST", host));
    let directory = TempDir::new().unwrap();
    let registry =
        |proxy: Option<&Proxy>| format!("{}://{host}/{path}", if proxy.is_some() { "http" } else { "https" });
    let ask = |proxy: Option<&Proxy>| npm(directory.path(), &registry(proxy), proxy, "is-number@7.0.0");
    if let Some(counts) = outside(CLIENT, &proxy, ask) {
        assert!(count(&counts, "hit") > 0 && count(&counts, "tunnel") == 0, "{counts:?}");
        tell("npm", "its own registry by http, fetched over https", &counts);
    }
}

/// The example for what tunnels; an index may also be on a private network.
fn tunnelled() -> Proxy {
    Proxy::closed().config(&example("tunnelled.toml")).arguments(&["--allow-private"]).start()
}

/// A client's second run was tunnelled, all of it.
fn tell_tunnelled(client: &str, counts: &Counts) {
    assert!(counts.contains_key("tunnel") && counts.len() == 1, "{client}: {counts:?}");
    tell(client, "its own index", counts);
}

/// Whether an index that pip is set to is none that the example is for: at an https URL without a port.
fn pip_has_another_index() -> bool {
    let list = plain("python3").args(["-m", "pip", "config", "list"]).output().unwrap();
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    let set = list.lines().filter_map(|line| line.split_once("index-url=")).flat_map(|(_, urls)| {
        urls.split(['\'', '"', ' ', '\\']).filter(|url| url.contains("://")).collect::<Vec<_>>()
    });
    set.into_iter().any(|url| {
        let authority = url.strip_prefix("https://").map(|rest| rest.split('/').next().unwrap());
        authority.is_none_or(|authority| authority.rsplit('@').next().unwrap().contains(':'))
    })
}

#[test]
fn pip_downloads_through_a_tunnel() {
    if !asks_outside("pip", "python3") {
        return;
    }
    if pip_has_another_index() {
        return skip("pip", "its index is at no https URL without a port");
    }
    let proxy = tunnelled();
    let directory = TempDir::new().unwrap();
    let counts = outside("pip", &proxy, |proxy| {
        std::fs::remove_dir_all(directory.path().join("to")).ok();
        let mut pip = plain("python3");
        pip.args([
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--no-cache-dir",
            "--no-binary",
            ":none:",
            "idna==3.10",
        ]);
        pip.env_remove("PIP_FIND_LINKS").args(["--retries", "0", "-d"]).arg(directory.path().join("to"));
        if let Some(proxy) = proxy {
            pip.args(["--proxy", &address(proxy)]);
        }
        pip
    });
    if let Some(counts) = counts {
        tell_tunnelled("pip", &counts);
    }
}

#[test]
fn cargo_fetches_through_a_tunnel() {
    if !asks_outside("cargo", "cargo") {
        return;
    }
    let proxy = tunnelled();
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    std::fs::create_dir_all(at.join("src")).unwrap();
    std::fs::write(at.join("src/lib.rs"), "").unwrap();
    let manifest = "[package]\nname = \"a\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[dependencies]\nitoa = \"1\"\n[workspace]\n";
    std::fs::write(at.join("Cargo.toml"), manifest).unwrap();
    let counts = outside("cargo", &proxy, |proxy| {
        std::fs::remove_dir_all(at.join("home")).ok();
        let mut cargo = plain("cargo");
        cargo
            .args(["fetch", "-q"])
            .current_dir(at)
            .env("CARGO_HOME", at.join("home"))
            .env("CARGO_NET_RETRY", "0");
        if let Some(proxy) = proxy {
            cargo.env("CARGO_HTTP_PROXY", address(proxy));
        }
        cargo
    });
    if let Some(counts) = counts {
        tell_tunnelled("cargo", &counts);
    }
}

/// apt's sources on this machine; those over http are what can be cached.
#[test]
fn apt_updates_and_downloads_from_the_cache() {
    if !asks_outside("apt", "apt-get") {
        return;
    }
    let proxy = Proxy::with(&example("apt.toml"));
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let counts = outside("apt", &proxy, |proxy| {
        for path in ["lists/partial", "cache/archives/partial", "to"] {
            std::fs::remove_dir_all(at.join(path.split('/').next().unwrap())).ok();
            std::fs::create_dir_all(at.join(path)).unwrap();
        }
        let mut options = String::new();
        for (key, value) in [("Dir::State::lists", "lists"), ("Dir::Cache", "cache")] {
            options += &format!(" -o {key}={}", at.join(value).display());
        }
        if let Some(proxy) = proxy {
            options += &format!(" -o Acquire::http::Proxy={0} -o Acquire::https::Proxy={0}", address(proxy));
        }
        options += " -o APT::Sandbox::User=root -o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::Languages=none";
        let mut apt = plain("sh");
        let script = format!("apt-get -q{options} update && cd to && apt-get -q{options} download hello");
        apt.current_dir(at).args(["-c", &script]);
        apt
    });
    if let Some(counts) = counts {
        // Only sources over http can be cached, and this machine may have none.
        assert!(count(&counts, "hit") > 0 || count(&counts, "tunnel") > 0, "{counts:?}");
        tell("apt", "this machine's own sources", &counts);
    }
}

/// An apt that knows nothing of this machine but its programs: settings, state and cache are below a directory.
fn apt(at: &Path, proxy: &Proxy) -> Command {
    for path in ["state/lists/partial", "cache/archives/partial", "to"] {
        std::fs::remove_dir_all(at.join(path.split('/').next().unwrap())).ok();
        std::fs::create_dir_all(at.join(path)).unwrap();
    }
    let mut settings = format!("Acquire::http::Proxy \"{}\";\n", address(proxy));
    for (key, value) in [("State", "state"), ("State::status", "status"), ("Cache", "cache"), ("Etc", "etc")]
    {
        settings += &format!("Dir::{key} \"{}\";\n", at.join(value).display());
    }
    settings += "APT::Sandbox::User \"root\"; Acquire::Retries \"0\"; Acquire::Languages \"none\";\n";
    std::fs::write(at.join("settings"), settings).unwrap();
    let mut apt = plain("sh");
    apt.current_dir(at).env("APT_CONFIG", at.join("settings"));
    apt.args(["-ec", "apt-get -q update; cd to; apt-get -q download larder-test"]);
    apt
}

/// A flat repository of one package: its file, and the list that names it.
fn packages(at: &Path) -> (Vec<u8>, String) {
    let control = "Package: larder-test\nVersion: 1.0\nArchitecture: all\nMaintainer: a <a@site.test>\n\
                   Description: nothing\n";
    std::fs::create_dir_all(at.join("package/DEBIAN")).unwrap();
    std::fs::write(at.join("package/DEBIAN/control"), control).unwrap();
    let mut build = Command::new("sh");
    // It takes no directory that others cannot read.
    build.current_dir(at).args(["-ec", "chmod 755 package/DEBIAN; dpkg-deb --build package file.deb"]);
    run(build).unwrap();
    let file = std::fs::read(at.join("file.deb")).unwrap();
    let sum = Command::new("sha256sum").current_dir(at).arg("file.deb").output().unwrap();
    let sum = String::from_utf8(sum.stdout).unwrap();
    let (size, sum) = (file.len(), sum.split(' ').next().unwrap());
    let list = format!("{control}Filename: ./larder-test_1.0_all.deb\nSize: {size}\nSHA256: {sum}\n");
    (file, list)
}

/// A mirror that names no lifetimes: that of packages is the example's, and lists are left to the mirror.
#[test]
fn apt_downloads_from_the_cache_under_its_example_what_a_mirror_serves_without_a_lifetime() {
    for program in ["apt-get", "dpkg-deb", "sha256sum"] {
        if !installed(program) {
            return skip("apt under its example", &format!("{program} is not installed"));
        }
    }
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let (file, list) = packages(at);
    let origin = Origin::start();
    let deb = "/./larder-test_1.0_all.deb";
    for (path, body) in [("/./Packages", list.into_bytes()), (deb, file.clone())] {
        origin.on(path, move |x| x.reply("200 OK", &[], &body));
    }
    let (_names, proxy) = under("apt.toml", "");
    std::fs::create_dir(at.join("etc")).unwrap();
    std::fs::write(at.join("status"), "").unwrap();
    let source = format!("deb [trusted=yes] {} ./\n", origin.url_at("site.test", ""));
    std::fs::write(at.join("etc/sources.list"), source).unwrap();
    let counts = twice(&proxy, |proxy| apt(at, proxy.unwrap())).unwrap();
    assert!(std::fs::read(at.join("to/larder-test_1.0_all.deb")).unwrap() == file);
    let lines = proxy.log.wait_count("the log", 2, |line| line.contains(".deb"));
    let results = lines.iter().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    assert_eq!(results.map(|line| line["result"].clone()).collect::<Vec<_>>(), ["miss", "hit"]);
    assert_eq!(origin.hits(deb), 1);
    assert_eq!(origin.hits("/./Packages"), 2, "{counts:?}");
    tell("apt", "a local repository over http", &counts);
}
