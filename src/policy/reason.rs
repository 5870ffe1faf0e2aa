//! Why a response was not stored or not reused: the closed set that Cache-Status `detail`, the access log, the
//! metrics and `larder explain` share.

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $token:literal, $section:literal, $says:literal;)*) => {
        /// Why a response was not stored, or why a stored one was not reused as it was.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* #[doc = $says] $name,)* }

        impl Reason {
            /// Every reason, in the order of this table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The token of Cache-Status `detail`, of the log and of the metrics' label.
            pub const fn token(self) -> &'static str { match self { $(Self::$name => $token,)* } }

            /// The section that says so; RFC 9111 unless another is named.
            pub const fn section(self) -> &'static str { match self { $(Self::$name => $section,)* } }

            /// One sentence for a person.
            pub const fn says(self) -> &'static str { match self { $(Self::$name => $says,)* } }
        }
    };
}

reasons! {
    // Not stored, by the request.
    Method = "method", "RFC 9111 section 3", "The method's responses are not cached.";
    RequestContent = "request-content", "RFC 9110 section 9.3.1", "The request has content.";
    RequestNoStore = "request-no-store", "RFC 9111 section 5.2.1.5", "The request says no-store.";
    Upgrade = "upgrade", "RFC 9110 section 7.8", "The request asks for another protocol.";
    Rule = "rule", "configuration", "A rule of the configuration says not to cache.";
    UncacheableKey = "uncacheable-key", "configuration", "A recent response for this key could not be shared.";
    // Not stored, by the response.
    NoStore = "no-store", "RFC 9111 section 5.2.2.5", "The response says no-store.";
    Private = "private", "RFC 9111 section 5.2.2.7", "The response says private.";
    Authorization = "authorization", "RFC 9111 section 3.5", "The request has Authorization, and the response does not allow sharing.";
    SetCookie = "set-cookie", "configuration", "The response has Set-Cookie without public or s-maxage.";
    VaryStar = "vary-star", "RFC 9111 section 4.1", "Vary has a member `*`.";
    NoFreshness = "no-freshness", "RFC 9111 section 3", "Neither explicit nor heuristic freshness applies, and there is no validator to reuse it by.";
    Status = "status", "RFC 9111 section 3", "The status code is neither heuristically cacheable nor given explicit freshness.";
    MustUnderstand = "must-understand", "RFC 9111 section 5.2.2.3", "must-understand, and the status code is not understood.";
    Framing = "framing", "RFC 9112 section 6.3", "The message's framing is ambiguous.";
    Partial = "partial", "RFC 9111 section 3.3", "The partial response has no strong validator, or its length and Content-Range disagree.";
    Incomplete = "incomplete", "RFC 9111 section 3.3", "The response broke off.";
    TooLarge = "too-large", "configuration", "The body is larger than the largest stored response.";
    NoRoom = "no-room", "configuration", "No room could be reserved in the cache.";
    Superseded = "superseded", "RFC 9111 section 4.4", "An invalidation, a purge, a reload or a newer response came while the response was under way.";
    Abandoned = "abandoned", "configuration", "Every reader left, and finishing was not cheap.";
    NotModified = "not-modified", "RFC 9111 section 4.3.3", "The 304 answers the client's own condition; nothing is stored for it to update.";
    Unasked = "unasked", "RFC 9110 section 15.4.5", "A 304 or 206 that nothing in the request asked for.";
    // Not reused.
    Expired = "expired", "RFC 9111 section 4.2", "The stored response is stale.";
    NoCache = "no-cache", "RFC 9111 section 5.2.2.4", "The response says no-cache: reused only after validation, and not stored without a validator.";
    MarkedStale = "marked-stale", "RFC 9111 section 4.3.5", "A HEAD response showed that the stored response has changed.";
    RequestNoCache = "request-no-cache", "RFC 9111 section 5.2.1.4", "The request says no-cache.";
    RequestPragma = "request-pragma", "RFC 9111 section 5.4", "The request says Pragma: no-cache.";
    RequestMaxAge = "request-max-age", "RFC 9111 section 5.2.1.1", "The stored response is older than the request's max-age.";
    RequestMinFresh = "request-min-fresh", "RFC 9111 section 5.2.1.3", "The stored response is not fresh for as long as the request's min-fresh.";
    OnlyIfCached = "only-if-cached", "RFC 9111 section 5.2.1.7", "The request says only-if-cached, and nothing stored answers it.";
    VaryMismatch = "vary-mismatch", "RFC 9111 section 4.1", "No variant was stored for this request's fields.";
    RangeMissing = "range-missing", "RFC 9111 section 3.3", "The stored partial response does not hold the range.";
    // Reused though stale.
    MaxStale = "max-stale", "RFC 9111 section 5.2.1.2", "The request's max-stale allows it.";
    StaleWhileRevalidate = "stale-while-revalidate", "RFC 5861 section 3", "Stale, served while it is validated.";
    StaleIfError = "stale-if-error", "RFC 5861 section 4", "Stale, served because the origin failed.";
    // Collapsing.
    CollapseTimeout = "collapse-timeout", "configuration", "The fetch that this request waited for took too long.";
    CollapseMismatch = "collapse-mismatch", "RFC 9111 section 4", "The response that this request waited for can't answer it.";
    // Breaches that the operator asked for.
    Override = "freshness-override", "configuration", "A rule of the configuration set the freshness lifetime.";
}
