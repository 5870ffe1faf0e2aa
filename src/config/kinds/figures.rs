//! Kinds that are figures: switches, counts, sizes, durations, shares.

use std::time::Duration;

use toml::de::DeValue;

use super::{Expected, Given, Kind, Wrongs, wrong, wrong_because};
use crate::config::shown::Unit;
use crate::config::units;

/// `true` or `false`.
pub(in crate::config) struct Switch;
/// A whole number of at least `MIN`.
pub(in crate::config) struct Count<const MIN: u64>;
/// Bytes, at least `MIN`.
pub(in crate::config) struct Size<const MIN: u64>;
/// Bytes, or a share of the memory.
pub(in crate::config) struct Memory;
/// A duration of at least `MIN` milliseconds.
pub(in crate::config) struct Time<const MIN: u64>;
/// A share from 0 to 1, also as `"10%"`.
pub(in crate::config) struct Fraction;

/// An integer from 0 up.
pub(super) fn integer(given: Given) -> Option<u64> {
    let number = given.get_ref().as_integer()?;
    u64::from_str_radix(number.as_str().trim_start_matches('+'), number.radix()).ok()
}

/// A string, read by one of the functions of `units`.
pub(super) fn text<K, T>(given: Given, read: impl Fn(&str) -> Result<T, &'static str>) -> Result<T, Wrongs>
where
    K: Expected,
{
    let text = given.get_ref().as_str().ok_or_else(|| wrong::<K>(given))?;
    read(text).map_err(|expected| wrong_because::<K>(given, expected))
}

/// An integer of bytes, or a string that `read` reads.
fn bytes<K: Expected>(given: Given, read: fn(&str) -> Result<u64, &'static str>) -> Result<u64, Wrongs> {
    match integer(given) {
        Some(bytes) => units::bytes(bytes).map_err(|expected| wrong_because::<K>(given, expected)),
        None => text::<K, _>(given, read),
    }
}

impl Expected for Switch {
    fn expected() -> String {
        "true or false".to_owned()
    }
}

impl Kind<bool> for Switch {
    fn read(given: Given) -> Result<bool, Wrongs> {
        given.get_ref().as_bool().ok_or_else(|| wrong::<Self>(given))
    }
}

impl<const MIN: u64> Expected for Count<MIN> {
    fn expected() -> String {
        format!("a whole number of at least {MIN}")
    }
}

impl<const MIN: u64> Kind<usize> for Count<MIN> {
    fn read(given: Given) -> Result<usize, Wrongs> {
        let number = integer(given).filter(|&number| number >= MIN);
        number.and_then(|number| usize::try_from(number).ok()).ok_or_else(|| wrong::<Self>(given))
    }
}

impl<const MIN: u64> Expected for Size<MIN> {
    const UNIT: Unit = Unit::Bytes;
    fn expected() -> String {
        if MIN <= 1 { units::SIZE.to_owned() } else { format!("{}, at least {MIN} bytes", units::SIZE) }
    }
}

impl<const MIN: u64> Kind<u64> for Size<MIN> {
    fn read(given: Given) -> Result<u64, Wrongs> {
        let bytes = bytes::<Self>(given, units::size)?;
        if bytes >= MIN {
            Ok(bytes)
        } else {
            Err(wrong_because::<Self>(given, format!("at least {MIN} bytes")))
        }
    }
}

impl<const MIN: u64> Kind<usize> for Size<MIN> {
    fn read(given: Given) -> Result<usize, Wrongs> {
        let bytes: u64 = Self::read(given)?;
        usize::try_from(bytes).map_err(|_| wrong::<Self>(given))
    }
}

impl Expected for Memory {
    const UNIT: Unit = Unit::Bytes;
    fn expected() -> String {
        units::MEMORY.to_owned()
    }
}

impl Kind<u64> for Memory {
    fn read(given: Given) -> Result<u64, Wrongs> {
        bytes::<Self>(given, units::memory)
    }
}

impl<const MIN: u64> Expected for Time<MIN> {
    const UNIT: Unit = Unit::Milliseconds;
    fn expected() -> String {
        if MIN == 0 { units::DURATION.to_owned() } else { format!("{}, at least {MIN}ms", units::DURATION) }
    }
}

impl<const MIN: u64> Kind<Duration> for Time<MIN> {
    fn read(given: Given) -> Result<Duration, Wrongs> {
        /// Timers and sums of moments must not overflow.
        const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
        let time = text::<Self, _>(given, units::duration)?;
        if time < Duration::from_millis(MIN) {
            return Err(wrong_because::<Self>(given, format!("at least {MIN}ms")));
        }
        if time > LONGEST {
            return Err(wrong_because::<Self>(given, "at most 100 years"));
        }
        Ok(time)
    }
}

impl<const MIN: u64> Kind<i64> for Time<MIN> {
    fn read(given: Given) -> Result<i64, Wrongs> {
        let time: Duration = Self::read(given)?;
        i64::try_from(time.as_millis()).map_err(|_| wrong::<Self>(given))
    }
}

impl<const MIN: u64> Kind<u64> for Time<MIN> {
    fn read(given: Given) -> Result<u64, Wrongs> {
        let time: Duration = Self::read(given)?;
        u64::try_from(time.as_millis()).map_err(|_| wrong::<Self>(given))
    }
}

impl Expected for Fraction {
    fn expected() -> String {
        "a share from 0 to 1, such as 0.1 or \"10%\"".to_owned()
    }
}

impl Kind<f64> for Fraction {
    fn read(given: Given) -> Result<f64, Wrongs> {
        let share = match given.get_ref() {
            DeValue::Float(number) => number.as_str().parse::<f64>().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            DeValue::String(text) => {
                let percent =
                    text.trim().strip_suffix('%').and_then(|percent| percent.trim().parse::<f64>().ok());
                percent.map(|percent| percent / 100.0)
            }
            DeValue::Boolean(_) | DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
        };
        share.filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| wrong::<Self>(given))
    }
}
