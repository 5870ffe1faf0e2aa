//! The commands that ask a running proxy, over its admin listener.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{Command, Order, What, print, render};
use crate::admin::Explain;
use crate::config::Settings;

/// How long connecting may take: the listener is near.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take: `explain` may wait for an origin.
const ANSWER: Duration = Duration::from_secs(120);
/// How long a health check may take, all in all: what is healthy answers at once, and whoever runs the check has a
/// limit too, which must not come first.
const HEALTHY: Duration = Duration::from_secs(2);
/// What the health check is answered.
const READY: &str = "ready";
/// The largest answer that is read.
const LARGEST: usize = 64 << 20;

/// A question to the API.
#[derive(Debug, PartialEq)]
struct Question {
    method: Method,
    /// Path and query.
    path: String,
    content: Option<Value>,
    /// What an answer of ours has: no other server is taken for a proxy that did what was asked.
    has: &'static str,
    /// Whether the answer is printed as JSON.
    json: bool,
}

impl Question {
    /// The question that a command asks; `None`: it asks nothing.
    fn of(command: &Command) -> Option<Self> {
        let question = |method, path: &str, content, has, json| {
            let path = path.to_owned();
            Self { method, path, content, has, json }
        };
        Some(match command {
            Command::Explain { url, head, fields, offline, json } => {
                let mut path = format!("/api/v1/explain?url={}", encoded(url));
                path.push_str(if *head { "&method=HEAD" } else { "" });
                path.push_str(if *offline { "&offline=true" } else { "" });
                for (name, value) in fields {
                    path.push_str("&header=");
                    path.push_str(&encoded(&format!("{name}: {value}")));
                }
                question(Method::GET, &path, None, "url", *json)
            }
            Command::Purge { what, dry_run, json } => {
                let mut content = match what {
                    What { url: Some(url), .. } => json!({ "url": url }),
                    What { path: Some(path), .. } => json!({ "path": path }),
                    What { glob: Some(glob), .. } => json!({ "glob": glob }),
                    What { host: Some(host), .. } => json!({ "host": host }),
                    What { tag: Some(tag), .. } => json!({ "tag": tag }),
                    What { .. } => json!({ "all": true }),
                };
                content["dry_run"] = json!(dry_run);
                question(Method::POST, "/api/v1/purge", Some(content), "purged", *json)
            }
            Command::Ls { search, sites: true, limit, json, .. } => {
                let search = encoded(search.as_deref().unwrap_or_default());
                let path = format!("/api/v1/sites?search={search}&limit={limit}");
                question(Method::GET, &path, None, "sites", *json)
            }
            Command::Ls { search, sort, reverse, limit, json, .. } => {
                let search = encoded(search.as_deref().unwrap_or_default());
                let sort = match sort {
                    Order::Site => "site",
                    Order::Size => "size",
                    Order::Age => "age",
                };
                let path =
                    format!("/api/v1/stored?search={search}&sort={sort}&reverse={reverse}&limit={limit}");
                question(Method::GET, &path, None, "responses", *json)
            }
            Command::Stats { json } => question(Method::GET, "/api/v1/stats", None, "version", *json),
            Command::Reload { json } => question(Method::POST, "/api/v1/reload", None, "live", *json),
            Command::Serve
            | Command::Check { .. }
            | Command::Healthcheck
            | Command::Env { .. }
            | Command::Run { .. }
            | Command::Completions { .. }
            | Command::Man
            | Command::Htdigest { .. }
            | Command::Top { .. } => return None,
        })
    }
}

/// All but RFC 3986's unreserved characters as `%xx`.
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String does not fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// Asks, and prints the answer.
pub(super) async fn ask<F>(command: &Command, settings: Settings, alone: F) -> anyhow::Result<ExitCode>
where
    F: AsyncFnOnce(Settings, Explain) -> anyhow::Result<Value>,
{
    let question = Question::of(command).context("the command asks nothing")?;
    let as_json = question.json;
    let asked = match admin_address(settings.admin.listen) {
        Ok(address) => send(address, settings.admin.token.as_deref(), question).await,
        Err(error) => Err(Failure::Nobody(error)),
    };
    let (status, answer) = match (asked, command) {
        (Ok(answer), _) => answer,
        (Err(Failure::Nobody(error)), Command::Explain { url, head, fields, offline, .. }) => {
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(
                std::io::stderr(),
                "larder: {error:#}; explaining by the settings, with an empty cache"
            );
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
            }
            let method = if *head { Method::HEAD } else { Method::GET };
            let asked = Explain { method, url: url.clone(), headers, offline: *offline };
            (StatusCode::OK, alone(settings, asked).await?)
        }
        (Err(Failure::Nobody(error) | Failure::Broken(error)), _) => return Err(error),
    };
    if as_json {
        print(format!("{answer:#}\n").as_bytes())?;
    } else if status.is_success() {
        print(render::answer(command, &answer).as_bytes())?;
    }
    if status.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    let refused = render::refusal(status, &answer);
    if *command != (Command::Reload { json: as_json }) || status != StatusCode::UNPROCESSABLE_ENTITY {
        bail!(refused);
    }
    let _ = writeln!(std::io::stderr(), "{refused}");
    Ok(ExitCode::from(super::CONFIGURATION))
}

/// `larder healthcheck`: whether the proxy with this `admin.listen` takes requests. It prints one line.
pub(super) async fn healthcheck(listen: Option<SocketAddr>) -> anyhow::Result<ExitCode> {
    let address = admin_address(listen)?;
    let question =
        Question { method: Method::GET, path: "/readyz".to_owned(), content: None, has: READY, json: false };
    let Ok(asked) = tokio::time::timeout(HEALTHY, send(address, None, question)).await else {
        bail!("not ready: no answer from {address} in {} seconds", HEALTHY.as_secs());
    };
    match asked {
        Ok((status, _)) if status.is_success() => {
            print(b"ready\n")?;
            Ok(ExitCode::SUCCESS)
        }
        Ok((status, answer)) => bail!("not ready: {}", render::refusal(status, &answer).replace('\n', " ")),
        Err(Failure::Nobody(error) | Failure::Broken(error)) => Err(error.context("not ready")),
    }
}

/// GETs `path`; the answer has the member `has`. An answer that is an error is told as one.
pub(super) async fn get(settings: &Settings, path: &str, has: &'static str) -> anyhow::Result<Value> {
    let question = Question { method: Method::GET, path: path.to_owned(), content: None, has, json: true };
    let asked = send(admin_address(settings.admin.listen)?, settings.admin.token.as_deref(), question).await;
    match asked {
        Ok((status, answer)) if status.is_success() => Ok(answer),
        Ok((status, answer)) => bail!(render::refusal(status, &answer)),
        Err(Failure::Nobody(error) | Failure::Broken(error)) => Err(error),
    }
}

/// Why there is no answer.
enum Failure {
    /// No proxy is there.
    Nobody(anyhow::Error),
    /// Something is there, but it did not answer.
    Broken(anyhow::Error),
}

/// Where the admin listener of a proxy with this `admin.listen` is asked.
fn admin_address(listen: Option<SocketAddr>) -> anyhow::Result<SocketAddr> {
    let Some(mut address) = listen else {
        bail!("the admin listener is off (--admin-listen, admin.listen)");
    };
    if address.port() == 0 {
        bail!("the admin listener is at a free port: give the address that it printed with --admin-listen");
    }
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        IpAddr::V4(_) | IpAddr::V6(_) => {}
    }
    Ok(address)
}

async fn send(
    address: SocketAddr,
    token: Option<&str>,
    question: Question,
) -> Result<(StatusCode, Value), Failure> {
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            return Err(Failure::Nobody(anyhow!(
                "no proxy's admin listener at {address}: {error} (is larder running? --admin-listen tells where it is)"
            )));
        }
        Err(_) => return Err(Failure::Nobody(anyhow!("no proxy's admin listener answers at {address}"))),
    };
    match tokio::time::timeout(ANSWER, exchange(stream, address, token, question)).await {
        Ok(answered) => answered.map_err(Failure::Broken),
        Err(_) => Err(Failure::Broken(anyhow!("no answer from {address} in {} seconds", ANSWER.as_secs()))),
    }
}

async fn exchange(
    stream: TcpStream,
    address: SocketAddr,
    token: Option<&str>,
    question: Question,
) -> anyhow::Result<(StatusCode, Value)> {
    let Question { method, path, content, has, json: _ } = question;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Its error is the exchange's, which is told there.
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header(header::HOST, address.to_string());
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if content.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let content = content.map_or_else(Bytes::new, |content| Bytes::from(content.to_string()));
    let response = sender.send_request(request.body(Full::new(content))?).await;
    let response = response.with_context(|| format!("asking the admin listener at {address}"))?;
    let status = response.status();
    let content = Limited::new(response.into_body(), LARGEST).collect().await;
    let content = content.map_err(|error| anyhow!("reading the answer of {address}: {error}"))?.to_bytes();
    let text = || Value::String(String::from_utf8_lossy(&content).trim().to_owned());
    let answer = serde_json::from_slice(&content).unwrap_or_else(|_| text());
    // Without content is what is refused before it is read.
    let ours = if status.is_success() {
        answer.get(has).is_some() || (has == READY && answer == READY)
    } else {
        content.is_empty() || ["title", "status", "detail"].iter().all(|name| answer.get(name).is_some())
    };
    if !ours {
        bail!(
            "what answers at {address} is no admin listener of larder, it has another form: {status} (--admin-listen tells where it is)"
        );
    }
    Ok((status, answer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse_from;

    /// What the arguments ask, without the program's name.
    #[track_caller]
    fn check(arguments: &[&str], method: &Method, path: &str, content: Option<Value>) {
        let cli = parse_from(std::iter::once("larder").chain(arguments.iter().copied())).unwrap();
        let asked = Question::of(&cli.command.unwrap()).unwrap();
        assert_eq!(
            (&asked.method, asked.path.as_str(), asked.content),
            (method, path, content),
            "{arguments:?}"
        );
    }

    #[test]
    fn commands_become_questions() {
        let (get, post) = (Method::GET, Method::POST);
        check(&["stats"], &get, "/api/v1/stats", None);
        check(&["reload"], &post, "/api/v1/reload", None);
        check(
            &["explain", "http://h/a?b=1&c", "-H", "Accept: text/html", "-H", "X-A:"],
            &get,
            "/api/v1/explain?url=http%3A%2F%2Fh%2Fa%3Fb%3D1%26c&header=Accept%3A%20text%2Fhtml&header=X-A%3A%20",
            None,
        );
        check(
            &["explain", "http://h/", "--head", "--offline"],
            &get,
            "/api/v1/explain?url=http%3A%2F%2Fh%2F&method=HEAD&offline=true",
            None,
        );
        let purge = |what| Some(what);
        check(
            &["purge", "http://h/"],
            &post,
            "/api/v1/purge",
            purge(json!({"url": "http://h/", "dry_run": false})),
        );
        check(
            &["purge", "--path", "http://h/x"],
            &post,
            "/api/v1/purge",
            purge(json!({"path": "http://h/x", "dry_run": false})),
        );
        check(&["purge", "--all"], &post, "/api/v1/purge", purge(json!({"all": true, "dry_run": false})));
        check(
            &["purge", "--glob", "http://*/x", "--dry-run"],
            &post,
            "/api/v1/purge",
            purge(json!({"glob": "http://*/x", "dry_run": true})),
        );
        check(&["ls"], &get, "/api/v1/stored?search=&sort=age&reverse=false&limit=100", None);
        check(
            &["ls", "a&b", "--sort", "size", "--reverse", "--limit", "5"],
            &get,
            "/api/v1/stored?search=a%26b&sort=size&reverse=true&limit=5",
            None,
        );
        check(&["ls", "--sites", "h"], &get, "/api/v1/sites?search=h&limit=100", None);
        check(&["purge", "--tag", "t"], &post, "/api/v1/purge", purge(json!({"tag": "t", "dry_run": false})));
        check(
            &["purge", "--host", "h"],
            &post,
            "/api/v1/purge",
            purge(json!({"host": "h", "dry_run": false})),
        );
    }

    #[test]
    fn an_unspecified_address_is_asked_on_loopback_and_a_free_port_not_at_all() {
        let at = |address: Option<&str>| {
            let listen = address.map(|address| address.parse().unwrap());
            admin_address(listen).ok().map(|address| address.to_string())
        };
        assert_eq!(at(Some("0.0.0.0:9128")).as_deref(), Some("127.0.0.1:9128"));
        assert_eq!(at(Some("[::]:9128")).as_deref(), Some("[::1]:9128"));
        assert_eq!(at(Some("192.0.2.1:1")).as_deref(), Some("192.0.2.1:1"));
        assert_eq!(at(Some("127.0.0.1:0")), None);
        assert_eq!(at(None), None);
    }
}
