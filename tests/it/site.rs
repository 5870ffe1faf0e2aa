//! A whole site in headless Chromium by the PAC file: what the origin sees at first load, reload, hard reload, and
//! when another browser comes. Firefox loads a page.

use crate::browser::{ECHO, websocket_echo};
use crate::clients::{installed, plain};
use crate::support::dns::NameServer;
use crate::support::driver::Driver;
use crate::support::{Client as Raw, Exchange, Origin, Proxy, pattern, skip};
use fantoccini::Client;
use serde_json::{Value, json};

const LARGE: usize = 3_000_000;
/// Where the first download breaks off.
const BROKEN_AT: usize = 1_000_000;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>loading</title>
<link rel="stylesheet" href="/style.css"><script>function told (data) { window.jsonp = data.from }</script>
<script src="/jsonp?callback=told"></script><script src="/script.js" defer></script>
<h1>Page</h1><img src="/image.svg" alt="" onload="window.shown = true">"#;

const STYLE: &str =
    "@font-face { font-family: F; src: url(/font.woff2) } h1 { font-family: F; color: rgb(1, 2, 3) }";

/// The title tells that all has come.
const SCRIPT: &str = r"
const text = (path, options) => fetch(path, options).then(r => r.text())
// No font at all: what counts is that it was asked for.
const font = document.fonts.load('1em F').catch(() => {})
Promise.all([text('/language'), text('/old'), text('/private'), font]).then(([language, moved, secret]) => {
  window.told = { language, moved, secret, jsonp }
  document.title = 'loaded'
})
const login = () => text('/login', { method: 'POST', body: 'user=me' })
// What came before the connection broke, and then the rest.
async function download () {
  const parts = []
  const read = async answer => {
    const reader = answer.body.getReader()
    for (let part; !(part = await reader.read()).done;) parts.push(part.value)
  }
  const length = () => parts.reduce((sum, part) => sum + part.length, 0)
  const broken = await fetch('/large').then(read).catch(() => 'broken')
  const first = length()
  const rest = await fetch('/large', { headers: { Range: `bytes=${first}-`, 'If-Range': '\x22large\x22' } })
  await read(rest)
  const whole = await new Blob(parts).arrayBuffer()
  const digest = new Uint8Array(whole).reduce((sum, byte) => (sum * 31 + byte) >>> 0, 0)
  return { broken, first, status: rest.status, length: length(), digest }
}";

/// What may be stored and shared, in the order in which it is asserted about.
const SHARED: [&str; 8] =
    ["/", "/style.css", "/font.woff2", "/script.js", "/image.svg", "/jsonp", "/old", "/new"];

fn resource(origin: &Origin, path: &str, kind: &'static str, body: &'static str) {
    origin.on(path, move |x| {
        let fields = ["Cache-Control: max-age=60", "ETag: \"v\"", &format!("Content-Type: {kind}")];
        if x.request.field("if-none-match").is_some() {
            x.reply("304 Not Modified", &fields, "");
        } else {
            x.reply("200 OK", &fields, body);
        }
    });
}

fn large(x: &mut Exchange) {
    let body = pattern(LARGE);
    let fields = "Cache-Control: max-age=60\r\nETag: \"large\"\r\nAccept-Ranges: bytes\r\nContent-Type: application/octet-stream";
    let range = x.request.field("range");
    let from =
        range.as_deref().and_then(|range| range.strip_prefix("bytes=")?.split('-').next()?.parse().ok());
    if let Some(from) = from.filter(|from| *from < LARGE) {
        let range = format!("Content-Range: bytes {from}-{}/{LARGE}", LARGE - 1);
        x.write(format!(
            "HTTP/1.1 206 Partial Content\r\n{fields}\r\n{range}\r\nContent-Length: {}\r\n\r\n",
            LARGE - from
        ));
        x.write(&body[from..]);
    } else {
        x.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {LARGE}\r\n\r\n"));
        x.write(&body[..BROKEN_AT]);
        x.close();
    }
}

/// A site with most of what sites have.
fn site() -> Origin {
    let origin = Origin::start();
    resource(&origin, "/", "text/html", PAGE);
    resource(&origin, "/style.css", "text/css", STYLE);
    resource(&origin, "/font.woff2", "font/woff2", "none");
    resource(&origin, "/script.js", "text/javascript", SCRIPT);
    resource(
        &origin,
        "/image.svg",
        "image/svg+xml",
        "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    );
    resource(&origin, "/jsonp", "text/javascript", "told({ from: 'jsonp' })");
    resource(&origin, "/new", "text/plain", "moved here");
    origin.on("/old", |x| {
        x.reply("301 Moved Permanently", &["Cache-Control: max-age=60", "Location: /new"], "");
    });
    origin.on("/language", |x| {
        let language = x.request.field("accept-language").unwrap_or_default();
        x.reply(
            "200 OK",
            &["Cache-Control: max-age=60", "Vary: Accept-Language", "Content-Type: text/plain"],
            language,
        );
    });
    origin.on("/login", |x| {
        let user = String::from_utf8_lossy(&x.body()).replace("user=", "");
        x.reply("303 See Other", &["Location: /private", &format!("Set-Cookie: user={user}; Path=/")], "");
    });
    origin.on("/private", |x| {
        let user = x.request.field("cookie").unwrap_or_else(|| "nobody".to_owned());
        x.reply("200 OK", &["Cache-Control: private, max-age=0", "Content-Type: text/plain"], user);
    });
    origin.on("/large", large);
    origin.on("/ws", websocket_echo);
    origin
}

/// Waits until the page's script is through, in a document that `old` does not mark.
async fn loaded(browser: &Client) -> Value {
    loop {
        let look = "return !window.old && window.shown && document.title === 'loaded' ? window.told : null";
        // Between two documents there is none to run it in.
        match browser.execute(look, vec![]).await {
            Ok(Value::Null) | Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            Ok(told) => return told,
        }
    }
}

async fn call(browser: &Client, script: &str) -> Value {
    let script = format!("{script}.then(arguments[0], e => arguments[0](String(e)))");
    browser.execute_async(&script, vec![]).await.unwrap()
}

/// What Ctrl+Shift+R does; `WebDriver` has no word for it.
async fn hard_reload(driver: &Driver, browser: &Client) {
    browser.execute("window.old = true", vec![]).await.unwrap();
    let session = browser.session_id().await.unwrap().unwrap();
    let body = json!({ "cmd": "Page.reload", "params": { "ignoreCache": true } }).to_string();
    let mut raw = Raw::connect(([127, 0, 0, 1], driver.port).into());
    raw.send(format!(
        "POST /session/{session}/goog/cdp/execute HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    raw.response("POST").assert_status(200);
}

fn hits(origin: &Origin) -> Vec<usize> {
    SHARED.iter().map(|path| origin.hits(path)).collect()
}

#[test]
fn chromium_takes_a_whole_site_by_the_pac_file() {
    let Some(driver) = Driver::start() else {
        return skip("Chromium with a PAC file", "chromedriver is not installed");
    };
    let origin = site();
    let names = NameServer::start();
    names.address_of("site.test", [127, 0, 0, 1]);
    let proxy = Proxy::with(&names.config());
    let url = format!("http://site.test:{}/", origin.address.port());
    // Nobody else knows the name: what comes at all came through the proxy.
    let by_pac = format!("--proxy-pac-url=http://{}/proxy.pac", proxy.address);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let first =
            driver.browser_of(&[&by_pac], json!({ "prefs": { "intl.accept_languages": "de" } })).await;
        first.goto(&url).await.unwrap();
        let told = loaded(&first).await;
        assert_eq!(hits(&origin), [1; 8], "first load");
        assert_eq!(told["moved"], "moved here");
        assert_eq!(told["secret"], "nobody");
        assert_eq!(told["jsonp"], "jsonp");
        assert!(told["language"].as_str().unwrap().starts_with("de"), "{told}");

        first.execute("window.old = true", vec![]).await.unwrap();
        first.refresh().await.unwrap();
        loaded(&first).await;
        assert_eq!(hits(&origin), [2, 1, 1, 1, 1, 1, 1, 1], "a reload asks for the page alone");
        assert_eq!(origin.last("/").field("if-none-match").as_deref(), Some("\"v\""));

        hard_reload(&driver, &first).await;
        loaded(&first).await;
        let again = hits(&origin);
        for (path, hits) in SHARED.iter().zip(&again).filter(|(path, _)| !["/old", "/new"].contains(path)) {
            let before = if *path == "/" { 2 } else { 1 };
            assert_eq!(*hits, before + 1, "a hard reload asks for {path}");
            assert!(origin.last(path).field("cache-control").unwrap().contains("no-cache"), "{path}");
        }

        assert_eq!(call(&first, "login()").await, "user=me");
        assert_eq!(call(&first, ECHO).await, "over the proxy");
        let whole = pattern(LARGE);
        let digest =
            whole.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        let download = call(&first, "download()").await;
        assert_eq!(download["broken"], "broken");
        assert_eq!(download["status"], 206, "{download}");
        assert_eq!((&download["length"], &download["digest"]), (&json!(LARGE), &json!(digest)), "{download}");
        let rest = origin.last("/large").field("range").unwrap();
        assert!(rest.starts_with("bytes=") && rest != "bytes=0-", "{rest}");
        first.close().await.unwrap();

        let before = hits(&origin);
        let second =
            driver.browser_of(&[&by_pac], json!({ "prefs": { "intl.accept_languages": "fr" } })).await;
        second.goto(&url).await.unwrap();
        let told = loaded(&second).await;
        assert_eq!(hits(&origin), before, "another browser gets all of it from the store");
        assert!(told["language"].as_str().unwrap().starts_with("fr"), "{told}");
        assert_eq!(told["secret"], "nobody", "not what the other one got");
        second.close().await.unwrap();
    });
    let german = origin.requests("/language").remove(0).field("accept-language").unwrap();
    let asked = origin.hits("/language");
    let again = proxy.get_with(&format!("{url}language"), &[&format!("Accept-Language: {german}")]);
    again.assert_body(&german).assert_hit();
    assert_eq!(origin.hits("/language"), asked);
}

/// Firefox takes a picture once the page has loaded, with a profile of its own; what its scripts fetch later may not
/// come any more.
#[test]
fn firefox_loads_a_page_by_the_pac_file() {
    const WHAT: &str = "Firefox with a PAC file";
    const LOADED: [&str; 5] = ["/", "/style.css", "/script.js", "/image.svg", "/jsonp"];
    let Some(program) = ["firefox-esr", "firefox"].into_iter().find(|program| installed(program)) else {
        return skip(WHAT, "not installed");
    };
    let origin = site();
    let names = NameServer::start();
    names.address_of("site.test", [127, 0, 0, 1]);
    let proxy = Proxy::with(&names.config());
    let url = format!("http://site.test:{}/", origin.address.port());
    let load = || {
        let home = tempfile::tempdir().unwrap();
        let profile = home.path().join("profile");
        std::fs::create_dir(&profile).unwrap();
        let pac = format!("http://{}/proxy.pac", proxy.address);
        let settings = format!(
            "user_pref(\"network.proxy.type\", 2);\nuser_pref(\"network.proxy.autoconfig_url\", \"{pac}\");\n"
        );
        std::fs::write(profile.join("user.js"), settings).unwrap();
        let picture = home.path().join("picture.png");
        let mut firefox = plain("timeout");
        firefox.args(["-k", "1", "60", program, "--headless", "--no-remote", "--profile"]).arg(&profile);
        firefox.env("HOME", home.path()).arg("--screenshot").arg(&picture).arg(&url);
        let output = firefox.output().unwrap();
        if picture.exists() { Ok(()) } else { Err(output) }
    };
    let hits = || LOADED.map(|path| origin.hits(path));
    if let Err(output) = load() {
        // Without a page it did not start here; with one, the page is to blame, or we.
        assert_eq!(origin.hits("/"), 0, "{output:?}");
        return skip(WHAT, &format!("it does not start here: {output:?}"));
    }
    assert_eq!(hits(), [1; 5], "first load");
    assert!(origin.last("/").field("via").is_some(), "through the proxy");
    assert!(load().is_ok(), "the second start");
    assert_eq!(hits(), [1; 5], "a browser that knows nothing gets it from the store");
}
