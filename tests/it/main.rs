//! Black-box tests: the real binary between a scripted origin and a raw client, one file per capability.
#![allow(missing_docs, reason = "tests are read, not documented")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends there")]
#![allow(clippy::format_collect, clippy::format_push_string, reason = "a test's strings are small")]
#![allow(clippy::semicolon_if_nothing_returned, reason = "a script's last word is its answer")]

mod support;

mod access_log;
mod access_rules;
mod admin;
mod api;
mod authentication;
mod background;
mod bad_input;
mod browser;
mod buffers;
mod caching;
mod clients;
mod clock;
mod collapse;
mod conditions;
mod config;
mod connect;
mod dashboard;
mod defaults;
mod differential;
mod drain;
mod errors;
mod expect;
mod explain;
mod faults;
mod first_minute;
mod forwarding;
mod full;
mod hop_by_hop;
mod interim;
mod invalidation;
mod limits;
mod loads;
mod long_lists;
mod methods;
mod oracle;
mod pac;
mod page;
mod parents;
mod parked;
mod poisoning;
mod pool;
mod pressure;
mod process;
mod prometheus;
mod readme;
mod rebinding;
mod reload;
mod repeats;
mod resets;
mod rules;
mod run;
mod secrets;
mod setup;
mod sidecar;
mod site;
mod sites;
mod slow_admin;
mod soak;
mod sources;
mod splits;
mod streaming;
mod systemd;
mod targets;
mod tls;
mod top;
mod tree;
mod upgrade;
mod validation;
mod vary;
mod workers;
