//! The variables by which programs are told of the proxy.
use crate::pages::Options;
use crate::upstream;
use std::net::SocketAddr;

/// Name and value of each variable, for the proxy at this address; `direct`: hosts that are reached without it besides
/// those of `options`. In both cases: curl heeds only the lower one of `http_proxy`, others only the upper one.
pub fn variables(at: SocketAddr, options: &Options, direct: &[String]) -> [(&'static str, String); 6] {
    let (proxy, mut without) = (format!("http://{at}"), options.no_proxy());
    for host in direct {
        if !without.split(',').any(|known| known == host) {
            without.push(',');
            without.push_str(host);
        }
    }
    [
        ("http_proxy", proxy.clone()),
        ("https_proxy", proxy.clone()),
        ("no_proxy", without.clone()),
        ("HTTP_PROXY", proxy.clone()),
        ("HTTPS_PROXY", proxy),
        ("NO_PROXY", without),
    ]
}

/// The hosts that an environment leaves out already (`NO_PROXY`), for [`variables`]. `*`, for all of them, is none: the
/// proxy would be asked nothing. What no host, address or network is made of could have a meaning to a shell, and is left
/// out with a warning.
pub fn left_out(variable: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || ".-_:/*[]%".contains(c);
    let mut hosts = upstream::no_proxy_from_env(variable);
    hosts.retain(|host| {
        let fits = host.chars().all(is_plain);
        if !fits {
            tracing::warn!(
                "NO_PROXY: found {host:?}, expected a host, an address or a network; it is left out"
            );
        }
        fits && host != "*"
    });
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_already_stays_so() {
        let of = |lower: &str, upper: &str| {
            let of = |name: &str| if name == "no_proxy" { lower } else { upper };
            left_out(|name| Some(of(name).to_owned()).filter(|list| !list.is_empty()))
        };
        // As in all of curl's customs, lower case comes first.
        assert_eq!(of("a.example, 10.9.0.0/16\tb\n", "A"), ["a.example", "10.9.0.0/16", "b"]);
        assert_eq!(of("", "*,$(x),a;b,',[::1]:80 *.b"), ["[::1]:80", "*.b"]);
        assert_eq!(left_out(|_| None), Vec::<String>::new());
        let told = variables(([127, 0, 0, 1], 1).into(), &Options::default(), &of("localhost,c,c", ""));
        let (name, value) = &told[2];
        assert_eq!(*name, "no_proxy");
        assert!(value.starts_with("localhost,") && value.ends_with(",fec0::/10,c"), "{value}");
        assert_eq!(*value, told[5].1);
    }
}
