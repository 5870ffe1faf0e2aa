//! The configuration: the file, and the figures in it that are text.

use crate::dice::{Dice, halves, with_text};
use larder::access::Access;
use larder::access::hours::Hours;
use larder::cli;
use larder::config::diff::diff;
use larder::config::{Overrides, Place, Settings, effective, units};
use larder::field::via::Pseudonym;
use larder::policy::rules::Rules;
use larder::upstream::Direct;
use std::path::Path;

pub fn config(bytes: &[u8]) {
    // What names a file is read, which is not this target's matter.
    if bytes.windows(5).any(|window| window.eq_ignore_ascii_case(b"_file")) {
        return;
    }
    with_text(bytes, |text| {
        let overrides = Overrides { without_users: true, ..Overrides::default() };
        match Settings::parse(text, Path::new("larder.toml"), &overrides) {
            Ok(settings) => {
                assert!(effective(&settings).is_object());
                assert!(diff(&settings, &settings).is_empty());
                let again = Settings::parse(text, Path::new("larder.toml"), &overrides);
                assert_eq!(again.as_ref(), Ok(&settings));
                starts(settings);
            }
            Err(errors) => {
                let lines = text.lines().count().max(1) + 1;
                for problem in &errors.0 {
                    if let Place::File { line, column, .. } = &problem.place {
                        assert!(*line <= lines && *column <= text.len() + 1, "{problem}");
                    }
                }
                assert!(!errors.0.is_empty() && !errors.to_string().is_empty());
            }
        }
    });
}

/// What is accepted here stops no part at the start.
fn starts(settings: Settings) {
    assert!(Rules::new(settings.rules).is_ok());
    assert!(settings.proxy.via.is_none_or(|name| Pseudonym::new(&name).is_some()));
    for member in &settings.upstream.no_proxy {
        assert!(Direct::parse(member).is_some(), "{member}");
    }
    Access::new(settings.access, Vec::new());
}

pub fn units(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    if dice.once_in(4) {
        return arguments(dice.rest());
    }
    let (first, second) = halves(dice.rest());
    with_text(first, |text| {
        if let Ok(size) = units::size(text) {
            assert!(size <= 1 << 60 && !text.contains(['+', '-']));
            assert!(text.trim().parse::<u64>().is_err() || text.trim().parse() == Ok(size));
        }
        assert!(units::memory(text).is_err() || !text.contains('-'));
        if let Ok(duration) = units::duration(text) {
            assert!(!text.contains(['+', '-']), "{duration:?}");
        }
        if let Ok(range) = units::port_range(text) {
            assert!(*range.start() > 0 && range.start() <= range.end() && !text.contains('+'));
            let digits = |part: &str| part.trim().parse::<u16>();
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            assert_eq!((digits(first), digits(last)), (Ok(*range.start()), Ok(*range.end())));
        }
        if let Ok(ports) = units::ports(text) {
            assert!(!ports.contains(0) || text.trim().eq_ignore_ascii_case("any"));
        }
        if let Ok(address) = units::address(text) {
            assert_eq!(units::address(&address.to_string()), Ok(address));
        }
        if let Ok(realm) = units::realm(text) {
            assert!(!realm.contains(['"', '\\', ':']) && realm.is_ascii() && (1..=64).contains(&realm.len()));
        }
        if let Some(hours) = Hours::parse(text) {
            let written = hours.to_string();
            assert_eq!(Hours::parse(&written).as_ref(), Some(&hours), "{written}");
            let unix = Dice::new(second).number() as i64;
            let week = 7 * 86_400;
            assert_eq!(hours.contains(unix), hours.contains(unix.rem_euclid(week)), "{written} at {unix}");
        }
    });
}

/// The command line: what is no command of ours is told, and nothing ends the process.
fn arguments(bytes: &[u8]) {
    with_text(bytes, |text| {
        let arguments = std::iter::once("larder").chain(text.split(['\n', '\0']));
        if let Err(error) = cli::parse_from(arguments) {
            assert!(!error.to_string().is_empty());
        }
    });
}
