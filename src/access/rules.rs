//! `[[access.rules]]`: who may ask for what, the first rule that matches decides.
//!
//! What a rule says of the request is known when the request is. What it says of the destination's address is known
//! when that is dialled, and so such a rule waits in a [`Grant`], in its place among the others. Names of hosts are
//! never taken for addresses: who owns a name says where it leads.
//!
//! Rules for hosts are found by name, so that ten thousand of them cost about what one does.
use super::destination::Faces;
use super::hours::Hours;
use super::{Access, Denied, Ports, RULES, RuleName};
use crate::field::target::{Host, Scheme, without_dot};
use http::Method;
use ipnet::IpNet;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// It is let through. What is refused by default is so all the same, but for what the rule itself names.
    Allow,
    /// It is refused.
    #[default]
    Deny,
}

/// A rule. All its conditions must match; an empty one matches everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `name`: shown in logs, metrics and refusals.
    pub name: Arc<str>,
    /// `action`; what was given none is an error before it comes to this.
    pub action: Option<Action>,
    /// `clients`: the client's address.
    pub clients: Vec<IpNet>,
    /// `users`: who authenticated; `*` is anybody who did.
    pub users: Vec<String>,
    /// `methods`, in their case.
    pub methods: Vec<String>,
    /// `schemes`; CONNECT counts as https.
    pub schemes: Vec<Scheme>,
    /// `hosts`: `example.com` exactly, `.example.com` for it and all below it.
    pub hosts: Vec<String>,
    /// `addresses`: the address that is dialled.
    pub addresses: Vec<IpNet>,
    /// `ports`.
    pub ports: Ports,
    /// `hours`.
    pub hours: Vec<Hours>,
    /// `time_limit`: how long what it allows may last.
    pub time_limit: Option<Duration>,
}

impl Default for Rule {
    fn default() -> Self {
        Self {
            name: Arc::from(""),
            action: None,
            clients: Vec::new(),
            users: Vec::new(),
            methods: Vec::new(),
            schemes: Vec::new(),
            hosts: Vec::new(),
            addresses: Vec::new(),
            ports: Ports::Any,
            hours: Vec::new(),
            time_limit: None,
        }
    }
}

/// What is asked, as far as it is known before a connection.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// Who it has shown to be.
    pub user: Option<&'a str>,
    /// The method.
    pub method: &'a Method,
    /// The scheme; https for CONNECT.
    pub scheme: Scheme,
    /// The target's host.
    pub host: &'a Host,
    /// The target's port.
    pub port: u16,
    /// When. Seconds since the Unix epoch.
    pub unix: i64,
}

impl Rule {
    fn action(&self) -> Action {
        self.action.unwrap_or_default()
    }

    /// Everything but the address.
    fn matches(&self, asked: &Asked<'_>) -> bool {
        let any = |empty: bool, found: bool| empty || found;
        self.ports.contains(asked.port)
            && any(self.schemes.is_empty(), self.schemes.contains(&asked.scheme))
            && any(self.methods.is_empty(), self.methods.iter().any(|method| method == asked.method.as_str()))
            && any(self.clients.is_empty(), has(&self.clients, asked.client))
            && any(
                self.users.is_empty(),
                asked.user.is_some_and(|user| self.users.iter().any(|named| named == "*" || named == user)),
            )
            && any(self.hours.is_empty(), self.hours.iter().any(|hours| hours.contains(asked.unix)))
            && any(self.hosts.is_empty(), self.hosts.iter().any(|pattern| asked.host.matches(pattern)))
    }

    /// The address. Of one that holds others (NAT64 and the like) all that lead somewhere must be allowed, and one that
    /// is denied is enough.
    fn matches_address(&self, faces: Faces) -> bool {
        match self.action() {
            Action::Allow => has(&self.addresses, faces.whole()),
            Action::Deny => faces.iter().any(|ip| has(&self.addresses, ip)),
        }
    }

    fn denied(&self, asked: &Asked<'_>) -> Denied {
        let Asked { client, method, host, port, .. } = asked;
        Denied {
            rule: RuleName::Given(Arc::clone(&self.name)),
            what: format!("{method} to {host}, port {port}, is not allowed for {client}"),
            allow: format!(
                "a rule with action = \"allow\" before the rule \"{}\" in access.rules",
                self.name
            ),
        }
    }
}

fn has(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// What a rule decided of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It let it through.
    Allowed(RuleName),
    /// It refused.
    Denied(RuleName),
}

impl Decision {
    /// The rule.
    pub fn rule(&self) -> &RuleName {
        match self {
            Self::Allowed(rule) | Self::Denied(rule) => rule,
        }
    }
}

/// What is wrong with a rule: which one, the key, what stands there, and what should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleError {
    /// Which one, from 0.
    pub index: usize,
    /// The key.
    pub key: &'static str,
    /// What stands there.
    pub found: String,
    /// What should.
    pub expected: String,
}

/// All that is wrong with rules.
pub fn check(rules: &[Rule]) -> Vec<RuleError> {
    let mut errors = Vec::new();
    let mut names: HashMap<&str, usize> = HashMap::new();
    for (index, rule) in rules.iter().enumerate() {
        let mut wrong = |key, found: String, expected: &str| {
            errors.push(RuleError { index, key, found, expected: expected.to_owned() });
        };
        if RULES.contains(&&*rule.name) {
            wrong("name", format!("{:?}", rule.name), "a name that no built-in rule has");
        }
        if let Some(first) = names.insert(&rule.name, index) {
            wrong("name", format!("{:?}, which rule {} has too", rule.name, first + 1), "a name of its own");
        }
    }
    errors
}

/// Rules, made ready to be asked for each request.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    all: Vec<Arc<Rule>>,
    /// By the host's name, without a trailing dot, in lower case.
    exact: HashMap<Box<str>, Vec<u32>, ahash::RandomState>,
    /// The same for suffixes, without the leading dot.
    suffix: HashMap<Box<str>, Vec<u32>, ahash::RandomState>,
    /// For any host, or for addresses written as hosts.
    others: Vec<u32>,
}

/// Equal rules in equal order find the same.
impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
    }
}

impl Rules {
    pub(super) fn new(all: Vec<Rule>) -> Self {
        let mut built = Self::default();
        for (index, rule) in (0..).zip(&all) {
            if rule.hosts.is_empty() {
                built.others.push(index);
            }
            for host in &rule.hosts {
                let name = without_dot(host.strip_prefix('.').unwrap_or(host)).to_ascii_lowercase();
                let list = if host.starts_with('.') {
                    built.suffix.entry(name.into()).or_default()
                } else if host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
                    &mut built.others
                } else {
                    built.exact.entry(name.into()).or_default()
                };
                if list.last() != Some(&index) {
                    list.push(index);
                }
            }
        }
        built.all = all.into_iter().map(Arc::new).collect();
        built
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether a rule lets clients from there in, for something.
    pub(super) fn lets_in(&self, client: IpAddr) -> bool {
        self.all.iter().any(|rule| rule.action() == Action::Allow && has(&rule.clients, client))
    }

    /// The rules that may match, in their order.
    fn candidates(&self, host: &Host) -> impl Iterator<Item = &Arc<Rule>> {
        let mut lists: Vec<&[u32]> = vec![&self.others];
        if let Host::Name(name) = host {
            let mut name = without_dot(name);
            lists.extend(self.exact.get(name).map(Vec::as_slice));
            while !self.suffix.is_empty() {
                lists.extend(self.suffix.get(name).map(Vec::as_slice));
                match name.split_once('.') {
                    Some((_, above)) => name = above,
                    None => break,
                }
            }
        }
        // The smallest of the lists' heads, each time; there are few lists.
        std::iter::from_fn(move || {
            let next = lists.iter().filter_map(|list| list.first().copied()).min()?;
            for list in &mut lists {
                if list.first() == Some(&next) {
                    *list = &list[1..];
                }
            }
            self.all.get(next as usize)
        })
    }
}

/// What a request may reach: the way to origins asks it before each connection, and before each use of one.
#[derive(Clone, Debug)]
pub struct Grant {
    access: Arc<Access>,
    /// The rule that let the request in, if one did.
    by: Option<Arc<Rule>>,
    waiting: Option<Arc<Waiting>>,
}

/// What the address decides.
#[derive(Debug)]
struct Waiting {
    /// Rules with addresses, in their order, and what each says once the address is one of its own.
    rules: Vec<(Arc<Rule>, Result<(), Denied>)>,
    /// What holds for all other addresses, before they are judged as always.
    otherwise: Result<(), Denied>,
}

impl Grant {
    /// What `access` says of destinations, without a rule.
    pub fn plain(access: Arc<Access>) -> Self {
        Self { access, by: None, waiting: None }
    }

    /// The rule that let the request in, if one did.
    pub fn by(&self) -> Option<&Arc<Rule>> {
        self.by.as_ref()
    }

    /// Whether rules wait for the destination's address, so that even what is stored may not be answered without it.
    pub fn wants_address(&self) -> bool {
        self.waiting.is_some()
    }

    /// What holds as long as the address is not known: a parent proxy finds it out for itself.
    pub fn by_name(&self) -> Result<(), Denied> {
        self.waiting.as_ref().map_or(Ok(()), |waiting| waiting.otherwise.clone())
    }

    /// May `address` be dialled for `host`? Which rule allowed it, if one did. Judged by the address.
    pub fn destination(&self, host: &Host, address: SocketAddr) -> Result<Option<&Arc<Rule>>, Denied> {
        let faces = Faces::of(address.ip());
        self.access.not_ourselves(host, faces, address)?;
        if let Some(waiting) = &self.waiting {
            let decides = waiting.rules.iter().find(|(rule, _)| rule.matches_address(faces));
            if let Some((rule, verdict)) = decides {
                return verdict.clone().map(|()| Some(rule));
            }
            waiting.otherwise.clone()?;
        }
        self.access.judged(host, faces, address).map(|()| self.by.as_ref())
    }
}

impl Access {
    /// May this be asked for? `beyond_loopback`: whether a listener is on another address than loopback.
    pub fn ask(self: &Arc<Self>, asked: Asked<'_>, beyond_loopback: bool) -> Result<Grant, Denied> {
        let asked = Asked { client: asked.client.to_canonical(), ..asked };
        let by_default = |rule: Option<&Rule>| self.by_default(&asked, beyond_loopback, rule);
        if self.rules.is_empty() {
            return by_default(None).map(|()| Grant::plain(Arc::clone(self)));
        }
        let verdict = |rule: &Rule| match rule.action() {
            Action::Allow => by_default(Some(rule)),
            Action::Deny => Err(rule.denied(&asked)),
        };
        let mut waiting = Vec::new();
        let mut decides = None;
        for rule in self.rules.candidates(asked.host).filter(|rule| rule.matches(&asked)) {
            if rule.addresses.is_empty() {
                decides = Some(rule);
                break;
            }
            match asked.host {
                Host::Ip(ip) if !rule.matches_address(Faces::of(*ip)) => {}
                _ => waiting.push((Arc::clone(rule), verdict(rule))),
            }
        }
        let otherwise = decides.map_or_else(|| by_default(None), |rule| verdict(rule));
        if let (Host::Ip(_), Some((_, first))) = (asked.host, waiting.first()) {
            // It decides for the only address that there is.
            first.clone()?;
        }
        if waiting.iter().all(|(_, verdict)| verdict.is_err()) {
            otherwise.clone()?;
        }
        let by = decides.filter(|_| otherwise.is_ok()).map(Arc::clone);
        let waiting = (!waiting.is_empty()).then(|| Arc::new(Waiting { rules: waiting, otherwise }));
        Ok(Grant { access: Arc::clone(self), by, waiting })
    }

    /// The defaults, less those that `rule` lifts by naming what they are about.
    fn by_default(
        &self,
        asked: &Asked<'_>,
        beyond_loopback: bool,
        rule: Option<&Rule>,
    ) -> Result<(), Denied> {
        if rule.is_none_or(|rule| rule.clients.is_empty()) {
            self.client(asked.client, beyond_loopback)?;
        }
        if rule.is_none_or(|rule| rule.ports == Ports::Any) {
            if asked.method == Method::CONNECT {
                self.connect_port(asked.port)?;
            } else {
                self.port(asked.scheme, asked.port)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
