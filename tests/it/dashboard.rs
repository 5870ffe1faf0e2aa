//! What people look at: listings, the last exchanges, the configuration, over the API, the command line, and the page
//! in Chromium.

use crate::support::driver::Driver;
use crate::support::proxy::{Signal, command};
use crate::support::{Origin, Proxy, skip};
use fantoccini::{Client, Locator};
use serde_json::Value;

const FRESH: &str = "Cache-Control: max-age=3600";

fn strings<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    list.as_array().unwrap().iter().map(|one| one[name].as_str().unwrap()).collect()
}

fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn what_is_stored_is_listed_in_order_searched_and_paged() {
    let origin = Origin::start();
    for (path, length) in [("/small", 10), ("/large", 9000), ("/middle?secret=1", 500)] {
        origin.on(path, move |x| {
            let fields = [FRESH, "Content-Type: text/plain", "Surrogate-Key: a b"];
            x.reply("200 OK", &fields, "x".repeat(length));
        });
    }
    let proxy = Proxy::open();
    assert_eq!(proxy.admin_json("GET", "/api/v1/stored")["found"], 0);
    assert_eq!(stdout(&proxy.run(&["ls"])), "0 stored responses, 0 B\n");
    for path in ["/large", "/small", "/middle?secret=1"] {
        proxy.get(&origin.url(path)).assert_status(200);
    }
    proxy.get(&origin.url_at("localhost", "/small")).assert_status(200);
    let listed = |query: &str| proxy.admin_json("GET", &format!("/api/v1/stored?{query}"));
    let (small, large) = (origin.url("/small"), origin.url("/large"));
    let (middle, other) = (origin.url("/middle?..."), origin.url_at("localhost", "/small"));

    let by_size = listed("sort=size&limit=2");
    assert_eq!(strings(&by_size["responses"], "url"), [&large, &middle]);
    assert_eq!((&by_size["found"], by_size["bytes"].as_u64().unwrap() > 9000), (&4.into(), true));
    let next = listed("sort=size&limit=2&offset=2");
    assert_eq!(strings(&next["responses"], "url").len(), 2);
    assert_eq!(strings(&listed("sort=age")["responses"], "url").len(), 4);
    assert_eq!(strings(&listed("sort=site")["responses"], "url"), [&large, &middle, &small, &other]);
    assert_eq!(strings(&listed("sort=site&reverse=true&limit=1")["responses"], "url"), [&other]);

    let found = listed("search=MIDDLE");
    let one = &found["responses"][0];
    assert_eq!((&found["found"], &one["url"]), (&1.into(), &middle.as_str().into()));
    assert_eq!(
        (&one["query_hidden"], &one["status"], &one["body_bytes"]),
        (&true.into(), &200.into(), &500.into())
    );
    assert_eq!((&one["fresh"], &one["content_type"]), (&true.into(), &"text/plain".into()));
    assert_eq!(one["tags"], serde_json::json!(["a", "b"]));
    assert_eq!(listed("search=secret")["found"], 0, "what is hidden is not found either");

    let sites = proxy.admin_json("GET", "/api/v1/sites");
    assert_eq!(strings(&sites["sites"], "host"), ["127.0.0.1", "localhost"]);
    assert_eq!((&sites["sites"][0]["responses"], &sites["found"]), (&3.into(), &2.into()));

    let told = stdout(&proxy.run(&["ls", "--sort", "size"]));
    let lines: Vec<_> = told.lines().collect();
    assert!(lines[0].ends_with(&large) && lines[1].ends_with(&middle), "{told}");
    assert!(lines[4].starts_with("4 stored responses, "), "{told}");
    assert!(!told.contains("secret"), "{told}");
    assert!(stdout(&proxy.run(&["ls", "--sites", "local"])).contains("1  localhost\n1 site\n"));
    let json: Value = serde_json::from_str(&stdout(&proxy.run(&["ls", "large", "--json"]))).unwrap();
    assert_eq!(json["found"], 1);
    let shown = Proxy::with("log.query = true");
    shown.get(&origin.url("/middle?secret=1")).assert_status(200);
    assert_eq!(shown.admin_json("GET", "/api/v1/stored?search=secret")["found"], 1);
}

#[test]
fn exchanges_are_told_as_they_happen_and_one_is_explained_by_its_number() {
    let origin = Origin::start();
    origin.serve("/x?secret=1", "200 OK", &[FRESH], b"x");
    let proxy = Proxy::open();
    assert_eq!(proxy.admin_json("GET", "/api/v1/exchanges")["next"], 0);
    for _ in 0..2 {
        proxy.get(&origin.url("/x?secret=1")).assert_body("x");
    }
    proxy.log.wait_count("the log", 2, |_| true);
    let told = proxy.admin_json("GET", "/api/v1/exchanges");
    assert_eq!(strings(&told["exchanges"], "result"), ["miss", "hit"]);
    assert_eq!(told["exchanges"][0]["url"], origin.url("/x?..."));
    assert_eq!((&told["exchanges"][0]["reason"], &told["next"]), (&Value::Null, &2.into()));

    let explained = proxy.admin_json("GET", "/api/v1/explain?exchange=2");
    assert_eq!(explained["decision"]["plan"], "serve", "by its whole URL");
    assert!(!explained.to_string().contains("secret"), "{explained}");
    let fields = ["Accept: text/plain"];
    let text = proxy.admin("GET", "/api/v1/explain?exchange=2", &fields, "").text();
    assert!(text.contains("plan: serve\n") && text.contains("lifetime: 3600 s from max-age"), "{text}");
    proxy.admin("GET", "/api/v1/explain?exchange=3", &[], "").assert_status(400);

    proxy.raw("GET foo HTTP/1.1\r\nHost: h\r\n\r\n").assert_status(400);
    proxy.log.wait_count("the log", 3, |_| true);
    let told = proxy.admin_json("GET", "/api/v1/exchanges?after=2");
    assert_eq!(strings(&told["exchanges"], "result"), ["invalid"]);
}

#[test]
fn what_was_shown_is_forgotten_when_queries_are_to_be_hidden() {
    let origin = Origin::start();
    origin.serve("/x?secret=1", "200 OK", &[FRESH], b"x");
    let proxy = Proxy::with("log.query = true");
    proxy.get(&origin.url("/x?secret=1")).assert_body("x");
    proxy.log.wait_count("the log", 1, |_| true);
    let exchanges = || proxy.admin_json("GET", "/api/v1/exchanges").to_string();
    assert!(exchanges().contains("secret"));
    proxy.write_config("log.query = false");
    proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(200);
    assert!(!exchanges().contains("secret"));
}

#[test]
fn the_configuration_that_runs_is_told_without_secrets_and_with_its_last_reload() {
    let proxy = Proxy::with(
        "admin.token = 'correct-horse'\ncache.memory = '64MiB'\n[[rules]]\nhosts = ['a.example']",
    );
    let told = proxy.admin_json("GET", "/api/v1/config");
    let value = |told: &Value, key: &str| {
        told["settings"].as_array().unwrap().iter().find(|one| one["key"] == key).unwrap()["value"].clone()
    };
    assert_eq!(
        (value(&told, "cache.memory"), value(&told, "admin.token")),
        ("64.0 MiB".into(), "(not shown)".into())
    );
    assert_eq!(told["rules"][0]["hosts"], serde_json::json!(["a.example"]));
    assert_eq!(told["last_reload"], Value::Null);
    assert!(!told.to_string().contains("correct-horse"));

    proxy.write_config("log.query = true");
    proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(200);
    let told = proxy.admin_json("GET", "/api/v1/config");
    let last = &told["last_reload"];
    assert!(last["done"] == true && last["at"].as_i64().unwrap() > 0, "{last}");
    assert!(last["live"].as_array().unwrap().contains(&"log.query".into()), "{last}");
    assert_eq!(last["restart"], serde_json::json!(["cache.memory"]));
    assert_eq!((value(&told, "log.query"), value(&told, "cache.memory")), (true.into(), "64.0 MiB".into()));

    proxy.write_config_raw("log.query = 3");
    proxy.admin("POST", "/api/v1/reload", &[], "").assert_status(422);
    let last = &proxy.admin_json("GET", "/api/v1/config")["last_reload"];
    assert!(last["done"] == false && last["errors"][0].as_str().unwrap().contains("log.query"), "{last}");
}

#[test]
fn top_shows_rates_and_the_last_exchanges() {
    let origin = Origin::start();
    origin.serve("/x", "200 OK", &[FRESH], b"x");
    let proxy = Proxy::open();
    for _ in 0..2 {
        proxy.get(&origin.url("/x")).assert_body("x");
    }
    // What passes the cache by counts in the ratio, as in the rules for Prometheus.
    proxy.client().request("POST", &origin.url("/x"), &[], "").assert_body("x");
    proxy.log.wait_count("the log", 3, |_| true);
    let told = stdout(&proxy.run(&["top", "--count", "2", "--interval", "1ms"]));
    assert_eq!(told.matches("requests/s, hit ratio").count(), 2, "{told}");
    assert!(told.contains("hit ratio 33 %"), "{told}");
    let lines: Vec<_> = told.lines().filter(|line| line.ends_with(&origin.url("/x"))).collect();
    let order = [" bypass ", " hit ", " miss "];
    assert!(lines.iter().zip(order).all(|(line, result)| line.contains(result)), "{told}");
    let nobody = command().args(["--admin-listen", "127.0.0.1:1", "top", "--count", "1"]).output().unwrap();
    assert_eq!(nobody.status.code(), Some(1), "{nobody:?}");
}

#[test]
fn an_admin_listener_beyond_loopback_without_a_token_is_warned_about() {
    let warned = |proxy: &Proxy| proxy.diagnostics.all().iter().any(|line| line.contains("no admin.token"));
    assert!(warned(&Proxy::builder().admin_listen("0.0.0.0:0").start()));
    assert!(!warned(&Proxy::builder().config("admin.token = 'x'").admin_listen("0.0.0.0:0").start()));
    assert!(!warned(&Proxy::open()));
}

/// The page of a proxy in a browser.
struct Page {
    browser: Client,
}

impl Page {
    async fn open(browser: Client, proxy: &Proxy) -> Self {
        browser.goto(&format!("http://127.0.0.1:{}/", proxy.admin.port())).await.unwrap();
        Self { browser }
    }

    async fn script(&self, script: &str) -> Value {
        self.browser.execute(script, vec![]).await.unwrap()
    }

    /// Waits until the expression is true; at most as long as the driver lets a script run.
    async fn until(&self, what: &str) {
        let script = format!(
            "const done = arguments[0]; const look = () => ({what}) ? done(true) : setTimeout(look, 20); look()"
        );
        let came = self.browser.execute_async(&script, vec![]).await;
        assert!(came.is_ok(), "{what} did not come about: {}", self.text("body").await);
    }

    async fn text(&self, selector: &str) -> String {
        self.browser.find(Locator::Css(selector)).await.unwrap().text().await.unwrap()
    }

    async fn press(&self, selector: &str, keys: &str) {
        self.browser.find(Locator::Css(selector)).await.unwrap().send_keys(keys).await.unwrap();
    }

    async fn click(&self, selector: &str) {
        self.browser.find(Locator::Css(selector)).await.unwrap().click().await.unwrap();
    }

    /// Kept where `LARDER_SCREENSHOTS` says, to be looked at.
    async fn picture(&self, name: &str) {
        if let Some(directory) = std::env::var_os("LARDER_SCREENSHOTS") {
            let png = self.browser.screenshot().await.unwrap();
            std::fs::write(std::path::Path::new(&directory).join(format!("{name}.png")), png).unwrap();
        }
    }

    async fn fits(&self, what: &str) {
        let wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(self.script(wide).await, 0, "{what} is wider than the screen");
    }
}

fn in_chromium(script: impl AsyncFnOnce(&Driver)) {
    let Some(driver) = Driver::start() else { return skip("the page", "chromedriver is not installed") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(script(&driver));
}

/// An origin with pages of several kinds, some of them hostile.
fn busy(proxy: &Proxy) -> Origin {
    let origin = Origin::start();
    origin.serve(
        "/news?day=1",
        "200 OK",
        &[FRESH, "Content-Type: text/html", "Surrogate-Key: news"],
        b"news",
    );
    origin.on("/large.bin", |x| x.reply("200 OK", &[FRESH], "x".repeat(40_000)));
    origin.serve("/private", "200 OK", &["Cache-Control: private"], b"x");
    let evil = &[
        FRESH,
        "Content-Type: <img src=x onerror=\"window.pwned=1\">",
        "Cache-Tag: <img src=x onerror=\"window.pwned=1\">",
    ];
    origin.serve("/evil", "200 OK", evil, b"x");
    for path in ["/news?day=1", "/news?day=1", "/large.bin", "/private", "/evil", "/missing"] {
        proxy.get(&origin.url(path));
    }
    proxy.get(&origin.url("/q\"onfocus=\"window.pwned=1\"autofocus"));
    proxy.raw("<script>window.pwned=1</script> http://h/ HTTP/1.1\r\nHost: h\r\n\r\n");
    proxy.log.wait_count("the log", 8, |_| true);
    origin
}

#[test]
fn the_page_shows_exchanges_explains_them_and_purges_after_a_count() {
    in_chromium(async |driver| {
        let proxy = Proxy::open();
        let page = Page::open(driver.browser_with(&["--window-size=1280,900"], None).await, &proxy).await;
        page.until("document.querySelector('#exchange-state').textContent.startsWith('No exchange yet')")
            .await;
        page.until("document.querySelector('#held').textContent === '0'").await;
        page.picture("desktop-light-empty").await;
        page.click("a[href='#stored']").await;
        page.until("document.querySelector('#stored-state').textContent === 'Nothing is stored yet.'").await;
        page.click("a[href='#exchanges']").await;

        let origin = busy(&proxy);
        page.until("document.querySelectorAll('#exchange-rows tr').length >= 8").await;
        page.until("document.querySelector('#ratio-all').textContent.startsWith('14 %')").await;
        page.picture("desktop-light-exchanges").await;
        let rows = page.text("#exchange-rows").await;
        for told in ["hit", "miss", "private", "/news?...", "/q\"onfocus=\"window.pwned=1\"autofocus"] {
            assert!(rows.contains(told), "{told} is missing:\n{rows}");
        }
        assert!(!rows.contains("day=1"), "{rows}");
        page.press("#exchange-filter", "private").await;
        page.until("document.querySelectorAll('#exchange-rows tr').length === 1").await;
        page.script("document.querySelector('#exchange-filter').value = ''").await;
        page.script("const r = document.querySelector('#exchange-result'); r.value = 'hit'; r.dispatchEvent(new Event('input'))").await;
        page.until("document.querySelectorAll('#exchange-rows tr').length === 1").await;

        // One click tells what `larder explain` tells, but for the query, and for the time that passes.
        page.click("#exchange-rows button.url").await;
        page.until("document.querySelector('#decision-text').textContent.includes('plan: serve')").await;
        page.picture("desktop-light-decision").await;
        let told = page.text("#decision-text").await;
        let explained = stdout(&proxy.run(&["explain", &origin.url("/news?day=1")]));
        let still = |text: &str| {
            let passes = ["fresh:", "current age:", "resident time:"];
            let lines = text.lines().filter(|line| !passes.iter().any(|word| line.contains(word)));
            lines.map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(still(&told), still(&explained).replace("?day=1", "?..."));
        assert_eq!(page.script("return document.querySelector('#decision-ask').hidden").await, true);
        page.click("#decision-close").await;

        // Where the origin would have to be asked, that is a second step: a link may count how often it is followed.
        let no_store = &["Cache-Control: no-store"];
        proxy.client().request("HEAD", &origin.url("/private"), no_store, "").assert_status(200);
        page.script("const r = document.querySelector('#exchange-result'); r.value = 'bypass'; r.dispatchEvent(new Event('input'))").await;
        page.until("document.querySelectorAll('#exchange-rows tr').length === 1").await;
        let before = origin.hits("/private");
        page.click("#exchange-rows button.url").await;
        page.until("document.querySelector('#decision-text').textContent.endsWith('origin: not asked\\n')")
            .await;
        assert_eq!(page.text("#decision-as").await, "As a HEAD with the field");
        assert_eq!(origin.hits("/private"), before);
        page.picture("desktop-light-decision-offline").await;
        page.click("#decision-ask").await;
        page.until("document.querySelector('#decision-text').textContent.includes('verdict: pass-through')")
            .await;
        assert_eq!((origin.hits("/private"), origin.last("/private").method.as_str()), (before + 1, "HEAD"));
        assert_eq!(page.script("return document.querySelector('#decision-ask').hidden").await, true);
        page.click("#decision-close").await;
        page.script("const r = document.querySelector('#exchange-result'); r.value = 'hit'; r.dispatchEvent(new Event('input'))").await;
        page.click("#exchange-rows button.url").await;
        page.until("document.querySelector('#decision-text').textContent.includes('plan: serve')").await;
        page.click("#decision-purge").await;
        page.until("!document.querySelector('#purge').hidden").await;
        assert_eq!(
            page.script("return document.querySelector('#purge-value').value").await,
            origin.url("/news?*")
        );

        page.click("a[href='#stored']").await;
        page.until("document.querySelectorAll('#stored-rows tr').length === 3").await;
        page.picture("desktop-light-stored").await;
        let stored = page.text("#stored-rows").await;
        assert!(stored.contains("<img src=x onerror=\"window.pwned=1\">"), "{stored}");
        page.script("const s = document.querySelector('#stored-sort'); s.value = 'sites'; s.dispatchEvent(new Event('change'))").await;
        page.until("document.querySelector('#stored-caption').textContent.startsWith('1 sites')").await;
        assert_eq!(
            page.script("return [window.pwned ?? null, document.images.length]").await,
            serde_json::json!([null, 0])
        );

        // Nothing goes before it was counted.
        page.click("a[href='#purge']").await;
        page.script("document.querySelector('#purge-value').value = ''").await;
        page.script("const k = document.querySelector('#purge-kind'); k.value = 'tag'; k.dispatchEvent(new Event('input'))").await;
        page.press("#purge-value", "news\u{e007}").await;
        page.until(
            "document.querySelector('#purge-state').textContent === '1 stored response would be purged.'",
        )
        .await;
        page.picture("desktop-light-purge").await;
        let hit = || proxy.get_with(&origin.url("/news?day=1"), &["Cache-Control: only-if-cached"]).is_hit();
        assert!(hit());
        page.click("#purge-now").await;
        page.until("document.querySelector('#purge-state').textContent === '1 stored response was purged.'")
            .await;
        assert!(!hit());
        page.script("const k = document.querySelector('#purge-kind'); k.value = 'host'; k.dispatchEvent(new Event('input'))").await;
        page.press("#purge-value", "!\u{e007}").await;
        page.until("document.querySelector('#purge-state').classList.contains('bad')").await;
        assert!(page.text("#purge-state").await.contains("expected a host without scheme and port"));

        page.click("a[href='#configuration']").await;
        page.until("document.querySelectorAll('#config-rows tr').length > 50").await;
        page.picture("desktop-light-configuration").await;
        proxy.write_config_raw("log.query = 3");
        page.click("#reload-form button").await;
        page.until("document.querySelector('#reload-errors').textContent.includes('log.query')").await;
        assert!(page.text("#reload-told").await.contains("refused"));

        // What the console has no reason to complain about, a policy did not block either.
        let blocked = "return performance.getEntriesByType('resource').map(r => new URL(r.name).host)";
        let hosts = page.script(blocked).await;
        let own = proxy.admin.to_string();
        assert!(hosts.as_array().unwrap().iter().all(|host| *host == own), "{hosts}");
        proxy.signal(Signal::KILL);
        page.until("document.querySelector('#status').classList.contains('bad')").await;
        assert!(page.text("#status").await.contains("does not answer"));
        page.picture("desktop-light-error").await;
        page.browser.close().await.unwrap();
    });
}

#[test]
fn the_page_fits_a_phone_in_the_dark() {
    in_chromium(async |driver| {
        let proxy = Proxy::open();
        let _origin = busy(&proxy);
        let browser = driver.browser_with(&["--force-dark-mode"], Some((390, 844))).await;
        let page = Page::open(browser, &proxy).await;
        page.until("document.querySelectorAll('#exchange-rows tr').length >= 8").await;
        page.until("document.querySelector('#latency').textContent !== '…'").await;
        assert_eq!(page.script("return matchMedia('(prefers-color-scheme: dark)').matches").await, true);
        page.fits("the list of exchanges").await;
        page.picture("phone-dark-exchanges").await;
        page.click("#exchange-rows tr:last-child button.url").await;
        page.until("document.querySelector('#decision-text').textContent.includes('plan:')").await;
        page.fits("a decision").await;
        page.picture("phone-dark-decision").await;
        page.click("#decision-close").await;
        for view in ["stored", "purge", "configuration"] {
            page.script(&format!("location.hash = '#{view}'")).await;
            page.until(&format!("!document.querySelector('#{view}').hidden")).await;
            if view == "stored" {
                page.until("document.querySelectorAll('#stored-rows tr').length === 3").await;
            }
            if view == "configuration" {
                page.until("document.querySelectorAll('#config-rows tr').length > 50").await;
            }
            page.fits(view).await;
            page.picture(&format!("phone-dark-{view}")).await;
        }
        page.browser.close().await.unwrap();
    });
}

#[test]
fn everything_is_reached_by_keyboard() {
    in_chromium(async |driver| {
        let proxy = Proxy::open();
        let _origin = busy(&proxy);
        let page = Page::open(driver.browser_with(&["--window-size=1280,900"], None).await, &proxy).await;
        page.until("document.querySelectorAll('#exchange-rows tr').length >= 8").await;
        page.script("document.querySelector('#exchange-pause').click()").await;
        let focused = "return document.activeElement.hash || document.activeElement.id || document.activeElement.className";
        let mut reached = Vec::new();
        for _ in 0..8 {
            let active = page.browser.active_element().await.unwrap();
            active.send_keys("\u{e004}").await.unwrap();
            reached.push(page.script(focused).await.as_str().unwrap().to_owned());
        }
        // The pause was focused by nobody: the walk begins at the top.
        assert_eq!(
            reached,
            [
                "#exchanges",
                "#stored",
                "#purge",
                "#configuration",
                "exchange-filter",
                "exchange-result",
                "exchange-pause",
                "url",
            ]
        );
        let outlined = "return getComputedStyle(document.activeElement).outlineStyle";
        assert_eq!(page.script(outlined).await, "solid", "who has the focus is seen");
        page.browser.active_element().await.unwrap().send_keys("\u{e007}").await.unwrap();
        page.until("document.querySelector('#decision').open").await;
        page.browser.active_element().await.unwrap().send_keys("\u{e00c}").await.unwrap();
        page.until("!document.querySelector('#decision').open").await;
        assert_eq!(page.script(focused).await, "url", "the focus is back where it was");
        page.press("a[href='#purge']", "\u{e007}").await;
        page.until("!document.querySelector('#purge').hidden").await;
        page.browser.close().await.unwrap();
    });
}

#[test]
fn a_page_beyond_loopback_asks_for_the_token() {
    in_chromium(async |driver| {
        let proxy =
            Proxy::builder().config("admin.token = 'correct-horse'").admin_listen("0.0.0.0:0").start();
        let page = Page::open(driver.browser_with(&["--window-size=1280,900"], None).await, &proxy).await;
        page.until("!document.querySelector('#token').hidden").await;
        page.until("document.querySelector('#exchange-state').classList.contains('bad')").await;
        page.picture("desktop-light-token").await;
        page.press("#token-value", "wrong\u{e007}").await;
        page.until("document.querySelector('#token-state').textContent.includes('not the one')").await;
        page.press("#token-value", "correct-horse\u{e007}").await;
        page.until("document.querySelector('#exchange-state').textContent.startsWith('No exchange yet')")
            .await;
        assert_eq!(page.script("return document.querySelector('#token').hidden").await, true);
        page.browser.close().await.unwrap();
    });
}
