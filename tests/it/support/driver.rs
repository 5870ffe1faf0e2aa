//! Headless browsers: Chromium, driven by chromedriver, and Firefox, driven by geckodriver.

use super::{Client as Raw, Proxy};
use fantoccini::{Client, ClientBuilder};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running driver of one kind of browser; ends with the value.
pub(crate) struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    /// Chromium's.
    pub(crate) fn start() -> Option<Self> {
        Self::run("chromedriver".as_ref(), &["--port=0"], "started successfully on port")
    }

    /// Firefox's.
    pub(crate) fn firefox() -> Option<Self> {
        let built = crate::clients::prepared("geckodriver/bin/geckodriver");
        let arguments = &["--port=0", "--allow-system-access"];
        Self::run(built.as_os_str(), arguments, "Listening on")
            .or_else(|| Self::run("geckodriver".as_ref(), arguments, "Listening on"))
    }

    /// Starts a driver whose line with `told` ends with its port.
    fn run(program: &OsStr, arguments: &[&str], told: &str) -> Option<Self> {
        let mut driver = Command::new(program);
        // Firefox is of its group, and ends with it where a test fails.
        driver.args(arguments).process_group(0).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = driver.spawn().ok()?;
        let mut lines = BufReader::new(child.stdout.take()?).lines();
        let port = lines.by_ref().map_while(Result::ok).find(|line| line.contains(told))?;
        let port = port.trim_end_matches('.').rsplit([' ', ':']).next()?.parse().ok()?;
        // It must not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Some(Self { child, port })
    }

    /// A new browser with a fresh profile that knows the proxy.
    pub(crate) async fn browser(&self, proxy: &Proxy) -> Client {
        let proxy = format!("--proxy-server=http://{}", proxy.address);
        self.browser_with(&["--proxy-bypass-list=<-loopback>", &proxy], None).await
    }

    /// A new browser with a fresh profile and these further arguments; with a width and height, one that looks like
    /// a phone of that size.
    pub(crate) async fn browser_with(&self, more: &[&str], phone: Option<(u32, u32)>) -> Client {
        let phone = phone.map(|(width, height)| {
            let metrics = json!({ "width": width, "height": height, "pixelRatio": 2.0 });
            json!({ "mobileEmulation": { "deviceMetrics": metrics } })
        });
        self.browser_of(more, phone.unwrap_or_else(|| json!({}))).await
    }

    /// A new browser with a fresh profile, these further arguments and options of Chromium's driver.
    pub(crate) async fn browser_of(&self, more: &[&str], mut options: serde_json::Value) -> Client {
        let mut arguments = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
        ];
        arguments.extend(more);
        options["args"] = json!(arguments);
        self.session(&json!({ "goog:chromeOptions": options })).await
    }

    /// A new Firefox with a fresh profile, which asks this PAC file and has these preferences.
    pub(crate) async fn firefox_by_pac(&self, pac: &str, preferences: &Value) -> Client {
        self.session(&json!({
            "proxy": { "proxyType": "pac", "proxyAutoconfigUrl": pac },
            "moz:firefoxOptions": { "args": ["-headless"], "prefs": preferences },
        }))
        .await
    }

    async fn session(&self, capabilities: &Value) -> Client {
        ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities.as_object().unwrap().clone())
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .unwrap()
    }

    /// What one driver has beyond `WebDriver`: a POST below the browser's session.
    pub(crate) async fn post(&self, browser: &Client, path: &str, body: &Value) {
        let session = browser.session_id().await.unwrap().unwrap();
        let body = body.to_string();
        let mut raw = Raw::connect(([127, 0, 0, 1], self.port).into());
        raw.send(format!(
            "POST /session/{session}/{path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.port,
            body.len()
        ));
        raw.response("POST").assert_status(200);
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Chromium's takes them along when it is asked to end; Firefox's does not know this path.
        if let Ok(mut asked) = TcpStream::connect(("127.0.0.1", self.port)) {
            let host = format!("127.0.0.1:{}", self.port);
            write!(asked, "GET /shutdown HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").ok();
            asked.set_read_timeout(Some(Duration::from_secs(5))).ok();
            asked.read_to_end(&mut Vec::new()).ok();
        }
        rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL).ok();
        self.child.wait().ok();
    }
}
