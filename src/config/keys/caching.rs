//! The keys about what is stored and for how long it answers.

use super::{Key, Setting, When, shown};
use crate::config::kinds::figures::{Count, Fraction, Memory, Size, Switch, Time};
use crate::config::kinds::names::FieldName;
use crate::config::kinds::{Auto, Kind, Many, OneOf};
use crate::policy::SetCookie;
use crate::store::Eviction;

/// `[cache]`.
pub(super) const CACHE: &[Setting] = settings! {
    /// Memory for stored responses, all counted: bodies, heads, keys, overhead, fills in flight, and
    /// what is evicted but still being read. A size, or a share of what the process may use (its
    /// cgroup's limit, else the machine's memory). Where little is left of a cgroup's limit, it holds less.
    cache.memory: Memory = r#""25%""#, Restart => store.capacity;

    /// Who goes first when the memory is full: what was used least recently ("lru"), or least often after
    /// a time as a newcomer ("tiny-lfu", which a scan does not empty).
    cache.policy: OneOf<Eviction> = r#""tiny-lfu""#, Restart => store.policy;

    /// The largest response that is stored. "auto": an eighth of the memory, at most 64MiB.
    cache.max_object: Auto<Size<1>> = r#""auto""#, Live => [max_object] store.max_object;

    /// The same for a response that does not say its length. "auto": three quarters of max_object.
    cache.max_object_unknown_length: Auto<Size<1>> = r#""auto""#, Live => [max_object_unknown_length] store.max_object_unknown_length;

    /// Stored responses for one URL, as Vary tells them apart.
    cache.variants: Count<1> = "64", Live => store.variants;

    /// For a body of unknown length: bytes buffered ahead of its fastest reader.
    cache.unknown_length_ahead: Size<65_536> = r#""16MiB""#, Live => body.unknown_length_ahead;

    /// How long a reader of a shared body that is not stored may be a whole buffer behind the others
    /// before it is cut off.
    cache.lagging_reader: Time<1> = r#""10s""#, Live => body.lagging_reader;

    /// Without explicit freshness: the share of the time since Last-Modified for which a response is
    /// fresh. 0: never. RFC 9111, section 4.2.2.
    cache.heuristic_fraction: Fraction = "0.1", Live => policy.heuristic_fraction;

    /// The longest lifetime that is found in this way.
    cache.heuristic_max: Time<0> = r#""24h""#, Live => policy.heuristic_max;

    /// How long past its lifetime a stored response may answer when the origin cannot be reached and no
    /// directive speaks about it. RFC 5861.
    cache.stale_if_error: Time<0> = r#""1h""#, Live => policy.stale_if_error;

    /// Fields that replace Cache-Control and Expires, most specific first, such as
    /// ["CDN-Cache-Control"]. RFC 9213.
    cache.targeted_fields: Many<FieldName> = "[]", Live => policy.targeted_fields;

    /// A response with Set-Cookie is stored only with `public` or `s-maxage` ("strict"), or as any
    /// other ("rfc9111").
    cache.set_cookie: OneOf<SetCookie> = r#""strict""#, Live => policy.set_cookie;

    /// Whether stale-while-revalidate counts beside s-maxage, against RFC 9111, section 5.2.2.10.
    cache.s_maxage_allows_stale_while_revalidate: Switch = "false", Live => policy.s_maxage_allows_stale_while_revalidate;

    /// Ranges in one request that are honoured; with more, the whole response is sent.
    cache.max_ranges: Count<0> = "32", Live => policy.max_ranges;

    /// Whether a response that only ends with its connection is stored.
    cache.close_delimited: Switch = "true", Live => policy.store_close_delimited;

    /// Whether languages in another order select the same stored response.
    cache.normalize_accept_language: Switch = "true", Live => policy.normalize_accept_language;

    /// How long a request waits for the head of a response that another request already fetches.
    cache.collapse_wait: Time<0> = r#""5s""#, Live => cache.collapse_wait;

    /// How long it is remembered that the response to a URL could not be shared, so that requests for
    /// it do not wait for each other.
    cache.uncacheable_memory: Time<0> = r#""30s""#, Live => cache.uncacheable_memory;

    /// A fetch that nobody reads any more is finished if no more than this remains.
    cache.finish_bytes: Size<0> = r#""1MiB""#, Live => cache.finish_bytes;

    /// The same for the time that remains.
    cache.finish_time: Time<0> = r#""2s""#, Live => cache.finish_time;
};
