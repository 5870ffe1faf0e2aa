//! Headless Chromium through the proxy: a page of several resources, a reload, another session, and a WebSocket.

use crate::support::driver::Driver;
use crate::support::{Exchange, Origin, Proxy, skip};
use base64::Engine as _;
use fantoccini::Client;

const PAGE: &str = r#"<!doctype html><meta charset="utf-8"><title>loading</title>
<link rel="stylesheet" href="/style.css"><script src="/script.js" defer></script>
<h1>Page</h1><img src="/image.svg" alt="" onload="window.shown = true">"#;

const SCRIPT: &str = r"
fetch('/data.json').then(r => r.json()).then(data => { document.title = data.title })";

/// Serves a resource with an `ETag`, fresh for a minute.
pub(crate) fn resource(origin: &Origin, path: &str, kind: &'static str, body: &'static str) {
    origin.on(path, move |x| {
        let fields = ["Cache-Control: max-age=60", "ETag: \"v\"", &format!("Content-Type: {kind}")];
        if x.request.field("if-none-match").is_some() {
            x.reply("304 Not Modified", &fields, "");
        } else {
            x.reply("200 OK", &fields, body);
        }
    });
}

/// A promise of what [`websocket_echo`] at `/ws` sends back.
pub(crate) const ECHO: &str = r"new Promise((resolve, reject) => {
  const socket = new WebSocket(`ws://${location.host}/ws`)
  socket.onopen = () => socket.send('over the proxy')
  socket.onmessage = event => { resolve(event.data); socket.close() }
  socket.onerror = () => reject(new Error('the WebSocket failed'))
})";

/// Answers a WebSocket's handshake and sends one message back. RFC 6455.
pub(crate) fn websocket_echo(x: &mut Exchange) {
    let key =
        x.request.field("sec-websocket-key").unwrap_or_default() + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let accept = base64::engine::general_purpose::STANDARD.encode(sha1(key.as_bytes()));
    x.write(format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    ));
    let head = x.wire().exactly(2).unwrap();
    let length = usize::from(head[1] & 0x7f);
    let mask = x.wire().exactly(4).unwrap();
    let masked = x.wire().exactly(length).unwrap();
    let text: Vec<u8> = masked.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    x.write([&[0x81, length as u8], &text[..]].concat());
    x.wire().some().ok();
    x.done();
}

/// RFC 3174; only for a handshake.
#[allow(clippy::many_single_char_names, reason = "the RFC's names")]
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state: [u32; 5] = [0x6745_2301, 0xEFCD_AB89, 0x98BA_DCFE, 0x1032_5476, 0xC3D2_E1F0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64), 0);
    if padded.len() - message.len() < 9 {
        padded.resize(padded.len() + 64, 0);
    }
    let end = padded.len() - 8;
    padded[end..].copy_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks_exact(64) {
        let mut words: Vec<u32> =
            block.chunks_exact(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect();
        for at in 16..80 {
            words.push((words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at / 20 {
                0 => ((b & c) | (!b & d), 0x5A82_7999),
                1 => (b ^ c ^ d, 0x6ED9_EBA1),
                2 => ((b & c) | (b & d) | (c & d), 0x8F1B_BCDC),
                _ => (b ^ c ^ d, 0xCA62_C1D6_u32),
            };
            let next = a
                .rotate_left(5)
                .wrapping_add(mixed)
                .wrapping_add(e)
                .wrapping_add(constant)
                .wrapping_add(*word);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (kept, new) in state.iter_mut().zip([a, b, c, d, e]) {
            *kept = kept.wrapping_add(new);
        }
    }
    let mut digest = [0; 20];
    digest.chunks_exact_mut(4).zip(state).for_each(|(out, word)| out.copy_from_slice(&word.to_be_bytes()));
    digest
}

#[test]
fn chromium_loads_reloads_and_speaks_websocket() {
    let Some(driver) = Driver::start() else { return skip("Chromium", "chromedriver is not installed") };
    let origin = Origin::start();
    resource(&origin, "/", "text/html", PAGE);
    resource(&origin, "/style.css", "text/css", "h1 { color: rgb(1, 2, 3) }");
    resource(&origin, "/script.js", "text/javascript", SCRIPT);
    resource(
        &origin,
        "/image.svg",
        "image/svg+xml",
        "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>",
    );
    resource(&origin, "/data.json", "application/json", r#"{"title":"loaded"}"#);
    origin.on("/ws", websocket_echo);
    let proxy = Proxy::open();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = origin.url("/");
        let first = driver.browser(&proxy).await;
        load(&first, &url).await;
        let color = "return getComputedStyle(document.querySelector('h1')).color";
        assert_eq!(first.execute(color, vec![]).await.unwrap(), "rgb(1, 2, 3)");
        for path in ["/", "/style.css", "/script.js", "/image.svg", "/data.json"] {
            assert_eq!(origin.hits(path), 1, "{path}");
        }

        first.refresh().await.unwrap();
        loaded(&first).await;
        let again = origin.last("/");
        assert_eq!(origin.hits("/"), 2, "a reload asks the origin");
        assert_eq!(again.field("if-none-match").as_deref(), Some("\"v\""));

        let echoed = first
            .execute_async(&format!("{ECHO}.then(arguments[0], e => arguments[0](String(e)))"), vec![])
            .await;
        assert_eq!(echoed.unwrap(), "over the proxy");
        let tunnel =
            proxy.log.wait("the log", |l| l.contains("CONNECT") && l.contains(&origin.address.to_string()));
        assert!(tunnel.contains("\"tunnel\""), "{tunnel}");
        first.close().await.unwrap();

        // A browser that knows nothing gets all of it from the store.
        let second = driver.browser(&proxy).await;
        load(&second, &url).await;
        second.close().await.unwrap();
        for path in ["/style.css", "/script.js", "/image.svg", "/data.json"] {
            assert_eq!(origin.hits(path), 1, "{path}");
        }
        assert_eq!(origin.hits("/"), 2);
    });
}

async fn load(browser: &Client, url: &str) {
    browser.goto(url).await.unwrap();
    loaded(browser).await;
}

/// Waits until the script has set the title and the image is there.
async fn loaded(browser: &Client) {
    let ready = "const done = arguments[0]; const look = () => \
        document.title === 'loaded' && window.shown ? done(true) : setTimeout(look, 5); look()";
    browser.execute_async(ready, vec![]).await.unwrap();
}
