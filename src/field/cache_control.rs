//! Cache-Control: RFC 9111 section 5.2, RFC 5861, RFC 8246. Syntax, and what duplicates mean.

use std::num::NonZeroU32;

use http::{HeaderName, HeaderValue};

use super::list::{digits, is_token, members, token_or_quoted, trim};

/// Seconds at which a delta saturates: 2^31. RFC 9111 section 1.2.2.
pub const DELTA_MAX: i64 = 1 << 31;

/// A delta-seconds argument: seconds, 0 to [`DELTA_MAX`], or invalid. Every stored response has some: one that may
/// be absent takes no more room than its seconds, which are kept plus one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Delta(NonZeroU32);

impl Delta {
    /// Missing, not digits only, or given twice with different values: "caches are encouraged to consider
    /// responses that have invalid freshness information to be stale".
    pub const INVALID: Self = Self(NonZeroU32::MAX);

    /// So many seconds; saturates.
    pub const fn of(seconds: u64) -> Self {
        let seconds = if seconds < DELTA_MAX as u64 { seconds as u32 } else { DELTA_MAX as u32 };
        Self(NonZeroU32::MIN.saturating_add(seconds))
    }

    /// Reads digits only; saturates.
    pub fn parse(value: &[u8]) -> Self {
        digits(value).map_or(Self::INVALID, Self::of)
    }

    /// Whether it says anything.
    pub const fn is_valid(self) -> bool {
        self.0.get() != Self::INVALID.0.get()
    }

    /// Seconds; `None` if invalid.
    pub const fn seconds(self) -> Option<i64> {
        if self.is_valid() { Some(self.0.get() as i64 - 1) } else { None }
    }

    /// Milliseconds; 0 if invalid, which is what a lifetime or a window is then.
    pub const fn millis(self) -> i64 {
        match self.seconds() {
            Some(seconds) => seconds * 1000,
            None => 0,
        }
    }

    /// Adds another mention of the same directive: equal ones are one, differing ones invalid.
    pub(crate) fn also(known: &mut Option<Self>, another: Self) {
        *known = Some(match *known {
            Some(first) if first != another => Self::INVALID,
            _ => another,
        });
    }
}

impl std::fmt::Debug for Delta {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.seconds() {
            Some(seconds) => write!(f, "{seconds} s"),
            None => f.write_str("invalid"),
        }
    }
}

/// Bytes that an allocator adds to an allocation: a header, and on the average half of what it rounds to.
pub(crate) const ALLOCATOR: usize = 16;

/// What no-cache says: nothing, or that the response needs validation, or only some of its fields. In as much room as a
/// pointer, since few stored responses say anything, and all would be as large.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::box_collection, reason = "a thin pointer")]
pub struct NoCache(Option<Box<Vec<HeaderName>>>);

impl NoCache {
    /// It is not there.
    pub const ABSENT: Self = Self(None);

    /// The response needs validation.
    pub fn whole() -> Self {
        Self(Some(Box::default()))
    }

    /// Only these fields do; without any, the whole does.
    pub(crate) fn of(mut names: Vec<HeaderName>) -> Self {
        names.shrink_to_fit();
        Self(Some(Box::new(names)))
    }

    /// Bytes on the heap, with those that an allocator adds.
    pub fn weight(&self) -> usize {
        let name = |name: &HeaderName| size_of::<HeaderName>() + ALLOCATOR + name.as_str().len();
        self.0
            .as_ref()
            .map_or(0, |names| 2 * ALLOCATOR + size_of_val(&**names) + names.iter().map(name).sum::<usize>())
    }

    /// Whether the response needs validation.
    pub fn is_whole(&self) -> bool {
        self.0.as_ref().is_some_and(|names| names.is_empty())
    }

    /// Those fields that need validation, where the rest does not.
    pub fn fields(&self) -> Option<&[HeaderName]> {
        self.0.as_deref().map(Vec::as_slice).filter(|names| !names.is_empty())
    }

    /// Adds another mention: together they name the fields of both, and one that names none is about all.
    fn also(&mut self, more: Self) {
        let Some(known) = &mut self.0 else { return *self = more };
        match more.fields() {
            Some(more) if !known.is_empty() => {
                for name in more {
                    if !known.contains(name) {
                        known.push(name.clone());
                    }
                }
                if known.len() > MOST_NAMES {
                    known.clear();
                }
            }
            _ if more == Self::ABSENT => {}
            _ => known.clear(),
        }
        known.shrink_to_fit();
    }
}

/// Cache-Control of a response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct ResponseDirectives {
    /// Whether there was any member at all.
    pub present: bool,
    /// `max-age`.
    pub max_age: Option<Delta>,
    /// `s-maxage`.
    pub s_maxage: Option<Delta>,
    /// `stale-while-revalidate`. RFC 5861 section 3.
    pub stale_while_revalidate: Option<Delta>,
    /// `stale-if-error`. RFC 5861 section 4.
    pub stale_if_error: Option<Delta>,
    /// `no-cache`.
    pub no_cache: NoCache,
    /// `no-store`.
    pub no_store: bool,
    /// `private`; a qualified one counts as unqualified.
    pub private: bool,
    /// `public`.
    pub public: bool,
    /// `must-revalidate`.
    pub must_revalidate: bool,
    /// `proxy-revalidate`.
    pub proxy_revalidate: bool,
    /// `must-understand`.
    pub must_understand: bool,
    /// `immutable`. RFC 8246.
    pub immutable: bool,
}

impl ResponseDirectives {
    /// Reads all lines.
    pub fn parse<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut found = Self::default();
        for member in members(lines) {
            found.present = true;
            let (name, argument) = directive(member);
            let delta = || argument.delta();
            match Name::of(name) {
                Name::MaxAge => Delta::also(&mut found.max_age, delta()),
                Name::SMaxage => Delta::also(&mut found.s_maxage, delta()),
                Name::StaleWhileRevalidate => Delta::also(&mut found.stale_while_revalidate, delta()),
                Name::StaleIfError => Delta::also(&mut found.stale_if_error, delta()),
                Name::NoCache => found.also_no_cache(&argument),
                Name::NoStore => found.no_store = true,
                Name::Private => found.private = true,
                Name::Public => found.public = true,
                Name::MustRevalidate => found.must_revalidate = true,
                Name::ProxyRevalidate => found.proxy_revalidate = true,
                Name::MustUnderstand => found.must_understand = true,
                Name::Immutable => found.immutable = true,
                Name::MaxStale | Name::MinFresh | Name::OnlyIfCached | Name::Other => {}
            }
        }
        found
    }

    fn also_no_cache(&mut self, argument: &Argument) {
        let named = match argument {
            Argument::None | Argument::Malformed => NoCache::whole(),
            Argument::Value(list) => field_names(list),
        };
        self.no_cache.also(named);
    }
}

/// More names than this nobody means in a no-cache: then it stands for the whole response.
const MOST_NAMES: usize = 64;

/// The names in a qualified no-cache; one that can't be read makes it unqualified, and so do far too many.
pub(crate) fn field_names(list: &[u8]) -> NoCache {
    let mut names = Vec::new();
    for member in members(std::iter::once(list)) {
        match HeaderName::from_bytes(member) {
            Ok(name) if names.contains(&name) => {}
            Ok(name) if names.len() < MOST_NAMES => names.push(name),
            Ok(_) | Err(_) => return NoCache::whole(),
        }
    }
    NoCache::of(names)
}

/// How stale a response the client takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxStale {
    /// Without an argument: however stale.
    Any,
    /// By no more than these seconds.
    Seconds(i64),
}

/// Cache-Control of a request, with Pragma where there is none. RFC 9111 sections 5.2.1 and 5.4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a directive of its own")]
pub struct RequestDirectives {
    /// `max-age`, seconds. An invalid one is 0, of several the least counts.
    pub max_age: Option<i64>,
    /// `max-stale`. An invalid one allows nothing, of several the least counts.
    pub max_stale: Option<MaxStale>,
    /// `min-fresh`, seconds. An invalid one is ignored, of several the greatest counts.
    pub min_fresh: Option<i64>,
    /// `stale-if-error`, seconds. RFC 5861 section 4.
    pub stale_if_error: Option<i64>,
    /// `no-cache`.
    pub no_cache: bool,
    /// `Pragma: no-cache`, and no Cache-Control.
    pub pragma_no_cache: bool,
    /// `no-store`.
    pub no_store: bool,
    /// `only-if-cached`.
    pub only_if_cached: bool,
}

impl RequestDirectives {
    /// Reads all lines of Cache-Control, and those of Pragma if there is none of it.
    pub fn parse<'a>(
        lines: impl Iterator<Item = &'a HeaderValue>,
        pragma: impl Iterator<Item = &'a HeaderValue>,
    ) -> Self {
        let mut found = Self::default();
        let mut present = false;
        for member in members(lines.map(HeaderValue::as_bytes)) {
            present = true;
            let (name, argument) = directive(member);
            let seconds = || argument.delta().seconds();
            match Name::of(name) {
                Name::MaxAge => {
                    let age = seconds().unwrap_or(0);
                    found.max_age = Some(found.max_age.map_or(age, |known| known.min(age)));
                }
                Name::MaxStale => found.also_max_stale(&argument),
                Name::MinFresh => found.min_fresh = found.min_fresh.max(seconds()),
                Name::StaleIfError => found.stale_if_error = seconds(),
                Name::NoCache => found.no_cache = true,
                Name::NoStore => found.no_store = true,
                Name::OnlyIfCached => found.only_if_cached = true,
                Name::SMaxage
                | Name::StaleWhileRevalidate
                | Name::Private
                | Name::Public
                | Name::MustRevalidate
                | Name::ProxyRevalidate
                | Name::MustUnderstand
                | Name::Immutable
                | Name::Other => {}
            }
        }
        // "When the Cache-Control header field is not present in a request, caches MUST consider the no-cache
        // request pragma-directive as having the same effect as if Cache-Control: no-cache were present."
        found.pragma_no_cache = !present && says_no_cache(pragma.map(HeaderValue::as_bytes));
        found
    }

    fn also_max_stale(&mut self, argument: &Argument) {
        let this = match argument {
            Argument::None => MaxStale::Any,
            Argument::Value(_) | Argument::Malformed => {
                MaxStale::Seconds(argument.delta().seconds().unwrap_or(0))
            }
        };
        self.max_stale = Some(match (self.max_stale, this) {
            (None | Some(MaxStale::Any), only) => only,
            (Some(MaxStale::Seconds(known)), MaxStale::Seconds(this)) => MaxStale::Seconds(known.min(this)),
            (Some(known), MaxStale::Any) => known,
        });
    }
}

/// Whether Pragma has the member `no-cache`.
pub fn says_no_cache<'a>(pragma: impl Iterator<Item = &'a [u8]>) -> bool {
    members(pragma).any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

/// The argument of a directive.
enum Argument<'a> {
    /// No `=`.
    None,
    /// A token, or the content of a quoted string.
    Value(std::borrow::Cow<'a, [u8]>),
    /// Neither, or with space around the `=`.
    Malformed,
}

impl Argument<'_> {
    fn delta(&self) -> Delta {
        match self {
            Self::Value(value) => Delta::parse(value),
            Self::None | Self::Malformed => Delta::INVALID,
        }
    }
}

/// Name and argument of a member. Space around `=` leaves the name (so that what restricts still does) and
/// spoils the argument.
fn directive(member: &[u8]) -> (&[u8], Argument<'_>) {
    let Some(equals) = member.iter().position(|&byte| byte == b'=') else { return (member, Argument::None) };
    let (name, value) =
        (member.get(..equals).unwrap_or_default(), member.get(equals + 1..).unwrap_or_default());
    let tight = is_token(name);
    match token_or_quoted(value) {
        Some(value) if tight => (name, Argument::Value(value)),
        _ => (trim(name), Argument::Malformed),
    }
}

/// The directives that mean something here.
enum Name {
    MaxAge,
    SMaxage,
    StaleWhileRevalidate,
    StaleIfError,
    NoCache,
    NoStore,
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    Immutable,
    MaxStale,
    MinFresh,
    OnlyIfCached,
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        match name.len() {
            6 if is("public") => Self::Public,
            7 if is("max-age") => Self::MaxAge,
            7 if is("private") => Self::Private,
            8 if is("s-maxage") => Self::SMaxage,
            8 if is("no-cache") => Self::NoCache,
            8 if is("no-store") => Self::NoStore,
            9 if is("max-stale") => Self::MaxStale,
            9 if is("min-fresh") => Self::MinFresh,
            9 if is("immutable") => Self::Immutable,
            14 if is("stale-if-error") => Self::StaleIfError,
            14 if is("only-if-cached") => Self::OnlyIfCached,
            15 if is("must-revalidate") => Self::MustRevalidate,
            15 if is("must-understand") => Self::MustUnderstand,
            16 if is("proxy-revalidate") => Self::ProxyRevalidate,
            22 if is("stale-while-revalidate") => Self::StaleWhileRevalidate,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(lines: &[&str]) -> ResponseDirectives {
        let lines: Vec<_> = lines.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
        ResponseDirectives::parse(lines.iter().map(HeaderValue::as_bytes))
    }

    fn request(lines: &[&str], pragma: &[&str]) -> RequestDirectives {
        let lines: Vec<_> = lines.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
        let pragma: Vec<_> = pragma.iter().map(|line| HeaderValue::from_str(line).unwrap()).collect();
        RequestDirectives::parse(lines.iter(), pragma.iter())
    }

    #[track_caller]
    fn max_age(line: &str, expected: Option<Delta>) {
        assert_eq!(response(&[line]).max_age, expected, "{line}");
    }

    #[allow(clippy::unnecessary_wraps, reason = "it is compared with what may be none")]
    fn seconds(seconds: u64) -> Option<Delta> {
        Some(Delta::of(seconds))
    }

    #[test]
    fn delta_seconds_are_digits_only_and_saturate() {
        max_age("max-age=3600", seconds(3600));
        max_age("max-age=003600", seconds(3600));
        max_age("max-age=\"3600\"", seconds(3600));
        max_age("max-age=2147483647", seconds(2_147_483_647));
        max_age("max-age=2147483648", seconds(DELTA_MAX as u64));
        max_age("max-age=99999999999", seconds(DELTA_MAX as u64));
        max_age("max-age=99999999999999999999999999", seconds(DELTA_MAX as u64));
        for invalid in [
            "max-age=-3600",
            "max-age=+3600",
            "max-age=3600.0",
            "max-age=a3600",
            "max-age=3600a",
            "max-age='3600'",
            "max-age =3600",
            "max-age= 3600",
            "max-age",
            "max-age=",
            "max-age=\"\"",
            "max-age=\"3600",
            "max-age=36 00",
        ] {
            max_age(invalid, Some(Delta::INVALID));
        }
    }

    #[test]
    fn conflicting_duplicates_are_invalid_and_equal_ones_are_one() {
        max_age("max-age=1800, max-age=1", Some(Delta::INVALID));
        max_age("max-age=1, max-age=1800", Some(Delta::INVALID));
        max_age("max-age=1, max-age=01", seconds(1));
        assert_eq!(response(&["max-age=1800", "max-age=1"]).max_age, Some(Delta::INVALID));
        assert_eq!(response(&["max-age=1", "max-age=2", "max-age=2"]).max_age, Some(Delta::INVALID));
    }

    #[test]
    fn a_directive_inside_a_quoted_string_is_none() {
        max_age("extension=\"max-age=3600\", max-age=1", seconds(1));
        max_age("max-age=1, extension=\"max-age=3600\"", seconds(1));
        max_age("extension=\"a, max-age=3600, no-store\"", None);
        assert!(!response(&["extension=\"a, no-store\""]).no_store);
    }

    #[test]
    fn all_lines_are_combined_and_names_are_case_insensitive() {
        let found = response(&["MaX-aGe=1, PUBLIC", "S-MAXAGE=2, No-StOrE", "Private"]);
        assert_eq!((found.max_age, found.s_maxage), (seconds(1), seconds(2)));
        assert!(found.public && found.no_store && found.private && found.present);
        let found = response(&["must-revalidate,proxy-revalidate, must-understand", "immutable"]);
        assert!(found.must_revalidate && found.proxy_revalidate && found.must_understand && found.immutable);
        let found = response(&["stale-while-revalidate=3, stale-if-error=4"]);
        assert_eq!((found.stale_while_revalidate, found.stale_if_error), (seconds(3), seconds(4)));
    }

    #[test]
    fn unknown_directives_are_ignored() {
        let found = response(&["foobar, x=y, max-age=5, =, \"quoted\""]);
        assert_eq!(found, ResponseDirectives { present: true, max_age: seconds(5), ..Default::default() });
        assert!(!response(&["", " , "]).present);
    }

    #[test]
    fn what_restricts_still_does_with_an_argument() {
        for line in ["no-store=1", "no-store =1", "no-store=\"x\"", "no-store= 1"] {
            assert!(response(&[line]).no_store, "{line}");
        }
        for line in ["private=\"x\"", "private=x", "private =x", "private=\""] {
            assert!(response(&[line]).private, "{line}");
        }
    }

    #[test]
    fn no_cache_may_name_fields() {
        let names = |list: &[&'static str]| {
            NoCache::of(list.iter().map(|name| HeaderName::from_static(name)).collect())
        };
        for (lines, expected) in [
            (&["no-cache"][..], NoCache::whole()),
            (&["no-cache=\"a\""], names(&["a"])),
            (&["no-cache=a"], names(&["a"])),
            (&["no-cache=\"A, b, a\""], names(&["a", "b"])),
            (&["no-cache=\"a\"", "no-cache=\"b\""], names(&["a", "b"])),
            (&["no-cache=\"a\", no-cache"], NoCache::whole()),
            (&["no-cache, no-cache=\"a\""], NoCache::whole()),
            (&["no-cache, no-cache, no-cache=\"a\""], NoCache::whole()),
            (&["no-cache=\"\""], NoCache::whole()),
            (&["no-cache=\"a b\""], NoCache::whole()),
            (&["no-cache =\"a\""], NoCache::whole()),
            (&["max-age=1"], NoCache::ABSENT),
        ] {
            assert_eq!(response(lines).no_cache, expected, "{lines:?}");
        }
    }

    #[test]
    fn far_too_many_names_in_no_cache_stand_for_all() {
        let list = |from: usize, count: usize| -> String {
            (from..from + count).map(|at| format!("x-{at}")).collect::<Vec<_>>().join(",")
        };
        let found =
            |lines: &[String]| response(&lines.iter().map(String::as_str).collect::<Vec<_>>()).no_cache;
        let named = |from, count| format!("no-cache=\"{}\"", list(from, count));
        assert!(found(&[named(0, 64)]).fields().is_some_and(|kept| kept.len() == 64));
        assert_eq!(found(&[named(0, 65)]), NoCache::whole());
        assert_eq!(found(&[named(0, 64), named(64, 1)]), NoCache::whole());
        assert!(found(&[named(0, 64), named(0, 64)]).fields().is_some(), "each counts once");
    }

    #[test]
    fn request_directives_err_towards_the_origin() {
        let found =
            request(&["max-age=5, max-stale, min-fresh=3", "no-cache, no-store, only-if-cached"], &[]);
        assert_eq!(
            (found.max_age, found.max_stale, found.min_fresh),
            (Some(5), Some(MaxStale::Any), Some(3))
        );
        assert!(found.no_cache && found.no_store && found.only_if_cached);
        assert_eq!(request(&["max-age=x"], &[]).max_age, Some(0));
        assert_eq!(request(&["max-age=9, max-age=5"], &[]).max_age, Some(5));
        assert_eq!(request(&["max-stale=x"], &[]).max_stale, Some(MaxStale::Seconds(0)));
        assert_eq!(
            request(&["max-stale, max-stale=7, max-stale=8"], &[]).max_stale,
            Some(MaxStale::Seconds(7))
        );
        assert_eq!(request(&["min-fresh=3, min-fresh=4, min-fresh=x"], &[]).min_fresh, Some(4));
        assert_eq!(request(&["stale-if-error=60"], &[]).stale_if_error, Some(60));
    }

    #[test]
    fn pragma_counts_only_without_cache_control() {
        assert!(request(&[], &["no-cache"]).pragma_no_cache);
        assert!(request(&[], &["x, No-Cache"]).pragma_no_cache);
        assert!(!request(&[], &["unrecognised-extension"]).pragma_no_cache);
        assert!(!request(&["max-age=5"], &["no-cache"]).pragma_no_cache);
    }
}
