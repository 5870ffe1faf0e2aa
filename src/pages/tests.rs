//! What the pages say to whom, and what they never let through.
use super::*;
use crate::upstream::Direct;
use http::HeaderMap;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use std::net::SocketAddr;

const HTML: HeaderValue = HeaderValue::from_static("text/html,application/xhtml+xml,*/*;q=0.8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn body(response: &Response<Bytes>) -> &str {
    str::from_utf8(response.body()).unwrap()
}

#[track_caller]
fn check_fields(headers: &HeaderMap, content_type: &str, length: usize) {
    assert_eq!(headers[CONTENT_TYPE], content_type);
    assert_eq!(headers[CONTENT_LENGTH], length.to_string());
    assert_eq!(headers[CACHE_CONTROL], "no-store");
    assert_eq!(headers[X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert_eq!(headers[X_FRAME_OPTIONS], "DENY");
    let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
}

#[test]
fn an_error_page_says_what_failed_and_what_to_do_in_the_clients_form() {
    let mut page = ErrorPage::of(ProxyError::DnsError, 0x1f);
    page.target = Some("http://nowhere.example/".into());
    let text = error(&page, None);
    check_fields(text.headers(), "text/plain; charset=utf-8", text.body().len());
    assert_eq!(text.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(
        body(&text),
        "502 Bad Gateway\n\nThe host's name could not be resolved to an address.\nCheck the spelling of the host; if it \
         is right, ask its owner or check the proxy's name server.\n\ntarget: http://nowhere.example/\nerror: \
         dns_error\nid: 000000000000001f\n"
    );
    let html = error(&page, Some(&HTML));
    check_fields(html.headers(), "text/html; charset=utf-8", html.body().len());
    assert!(body(&html).contains("<h1>502 Bad Gateway</h1>"));
    assert!(body(&html).contains("The host&#39;s name could not be resolved"));
    let problem = error(&page, Some(&JSON));
    check_fields(problem.headers(), "application/problem+json", problem.body().len());
    let value: serde_json::Value = serde_json::from_slice(problem.body()).unwrap();
    assert_eq!(value["status"], 502);
    assert_eq!(value["title"], "Bad Gateway");
    assert_eq!(value["error"], "dns_error");
    assert_eq!(value["id"], "000000000000001f");
    assert_eq!(value["target"], "http://nowhere.example/");
}

#[test]
fn a_refusal_names_the_rule_and_what_would_allow_it() {
    let denied = Denied {
        rule: crate::access::RuleName::Own("connect-port"),
        what: "CONNECT to port 25 is not allowed".to_owned(),
        allow: "--connect-ports 443,25".to_owned(),
    };
    let page = ErrorPage::denied(&denied, ProxyError::HttpRequestDenied, 7);
    let response = error(&page, None);
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(body(&response).contains("CONNECT to port 25 is not allowed."));
    assert!(body(&response).contains("To allow it: --connect-ports 443,25."));
    assert!(body(&response).contains("rule: connect-port"));
}

#[test]
fn markup_and_control_characters_stay_text() {
    let evil = "<script>alert('x')</script>\u{1b}[2J\"&\r\nX: y";
    let mut page = ErrorPage::new(StatusCode::BAD_REQUEST, evil, evil, 1);
    page.title = evil.into();
    page.target = Some(evil.into());
    page.rule = Some(evil);
    let html = error(&page, Some(&HTML));
    assert!(!body(&html).contains("<script") && !body(&html).contains('\u{1b}'));
    assert!(body(&html).contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"));
    let text = error(&page, None);
    assert!(!body(&text).contains('\u{1b}'));
    assert_eq!(body(&text).lines().filter(|line| line.starts_with("X: y")).count(), 0);
    let problem = error(&page, Some(&JSON));
    let value: serde_json::Value = serde_json::from_slice(problem.body()).unwrap();
    assert_eq!(value["target"], evil);
}

#[test]
fn every_error_has_a_page() {
    for &kind in ProxyError::ALL {
        for accept in [None, Some(&HTML), Some(&JSON)] {
            let response = error(&ErrorPage::of(kind, 1), accept);
            assert_eq!(response.status(), kind.status());
            assert!(body(&response).contains(kind.token()));
        }
    }
}

#[test]
fn the_policy_allows_exactly_our_style() {
    use base64::Engine;
    let sha256 = TLS13_AES_128_GCM_SHA256.tls13().unwrap().common.hash_provider.hash(STYLE.as_bytes());
    let hash = base64::engine::general_purpose::STANDARD.encode(sha256.as_ref());
    assert!(POLICY.to_str().unwrap().contains(&format!("'sha256-{hash}'")), "the style's hash is {hash}");
    assert!(!STYLE.contains('<'));
}

#[track_caller]
fn check_authority(host: Option<&'static str>, local: &str, expected: &str) {
    let host = host.map(HeaderValue::from_static);
    let local: SocketAddr = local.parse().unwrap();
    assert_eq!(Here { host: host.as_ref(), local }.authority(), expected, "{host:?} at {local}");
}

#[test]
fn a_host_goes_into_a_page_only_if_it_is_ours() {
    check_authority(Some("127.0.0.1:3128"), "127.0.0.1:3128", "127.0.0.1:3128");
    check_authority(Some("LOCALHOST:3128"), "127.0.0.1:3128", "localhost:3128");
    check_authority(Some("[::1]:3128"), "[::1]:3128", "[::1]:3128");
    check_authority(Some("10.0.0.5:3128"), "[::ffff:10.0.0.5]:3128", "10.0.0.5:3128");
    check_authority(Some("127.0.0.1:3128"), "172.17.0.2:3128", "127.0.0.1:3128");
    check_authority(Some("evil.example:3128"), "10.0.0.5:3128", "10.0.0.5:3128");
    check_authority(Some("203.0.113.9:3128"), "10.0.0.5:3128", "10.0.0.5:3128");
    check_authority(Some("127.0.0.1:99"), "127.0.0.1:3128", "127.0.0.1:3128");
    check_authority(Some("127.0.0.1"), "127.0.0.1:80", "127.0.0.1:80");
    check_authority(Some("\"};alert(1)//"), "127.0.0.1:3128", "127.0.0.1:3128");
    check_authority(None, "[::1]:3128", "[::1]:3128");
}

/// Each program's name, and what is copied from the set-up page for it, in the page's order.
const PROGRAMS: [(&str, &str); 12] = [
    ("Chromium, Chrome, Edge", "chromium --proxy-pac-url=http://127.0.0.1:3128/proxy.pac"),
    (
        "Firefox",
        "user_pref(\"network.proxy.type\", 2);\n\
         user_pref(\"network.proxy.autoconfig_url\", \"http://127.0.0.1:3128/proxy.pac\");",
    ),
    ("macOS", "networksetup -setautoproxyurl Wi-Fi http://127.0.0.1:3128/proxy.pac"),
    (
        "Windows",
        r"Set-ItemProperty 'HKCU:\Software\Microsoft\Windows\CurrentVersion\Internet Settings' AutoConfigURL http://127.0.0.1:3128/proxy.pac",
    ),
    (
        "GNOME",
        "gsettings set org.gnome.system.proxy autoconfig-url http://127.0.0.1:3128/proxy.pac\n\
         gsettings set org.gnome.system.proxy mode auto",
    ),
    ("A shell", "export http_proxy=http://127.0.0.1:3128 https_proxy=http://127.0.0.1:3128"),
    ("curl", "curl -x http://127.0.0.1:3128 -i http://example.com/"),
    ("apt", "Acquire::http::Proxy \"http://127.0.0.1:3128\";"),
    ("pip", "pip config set global.proxy http://127.0.0.1:3128"),
    ("npm", "npm config set proxy http://127.0.0.1:3128\nnpm config set https-proxy http://127.0.0.1:3128"),
    ("cargo", "[http]\nproxy = \"http://127.0.0.1:3128\""),
    (
        "docker",
        "docker run --network host -e http_proxy=http://127.0.0.1:3128 -e https_proxy=http://127.0.0.1:3128 IMAGE\n\
         docker build --network host --build-arg http_proxy=http://127.0.0.1:3128 --build-arg https_proxy=http://127.0.0.1:3128 .",
    ),
];

#[test]
fn the_set_up_page_tells_the_address_to_set_in_every_program() {
    let here = Here { host: None, local: "127.0.0.1:3128".parse().unwrap() };
    let text = landing(&here, Some(&HeaderValue::from_static("*/*")));
    check_fields(text.headers(), "text/plain; charset=utf-8", text.body().len());
    let html = landing(&here, Some(&HTML));
    check_fields(html.headers(), "text/html; charset=utf-8", html.body().len());
    assert!(body(&text).contains("\nthe address 127.0.0.1:3128, or "), "{}", body(&text));
    let told: Vec<_> = body(&text)
        .split("\n\n")
        .skip(2)
        .map(|part| {
            let (says, lines) = part.trim_end().split_once('\n').unwrap();
            let lines: Vec<_> = lines.lines().map(|line| line.strip_prefix("    ").unwrap()).collect();
            (says.split_once(": ").unwrap().0, lines.join("\n"))
        })
        .collect();
    assert_eq!(told, PROGRAMS.map(|(name, lines)| (name, lines.to_owned())));
    for (name, lines) in PROGRAMS {
        let part = body(&html).split("<h2>").find(|part| part.starts_with(&format!("{name}</h2>"))).unwrap();
        let lines = format!("<pre>{}</pre>", lines.replace('"', "&quot;").replace('\'', "&#39;"));
        assert!(part.contains(&lines), "{lines} is missing in {part}");
    }
    assert_eq!(body(&html).matches("<pre>").count(), PROGRAMS.len());
    for page in [body(&text), body(&html)] {
        let page = page.split("</style>").last().unwrap_or_default();
        assert!(!page.contains('@') && !page.contains("<script"), "{page}");
    }
    assert!(html.body().len() < 8192);
}

/// Brackets are a pattern to zsh, and one that fits nothing is an error.
#[test]
fn an_ipv6_address_is_quoted_where_a_shell_reads_it() {
    let here = Here { host: None, local: "[::1]:3128".parse().unwrap() };
    let text = landing(&here, None);
    for line in [
        "chromium \"--proxy-pac-url=http://[::1]:3128/proxy.pac\"",
        "user_pref(\"network.proxy.autoconfig_url\", \"http://[::1]:3128/proxy.pac\");",
        "export \"http_proxy=http://[::1]:3128\" \"https_proxy=http://[::1]:3128\"",
        "curl -x \"http://[::1]:3128\" -i http://example.com/",
        "Acquire::http::Proxy \"http://[::1]:3128\";",
        "npm config set proxy \"http://[::1]:3128\"",
        "[http]",
        "proxy = \"http://[::1]:3128\"",
    ] {
        assert!(body(&text).lines().any(|told| told.strip_prefix("    ") == Some(line)), "{line}");
    }
}

#[test]
fn beside_another_listener_the_proxys_address_is_that_on_the_same_interface() {
    let at = |local: &str, listeners: &[&str]| {
        let listeners: Vec<SocketAddr> = listeners.iter().map(|address| address.parse().unwrap()).collect();
        Here::beside(local.parse().unwrap(), &listeners).map(|here| here.authority())
    };
    let both = ["127.0.0.1:3128", "172.17.0.1:3129"];
    assert_eq!(at("172.17.0.1", &both).as_deref(), Some("172.17.0.1:3129"));
    assert_eq!(at("127.0.0.1", &both).as_deref(), Some("127.0.0.1:3128"));
    assert_eq!(at("192.0.2.1", &["0.0.0.0:3128"]).as_deref(), Some("192.0.2.1:3128"));
    assert_eq!(at("::1", &["0.0.0.0:3128", "[::]:3129"]).as_deref(), Some("[::1]:3129"));
    assert_eq!(at("192.0.2.1", &both).as_deref(), Some("127.0.0.1:3128"));
    assert_eq!(at("192.0.2.1", &[]), None);
}

#[test]
fn the_pac_file_has_our_address_and_the_hosts_that_go_direct() {
    let here = Here { host: None, local: "[::1]:3128".parse().unwrap() };
    let direct = ["intern.example", ".below.example:8080", "198.51.100.0/24", "*"];
    let options = Options { direct: direct.iter().map(|host| Direct::parse(host).unwrap()).collect() };
    let pac = pac(&here, &options);
    check_fields(pac.headers(), "application/x-ns-proxy-autoconfig", pac.body().len());
    assert!(body(&pac).contains("var proxy = \"PROXY [::1]:3128; DIRECT\";"));
    for member in [
        r#"["localhost",0]"#,
        r#"["intern.example",0]"#,
        r#"[".below.example",8080]"#,
        r#"["198.51.100.0/24",0]"#,
        r#"["*",0]"#,
    ] {
        assert!(body(&pac).contains(member), "{member}");
    }
    assert!(
        options.no_proxy().ends_with(",fec0::/10,intern.example,.below.example:8080,198.51.100.0/24,*"),
        "{}",
        options.no_proxy()
    );
    assert!(is_pac("/proxy.pac") && is_pac("/wpad.dat") && !is_pac("/") && !is_pac("/x/proxy.pac"));
}
