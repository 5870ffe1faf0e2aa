//! A whole site in headless browsers by the PAC file: what the origin sees at first load, reload, hard reload, revisit,
//! and when another browser comes.

use crate::browser::{ECHO, resource, websocket_echo};
use crate::clients::installed;
use crate::support::dns::NameServer;
use crate::support::driver::Driver;
use crate::support::{Exchange, Origin, Proxy, pattern, skip};
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
window.login = () => text('/login', { method: 'POST', body: 'user=me' })
// What came before the connection broke, and then the rest.
window.download = async () => {
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

fn hits(origin: &Origin) -> Vec<usize> {
    SHARED.iter().map(|path| origin.hits(path)).collect()
}

/// A browser as the site's visitors use it.
trait Browser {
    /// A new one with a fresh profile, of somebody who reads this language.
    async fn open(&self, language: &str) -> Client;
    /// What Ctrl+Shift+R does; `WebDriver` has no word for it.
    async fn reload_anew(&self, browser: &Client);
    /// How often each of [`SHARED`] was asked for after the first load and a reload.
    const RELOADED: [usize; 8];
}

struct Chromium(Driver, String);

impl Browser for Chromium {
    const RELOADED: [usize; 8] = [2, 1, 1, 1, 1, 1, 1, 1];

    async fn open(&self, language: &str) -> Client {
        let by_pac = format!("--proxy-pac-url={}", self.1);
        let options = json!({ "prefs": { "intl.accept_languages": language } });
        self.0.browser_of(&[&by_pac], options).await
    }

    async fn reload_anew(&self, browser: &Client) {
        let body = json!({ "cmd": "Page.reload", "params": { "ignoreCache": true } });
        self.0.post(browser, "goog/cdp/execute", &body).await;
    }
}

struct Firefox(Driver, String);

impl Browser for Firefox {
    const RELOADED: [usize; 8] = [2, 2, 2, 2, 2, 2, 2, 2];

    async fn open(&self, language: &str) -> Client {
        self.0.firefox_by_pac(&self.1, &json!({ "intl.accept_languages": language })).await
    }

    async fn reload_anew(&self, browser: &Client) {
        self.0.post(browser, "moz/context", &json!({ "context": "chrome" })).await;
        let anew = "BrowserCommands.reloadSkipCache()";
        self.0.post(browser, "execute/sync", &json!({ "script": anew, "args": [] })).await;
        self.0.post(browser, "moz/context", &json!({ "context": "content" })).await;
    }
}

/// Takes the whole site through a proxy that the PAC file names, as its visitors do.
fn takes_the_site<B: Browser>(new: impl FnOnce(String) -> B) {
    let origin = site();
    let names = NameServer::start();
    names.address_of("site.test", [127, 0, 0, 1]);
    let proxy = Proxy::with(&names.config());
    let url = format!("http://site.test:{}/", origin.address.port());
    // Nobody else knows the name: what comes at all came through the proxy.
    let browsers = new(format!("http://{}/proxy.pac", proxy.address));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let first = browsers.open("de").await;
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
        assert_eq!(hits(&origin), B::RELOADED, "a reload");
        assert_eq!(origin.last("/").field("if-none-match").as_deref(), Some("\"v\""));

        first.execute("window.old = true", vec![]).await.unwrap();
        browsers.reload_anew(&first).await;
        loaded(&first).await;
        let again = hits(&origin);
        for (at, path) in SHARED.iter().enumerate().filter(|(_, path)| !["/old", "/new"].contains(path)) {
            assert_eq!(again[at], B::RELOADED[at] + 1, "a hard reload asks for {path}");
            assert!(origin.last(path).field("cache-control").unwrap().contains("no-cache"), "{path}");
        }

        first.goto("about:blank").await.unwrap();
        first.goto(&url).await.unwrap();
        loaded(&first).await;
        assert_eq!(hits(&origin), again, "who comes back asks for nothing");

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
        let second = browsers.open("fr").await;
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

#[test]
fn chromium_takes_a_whole_site_by_the_pac_file() {
    let Some(driver) = Driver::start() else {
        return skip("Chromium with a PAC file", "chromedriver is not installed");
    };
    takes_the_site(|pac| Chromium(driver, pac));
}

#[test]
fn firefox_takes_a_whole_site_by_the_pac_file() {
    const WHAT: &str = "Firefox with a PAC file";
    if !["firefox-esr", "firefox"].into_iter().any(installed) {
        return skip(WHAT, "not installed");
    }
    let Some(driver) = Driver::firefox() else { return skip(WHAT, "geckodriver is not installed") };
    takes_the_site(|pac| Firefox(driver, pac));
}
