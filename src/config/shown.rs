//! Settings as a person reads them: what runs, in the form in which the file would have it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;
use serde_json::{Map, Value, json};

use super::Settings;
use super::keys::settings;
use super::kinds::{Choice, Expected};
use super::rule_keys::{ACCESS_RULE, OVERRIDE, RULE, RuleKey};
use crate::access::hours::Hours;
use crate::access::{self, Allowed, Ports};
use crate::policy::rules::{Override, Rule};
use crate::upstream::{Direct, Parent};

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things, or nothing.
    Plain,
    /// Bytes.
    Bytes,
    /// Milliseconds.
    Milliseconds,
    /// Nothing: whether a rule says "https".
    Https,
}

/// A value that can be shown.
pub(super) trait Shown {
    fn shown(&self, unit: Unit) -> Value;
}

/// A value of the kind `K`, as the file would have it; of a secret, whether there is one.
pub(super) fn value<K: Expected>(value: &impl Shown) -> Value {
    let shown = value.shown(K::UNIT);
    if let (Value::Null, Some(word)) = (&shown, K::NONE) {
        return json!(word);
    }
    let none = shown.is_null() || shown.as_str() == Some("") || shown.as_array().is_some_and(Vec::is_empty);
    if K::SECRET && !none { json!("(not shown)") } else { shown }
}

/// What runs: every key with its value, its default and when a change takes effect, and the rules in their order.
pub fn effective(running: &Settings) -> Value {
    let defaults = Settings::default();
    let shown = settings().filter(|setting| setting.key.name != "upstream.from_environment").map(|setting| {
        json!({
            "key": setting.key.name,
            "value": (setting.show)(running),
            "default": setting.key.default,
            "is_default": (setting.same)(running, &defaults),
            "changes": setting.when.word(),
            "says": setting.key.doc.trim(),
        })
    });
    let rules = running.rules.iter().map(|rule| rule.shown(Unit::Plain));
    json!({ "settings": shown.collect::<Vec<_>>(), "rules": rules.collect::<Vec<_>>() })
}

/// The keys of a rule that say something.
fn members<T>(keys: &[RuleKey<T>], of: &T) -> Value {
    let says = |name: &str, value: &Value| {
        let empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
        !empty && (name == "name" || !matches!(value.as_str(), Some("auto" | "off")))
    };
    let all = keys.iter().map(|rule| (rule.key.name.to_owned(), (rule.show)(of)));
    Value::Object(all.filter(|(name, value)| says(name, value)).collect::<Map<_, _>>())
}

impl Shown for Rule {
    fn shown(&self, _: Unit) -> Value {
        members(RULE, self)
    }
}

impl Shown for Override {
    fn shown(&self, _: Unit) -> Value {
        members(OVERRIDE, self)
    }
}

impl Shown for access::rules::Rule {
    fn shown(&self, _: Unit) -> Value {
        members(ACCESS_RULE, self)
    }
}

impl Shown for bool {
    fn shown(&self, unit: Unit) -> Value {
        match unit {
            Unit::Https => self.then_some("https").into(),
            Unit::Plain | Unit::Bytes | Unit::Milliseconds => json!(self),
        }
    }
}

impl Shown for Direct {
    fn shown(&self, _: Unit) -> Value {
        json!(self.to_string())
    }
}

impl Shown for f64 {
    fn shown(&self, _: Unit) -> Value {
        json!(self)
    }
}

impl Shown for u64 {
    fn shown(&self, unit: Unit) -> Value {
        match unit {
            Unit::Plain | Unit::Https => json!(self),
            Unit::Bytes => json!(bytesize::ByteSize(*self).display().iec().to_string()),
            Unit::Milliseconds => Duration::from_millis(*self).shown(unit),
        }
    }
}

impl Shown for usize {
    fn shown(&self, unit: Unit) -> Value {
        (*self as u64).shown(unit)
    }
}

impl Shown for i64 {
    fn shown(&self, unit: Unit) -> Value {
        // No key takes a negative figure.
        self.unsigned_abs().shown(unit)
    }
}

impl Shown for u16 {
    fn shown(&self, _: Unit) -> Value {
        json!(self)
    }
}

impl Shown for Duration {
    fn shown(&self, _: Unit) -> Value {
        json!(humantime::format_duration(*self).to_string())
    }
}

impl Shown for RangeInclusive<u16> {
    fn shown(&self, _: Unit) -> Value {
        if self.start() == self.end() {
            json!(self.start())
        } else {
            json!(format!("{}-{}", self.start(), self.end()))
        }
    }
}

impl Shown for Ports {
    fn shown(&self, unit: Unit) -> Value {
        match self {
            Self::Any => json!("any"),
            Self::List(ranges) => ranges.shown(unit),
        }
    }
}

impl<T: Shown> Shown for Allowed<T> {
    fn shown(&self, unit: Unit) -> Value {
        let listed = self.listed.shown(unit);
        match listed {
            Value::Array(items) if self.auto && items.is_empty() => json!("auto"),
            Value::Array(items) if self.auto => [vec![json!("auto")], items].concat().into(),
            listed => listed,
        }
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self, unit: Unit) -> Value {
        self.iter().map(|item| item.shown(unit)).collect()
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self, unit: Unit) -> Value {
        self.as_ref().map_or(Value::Null, |value| value.shown(unit))
    }
}

impl<T: Choice + PartialEq> Shown for T {
    fn shown(&self, _: Unit) -> Value {
        T::NAMES.iter().find(|(_, value)| value == self).map_or(Value::Null, |(name, _)| json!(name))
    }
}

impl Shown for PathBuf {
    fn shown(&self, _: Unit) -> Value {
        json!(self.display().to_string())
    }
}

macro_rules! as_text {
    ($($kind:ty),*) => {
        $(impl Shown for $kind {
            fn shown(&self, _: Unit) -> Value {
                json!(self.to_string())
            }
        })*
    };
}

as_text!(String, Hours, Arc<str>, SocketAddr, IpAddr, IpNet, HeaderName);

impl Shown for Parent {
    fn shown(&self, _: Unit) -> Value {
        // Its own way of writing it leaves the credentials out; they are a secret as a whole all the same.
        json!(format!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use std::path::Path;

    fn shown(text: &str) -> Value {
        effective(&Settings::parse(text, Path::new("l.toml"), &Overrides::default()).unwrap())
    }

    fn of(told: &Value, key: &str) -> Value {
        let all = told["settings"].as_array().unwrap();
        all.iter().find(|setting| setting["key"] == key).unwrap_or_else(|| panic!("no {key}"))["value"]
            .clone()
    }

    #[test]
    fn figures_have_their_units_and_lists_their_members() {
        let told = shown(
            "cache = { memory = '256MiB', collapse_wait = '1500ms', policy = 'lru' }\n\
             access = { clients = ['auto', '192.0.2.0/24'], connect_ports = [443, '8000-8999'] }\n\
             admin = { listen = 'off' }",
        );
        for (key, expected) in [
            ("cache.memory", json!("256.0 MiB")),
            ("cache.max_object", json!("32.0 MiB")),
            ("cache.collapse_wait", json!("1s 500ms")),
            ("cache.heuristic_max", json!("1day")),
            ("cache.policy", json!("lru")),
            ("cache.variants", json!(64)),
            ("cache.close_delimited", json!(true)),
            ("access.clients", json!(["auto", "192.0.2.0/24"])),
            ("access.ports", json!("auto")),
            ("access.connect_ports", json!([443, "8000-8999"])),
            ("admin.listen", json!("off")),
            ("proxy.via", json!("auto")),
            ("server.listen", json!(["127.0.0.1:3128", "[::1]:3128"])),
        ] {
            assert_eq!(of(&told, key), expected, "{key}");
        }
    }

    #[test]
    fn of_secrets_only_their_being_there_is_told() {
        let told = shown(
            "admin.token = 'correct-horse'\nupstream.parents = ['http://user:battery-staple@proxy.example:3128']",
        );
        for secret in ["correct-horse", "battery-staple", "user"] {
            assert!(!told["settings"].to_string().contains(&format!("{secret}@")), "{secret}");
            assert!(
                of(&told, "admin.token") == "(not shown)" && of(&told, "upstream.parents") == "(not shown)"
            );
        }
        assert!(!told.to_string().contains("correct-horse") && !told.to_string().contains("battery-staple"));
        let none = shown("");
        assert_eq!((of(&none, "admin.token"), of(&none, "upstream.parents")), (Value::Null, json!([])));
    }

    #[test]
    fn a_rule_is_told_by_what_it_says() {
        let told = shown(
            "[[rules]]\nname = 'off'\nhosts = ['.example.com']\nstale_if_error = '1h'\n\
             freshness = [{ status = [200], min = '1d' }]",
        );
        assert_eq!(
            told["rules"],
            json!([{
                "name": "off", "hosts": [".example.com"], "stale_if_error": "1h",
                "freshness": [{ "status": [200], "min": "1day" }],
            }])
        );
    }
}
