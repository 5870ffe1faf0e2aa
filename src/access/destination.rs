//! Addresses: which of them lead inside, and which lead back to ourselves.
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// Why an address is no public destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Loopback,
    Own,
    LinkLocal,
    Private,
    Reserved,
}

impl Class {
    pub(super) const fn rule(self) -> &'static str {
        match self {
            Self::Loopback => "destination-loopback",
            Self::Own => "destination-own",
            Self::LinkLocal => "destination-link-local",
            Self::Private => "destination-private",
            Self::Reserved => "destination-reserved",
        }
    }

    /// The end of a sentence that begins with the host.
    pub(super) fn says(self, ip: IpAddr) -> String {
        match self {
            Self::Loopback => format!("is on this machine's loopback ({ip})"),
            Self::Own => format!("is this machine's own address ({ip})"),
            Self::LinkLocal => format!("is on the local link ({ip}), where cloud metadata lives"),
            Self::Private => format!("is in a private network ({ip})"),
            Self::Reserved => format!("is a reserved or multicast address ({ip})"),
        }
    }

    /// `None` for what may be dialled by default. `ip` is a face: IPv4 as such, never mapped.
    pub(super) fn of(ip: IpAddr) -> Option<Self> {
        let class = match ip {
            IpAddr::V4(ip) => of_v4(ip),
            IpAddr::V6(ip) => of_v6(ip),
        };
        class.or_else(|| is_own(ip).then_some(Self::Own))
    }
}

/// The table of what is refused; documentation and benchmarking networks are not in it.
fn of_v4(ip: Ipv4Addr) -> Option<Class> {
    match ip.octets() {
        [127, ..] => Some(Class::Loopback),
        [169, 254, ..] => Some(Class::LinkLocal),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Some(Class::Private),
        // Linux takes 0.0.0.0 for itself; 224/4 is multicast, 240/4 reserved with the broadcast address.
        [0 | 224..=255, ..] => Some(Class::Reserved),
        _ => None,
    }
}

fn of_v6(ip: Ipv6Addr) -> Option<Class> {
    if ip.is_loopback() {
        return Some(Class::Loopback);
    }
    match ip.segments()[0] {
        _ if ip.is_unspecified() => Some(Class::Reserved),
        0xfe80..=0xfebf => Some(Class::LinkLocal),
        // fc00::/7, and the site-local fec0::/10 before it.
        0xfc00..=0xfdff | 0xfec0..=0xfeff => Some(Class::Private),
        0xff00..=0xffff => Some(Class::Reserved),
        _ => None,
    }
}

/// Private and link-local networks: where clients of a proxy for a home or an office are.
pub(super) fn is_local_network(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// An address, and the IPv4 addresses that a gateway may make of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Faces {
    whole: IpAddr,
    inner: [Option<Ipv4Addr>; 2],
}

impl Faces {
    pub(super) fn of(ip: IpAddr) -> Self {
        let whole = ip.to_canonical();
        let inner = match whole {
            IpAddr::V4(_) => [None, None],
            IpAddr::V6(ip) => inner(ip),
        };
        Self { whole, inner }
    }

    /// The address itself; IPv4 if it is a mapped one.
    pub(super) fn whole(self) -> IpAddr {
        self.whole
    }

    pub(super) fn iter(self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(self.whole).chain(self.inner.into_iter().flatten().map(IpAddr::V4))
    }
}

/// The IPv4 addresses inside: NAT64 (RFC 6052), 6to4 (RFC 3056), Teredo (RFC 4380: the server, and the client with its
/// bits inverted), and the old IPv4-translated and IPv4-compatible forms.
fn inner(ip: Ipv6Addr) -> [Option<Ipv4Addr>; 2] {
    let v4 = |high: u16, low: u16| Some(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)));
    match ip.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x64, 0xff9b, 1, _, _, _, high, low] => {
            [v4(high, low), None]
        }
        [0x2002, high, low, ..] => [v4(high, low), None],
        [0x2001, 0, high, low, _, _, client_high, client_low] => {
            [v4(high, low), v4(!client_high, !client_low)]
        }
        // What a stateless translator makes of an IPv4 address: RFC 2765 section 2.1.
        [0, 0, 0, 0, 0xffff, 0, high, low] => [v4(high, low), None],
        // `::` and `::1` are not of this form.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => [v4(high, low), None],
        _ => [None, None],
    }
}

/// Whether dialling `ip` and `port` reaches the listener bound to `own`.
pub(super) fn reaches(own: SocketAddr, ip: IpAddr, port: u16) -> bool {
    if own.port() != port {
        return false;
    }
    // To dial the unspecified address is to dial loopback.
    let to_self = ip.is_loopback() || ip.is_unspecified();
    own.ip() == ip
        || (own.ip().is_unspecified() && (to_self || is_own(ip)))
        || (own.ip().is_loopback() && ip.is_unspecified())
}

/// Whether the address is one of this machine's: then, and only then, a socket can be bound to it.
///
/// Some machines let sockets bind to foreign addresses (`net.ipv4.ip_nonlocal_bind`); there a documentation address can
/// be bound too, and the question has no answer by this way.
fn is_own(ip: IpAddr) -> bool {
    const NOBODYS_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 253));
    const NOBODYS_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0xfffd));
    can_bind(ip) && !can_bind(if ip.is_ipv4() { NOBODYS_V4 } else { NOBODYS_V6 })
}

fn can_bind(ip: IpAddr) -> bool {
    match UdpSocket::bind(SocketAddr::new(ip, 0)) {
        Ok(_) => true,
        Err(error) => {
            // Without sockets or without the family nothing can be dialled either.
            if error.kind() != ErrorKind::AddrNotAvailable {
                tracing::debug!(%ip, %error, "could not tell whether an address is this machine's");
            }
            false
        }
    }
}
