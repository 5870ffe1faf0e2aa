//! The gates for requests and for responses, over what hyper makes of arbitrary bytes: the verdict is the same however
//! they are cut, and nothing passes that could be read in two ways.

use crate::dice::Dice;
use crate::wire::{Wire, run};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use larder::access::{Access, Options};
use larder::clock::Moment;
use larder::field::treatment;
use larder::field::via::Pseudonym;
use larder::policy::rules::Rules;
use larder::proxy::{self, Settings, fuzzing as gate};
use larder::upstream::fuzzing::passes;
use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| Settings {
    options: proxy::Options {
        max_request_line: 200,
        max_head: 1024,
        max_fields: 20,
        ..proxy::Options::default()
    },
    access: Arc::new(Access::new(Options::default(), vec![SocketAddr::from(([127, 0, 0, 1], 3128))])),
    authentication: None,
    cache: Arc::new(larder::cache::Settings {
        options: larder::cache::Options::default(),
        policy: larder::policy::Options::default(),
        rules: Rules::default(),
    }),
    pseudonym: Arc::new(Pseudonym::new("larder-1a2b").unwrap_or_else(|| unreachable!("it is a name"))),
    pages: larder::pages::Options::default(),
    beyond_loopback: false,
});

fn cuts(dice: &mut Dice) -> Vec<usize> {
    (0..3).map(|_| usize::from(dice.byte())).collect()
}

/// What became of each request: its verdict, and the body that was read where it passed.
type Verdicts = Vec<(String, Result<Option<String>, StatusCode>, Option<Vec<u8>>)>;

pub fn requests(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let cuts = cuts(&mut dice);
    let bytes = dice.rest();
    let (whole, pieces) = (served(bytes, &[]), served(bytes, &cuts));
    // What is refused may be so by hyper, or wait for its end first: but what passes is the same.
    let passes = |verdicts: &Verdicts| {
        verdicts.iter().filter(|(_, said, _)| said.is_ok()).cloned().collect::<Vec<_>>()
    };
    assert_eq!(passes(&whole), passes(&pieces));
    gate::unparsed(true, "", bytes, &SETTINGS.options);
    // What the first request's head may not hold, if it went on to an origin.
    if let Some((_, Ok(Some(_)), _)) = whole.first() {
        let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(0);
        let head = &bytes[start..];
        let end = head.windows(2).position(|window| window == b"\n\n");
        let end = end.into_iter().chain(head.windows(3).position(|window| window == b"\n\r\n")).min();
        let head = &head[..end.unwrap_or(head.len())];
        assert!(!head.contains(&0), "NUL");
        for line in head.split(|&byte| byte == b'\n').skip(1) {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            assert!(!line.contains(&b'\r'), "a CR alone");
            assert!(!line.starts_with(b" ") && !line.starts_with(b"\t"), "a folded line");
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            assert!(!name.contains(&b' ') && !name.contains(&b'\t'), "a space before the colon");
        }
    }
}

fn served(bytes: &[u8], cuts: &[usize]) -> Verdicts {
    let wire = Wire::new(bytes, cuts, false);
    let verdicts: Rc<RefCell<Verdicts>> = Rc::default();
    let seen = Rc::clone(&verdicts);
    let service = service_fn(move |request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (parts, body) = request.into_parts();
            let peer = SocketAddr::from(([127, 0, 0, 1], 40_000));
            let said = gate::admits(&parts, !body.is_end_stream(), peer, Moment::at(0), &SETTINGS);
            if said.is_ok() {
                framed(&parts.headers, parts.version);
            }
            let line = format!("{} {} {:?}", parts.method, parts.uri, parts.version);
            let mut headers = parts.headers.clone();
            gate::max_forwards(&Method::TRACE, &mut headers);
            let passed = said.is_ok();
            let found = said.map(|target| target.map(|target| target.url()));
            seen.borrow_mut().push((line, found, None));
            if passed && let Ok(body) = body.collect().await {
                let bytes = body.to_bytes().to_vec();
                if let Some(length) = length(&parts.headers) {
                    assert_eq!(length, bytes.len() as u64);
                }
                if let Some((.., read)) = seen.borrow_mut().last_mut() {
                    *read = Some(bytes);
                }
            }
            let mut response = Response::new(Empty::<Bytes>::new());
            if !passed {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(response)
        }
    });
    let options = &SETTINGS.options;
    let connection = hyper::server::conn::http1::Builder::new()
        .half_close(true)
        .header_read_timeout(None)
        .max_buf_size(options.max_head.max(8 * 1024) + options.max_request_line.max(1024))
        .max_header_size(options.max_head + options.max_request_line)
        .serve_connection(wire, service);
    // What it ends with is no matter: whatever was refused by hyper has not come to the gate.
    let _: Result<(), hyper::Error> = run(connection);
    verdicts.take()
}

/// One framing, and one host.
fn framed(headers: &HeaderMap, version: Version) {
    let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    assert!(
        codings.len() <= 1 && codings.iter().all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"chunked"))
    );
    assert!(codings.is_empty() || (length(headers).is_none() && version == Version::HTTP_11));
    let lengths: Vec<_> = headers.get_all(header::CONTENT_LENGTH).iter().collect();
    assert!(lengths.windows(2).all(|two| two[0] == two[1]), "{lengths:?}");
    let hosts = headers.get_all(header::HOST).iter().count();
    assert!(hosts <= 1 && (hosts == 1 || version < Version::HTTP_11));
}

/// Content-Length where it is digits alone.
fn length(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    value.bytes().all(|byte| byte.is_ascii_digit()).then(|| value.parse().ok())?
}

pub fn responses(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let method = dice.pick(&[&Method::GET, &Method::HEAD, &Method::POST]).clone();
    let cuts = cuts(&mut dice);
    let bytes = dice.rest();
    let whole = fetched(&method, bytes, &[]);
    let pieces = fetched(&method, bytes, &cuts);
    assert_eq!(whole, pieces);
}

/// What passed of an answer: its status, its framing, its fields, and its body with whether that is all of it.
type Passed = Option<(StatusCode, String, HeaderMap, Vec<u8>, bool)>;

fn fetched(method: &Method, bytes: &[u8], cuts: &[usize]) -> Passed {
    let wire = Wire::new(bytes, cuts, true);
    run(async {
        let made = hyper::client::conn::http1::Builder::new()
            .max_headers(201)
            .max_header_size(64 * 1024)
            .max_buf_size(64 * 1024)
            .handshake::<_, Empty<Bytes>>(wire)
            .await;
        let Ok((mut sender, connection)) = made else { return None };
        let request = Request::builder().method(method.clone()).uri("/x").header(header::HOST, "a.example");
        let Ok(request) = request.body(Empty::new()) else { return None };
        let exchange = async {
            let response = sender.send_request(request).await.ok()?;
            let (mut parts, mut body) = response.into_parts();
            let received = parts.headers.clone();
            let framing = passes(method, false, (parts.status, parts.version), &mut parts.headers)?;
            let (mut content, mut complete) = (Vec::new(), true);
            while let Some(frame) = body.frame().await {
                match frame {
                    Ok(frame) => content.extend_from_slice(&frame.into_data().unwrap_or_default()),
                    Err(_) => {
                        complete = false;
                        break;
                    }
                }
            }
            for name in parts.headers.keys() {
                assert!(!treatment::of(name).hop_by_hop, "{name}");
            }
            let bodiless = method == Method::HEAD
                || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
                || parts.status.is_informational();
            assert!(!bodiless || content.is_empty());
            if let Some(length) = framing.content_length {
                assert!(
                    bodiless || !complete || content.len() as u64 == length,
                    "{length}: {}",
                    content.len()
                );
                assert!(
                    received
                        .get_all(header::CONTENT_LENGTH)
                        .iter()
                        .all(|line| !line.as_bytes().contains(&b'+'))
                );
            }
            assert!(!framing.close_delimited || framing.close);
            assert!(framing.ok || framing.close);
            let both = received.contains_key(header::CONTENT_LENGTH)
                && received.contains_key(header::TRANSFER_ENCODING);
            assert!(!both || !framing.ok);
            Some((parts.status, format!("{framing:?}"), parts.headers, content, complete))
        };
        let mut connection = std::pin::pin!(connection);
        let mut exchange = std::pin::pin!(exchange);
        let mut ended = false;
        std::future::poll_fn(|cx| {
            // How the connection ends is told by the exchange.
            ended = ended || connection.as_mut().poll(cx).is_ready();
            exchange.as_mut().poll(cx)
        })
        .await
    })
}
