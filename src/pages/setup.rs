//! The set-up page: what is said to those who ask the proxy itself (origin-form requests), and on the admin listener.
use crate::field::target::{self, Host};
use crate::pages::accept::{self, Form};
use crate::pages::programs::PROGRAMS;
use crate::pages::{Escaped, document, response};
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Where the client found the proxy.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The request's Host.
    pub host: Option<&'a HeaderValue>,
    /// The address on which its connection was accepted.
    pub local: SocketAddr,
}

impl Here<'static> {
    /// The listener, of those of the proxy, that a client reaches who is connected to `local` of this machine, on
    /// another port. `None`: there are none.
    pub fn beside(local: IpAddr, listeners: &[SocketAddr]) -> Option<Self> {
        let local = local.to_canonical();
        let same = |address: &&SocketAddr| address.ip().to_canonical() == local;
        let any = |address: &&SocketAddr| {
            address.ip().is_unspecified() && (address.is_ipv6() || address.is_ipv4() == local.is_ipv4())
        };
        if let Some(&address) = listeners.iter().find(same) {
            return Some(Self { host: None, local: address });
        }
        if let Some(address) = listeners.iter().find(any) {
            return Some(Self { host: None, local: SocketAddr::new(local, address.port()) });
        }
        listeners.first().map(|&local| Self { host: None, local })
    }
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

/// The set-up page: what this is, and how to set it in each program. In HTML or plain text.
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
    let mut text = format!(
        "Larder: a caching forward proxy.\n\n\
         This is the proxy itself, not a web site. To use it, set it as the HTTP proxy of your programs:\n\
         the address {at}, or the automatic configuration http://{at}/proxy.pac\n"
    );
    for program in PROGRAMS {
        // Writing to a String doesn't fail; here and below.
        let _ = write!(text, "\n{}: {}\n", program.name, program.says);
        for line in program.lines(at).lines() {
            let _ = writeln!(text, "    {line}");
        }
    }
    text
}

fn landing_html(at: &str) -> String {
    let mut body = format!(
        "<h1>This is a caching forward proxy</h1>\n\
         <p>You have reached the proxy itself, not a web site. To use it, set it as the HTTP proxy of your programs: \
         the address <code>{0}</code>, or the automatic configuration <code>http://{0}/proxy.pac</code>. \
         A click on what is to be copied selects all of it.</p>\n",
        Escaped(at)
    );
    for program in PROGRAMS {
        let _ = writeln!(
            body,
            "<h2>{}</h2>\n<p>{}</p>\n<pre>{}</pre>",
            Escaped(program.name),
            Escaped(program.says),
            Lines(&program.lines(at))
        );
    }
    document("Larder", &body)
}

/// Several lines of text within markup.
struct Lines<'a>(&'a str);

impl std::fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (at, line) in self.0.lines().enumerate() {
            write!(f, "{}{}", if at == 0 { "" } else { "\n" }, Escaped(line))?;
        }
        Ok(())
    }
}
