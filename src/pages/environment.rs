//! The variables by which programs are told of the proxy.
use crate::pages::Options;
use std::net::SocketAddr;

/// Name and value of each variable, for the proxy at this address. In both cases: curl heeds only the lower one of
/// `http_proxy`, others only the upper one.
pub fn variables(at: SocketAddr, options: &Options) -> [(&'static str, String); 6] {
    let (proxy, direct) = (format!("http://{at}"), options.no_proxy());
    [
        ("http_proxy", proxy.clone()),
        ("https_proxy", proxy.clone()),
        ("no_proxy", direct.clone()),
        ("HTTP_PROXY", proxy.clone()),
        ("HTTPS_PROXY", proxy),
        ("NO_PROXY", direct),
    ]
}
