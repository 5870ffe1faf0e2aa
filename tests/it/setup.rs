//! The set-up page's lines, taken from the page and given to the programs that they are for: each then asks through
//! the proxy. What is not installed is skipped, and told.

use crate::clients::{installed, prepared};
use crate::support::driver::Driver;
use crate::support::proxy::{Running, Start, command_of};
use crate::support::{Origin, Proxy, skip};
use fantoccini::Locator;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

/// What the page names as an example of a site.
const SITE: &str = "http://example.com/";

/// A proxy whose parent answers for every site, so that none outside is asked, and a home for programs.
struct Desk {
    parent: Origin,
    proxy: Proxy,
    home: TempDir,
}

impl Desk {
    fn start() -> Self {
        Self::at("127.0.0.1:0")
    }

    /// The proxy listens there.
    fn at(address: &str) -> Self {
        let parent = Origin::start();
        parent.serve(SITE, "200 OK", &["Cache-Control: max-age=60", "Content-Type: text/html"], b"the body");
        let config = format!("upstream.parents = ['{}']\n", parent.url(""));
        let proxy = Start::default().config(&config).listen(&[address]).start();
        Self { parent, proxy, home: TempDir::new().unwrap() }
    }

    fn home(&self) -> &Path {
        self.home.path()
    }

    /// The programs of the page, as the proxy gives it to curl, and what it has for each.
    fn parts(&self) -> Vec<(String, String)> {
        let page = self.proxy.raw(format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", self.proxy.address)).text();
        let lines =
            |part: &str| part.lines().filter_map(|l| l.strip_prefix("    ")).collect::<Vec<_>>().join("\n");
        let parts = page.split("\n\n").filter_map(|part| Some((part.split_once(": ")?.0, lines(part))));
        parts.filter(|(_, lines)| !lines.is_empty()).map(|(name, lines)| (name.to_owned(), lines)).collect()
    }

    #[track_caller]
    fn lines(&self, program: &str) -> String {
        let parts = self.parts();
        let found = parts.iter().find(|(name, _)| name == program);
        found.unwrap_or_else(|| panic!("no {program} in {parts:#?}")).1.clone()
    }

    /// A script for a shell, in a home of its own and without the machine's settings.
    fn shell(&self, shell: &str, script: &str) -> Command {
        // A client that waits for something else than the proxy must not wait for ever.
        let mut command = command_of("timeout");
        command.args(["-k", "1", "100", shell]);
        for (name, _) in std::env::vars_os() {
            let known = name.to_string_lossy().to_ascii_lowercase();
            if ["pip_", "npm_", "cargo_", "docker_", "xdg_", "rustup_"].iter().any(|p| known.starts_with(p)) {
                command.env_remove(name);
            }
        }
        // This toolchain's own programs, whatever the home; pip is what tests/run made ready, where it did.
        let toolchain = Path::new(env!("CARGO")).parent().unwrap().to_owned();
        let found = std::env::var_os("PATH").unwrap_or_default();
        let path = [prepared("venv/bin"), toolchain].into_iter().chain(std::env::split_paths(&found));
        command.env("PATH", std::env::join_paths(path).unwrap());
        command.env("HOME", self.home()).current_dir(self.home()).args(["-c", script]);
        command
    }

    fn sh(&self, script: &str) -> Output {
        self.shell("sh", script).output().unwrap()
    }

    /// Runs what has to succeed, and gives what it printed.
    #[track_caller]
    fn told(&self, script: &str) -> String {
        let output = self.sh(script);
        assert!(output.status.success(), "{script}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn address(&self) -> String {
        format!("http://{}", self.proxy.address)
    }

    #[track_caller]
    fn assert_asked(&self, url: &str) {
        assert!(self.parent.hits(url) > 0, "{url} is not in {:#?}", self.proxy.log.all());
    }
}

#[test]
fn curl_asked_twice_gets_the_hit_that_the_page_promises() {
    if !installed("curl") {
        return skip("the set-up page's curl", "not installed");
    }
    let desk = Desk::start();
    let line = desk.lines("curl");
    let (miss, hit) = (desk.told(&line), desk.told(&line));
    assert!(miss.contains("larder; fwd=uri-miss") && miss.ends_with("the body"), "{miss}");
    assert!(hit.contains("larder; hit") && hit.ends_with("the body"), "{hit}");
    assert_eq!(desk.parent.hits(SITE), 1);
}

#[test]
fn a_shells_line_leads_what_is_started_from_it_through_the_proxy() {
    if !installed("curl") {
        return skip("the set-up page's line for a shell", "curl is not installed");
    }
    let desk = Desk::start();
    let script = format!("{}\ncurl -sS {SITE}\ncurl -sS https://example.com/", desk.lines("A shell"));
    let output = desk.sh(&script);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "the body", "{output:?}");
    desk.assert_asked("example.com:443");
}

/// zsh takes the brackets of an IPv6 address for a pattern, and refuses one that fits nothing.
#[test]
fn an_ipv6_address_gets_through_every_shell() {
    if !installed("curl") {
        return skip("the set-up page's lines with an IPv6 address", "curl is not installed");
    }
    let desk = Desk::at("[::1]:0");
    for shell in ["sh", "bash", "zsh", "fish"] {
        if Command::new(shell).args(["-c", "true"]).output().is_err() {
            skip(&format!("the set-up page's lines with an IPv6 address in {shell}"), "not installed");
            continue;
        }
        for script in [desk.lines("curl"), format!("{}\ncurl -i {SITE}", desk.lines("A shell"))] {
            let output = desk.shell(shell, &script).output().unwrap();
            let told = String::from_utf8_lossy(&output.stdout);
            assert!(told.contains("larder; ") && told.ends_with("the body"), "{shell}: {script}: {output:?}");
        }
    }
}

#[test]
fn apt_asks_by_its_file() {
    const HELPER: &str = "/usr/lib/apt/apt-helper";
    if !installed("apt-config") || !Path::new(HELPER).exists() {
        return skip("the set-up page's apt", "not installed");
    }
    let desk = Desk::start();
    let parts = desk.home().join("apt.conf.d");
    std::fs::create_dir(&parts).unwrap();
    std::fs::write(parts.join("80larder"), desk.lines("apt") + "\n").unwrap();
    // The machine's own settings are left out.
    let own = format!(
        "Dir::Etc::main \"/dev/null\";\nDir::Etc::parts \"{}\";\nAPT::Sandbox::User \"root\";\n",
        parts.display()
    );
    std::fs::write(desk.home().join("apt.conf"), own).unwrap();
    let set = desk.told("APT_CONFIG=$HOME/apt.conf apt-config dump --format '%f=%v%n' Acquire::http::Proxy");
    assert_eq!(set, format!("Acquire::http::Proxy={}\n", desk.address()));
    let file = desk.told(&format!(
        "APT_CONFIG=$HOME/apt.conf {HELPER} -q -o Acquire::Retries=0 download-file {SITE} got >told && cat got"
    ));
    assert_eq!(file, "the body");
    desk.assert_asked(SITE);
}

#[test]
fn pip_asks_by_its_setting() {
    let desk = Desk::start();
    if !desk.sh("pip --version").status.success() {
        return skip("the set-up page's pip", "not installed");
    }
    desk.told(&desk.lines("pip"));
    let set = desk.told("pip config list");
    assert!(set.contains(&format!("global.proxy='{}'", desk.address())), "{set}");
    let index = "http://example.com/simple";
    // There is no such project: what counts is who is asked for it.
    let output = desk.sh(&format!(
        "pip download --no-deps --no-cache-dir --retries 0 --trusted-host example.com -i {index} larder-test"
    ));
    assert!(!output.status.success(), "{output:?}");
    desk.assert_asked("http://example.com/simple/larder-test/");
}

#[test]
fn npm_asks_by_its_settings() {
    if !installed("npm") {
        return skip("the set-up page's npm", "not installed");
    }
    let desk = Desk::start();
    desk.told(&desk.lines("npm").replace('\n', " && "));
    let set = desk.told("npm config get proxy && npm config get https-proxy");
    assert_eq!(set, format!("{0}\n{0}\n", desk.address()));
    let document = br#"{"name":"larder-test","dist-tags":{"latest":"1.2.3"},
        "versions":{"1.2.3":{"name":"larder-test","version":"1.2.3"}}}"#;
    desk.parent.serve("http://example.com/larder-test", "200 OK", &[], document);
    let view = "npm view larder-test version --fetch-retries=0 --registry";
    assert_eq!(desk.told(&format!("{view} {SITE}")), "1.2.3\n");
    assert!(!desk.sh(&format!("{view} https://example.com/")).status.success(), "the parent has no tunnel");
    desk.assert_asked("example.com:443");
}

#[test]
fn cargo_asks_by_its_file() {
    let desk = Desk::start();
    let lines = desk.lines("cargo");
    let set: toml::Table = lines.parse().unwrap();
    assert_eq!(set["http"]["proxy"].as_str(), Some(desk.address().as_str()));
    std::fs::create_dir_all(desk.home().join(".cargo")).unwrap();
    std::fs::write(desk.home().join(".cargo/config.toml"), lines).unwrap();
    std::fs::create_dir_all(desk.home().join("a/src")).unwrap();
    std::fs::write(desk.home().join("a/src/lib.rs"), "").unwrap();
    let manifest = format!(
        "[package]\nname = \"a\"\nversion = \"0.0.0\"\n[dependencies]\n\
         larder-test = {{ version = \"1\", registry-index = \"sparse+{SITE}\" }}\n"
    );
    std::fs::write(desk.home().join("a/Cargo.toml"), manifest).unwrap();
    // There is no such registry: what counts is who is asked for it.
    let output = desk.sh("cd a && CARGO_NET_RETRY=0 cargo generate-lockfile");
    assert!(!output.status.success(), "{output:?}");
    desk.assert_asked("http://example.com/config.json");
}

/// The daemon is an origin of ours, which tells what it was asked for.
#[test]
fn docker_gives_containers_and_builds_the_variables_and_the_machines_network() {
    if !installed("docker") {
        return skip("the set-up page's docker", "not installed");
    }
    let desk = Desk::start();
    let daemon = Origin::start();
    for path in ["/_ping", "/v1.41/build"] {
        daemon.serve(path, "200 OK", &["API-Version: 1.41", "Content-Type: application/json"], b"");
    }
    std::fs::write(desk.home().join("Dockerfile"), "FROM scratch\n").unwrap();
    let lines = desk.lines("docker").replace("IMAGE", "image");
    let (run, build) = lines.split_once('\n').unwrap();
    let set = format!("export DOCKER_BUILDKIT=0 DOCKER_HOST=tcp://{}", daemon.address);
    // A container can't be made: what counts is how it was to be.
    let output = desk.sh(&format!("{set}\n{run}"));
    assert!(!output.status.success(), "{output:?}");
    let request = daemon.last("/v1.41/containers/create");
    let asked: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
    let mut variables: Vec<_> =
        asked["Env"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect();
    variables.sort_unstable();
    let expected = ["http_proxy", "https_proxy"].map(|name| format!("{name}={}", desk.address()));
    assert_eq!(variables, expected);
    assert_eq!(asked["HostConfig"]["NetworkMode"], "host");
    let output = desk.sh(&format!("{set}\n{build}"));
    assert!(daemon.hits("/v1.41/build") > 0, "{output:?}");
    let asked = decoded(&daemon.last("/v1.41/build").target);
    let parameter = |name: &str| asked.split(['?', '&']).find_map(|part| part.strip_prefix(name)).unwrap();
    let arguments: serde_json::Value = serde_json::from_str(parameter("buildargs=")).unwrap();
    assert_eq!(arguments, serde_json::json!({ "http_proxy": desk.address(), "https_proxy": desk.address() }));
    assert_eq!(parameter("networkmode="), "host");
}

/// Without the percent-encoding of a query.
fn decoded(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(&part.as_bytes()[2..]);
    }
    String::from_utf8(bytes).unwrap()
}

#[test]
fn gnomes_settings_are_what_the_page_sets() {
    let desk = Desk::start();
    // A file in the home stands for the user's settings.
    let set = |script: &str| desk.told(&format!("export GSETTINGS_BACKEND=keyfile\n{script}"));
    let schemas = desk.sh("gsettings list-schemas");
    if !String::from_utf8_lossy(&schemas.stdout).lines().any(|name| name == "org.gnome.system.proxy") {
        return skip("the set-up page's GNOME", "gsettings or its schemas are not installed");
    }
    set(&desk.lines("GNOME").replace('\n', " && "));
    let told = set("for key in mode autoconfig-url; do gsettings get org.gnome.system.proxy $key; done");
    assert_eq!(told, format!("'auto'\n'{}/proxy.pac'\n", desk.address()));
}

#[test]
fn chromium_asks_by_its_command_line() {
    if !installed("chromium") {
        return skip("the set-up page's Chromium", "not installed");
    }
    let desk = Desk::start();
    let line = desk.lines("Chromium, Chrome, Edge");
    let headless = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run \
        --disable-background-networking --user-data-dir=$HOME/profile --dump-dom";
    let page = desk.told(&format!("{line} {headless} {SITE}"));
    assert!(page.contains("the body"), "{page}");
    desk.assert_asked(SITE);
}

#[test]
fn firefox_asks_by_its_profile() {
    if !installed("firefox-esr") {
        return skip("the set-up page's Firefox", "not installed");
    }
    let desk = Desk::start();
    std::fs::create_dir(desk.home().join("profile")).unwrap();
    std::fs::write(desk.home().join("profile/user.js"), desk.lines("Firefox") + "\n").unwrap();
    let headless =
        "exec firefox-esr --headless --no-remote --profile $HOME/profile --screenshot $HOME/shot.png";
    // One that does not ask the proxy may never end by itself.
    let mut firefox = desk.shell("sh", &format!("{headless} {SITE}"));
    let _firefox = Running::start(firefox.stdout(Stdio::null()).stderr(Stdio::null()));
    desk.parent.wait(SITE, 1);
}

/// As the style promises: what is copied has nothing to be trimmed.
#[test]
fn one_click_in_chromium_selects_exactly_what_is_to_be_copied() {
    let Some(driver) = Driver::start() else {
        return skip("a click on the set-up page", "chromedriver is not installed");
    };
    let desk = Desk::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let browser = driver.browser_with(&[], None).await;
        browser.goto(&format!("{}/", desk.address())).await.unwrap();
        let parts = browser.find_all(Locator::Css("pre, code")).await.unwrap();
        let mut copied = Vec::new();
        for part in parts {
            part.click().await.unwrap();
            let selected = browser.execute("return getSelection().toString()", vec![]).await.unwrap();
            copied.push(selected.as_str().unwrap().to_owned());
        }
        browser.close().await.unwrap();
        let (own, programs) = copied.split_at(2);
        assert_eq!(own, [desk.proxy.address.to_string(), format!("{}/proxy.pac", desk.address())]);
        assert_eq!(programs, desk.parts().into_iter().map(|(_, lines)| lines).collect::<Vec<_>>());
    });
}
