//! Headless Chromium, driven by chromedriver.

use super::Proxy;
use fantoccini::{Client, ClientBuilder};
use serde_json::json;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// A running chromedriver; ends with the value.
pub(crate) struct Driver {
    child: Child,
    pub(crate) port: u16,
}

impl Driver {
    pub(crate) fn start() -> Option<Self> {
        let spawned =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut child = spawned.ok()?;
        let mut lines = BufReader::new(child.stdout.take()?).lines();
        let told = |line: &String| line.contains("started successfully on port");
        let port = lines.by_ref().map_while(Result::ok).find(told)?;
        let port = port.trim_end_matches('.').rsplit(' ').next()?.parse().ok()?;
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
        let capabilities = json!({ "goog:chromeOptions": options });
        let capabilities = capabilities.as_object().unwrap().clone();
        let driver = format!("http://127.0.0.1:{}", self.port);
        ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&driver)
            .await
            .unwrap()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
