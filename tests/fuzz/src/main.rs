//! Fuzz targets: every parser, the gates for requests and responses, and policy as a whole.
//!
//! One binary, since linking takes longer than compiling; `FUZZ_TARGET` says which target it is. `run` beside it builds
//! and runs all of them. With `FUZZ_UNPACK`, the kept corpus of the target is first put into that directory; with
//! `FUZZ_PACK`, what is in that directory becomes the kept corpus, and that is all.
#![no_main]

mod access;
mod admin;
mod config;
mod corpus;
mod dice;
mod fields;
mod gates;
mod policy;
mod routes;
mod targets;
mod users;
mod wire;

use libfuzzer_sys::fuzz_target;
use std::path::Path;
use std::process::exit;
use std::sync::OnceLock;

type Target = fn(&[u8]);

/// By name.
const TARGETS: &[(&str, Target)] = &[
    ("access", access::access),
    ("admin", admin::admin),
    ("cache-control", fields::cache_control),
    ("config", config::config),
    ("dates", fields::dates),
    ("lists", fields::lists),
    ("policy", policy::policy),
    ("ranges", fields::ranges),
    ("requests", gates::requests),
    ("responses", gates::responses),
    ("routes", routes::routes),
    ("rules", access::rules),
    ("status", fields::status),
    ("targets", targets::targets),
    ("trailers", fields::trailers),
    ("treatment", fields::treatment),
    ("units", config::units),
    ("users", users::users),
    ("vary", fields::vary),
];

static TARGET: OnceLock<Target> = OnceLock::new();

fn choose() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let Some((_, target)) = TARGETS.iter().find(|(known, _)| *known == name) else {
        let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
        // Alone, it tells what there is.
        println!("{}", names.join("\n"));
        exit(if name.is_empty() { 0 } else { 2 });
    };
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let done = |result: std::io::Result<()>| {
        if let Err(error) = result {
            eprintln!("{}: {error}", kept.display());
            exit(2);
        }
    };
    if let Some(from) = std::env::var_os("FUZZ_PACK") {
        done(corpus::pack(Path::new(&from), &kept));
        exit(0);
    }
    if let Some(into) = std::env::var_os("FUZZ_UNPACK") {
        done(corpus::unpack(&kept, Path::new(&into)));
    }
    TARGET.get_or_init(|| *target);
}

fuzz_target!(init: choose(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        target(data);
    }
});
