//! The table of keys: name, kind, default, live or at restart, where the value goes, and what it is for.
//!
//! Everything that knows keys walks this table: the reader of the file, the sample file, and the comparison
//! that a reload makes. A row reads
//!
//! ```text
//! /// What it is for.
//! section.key: Kind = "default in TOML", Live or Restart => path.in.settings;
//! ```
//!
//! with the name of a field of [`Draft`] in brackets before the path where the value also depends on others.

use toml::Spanned;
use toml::de::DeValue;

use super::Settings;
use super::kinds::Wrongs;
use super::resolve::Draft;
use super::shown;

/// A key of the file that sets something in a `T`.
pub struct Key<T: 'static> {
    /// The name: `section.key`, or the key alone inside a rule.
    pub name: &'static str,
    /// The default, as it is written in TOML.
    pub default: &'static str,
    /// What it is for: sentences.
    pub doc: &'static str,
    /// Reads a value into the `T`.
    pub(super) read: fn(&mut T, &Spanned<DeValue<'_>>) -> Result<(), Wrongs>,
}

/// When a change takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// With the reload that brings it.
    Live,
    /// At the next start.
    Restart,
}

impl When {
    /// As the sample file says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Restart => "restart",
        }
    }
}

/// A key of a section.
pub struct Setting {
    /// The key.
    pub key: Key<Draft>,
    /// When a change takes effect.
    pub when: When,
    /// Whether two settings agree about it.
    pub(super) same: fn(&Settings, &Settings) -> bool,
    /// The value, as a person reads it.
    pub(super) show: fn(&Settings) -> serde_json::Value,
    /// Takes it over from the first to the second.
    pub(super) keep: fn(&Settings, &mut Settings),
}

/// A section of the file.
pub struct Section {
    /// The name between the brackets.
    pub name: &'static str,
    /// What its keys have in common.
    pub doc: &'static str,
    /// Its keys, in the order of the sample file.
    pub settings: &'static [Setting],
}

macro_rules! settings {
    ($(
        $(#[doc = $doc:literal])+
        $section:ident.$key:ident: $kind:ty = $default:literal, $when:ident => $([$draft:ident])? $($to:ident).+;
    )*) => {
        &[$(Setting {
            key: Key {
                name: concat!(stringify!($section), ".", stringify!($key)),
                default: $default,
                doc: concat!($($doc),+),
                read: |draft, given| {
                    let value = <$kind as Kind<_>>::read(given)?;
                    settings!(@set draft, value, $([$draft])? $($to).+);
                    Ok(())
                },
            },
            when: When::$when,
            show: |settings| shown::value::<$kind>(&settings.$($to).+),
            same: |old, new| PartialEq::eq(&old.$($to).+, &new.$($to).+),
            keep: |old, new| new.$($to).+.clone_from(&old.$($to).+),
        }),*]
    };
    (@set $into:ident, $value:ident, [$draft:ident] $($to:ident).+) => { $into.$draft = $value };
    (@set $into:ident, $value:ident, $($to:ident).+) => { $into.settings.$($to).+ = $value };
}

mod caching;
mod clients;
mod operation;
mod origins;

/// All sections, in the order of the sample file.
pub const SECTIONS: &[Section] = &[
    Section { name: "server", doc: "Where the proxy listens.", settings: clients::SERVER },
    Section {
        name: "access",
        doc: "Who may do what. A refusal names the key that would allow it.",
        settings: clients::ACCESS,
    },
    Section {
        name: "proxy",
        doc: "What is done with a client's connection and its requests.",
        settings: clients::PROXY,
    },
    Section {
        name: "pac",
        doc: "What clients are told of the proxy: by /proxy.pac, and by larder env and larder run.",
        settings: clients::PAC,
    },
    Section { name: "upstream", doc: "The way to origins.", settings: origins::UPSTREAM },
    Section {
        name: "cache",
        doc: "What is stored, for how long it answers, and where it is kept.",
        settings: caching::CACHE,
    },
    Section { name: "limits", doc: "What one client or one origin may cost.", settings: operation::LIMITS },
    Section {
        name: "log",
        doc: "The access log, on standard output. Diagnostics go to standard error, by RUST_LOG.",
        settings: operation::LOG,
    },
    Section {
        name: "metrics",
        doc: "What is counted by site. Everything else in the metrics needs no setting.",
        settings: operation::METRICS,
    },
    Section {
        name: "admin",
        doc: "The listener for metrics, health and the API. The proxy never leads to it.",
        settings: operation::ADMIN,
    },
];

/// All keys of all sections, in the order of the sample file.
pub fn settings() -> impl Iterator<Item = &'static Setting> + Clone {
    SECTIONS.iter().flat_map(|section| section.settings)
}
