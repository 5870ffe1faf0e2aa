//! Kinds of values: how a TOML value becomes a setting, and what is said when it does not.
//!
//! A kind is an empty type; [`Kind<T>`] reads it as `T`, so that one kind serves fields of several types
//! (a duration as `Duration` or as milliseconds). Here are the kinds made of others; the rest is in
//! [`figures`] and [`names`].

pub(super) mod figures;
pub(super) mod names;

use std::marker::PhantomData;

use toml::Spanned;
use toml::de::DeValue;

use super::problem::Wrong;
use super::shown::Unit;
use crate::access::Allowed;
use crate::access::rules::Action;
use crate::field::target::Scheme;
use crate::policy::SetCookie;
use crate::proxy::ForwardedFor;
use crate::store::Eviction;
use crate::telemetry::Format;
use crate::upstream::Resolver;

/// A value of the file, with its place.
pub(super) type Given<'a> = &'a Spanned<DeValue<'a>>;

/// What is wrong with a value: more than one thing where it is a list.
pub(super) type Wrongs = Vec<Wrong>;

/// What a kind of value looks like, in words.
pub(super) trait Expected {
    /// Whether the value must not be shown when it is wrong.
    const SECRET: bool = false;
    /// What its figure counts.
    const UNIT: Unit = Unit::Plain;
    /// The word for nothing, where it has one.
    const NONE: Option<&'static str> = None;

    /// As it stands behind "expected".
    fn expected() -> String;
}

/// A kind that is read as `T`.
pub(super) trait Kind<T>: Expected {
    /// Reads a value.
    fn read(given: Given) -> Result<T, Wrongs>;
}

/// The wrong value `given`, where a `K` was expected.
pub(super) fn wrong<K: Expected>(given: Given) -> Wrongs {
    wrong_because::<K>(given, K::expected())
}

/// The same, with what was expected of this value in particular.
pub(super) fn wrong_because<K: Expected>(given: Given, expected: impl Into<String>) -> Wrongs {
    let found = if K::SECRET { hidden(given.get_ref()) } else { shown(given.get_ref()) };
    vec![Wrong { path: String::new(), span: given.span(), found, expected: expected.into() }]
}

/// The type alone.
fn hidden(value: &DeValue) -> String {
    match value {
        DeValue::String(_) => "a string (not shown)".to_owned(),
        DeValue::Integer(_) | DeValue::Float(_) => "a number (not shown)".to_owned(),
        other => shown(other),
    }
}

/// A value as it is shown in an error: its type, and itself where it is short.
pub(super) fn shown(value: &DeValue) -> String {
    /// Characters of a string: an error is one line.
    const LONGEST: usize = 60;
    match value {
        DeValue::String(text) if text.chars().count() > LONGEST => {
            format!("the string {:?}...", text.chars().take(LONGEST).collect::<String>())
        }
        DeValue::String(text) => format!("the string {text:?}"),
        DeValue::Integer(number) => format!("the integer {number}"),
        DeValue::Float(number) => format!("the float {number}"),
        DeValue::Boolean(value) => format!("the boolean {value}"),
        DeValue::Datetime(_) => "a date".to_owned(),
        DeValue::Array(items) => format!("a list of {}", items.len()),
        DeValue::Table(_) => "a table".to_owned(),
    }
}

/// A list of `K`.
pub(super) struct Many<K>(PhantomData<K>);
/// `"auto"` (`None`) or a `K`.
pub(super) struct Auto<K>(PhantomData<K>);
/// `"auto"`, or a list of `K` in which that may be a member too.
pub(super) struct Extending<K>(PhantomData<K>);
/// `"off"` (`None`) or a `K`.
pub(super) struct Off<K>(PhantomData<K>);
/// A `K` where the field is optional: what is given is `Some`.
pub(super) struct Maybe<K>(PhantomData<K>);
/// One of the names of a `T`.
pub(super) struct OneOf<T>(PhantomData<T>);

impl<K: Expected> Expected for Many<K> {
    const SECRET: bool = K::SECRET;
    const UNIT: Unit = K::UNIT;
    fn expected() -> String {
        format!("a list, each {}", K::expected())
    }
}

impl<T, K: Kind<T>> Kind<Vec<T>> for Many<K> {
    fn read(given: Given) -> Result<Vec<T>, Wrongs> {
        let items = given.get_ref().as_array().ok_or_else(|| wrong::<Self>(given))?;
        let mut values = Vec::with_capacity(items.len());
        let mut wrongs = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match K::read(item) {
                Ok(value) => values.push(value),
                Err(found) => {
                    wrongs.extend(found.into_iter().map(|wrong| wrong.under(&format!("[{index}]"))));
                }
            }
        }
        if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
    }
}

impl<K: Expected> Expected for Auto<K> {
    const SECRET: bool = K::SECRET;
    const UNIT: Unit = K::UNIT;
    const NONE: Option<&'static str> = Some("auto");
    fn expected() -> String {
        format!("\"auto\" or {}", K::expected())
    }
}

impl<T, K: Kind<T>> Kind<Option<T>> for Auto<K> {
    fn read(given: Given) -> Result<Option<T>, Wrongs> {
        none_or::<Self, K, T>(given)
    }
}

impl<K: Expected> Expected for Extending<K> {
    const SECRET: bool = K::SECRET;
    const UNIT: Unit = K::UNIT;
    fn expected() -> String {
        format!("\"auto\", or {}", Many::<Auto<K>>::expected())
    }
}

impl<T, K: Kind<T>> Kind<Allowed<Vec<T>>> for Extending<K> {
    fn read(given: Given) -> Result<Allowed<Vec<T>>, Wrongs> {
        if given.get_ref().as_str() == Some("auto") {
            return Ok(Allowed { auto: true, listed: Vec::new() });
        }
        if !given.get_ref().is_array() {
            return Err(wrong::<Self>(given));
        }
        let members: Vec<Option<T>> = Many::<Auto<K>>::read(given)?;
        let auto = members.iter().any(Option::is_none);
        Ok(Allowed { auto, listed: members.into_iter().flatten().collect() })
    }
}

impl<K: Expected> Expected for Off<K> {
    const SECRET: bool = K::SECRET;
    const UNIT: Unit = K::UNIT;
    const NONE: Option<&'static str> = Some("off");
    fn expected() -> String {
        format!("\"off\" or {}", K::expected())
    }
}

impl<T, K: Kind<T>> Kind<Option<T>> for Off<K> {
    fn read(given: Given) -> Result<Option<T>, Wrongs> {
        none_or::<Self, K, T>(given)
    }
}

/// `None` for the word for it, else a `K`. What is neither is told both; a list with wrong members is told these.
fn none_or<Outer: Expected, K: Kind<T>, T>(given: Given) -> Result<Option<T>, Wrongs> {
    if given.get_ref().as_str().is_some_and(|text| Some(text) == Outer::NONE) {
        return Ok(None);
    }
    K::read(given).map(Some).map_err(|wrongs| {
        let whole = wrongs.iter().all(|wrong| wrong.path.is_empty());
        if whole { wrong::<Outer>(given) } else { wrongs }
    })
}

impl<K: Expected> Expected for Maybe<K> {
    const UNIT: Unit = K::UNIT;
    const SECRET: bool = K::SECRET;
    fn expected() -> String {
        K::expected()
    }
}

impl<T, K: Kind<T>> Kind<Option<T>> for Maybe<K> {
    fn read(given: Given) -> Result<Option<T>, Wrongs> {
        K::read(given).map(Some)
    }
}

/// A setting that is one of a few names.
pub(super) trait Choice: Copy + 'static {
    /// The names, and what they mean.
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Choice> Expected for OneOf<T> {
    fn expected() -> String {
        let names: Vec<_> = T::NAMES.iter().map(|(name, _)| format!("{name:?}")).collect();
        match names.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => names.concat(),
        }
    }
}

impl<T: Choice> Kind<T> for OneOf<T> {
    fn read(given: Given) -> Result<T, Wrongs> {
        let name = given.get_ref().as_str().ok_or_else(|| wrong::<Self>(given))?;
        let found = T::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|&(_, value)| value).ok_or_else(|| wrong::<Self>(given))
    }
}

impl Choice for Eviction {
    const NAMES: &'static [(&'static str, Self)] = &[("lru", Self::Lru), ("tiny-lfu", Self::TinyLfu)];
}

impl Choice for SetCookie {
    const NAMES: &'static [(&'static str, Self)] = &[("strict", Self::Strict), ("rfc9111", Self::Rfc9111)];
}

impl Choice for ForwardedFor {
    const NAMES: &'static [(&'static str, Self)] =
        &[("delete", Self::Delete), ("keep", Self::Keep), ("add", Self::Add)];
}

impl Choice for Action {
    const NAMES: &'static [(&'static str, Self)] = &[("allow", Self::Allow), ("deny", Self::Deny)];
}

impl Choice for Scheme {
    const NAMES: &'static [(&'static str, Self)] = &[("http", Self::Http), ("https", Self::Https)];
}

impl Choice for Resolver {
    const NAMES: &'static [(&'static str, Self)] = &[("hickory", Self::Hickory), ("system", Self::System)];
}

impl Choice for Format {
    const NAMES: &'static [(&'static str, Self)] = &[
        ("auto", Self::Auto),
        ("text", Self::Text),
        ("json", Self::Json),
        ("squid", Self::Squid),
        ("combined", Self::Combined),
        ("off", Self::Off),
    ];
}
