//! The set-up page and the PAC file: what is said to those who ask the proxy itself (origin-form requests).
use crate::field::target::{self, Host};
use crate::pages::accept::{self, Form};
use crate::pages::{Escaped, document, response};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use std::net::{IpAddr, SocketAddr};

/// Where the client found the proxy.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The request's Host.
    pub host: Option<&'a HeaderValue>,
    /// The address on which its connection was accepted.
    pub local: SocketAddr,
}

impl Here<'_> {
    /// The address to set: the one that the client used if it is an authority of ours, else the one that it came in at.
    ///
    /// Ours are, with our port: the address itself, loopback addresses (a port that is passed on into a container is
    /// seen as one by its clients), and `localhost`. No other name is believed: it would let any page that points its
    /// name here write into ours.
    pub fn authority(&self) -> String {
        let local = SocketAddr::new(self.local.ip().to_canonical(), self.local.port());
        let used = self.host.and_then(|host| target::authority(host.as_bytes()).ok());
        match used {
            Some((host, port)) if port.unwrap_or(80) == local.port() && is_ours(&host, local.ip()) => {
                format!("{host}:{}", local.port())
            }
            _ => local.to_string(),
        }
    }
}

fn is_ours(host: &Host, local: IpAddr) -> bool {
    match host {
        Host::Ip(ip) => ip.to_canonical() == local || ip.to_canonical().is_loopback(),
        Host::Name(name) => name.as_str() == "localhost",
    }
}

/// The page for requests to the proxy itself: what this is, and how to set it. In HTML or plain text.
pub fn landing(here: &Here<'_>, accept: Option<&HeaderValue>) -> Response<Bytes> {
    let at = here.authority();
    let form = accept::choose(accept, &[Form::Text, Form::Html]);
    let body = match form {
        Form::Html => landing_html(&at),
        Form::Text | Form::Problem => landing_text(&at),
    };
    response(StatusCode::OK, form.content_type(), body)
}

fn landing_text(at: &str) -> String {
    format!(
        "Larder: a caching forward proxy.\n\n\
         This is the proxy itself, not a web site. To use it, set it as the HTTP proxy:\n\n\
         \x20 curl -x http://{at} http://example.com/\n\
         \x20 export http_proxy=http://{at} https_proxy=http://{at}\n\n\
         Browsers take the address {at}, or the automatic configuration http://{at}/proxy.pac\n"
    )
}

fn landing_html(at: &str) -> String {
    let at = Escaped(at);
    let body = format!(
        "<h1>This is a caching forward proxy</h1>\n\
         <p>You have reached the proxy itself, not a web site. To use it, set it as the HTTP proxy of your programs.</p>\n\
         <p>Browsers and systems take the address <code>{at}</code>, or the automatic configuration \
         <a href=\"/proxy.pac\"><code>http://{at}/proxy.pac</code></a>.</p>\n\
         <p>On a command line:</p>\n\
         <pre>curl -x http://{at} http://example.com/\n\
         export http_proxy=http://{at} https_proxy=http://{at}</pre>"
    );
    document("Larder", &body)
}

/// Whether a path (with its query) asks for the PAC file.
pub fn is_pac(path: &str) -> bool {
    matches!(path.split('?').next(), Some("/proxy.pac" | "/wpad.dat"))
}

/// The PAC file. What is on this machine or in a private network goes direct, as far as it can be told without asking a
/// name server; so does everything when the proxy does not answer.
pub fn pac(here: &Here<'_>) -> Response<Bytes> {
    // An authority is letters, digits and `.:[]-_`: nothing that could leave the quotes.
    let at = here.authority();
    let body = format!(
        "function FindProxyForURL(url, host) {{\n  \
           if (isPlainHostName(host) || dnsDomainIs(host, \".local\") || dnsDomainIs(host, \".localhost\") ||\n      \
               /^(127|10|192\\.168|169\\.254|172\\.(1[6-9]|2[0-9]|3[01]))\\.[0-9.]+$/.test(host) || /^\\[?(::1|f[cde][0-9a-f]*:)/i.test(host)) {{\n    \
             return \"DIRECT\";\n  }}\n  \
           return \"PROXY {at}; DIRECT\";\n}}\n"
    );
    response(StatusCode::OK, HeaderValue::from_static("application/x-ns-proxy-autoconfig"), body)
}
