//! The keys of `[[rules]]` and of the freshness overrides in them.

use super::keys::Key;
use super::kinds::figures::{Switch, Time};
use super::kinds::names::{
    FetchOver, Glob, HostPattern, HostSuffix, HoursOfWeek, Net, PortSet, StatusCode, Text, Token,
};
use super::kinds::{Expected, Given, Kind, Many, Maybe, OneOf, Wrongs};
use super::shown;
use crate::access;
use crate::field::target::Scheme;
use crate::policy::SetCookie;
use crate::policy::rules::{Override, Rule};

/// A key inside a rule, with a value to show in the sample file.
pub(super) struct RuleKey<T: 'static> {
    pub(super) key: Key<T>,
    pub(super) example: &'static str,
    /// The value, as a person reads it.
    pub(super) show: fn(&T) -> serde_json::Value,
}

macro_rules! rule_keys {
    ($(
        $(#[doc = $doc:literal])+
        $field:ident $(as $name:ident)?: $kind:ty = $default:literal, $example:literal;
    )*) => {
        &[$(RuleKey {
            key: Key {
                name: rule_keys!(@name $field $($name)?),
                default: $default,
                doc: concat!($($doc),+),
                read: |rule, given| {
                    rule.$field = <$kind as Kind<_>>::read(given)?;
                    Ok(())
                },
            },
            example: $example,
            show: |rule| shown::value::<$kind>(&rule.$field),
        }),*]
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $name:ident) => { stringify!($name) };
}

/// The keys of a rule, in the order of the sample file.
pub(super) const RULE: &[RuleKey<Rule>] = rule_keys! {
    /// Shown in logs and by explain.
    name: Text = "rule- and its number", r#""static""#;

    /// Hosts it is for: "name" exactly, ".name" with all below it, or "*".
    hosts: Many<HostPattern> = "all", r#"["cdn.example.com", ".static.example"]"#;

    /// URLs it is for, as patterns over the whole of it: * is any bytes, ? is one.
    urls: Many<Glob> = "all", r#"["http://*/assets/*"]"#;

    /// false: requests go straight through; then without the keys that only caching needs.
    cache: Maybe<Switch> = "true", "true";

    /// Query parameters that are left out of the key; a * at the end is any ending. The origin still
    /// gets them.
    ignore_query: Many<Text> = "none", r#"["utm_*", "callback", "_"]"#;

    /// "https": what is asked for by an http URL is fetched over verified TLS.
    fetch_over_https as fetch_over: FetchOver = "as asked for", r#""https""#;

    /// Instead of cache.stale_if_error.
    stale_if_error: Maybe<Time<0>> = "cache.stale_if_error", r#""1d""#;

    /// Where the response has no such directive.
    stale_while_revalidate: Maybe<Time<0>> = "none", r#""1min""#;

    /// Instead of cache.set_cookie.
    set_cookie: Maybe<OneOf<SetCookie>> = "cache.set_cookie", r#""strict""#;

    /// Overrides of the origin's freshness, the first that fits wins. A breach of RFC 9111, and logged
    /// as one.
    freshness: Many<OneOverride> = "none", "";
};

/// The keys of an override, in the order of the sample file.
pub(super) const OVERRIDE: &[RuleKey<Override>] = rule_keys! {
    /// Status codes it is for.
    status: Many<StatusCode> = "all that would be stored", "[200, 404]";

    /// Media types it is for, as patterns.
    content_type: Many<Glob> = "all", r#"["image/*"]"#;

    /// The lifetime is at least this.
    min: Maybe<Time<0>> = "none", r#""1h""#;

    /// The lifetime is at most this.
    max: Maybe<Time<0>> = "none", r#""7d""#;

    /// The lifetime is this, even against no-store, private and no-cache; without min and max.
    force: Maybe<Time<0>> = "none", "";
};

/// The keys of a rule of access, in the order of the sample file.
pub(super) const ACCESS_RULE: &[RuleKey<access::rules::Rule>] = rule_keys! {
    /// Shown in logs, metrics and refusals.
    name: Token = "access-rule- and its number", r#""no-uploads""#;

    /// "allow" lets a request through, "deny" refuses it. What is refused by default stays so under "allow",
    /// but for what the rule names itself: its clients, its ports, its addresses.
    action: Maybe<OneOf<access::rules::Action>> = "none: it must be given", r#""deny""#;

    /// Networks of clients it is for.
    clients: Many<Net> = "all", r#"["10.1.0.0/16"]"#;

    /// Users it is for, such as ["alice"]; ["*"] is all of them. Only with access.basic_file or
    /// access.digest_file.
    users: Many<Text> = "all", "";

    /// Methods it is for, in their case.
    methods: Many<Token> = "all", r#"["POST", "PUT"]"#;

    /// Schemes it is for: "http" and "https"; CONNECT counts as https.
    schemes: Many<OneOf<Scheme>> = "all", r#"["http"]"#;

    /// Hosts it is for: "name" exactly, or ".name" with all below it.
    hosts: Many<HostSuffix> = "all", r#"[".example.com"]"#;

    /// Networks of destinations it is for, judged on the address that is dialled. Where a parent proxy
    /// resolves names, only addresses that are written as such are known.
    addresses: Many<Net> = "all", r#"["192.0.2.0/24"]"#;

    /// Ports of destinations it is for.
    ports: PortSet = "all", r#"[443, "8000-8999"]"#;

    /// When it is for, in UTC: "08:00-18:00", with days of the week before it or without.
    hours: Many<HoursOfWeek> = "always", r#"["Mon-Fri 08:00-18:00", "Sat 22:00-02:00"]"#;

    /// How long an exchange or a tunnel that it allows may last; then it is broken off.
    time_limit: Maybe<Time<1>> = "as long as it takes", r#""1h""#;
};

/// A rule of access: a table of [`ACCESS_RULE`].
pub(super) struct OneAccessRule;

impl Expected for OneAccessRule {
    fn expected() -> String {
        "a table, written as [[access.rules]]".to_owned()
    }
}

impl Kind<access::rules::Rule> for OneAccessRule {
    fn read(given: Given) -> Result<access::rules::Rule, Wrongs> {
        let mut rule = access::rules::Rule::default();
        super::resolve::walk::<Self, _>(given, &ACCESS_RULE.iter().map(|rule| &rule.key), &mut rule)?;
        if rule.action.is_some() {
            return Ok(rule);
        }
        Err(vec![super::problem::Wrong {
            path: ".action".to_owned(),
            span: given.span(),
            found: "none".to_owned(),
            expected: OneOf::<access::rules::Action>::expected(),
        }])
    }
}

/// A rule: a table of [`RULE`].
pub(super) struct OneRule;
/// An override: a table of [`OVERRIDE`].
pub(super) struct OneOverride;

impl Expected for OneRule {
    fn expected() -> String {
        "a table, written as [[rules]]".to_owned()
    }
}
impl Expected for OneOverride {
    fn expected() -> String {
        "a table such as { status = [200], min = \"1h\" }".to_owned()
    }
}
impl Kind<Rule> for OneRule {
    fn read(given: Given) -> Result<Rule, Wrongs> {
        let mut rule = Rule::default();
        super::resolve::walk::<Self, _>(given, &RULE.iter().map(|rule| &rule.key), &mut rule)?;
        Ok(rule)
    }
}

impl Kind<Override> for OneOverride {
    fn read(given: Given) -> Result<Override, Wrongs> {
        let mut one = Override::default();
        super::resolve::walk::<Self, _>(given, &OVERRIDE.iter().map(|rule| &rule.key), &mut one)?;
        let wrong = |found: &str, expected: &str| {
            let (found, expected) = (found.to_owned(), expected.to_owned());
            Err(vec![super::problem::Wrong { path: String::new(), span: given.span(), found, expected }])
        };
        match (one.min, one.max, one.force) {
            (None, None, None) => wrong("an override that sets nothing", "min, max or force"),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                wrong("force beside min or max", "either force, or min and max")
            }
            (Some(min), Some(max), None) if min > max => wrong("min above max", "min at most max"),
            _ => Ok(one),
        }
    }
}
