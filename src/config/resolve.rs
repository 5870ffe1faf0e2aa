//! Text, environment and flags to settings; every error at once, each with its place.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, Key, SECTIONS};
use super::kinds::{Expected, Given, Kind, Many, Wrongs, names, shown, wrong};
use super::problem::{Errors, Place, Problem, Wrong, line_and_column};
use super::rule_keys::OneRule;
use super::suggest::nearest;
use super::{AdminListen, Overrides, Settings, contradictions, defaults, users};
use crate::body::buffers;
use crate::policy::rules::Rule;
use crate::{store, upstream};

/// Settings that are being put together.
#[derive(Default)]
pub struct Draft {
    /// Where the values go.
    pub(super) settings: Settings,
    /// `server.workers`, when not `"auto"`.
    pub(super) workers: Option<usize>,
    /// `cache.max_object`, when not `"auto"`.
    pub(super) max_object: Option<u64>,
    /// `cache.max_object_unknown_length`, when not `"auto"`.
    pub(super) max_object_unknown_length: Option<u64>,
    /// `upstream.from_environment`.
    pub(super) from_environment: bool,
    /// The same where nobody asked for it ([`Overrides::parents_from_environment`]): what cannot be read is left out.
    pub(super) takes_parents: bool,
    /// Where each key was given.
    pub(super) places: BTreeMap<String, Place>,
    /// Keys whose values could not be read.
    pub(super) unread: BTreeSet<String>,
    /// What is wrong so far.
    pub(super) problems: Vec<Problem>,
}

/// Where variables of the environment are looked up.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the file named in `overrides`, if any, and the process's environment.
pub(super) fn load(overrides: &Overrides) -> Result<Settings, Errors> {
    let environment = |name: &str| std::env::var(name).ok();
    let Some(path) = &overrides.config else {
        return resolve("", Path::new(""), overrides, &environment);
    };
    match std::fs::read_to_string(path) {
        Ok(text) => resolve(&text, path, overrides, &environment),
        Err(error) => {
            let (found, expected) = unreadable(&error);
            let place = Place::File { path: path.clone(), line: 0, column: 0 };
            Err(Errors(vec![Problem { place, key: String::new(), found, expected }]))
        }
    }
}

/// What a file is that can't be read, and what to do about it.
fn unreadable(error: &std::io::Error) -> (String, String) {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => (
            "no such file".to_owned(),
            "a TOML file: give its path with --config or LARDER_CONFIG, or neither for the defaults"
                .to_owned(),
        ),
        ErrorKind::PermissionDenied => (
            "a file that may not be read".to_owned(),
            format!(
                "one that user {}, who runs larder, may read: change its owner or mode, or a directory's above it",
                rustix::process::geteuid()
            ),
        ),
        ErrorKind::IsADirectory => (
            "a directory".to_owned(),
            "a TOML file: give the path of a file in it with --config or LARDER_CONFIG".to_owned(),
        ),
        ErrorKind::InvalidData => ("bytes that are not UTF-8".to_owned(), "TOML, saved as UTF-8".to_owned()),
        _ => (format!("an error while reading it ({error})"), "a TOML file".to_owned()),
    }
}

/// The settings that `text`, the overrides and the environment make; `path` is how errors name the text.
pub(super) fn resolve(
    text: &str,
    path: &Path,
    overrides: &Overrides,
    environment: Environment,
) -> Result<Settings, Errors> {
    let mut draft = Draft::default();
    File { text, path }.read(&mut draft);
    apply(overrides, &mut draft);
    derive(&mut draft, environment);
    if !overrides.without_users {
        users::read(&mut draft);
    }
    contradictions::find(&mut draft);
    if draft.problems.is_empty() { Ok(draft.settings) } else { Err(Errors(draft.problems)) }
}

/// The text of a file, and its name for errors.
struct File<'a> {
    text: &'a str,
    path: &'a Path,
}

impl File<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let (line, column) = line_and_column(self.text, span.start);
        Place::File { path: self.path.to_path_buf(), line, column }
    }

    /// Reads the text into the draft. Text that is not TOML is told alone: what follows from it helps nobody.
    fn read(&self, draft: &mut Draft) {
        let (document, errors) = DeTable::parse_recoverable(self.text);
        let mut wrongs: Wrongs = errors
            .iter()
            .map(|error| Wrong {
                path: String::new(),
                span: error.span().unwrap_or_default(),
                found: format!("what is not TOML: {}", error.message()),
                expected: "TOML".to_owned(),
            })
            .collect();
        if wrongs.is_empty() {
            self.read_document(document.get_ref(), draft, &mut wrongs);
        }
        wrongs.sort_by_key(|wrong| wrong.span.start);
        for wrong in wrongs {
            let place = self.place(&wrong.span);
            let Wrong { path: key, found, expected, .. } = wrong;
            draft.problems.push(Problem { place, key, found, expected });
        }
    }

    fn read_document(&self, document: &DeTable, draft: &mut Draft, wrongs: &mut Wrongs) {
        for (name, value) in document {
            let section = name.get_ref().as_ref();
            if section == "rules" {
                self.read_rules(value, draft, wrongs);
            } else if SECTIONS.iter().any(|known| known.name == section) {
                self.read_section(section, value, draft, wrongs);
            } else {
                let known = SECTIONS.iter().map(|known| known.name).chain(["rules"]);
                wrongs.push(Wrong { path: section.to_owned(), ..unknown(name, section, "section", known) });
            }
        }
    }

    fn read_rules(&self, value: Given, draft: &mut Draft, wrongs: &mut Wrongs) {
        let Some(rules) = value.get_ref().as_array() else {
            wrongs.extend(wrong::<Many<OneRule>>(value).into_iter().map(|wrong| wrong.under("rules")));
            return;
        };
        for (index, given) in rules.iter().enumerate() {
            let key = format!("rules[{index}]");
            // One that could not be read keeps its place, and contradicts nothing.
            let mut rule = OneRule::read(given).unwrap_or_else(|found: Wrongs| {
                wrongs.extend(found.into_iter().map(|wrong| wrong.under(&key)));
                Rule::default()
            });
            if rule.name.is_empty() {
                rule.name = format!("rule-{}", index + 1);
            }
            draft.settings.rules.push(rule);
            draft.places.insert(key, self.place(&given.span()));
        }
    }

    fn read_section(&self, section: &str, value: Given, draft: &mut Draft, wrongs: &mut Wrongs) {
        let DeValue::Table(table) = value.get_ref() else {
            wrongs.push(Wrong {
                path: section.to_owned(),
                span: value.span(),
                found: shown(value.get_ref()),
                expected: format!("a section, written as [{section}]"),
            });
            return;
        };
        for (name, value) in table {
            let full = format!("{section}.{}", name.get_ref());
            let Some(setting) = keys::settings().find(|setting| setting.key.name == full) else {
                let known = keys::settings().map(|setting| setting.key.name);
                wrongs.push(Wrong { path: full.clone(), ..unknown(name, &full, "key", known) });
                continue;
            };
            if let Err(found) = (setting.key.read)(draft, value) {
                wrongs.extend(found.into_iter().map(|wrong| wrong.under(&full)));
                draft.unread.insert(full.clone());
            }
            draft.places.insert(full, self.place(&value.span()));
        }
    }
}

/// Reads a table by a table of keys into `into`.
pub(super) fn walk<K: Expected, T: 'static>(
    given: Given,
    keys: &(impl Iterator<Item = &'static Key<T>> + Clone),
    into: &mut T,
) -> Result<(), Wrongs> {
    let table = given.get_ref().as_table().ok_or_else(|| super::kinds::wrong::<K>(given))?;
    let mut wrongs = Vec::new();
    for (name, value) in table {
        let known = keys.clone().find(|key| key.name == name.get_ref());
        let found = match known {
            Some(key) => (key.read)(into, value).err().unwrap_or_default(),
            None => vec![unknown(name, name.get_ref(), "key", keys.clone().map(|key| key.name))],
        };
        wrongs.extend(found.into_iter().map(|wrong| wrong.under(&format!(".{}", name.get_ref()))));
    }
    if wrongs.is_empty() { Ok(()) } else { Err(wrongs) }
}

/// A name that is in no table, with the nearest that is in one.
fn unknown<'a>(
    name: &Spanned<Cow<'_, str>>,
    full: &str,
    what: &str,
    known: impl Iterator<Item = &'a str> + Clone,
) -> Wrong {
    /// More names than this are no help in an error.
    const FEW: usize = 16;
    let expected = match nearest(full, known.clone()) {
        Some(near) => format!("perhaps {near}"),
        None if known.clone().count() <= FEW => format!("one of {}", known.collect::<Vec<_>>().join(", ")),
        None => {
            let section = full.split('.').next().unwrap_or(full);
            let inside = known.filter_map(|known| known.strip_prefix(section)?.strip_prefix('.'));
            format!("one of {}", inside.collect::<Vec<_>>().join(", "))
        }
    };
    Wrong { path: String::new(), span: name.span(), found: format!("an unknown {what}"), expected }
}

/// Puts the command line and the environment over the file.
fn apply(overrides: &Overrides, draft: &mut Draft) {
    let settings = &mut draft.settings;
    let mut over = |key: &str, flag| {
        draft.places.insert(key.to_owned(), Place::Flag(flag));
        draft.unread.remove(key);
    };
    if !overrides.listen.is_empty() {
        settings.server.listen.clone_from(&overrides.listen);
        over("server.listen", "--listen");
    }
    if let Some(admin) = overrides.admin_listen {
        settings.admin.listen = match admin {
            AdminListen::Off => None,
            AdminListen::At(address) => Some(address),
        };
        over("admin.listen", "--admin-listen");
    }
    if let Some(memory) = overrides.memory {
        settings.store.capacity = memory;
        over("cache.memory", "--memory");
    }
    if let Some(ports) = &overrides.connect_ports {
        settings.access.connect_ports = ports.clone();
        over("access.connect_ports", "--connect-ports");
    }
    if let Some(allow) = overrides.allow_private {
        settings.access.allow_private = allow;
        over("access.allow_private", "--allow-private");
    }
    let said = |key: &str| draft.places.contains_key(key);
    draft.takes_parents =
        overrides.parents_from_environment && !said("upstream.parents") && !said("upstream.from_environment");
}

/// Fills in what depends on other settings.
fn derive(draft: &mut Draft, environment: Environment) {
    let server = &mut draft.settings.server;
    server.workers = draft.workers.unwrap_or_else(defaults::workers);
    server.listen_is_default = server.listen == defaults::listen();
    let store = &mut draft.settings.store;
    store.max_object =
        draft.max_object.unwrap_or_else(|| store::Options::of_capacity(store.capacity).max_object);
    store.max_object_unknown_length = draft.max_object_unknown_length.unwrap_or(store.max_object / 4 * 3);
    let Settings { proxy, upstream, body, buffers: all, .. } = &mut draft.settings;
    let request = (proxy.max_head + proxy.max_request_line) as u64;
    *all = buffers::Options::of(all.total, request, upstream.max_head as u64, body.window as u64);
    if draft.from_environment || draft.takes_parents {
        from_environment(draft, environment);
    }
}

/// Takes parents and the hosts that go without from the environment, as other programs do: what cannot be read of
/// `NO_PROXY`, which they all share and each reads in its own way, is left out.
fn from_environment(draft: &mut Draft, environment: Environment) {
    let upstream = &mut draft.settings.upstream;
    match upstream::parents_from_env(environment) {
        Ok((parents, direct)) => {
            upstream.parents.extend(parents);
            for host in direct {
                if let Some(known) = names::no_proxy(&host) {
                    upstream.no_proxy.push(known);
                } else {
                    let expected = names::NoProxy::expected();
                    tracing::warn!("NO_PROXY: found {host:?}, expected {expected}; it is left out");
                }
            }
        }
        // It may hold a password; here and below.
        Err(_) if draft.takes_parents => tracing::warn!(
            "HTTP_PROXY, HTTPS_PROXY: found a value that is not shown, expected {}; it is not asked",
            names::ParentUrl::expected()
        ),
        Err(_) => draft.problems.push(Problem {
            place: Place::Environment("HTTP_PROXY, HTTPS_PROXY"),
            key: "upstream.from_environment".to_owned(),
            found: "a value that is not shown".to_owned(),
            expected: names::ParentUrl::expected(),
        }),
    }
}
