//! Larder: a caching forward proxy that says why. This page is the map: what lies where, which way a request
//! takes, and what holds everywhere.
//!
//! # Layers
//! A module imports only from those above it in this list, and within a line only from those to its left; a
//! test (`tests/it/tree.rs`) reads this list and keeps it true. `main.rs` is the thin binary on top.
//!
//! ```text
//! 0  clock worker shutdown field
//! 1  policy access body
//! 2  store upstream
//! 3  cache
//! 4  telemetry pages
//! 5  proxy
//! 6  server admin
//! 7  config
//! 8  app cli main
//! ```
//!
//! | module | what it is | what it is not |
//! |---|---|---|
//! | [`clock`] | the only reader of time | |
//! | [`worker`] | the threads that serve, each with a runtime of its own; which of them gets a connection; what each has one of | |
//! | [`shutdown`] | how running work learns of the end, and the end of it | |
//! | [`field`] | bytes to types of HTTP fields and back; [`field::treatment`] is the one table of what happens to each field | policy |
//! | [`policy`] | RFC 9111 as pure functions: facts and a moment in, a decision out | I/O, clock, lock, async, `Result` |
//! | [`access`] | who may do what, by defaults and by rules; destinations are judged by the address that is dialled: a [`access::Grant`] goes along with each request for that | |
//! | [`body`] | bodies: one enum that hyper sends, the shared body of one writer and many readers, the ledger of what is kept, the budget of what is on its way, the scan for trailers that came as they must not | caching |
//! | [`store`] | stored responses, bounded by bytes; generations that outdate fills | freshness |
//! | [`upstream`] | names, connections, TLS, parents, the pool, one exchange; `inspect` is the one gate for responses | caching, what a client is told |
//! | [`cache`] | the only place where policy, store and upstream meet: look, flights, fetches, fills, validation | rendering |
//! | [`telemetry`] | one record an exchange becomes a line of the log, the metrics, and one of the last exchanges | diagnostics (those are `tracing`'s) |
//! | [`pages`] | the pages that the proxy makes itself | |
//! | [`proxy`] | connections of clients; `admit` is the one gate for requests, `refusal` alone renders failures | |
//! | [`server`] | accept loops and the limits on connections | |
//! | [`admin`] | the listener for metrics, health, the API and the page; it changes things only through [`admin::Control`] | |
//! | [`config`] | one table of keys makes every part's `Options`; nobody below imports it | |
//! | [`app`] | settings become parts, parts become listeners; reload, signals, drain; what the operator is told on standard error; the store gives way where memory is short | |
//! | [`cli`] | flags, commands, and the commands that ask a running proxy | serving |
//!
//! # The way of one GET
//! 1. [`server`] accepts, counts, and places the connection on one of the threads that serve ([`worker`]), where it
//!    stays; `proxy::connection` runs hyper, while requests come, over a socket (`proxy::socket`)
//!    that knows the phase for the time limits (`proxy::link`), lets interim responses out between messages, and may
//!    linger at the end. What hyper can't parse never gets further, and is refused from there (`proxy::unparsed`).
//!    What has been asked for, to the byte, within the second, is answered as it was, below hyper (`proxy::repeat`).
//! 2. `Proxy::handle` takes one snapshot of the settings for the whole exchange and begins its record
//!    (`proxy::exchange`). Where clients have to say who they are, `proxy::authenticate` finds that out: at once for who
//!    was verified before, else off the threads that serve. `admit` gives a target, a tunnel, an answer of our own, or a `Refusal`.
//! 3. `forward` strips what is hop-by-hop ([`field::treatment`]) before anything is decided: what does not reach
//!    the origin must not select a variant either.
//! 4. [`cache::Cache::look`] makes the key, gets the candidates and the generation from [`store`], and lets
//!    [`policy::plan`] decide: `Bypass | Fetch | Serve | ServeAndRefresh | Revalidate | Complete | Unsatisfiable`.
//!    What the store can answer is answered there and then, without an await.
//! 5. [`cache::Cache::respond`] does the rest. A bypass streams in the client's own future. A fetch that may be
//!    shared joins the flight of its key: the first one leads, the others wait for the head, plan again against
//!    it, and go alone, in parallel, if it can't answer them. A leader whose client leaves before the head goes
//!    on as a task while others wait for it. A key that could not be shared is remembered for a while.
//! 6. `cache::fetch` sends the request through [`upstream::Upstream::send`] (pool, else resolve, guard, connect,
//!    TLS; `inspect` judges the head) and [`policy::verdict`] decides on the answer: `Store | Combine | Freshen |
//!    FreshenOnce | ServeStale | Refetch | PassThrough | Refuse`.
//! 7. A small response that has come whole with its head is stored at once. For any other, the store hands out a
//!    [`store::Fill`] that has reserved its bytes. A task of its own writes it while clients read it, unless all of it
//!    has come; where nothing can be reserved, or the body passes the limit, it flows through, paced by its readers. A
//!    fill that nobody reads is finished only if that is cheap, and if not too much runs for no client
//!    (`cache::background`).
//! 8. `cache::serve` applies the client's conditions, range and method to what is stored, with Age. `forward`
//!    adds Via and Cache-Status; the metered body sends the record when its last byte is through.
//!
//! # The way of one CONNECT
//! `admit` (port, loop), then [`upstream::Upstream::dial`] first: a failure is a `Refusal`, and the connection
//! stays usable. Success is 200; hyper gives the socket back, and `proxy::relay` moves bytes both ways (by
//! `splice(2)` where both ends are TCP and much comes at once), half-close kept, ended when idle, counted. An
//! upgrade does the same after the origin's 101.
//!
//! # What holds everywhere
//! - Freshness, selection, storability, invalidation: in [`policy`], and nowhere else. The store never expires
//!   anything: a stale response is still a validator and a fallback.
//! - [`field`] and [`policy`] are functions of their arguments. What a thread remembers of them (authorities as
//!   parsed, heads as maps) is bounded, and changes no answer.
//! - One place strips fields, one computes Age, one writes Cache-Status, one renders failures, one reads time.
//! - Every count about exchanges comes from the one record each of them ends with; what lies outside exchanges
//!   keeps `Stats` of its own, read at the scrape.
//! - A client never ends a fill that others read, and never waits for a reader slower than itself while there is
//!   room; a fill outdated by an invalidation, a purge or a reload is neither stored nor joined.
//! - What the store keeps alive (stored, being filled, evicted and still read) is counted in one ledger before it
//!   exists; when the ledger is full, nothing waits: it is not stored.
//! - What is on its way between sockets is paid for from one budget ([`body::buffers`]) until the last socket has
//!   taken it; who finds nothing left waits.
//! - A store's failure is a miss, never an error. A response that broke off breaks off for its clients too.
//! - A user's name stands in the record alone: it is in no key, and selects nothing.
//! - Settings are snapshots: an exchange sees one of them from its begin to its end; a reload replaces all or
//!   nothing.

pub mod access;
pub mod admin;
pub mod app;
pub mod body;
pub mod cache;
pub mod cli;
pub mod clock;
pub mod config;
pub mod field;
pub mod pages;
pub mod policy;
pub mod proxy;
pub mod server;
pub mod shutdown;
pub mod store;
pub mod telemetry;
pub mod upstream;
pub mod worker;
