//! The page in Chromium: what it shows, that it works by keyboard and on a phone, and what it says where nothing is there
//! or nothing answers.

use crate::dashboard::{FRESH, next_tick, stdout};
use crate::support::driver::Driver;
use crate::support::proxy::Signal;
use crate::support::{Origin, Proxy, skip};
use fantoccini::{Client, Locator};
use serde_json::Value;

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

    /// Chooses an option of a list.
    async fn choose(&self, selector: &str, value: &str) {
        let choose = "const list = document.querySelector(arguments[0]); list.value = arguments[1]; \
            for (const event of ['input', 'change']) list.dispatchEvent(new Event(event))";
        self.browser.execute(choose, vec![selector.into(), value.into()]).await.unwrap();
    }

    /// Waits for this text in an element.
    async fn shows(&self, selector: &str, text: &str) {
        self.until(&format!("document.querySelector('{selector}').textContent === {}", Value::from(text)))
            .await;
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

    /// Of the ground, and of the words on it: the sum of red, green and blue.
    async fn brightness(&self) -> (u64, u64) {
        let sums = "const style = getComputedStyle(document.body);
            return [style.backgroundColor, style.color]
                .map(color => color.match(/\\d+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0))";
        let sums = self.script(sums).await;
        (sums[0].as_u64().unwrap(), sums[1].as_u64().unwrap())
    }

    /// The keyboard's return key, where the focus is.
    async fn enter(&self) {
        self.browser.active_element().await.unwrap().send_keys("\u{e007}").await.unwrap();
    }

    /// Counts what is entered, and purges it, by keyboard. `stored` tells whether it is still there.
    async fn purges(&self, what: &str, stored: impl Fn() -> bool) {
        self.press("#purge-value", "\u{e007}").await;
        self.shows("#purge-state", &format!("{what} would be purged.")).await;
        assert!(stored(), "counting removes nothing");
        self.enter().await;
        self.until("document.querySelector('#purge-state').classList.contains('good')").await;
        assert!(self.text("#purge-state").await.starts_with(&format!("{what} w")));
        assert!(!stored());
    }

    async fn fits(&self, what: &str) {
        let wide = "const root = document.documentElement;
            return Math.max(0, root.scrollWidth - Math.min(root.clientWidth, screen.width))";
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
        let (ground, words) = page.brightness().await;
        assert!(ground > 600 && words < 300, "dark on light: {ground}, {words}");
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
        page.choose("#exchange-result", "hit").await;
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
        page.choose("#exchange-result", "bypass").await;
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
        page.choose("#exchange-result", "hit").await;
        page.click("#exchange-rows button.url").await;
        page.until("document.querySelector('#decision-text').textContent.includes('plan: serve')").await;
        page.click("#decision-purge").await;
        page.until("!document.querySelector('#purge').hidden").await;
        assert_eq!(
            page.script("return document.querySelector('#purge-value').value").await,
            origin.url("/news")
        );

        page.click("a[href='#stored']").await;
        page.until("document.querySelectorAll('#stored-rows tr').length === 3").await;
        page.picture("desktop-light-stored").await;
        let stored = page.text("#stored-rows").await;
        assert!(stored.contains("<img src=x onerror=\"window.pwned=1\">"), "{stored}");
        page.choose("#stored-sort", "sites").await;
        page.until("document.querySelector('#stored-caption').textContent.startsWith('1 sites')").await;
        assert_eq!(
            page.script("return [window.pwned ?? null, document.images.length]").await,
            serde_json::json!([null, 0])
        );

        // Nothing goes before it was counted.
        page.click("a[href='#purge']").await;
        page.script("document.querySelector('#purge-value').value = ''").await;
        page.choose("#purge-kind", "tag").await;
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
        page.choose("#purge-kind", "host").await;
        page.press("#purge-value", "!\u{e007}").await;
        page.until("document.querySelector('#purge-state').classList.contains('bad')").await;
        assert!(page.text("#purge-state").await.contains("expected a host without scheme and port"));

        page.click("a[href='#configuration']").await;
        page.until("document.querySelectorAll('#config-rows tr').length > 50").await;
        page.picture("desktop-light-configuration").await;
        // The filter acts as it is typed in, and its return key does nothing else.
        page.press("#config-filter", "log.query\u{e007}").await;
        page.until("document.querySelectorAll('#config-rows tr').length === 1").await;
        assert!(page.text("#reload-told").await.contains("It was not reloaded since the start."));
        proxy.write_config("log.query = true");
        page.click("#reload-form button").await;
        page.until("document.querySelector('#reload-told').textContent.includes(': changed: log.query')")
            .await;
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
fn the_page_tells_what_happens_while_it_happens() {
    in_chromium(async |driver| {
        let proxy = Proxy::open();
        let page = Page::open(driver.browser_with(&["--window-size=1280,900"], None).await, &proxy).await;
        page.shows("#rate", "0.0").await;
        let origin = Origin::start();
        origin.on("/x", |x| x.reply("200 OK", &[FRESH], [b'x'; 2048]));
        for _ in 0..4 {
            proxy.get(&origin.url("/x")).assert_status(200);
        }
        // All at once: some are of the last seconds only.
        let shown = [
            "Number($('rate').textContent) > 0",
            "$('ratio').textContent === '75 %'",
            "$('ratio-all').textContent === '75 % since the start'",
            "$('saved').textContent === '6.0 KiB'",
            "parseFloat($('saved-rate').textContent) > 0",
            "$('held').textContent === '1'",
            "$('latency').textContent.startsWith('≤ ')",
            "$('latency-99').textContent.startsWith('99 % ≤ ')",
        ];
        page.until(&shown.join(" && ")).await;
        // A row that stays is the same one: it keeps the focus, and nothing moves.
        page.script("window.seen = document.querySelector('#exchange-rows tr:last-child button.url'); seen.focus({ preventScroll: true })")
            .await;
        proxy.get(&origin.url("/x")).assert_hit();
        page.until("document.querySelectorAll('#exchange-rows tr').length === 5").await;
        assert_eq!(
            page.script("return [document.activeElement === window.seen, scrollY]").await,
            serde_json::json!([true, 0])
        );
        // An error that is over is told no more, also where nothing happens.
        page.script("window.real = fetch; window.fetch = () => Promise.reject(new TypeError('no'))").await;
        page.until("$('exchange-state').classList.contains('bad') && $('status').classList.contains('bad')")
            .await;
        page.script("window.fetch = real").await;
        page.until("$('exchange-state').textContent === '' && !$('status').classList.contains('bad')").await;
        // The figures are those of the last seconds.
        page.shows("#rate", "0.0").await;
        page.shows("#ratio", "–").await;
        page.shows("#latency", "–").await;
        page.shows("#saved-rate", "0 B a second").await;
        page.shows("#saved", "8.0 KiB").await;
        page.browser.close().await.unwrap();
    });
}

#[test]
fn what_is_stored_is_ordered_searched_and_purged_on_the_page() {
    in_chromium(async |driver| {
        let proxy = Proxy::open();
        let origin = Origin::start();
        let paths = [("/middle?secret=1", 500), ("/large", 9000), ("/small", 10)];
        for (path, length) in paths {
            origin.on(path, move |x| x.reply("200 OK", &[FRESH], vec![b'x'; length]));
            proxy.get(&origin.url(path)).assert_status(200);
            next_tick();
        }
        origin.serve("/middlemost", "200 OK", &[FRESH], b"x");
        let stored =
            |path: &str| proxy.get_with(&origin.url(path), &["Cache-Control: only-if-cached"]).is_hit();
        let page = Page::open(driver.browser_with(&["--window-size=1280,900"], None).await, &proxy).await;
        page.click("a[href='#stored']").await;
        let rows = async |order: [&str; 3]| {
            let urls = order.map(|path| origin.url(path));
            let all = "[...document.querySelectorAll('#stored-rows button.url')].map(one => one.textContent)";
            page.until(&format!(
                "JSON.stringify({all}) === {}",
                Value::from(serde_json::to_string(&urls).unwrap())
            ))
            .await;
        };
        let middle = "/middle?...";
        rows(["/small", "/large", middle]).await;
        for (sort, order) in [
            ("-age", [middle, "/large", "/small"]),
            ("size", ["/large", middle, "/small"]),
            ("-size", ["/small", middle, "/large"]),
            ("site", ["/large", middle, "/small"]),
            ("age", ["/small", "/large", middle]),
        ] {
            page.choose("#stored-sort", sort).await;
            rows(order).await;
        }
        proxy.get(&origin.url("/middlemost")).assert_status(200);
        page.press("#stored-search", "MIDDLE?\u{e007}").await;
        page.until("document.querySelector('#stored-caption').textContent.startsWith('1 to 1 of 1 stored')")
            .await;
        assert!(page.text("#stored-rows").await.contains(&origin.url(middle)));

        // Without its query it is offered with any; what only begins alike is not meant.
        page.click("#stored-rows button.small").await;
        page.until("document.querySelector('#purge-kind').value === 'path'").await;
        page.purges("1 stored response", || stored("/middle?secret=1")).await;
        assert!(stored("/middlemost"));
        proxy.run(&["purge", &origin.url("/middlemost")]);
        page.click("a[href='#stored']").await;
        page.shows("#stored-state", "Nothing that is stored fits.").await;
        page.script("document.querySelector('#stored-search').value = ''").await;
        page.choose("#stored-sort", "size").await;
        page.until("document.querySelectorAll('#stored-rows tr').length === 2").await;

        page.click("#stored-rows button.small").await;
        page.until("document.querySelector('#purge-kind').value === 'url'").await;
        page.purges("1 stored response", || stored("/large")).await;
        assert!(stored("/small"));

        proxy.get(&origin.url("/large")).assert_status(200);
        page.choose("#purge-kind", "host").await;
        page.script("document.querySelector('#purge-value').value = '127.0.0.1'").await;
        page.purges("2 stored responses", || stored("/small") || stored("/large")).await;
        page.browser.close().await.unwrap();
    });
}

#[test]
fn a_later_page_of_what_has_gone_meanwhile_is_left() {
    in_chromium(async |driver| {
        let proxy = Proxy::open();
        let origin = Origin::start();
        for number in 0..60 {
            let path = format!("/{number}");
            origin.on(&path, |x| x.reply("200 OK", &[FRESH], "x"));
            proxy.get(&origin.url(&path)).assert_status(200);
        }
        let page = Page::open(driver.browser_with(&["--window-size=1280,900"], None).await, &proxy).await;
        page.click("a[href='#stored']").await;
        page.until("document.querySelectorAll('#stored-rows tr').length === 50").await;
        page.click("#stored-on").await;
        page.until("document.querySelector('#stored-caption').textContent.startsWith('51 to 60 of 60')")
            .await;
        assert_eq!(
            stdout(&proxy.run(&["purge", "--glob", &origin.url("/?")])),
            "10 stored responses purged\n"
        );
        page.click("a[href='#exchanges']").await;
        page.click("a[href='#stored']").await;
        page.until("document.querySelector('#stored-caption').textContent.startsWith('1 to 50 of 50')").await;
        page.browser.close().await.unwrap();
    });
}

/// Held still for a while, then ended.
#[test]
fn every_view_tells_that_it_loads_and_that_nobody_answers() {
    in_chromium(async |driver| {
        let proxy = Proxy::open();
        let page = Page::open(driver.browser_with(&["--window-size=1280,900"], None).await, &proxy).await;
        page.shows("#held", "0").await;
        proxy.signal(Signal::STOP);
        for view in ["stored", "configuration"] {
            page.script(&format!("location.hash = '#{view}'")).await;
            page.until(&format!("!document.querySelector('#{view}').hidden")).await;
        }
        for state in ["#stored-state", "#config-state", "#reload-told"] {
            page.shows(state, "Loading…").await;
        }
        page.picture("desktop-light-loading").await;
        proxy.signal(Signal::CONT);
        page.until("document.querySelectorAll('#config-rows tr').length > 50").await;
        page.shows("#config-state", "").await;
        page.shows("#stored-state", "Nothing is stored yet.").await;
        proxy.signal(Signal::KILL);
        for (view, state) in [
            ("stored", "#stored-state"),
            ("configuration", "#config-state"),
            ("exchanges", "#exchange-state"),
        ] {
            page.script(&format!("location.hash = '#{view}'")).await;
            page.until(&format!("document.querySelector('{state}').classList.contains('bad')")).await;
            assert!(page.text(state).await.contains("does not answer"), "{view}");
        }
        page.click("a[href='#purge']").await;
        page.press("#purge-value", "http://h/\u{e007}").await;
        page.until("document.querySelector('#purge-state').classList.contains('bad')").await;
        page.browser.close().await.unwrap();
    });
}

#[test]
fn the_page_fits_phones_in_the_dark() {
    in_chromium(async |driver| {
        for phone in [(390, 844), (320, 568)] {
            fits_a_phone(driver, phone).await;
        }
    });
}

async fn fits_a_phone(driver: &Driver, phone: (u32, u32)) {
    let proxy = Proxy::open();
    let origin = busy(&proxy);
    let tags = (0..30).map(|n| format!("product-{n}")).collect::<Vec<_>>().join(" ");
    origin.on("/tagged", move |x| x.reply("200 OK", &[FRESH, &format!("Surrogate-Key: {tags}")], "x"));
    proxy.get(&origin.url("/tagged")).assert_status(200);
    let browser = driver.browser_with(&["--force-dark-mode"], Some(phone)).await;
    let page = Page::open(browser, &proxy).await;
    page.until("document.querySelectorAll('#exchange-rows tr').length >= 8").await;
    page.shows("#ratio-all", "13 % since the start").await;
    let (ground, words) = page.brightness().await;
    assert!(ground < 150 && words > 450, "light on dark: {ground}, {words}");
    page.fits("the list of exchanges").await;
    page.picture(&format!("phone-{}-dark-exchanges", phone.0)).await;
    page.click("#exchange-rows tr:last-child button.url").await;
    page.until("document.querySelector('#decision-text').textContent.includes('plan:')").await;
    page.fits("a decision").await;
    page.picture(&format!("phone-{}-dark-decision", phone.0)).await;
    page.click("#decision-close").await;
    for view in ["stored", "purge", "configuration"] {
        page.script(&format!("location.hash = '#{view}'")).await;
        page.until(&format!("!document.querySelector('#{view}').hidden")).await;
        if view == "stored" {
            page.until("document.querySelectorAll('#stored-rows tr').length === 4").await;
        }
        if view == "configuration" {
            page.until("document.querySelectorAll('#config-rows tr').length > 50").await;
        }
        page.fits(view).await;
        page.picture(&format!("phone-{}-dark-{view}", phone.0)).await;
    }
    page.browser.close().await.unwrap();
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
        let walk = async |view: &str, expected: &[&str]| {
            page.press(&format!("a[href='#{view}']"), "\u{e007}").await;
            page.until(&format!("!document.querySelector('#{view}').hidden")).await;
            if view == "stored" {
                page.until("document.querySelectorAll('#stored-rows tr').length === 3").await;
            }
            page.script("document.querySelector(\"a[href='#configuration']\").focus()").await;
            for expected in expected {
                page.browser.active_element().await.unwrap().send_keys("\u{e004}").await.unwrap();
                assert_eq!(page.script(focused).await, *expected, "in {view}");
            }
        };
        let button = "";
        walk("stored", &["stored-search", "stored-sort", button, "url", "small", "url"]).await;
        walk("configuration", &[button, "config-filter", "config-changed", "config-rules"]).await;
        walk("purge", &["purge-kind", "purge-value", button]).await;
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
        // What no field of a request can carry never leaves the page.
        page.press("#token-value", "correct-horse\u{200b}!\u{e007}").await;
        page.until("document.querySelector('#token-state').textContent.includes('no token')").await;
        page.script("document.querySelector('#token-value').value = ''").await;
        page.press("#token-value", "wrong\u{e007}").await;
        page.until("document.querySelector('#token-state').textContent.includes('not the one')").await;
        page.press("#token-value", "correct-horse\u{e007}").await;
        page.until("document.querySelector('#exchange-state').textContent.startsWith('No exchange yet')")
            .await;
        assert_eq!(page.script("return document.querySelector('#token').hidden").await, true);

        // Another token: what was shown before is not shown twice.
        let origin = Origin::start();
        for _ in 0..2 {
            proxy.get(&origin.url("/x")).assert_status(404);
        }
        page.until("document.querySelectorAll('#exchange-rows tr').length === 2").await;
        proxy.write_config("admin.token = 'battery-staple'");
        proxy.signal(Signal::HUP);
        page.until("!document.querySelector('#token').hidden").await;
        page.press("#token-value", "battery-staple\u{e007}").await;
        page.until("document.querySelectorAll('#exchange-rows tr').length === 2").await;
        proxy.get(&origin.url("/x")).assert_status(404);
        page.until("document.querySelectorAll('#exchange-rows tr').length === 3").await;
        assert_eq!(page.script("return kept.length").await, 3);
        page.browser.close().await.unwrap();
    });
}
