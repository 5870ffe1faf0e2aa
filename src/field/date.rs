//! HTTP dates: RFC 9110 section 5.6.7. All three forms are read, IMF-fixdate is written.
//!
//! Reading takes weekday, month and zone in any letter case and does not check that the weekday is true;
//! otherwise it is strict. `httpdate` is stricter about both, so only writing is left to it.

use std::time::{Duration, UNIX_EPOCH};

use http::HeaderValue;

use super::list::trim;

/// Seconds of a day.
const DAY: i64 = 86_400;
/// The last second of the year 9999: what an HTTP date can say.
const LAST: i64 = 253_402_300_799;

/// Unix seconds of an HTTP date in any of the three forms. `now_unix` decides the century of RFC 850 dates.
pub fn parse(value: &[u8], now_unix: i64) -> Option<i64> {
    let value = trim(value);
    if value.get(3) == Some(&b' ') {
        return asctime(value);
    }
    let comma = value.iter().position(|&byte| byte == b',')?;
    let (weekday, rest) = (value.get(..comma)?, value.get(comma + 1..)?.strip_prefix(b" ")?);
    if weekday.len() == 3 {
        is_one_of(weekday, SHORT_DAYS)?;
        imf_fixdate(rest)
    } else {
        is_one_of(weekday, LONG_DAYS)?;
        rfc850(rest, now_unix)
    }
}

/// IMF-fixdate of Unix seconds, held between the years 1970 and 9999.
pub fn format(unix: i64) -> HeaderValue {
    let time = UNIX_EPOCH + Duration::from_secs(unix.clamp(0, LAST).unsigned_abs());
    HeaderValue::from_str(&httpdate::fmt_http_date(time))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

const SHORT_DAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const LONG_DAYS: &[&str] = &["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// `06 Nov 1994 08:49:37 GMT`.
fn imf_fixdate(rest: &[u8]) -> Option<i64> {
    let [d1, d2, b' ', m1, m2, m3, b' ', y1, y2, y3, y4, b' ', time @ ..] = rest else { return None };
    let year = number(&[*y1, *y2, *y3, *y4])?;
    civil(year, month(&[*m1, *m2, *m3])?, number(&[*d1, *d2])?, zoned(time)?)
}

/// `06-Nov-94 08:49:37 GMT`.
fn rfc850(rest: &[u8], now_unix: i64) -> Option<i64> {
    let [d1, d2, b'-', m1, m2, m3, b'-', y1, y2, b' ', time @ ..] = rest else { return None };
    let now_unix = now_unix.clamp(0, LAST);
    let (this_year, this_month, today) = date_of(now_unix.div_euclid(DAY));
    let now_in_year = (this_month, today, now_unix.rem_euclid(DAY));
    // "Recipients of a timestamp value in rfc850-date format, which uses a two-digit year, MUST interpret a
    // timestamp that appears to be more than 50 years in the future as representing the most recent year in
    // the past that had the same last two digits."
    let mut year = this_year - this_year.rem_euclid(100) + number(&[*y1, *y2])?;
    let (month, day, time) = (month(&[*m1, *m2, *m3])?, number(&[*d1, *d2])?, zoned(time)?);
    if year > this_year + 50 || (year == this_year + 50 && (month, day, time) > now_in_year) {
        year -= 100;
    }
    civil(year, month, day, time)
}

/// `Sun Nov  6 08:49:37 1994`.
fn asctime(value: &[u8]) -> Option<i64> {
    let [w1, w2, w3, b' ', m1, m2, m3, b' ', d1, d2, b' ', rest @ ..] = value else { return None };
    is_one_of(&[*w1, *w2, *w3], SHORT_DAYS)?;
    let (time, year) = (rest.get(..8)?, rest.get(8..)?.strip_prefix(b" ")?);
    if year.len() != 4 {
        return None;
    }
    let day = if *d1 == b' ' { number(&[*d2])? } else { number(&[*d1, *d2])? };
    civil(number(year)?, month(&[*m1, *m2, *m3])?, day, time_of_day(time)?)
}

/// `08:49:37 GMT`, in seconds of the day.
fn zoned(time: &[u8]) -> Option<i64> {
    let (time, zone) = (time.get(..8)?, time.get(8..)?);
    zone.eq_ignore_ascii_case(b" GMT").then(|| time_of_day(time))?
}

/// `08:49:37`, in seconds of the day. A leap second counts as the next second.
fn time_of_day(time: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = time else { return None };
    let (hour, minute, second) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?, number(&[*s1, *s2])?);
    (hour < 24 && minute < 60 && second <= 60).then_some(hour * 3600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    super::list::digits(digits).and_then(|number| i64::try_from(number).ok())
}

/// 1 to 12.
fn month(name: &[u8]) -> Option<i64> {
    is_one_of(name, MONTHS).map(|index| index as i64 + 1)
}

fn is_one_of(name: &[u8], names: &[&str]) -> Option<usize> {
    names.iter().position(|known| name.eq_ignore_ascii_case(known.as_bytes()))
}

/// Unix seconds of a day that exists, and a time in it.
fn civil(year: i64, month: i64, day: i64, time: i64) -> Option<i64> {
    let days = days_from_civil(year, month, day);
    (date_of(days) == (year, month, day)).then(|| days * DAY + time)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant's algorithm).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a count of days since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 00:00:00 UTC.
    const NOW: i64 = 1_795_392_000;

    #[track_caller]
    fn check(text: &str, expected: Option<i64>) {
        assert_eq!(parse(text.as_bytes(), NOW), expected, "{text:?}");
    }

    #[test]
    fn all_three_forms_are_read() {
        check("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777));
        check("Sun Nov  6 08:49:37 1994", Some(784_111_777));
        check("Sun Nov 16 08:49:37 1994", Some(784_975_777));
        check("Tue, 19 Jan 2038 14:14:08 GMT", Some(2_147_523_248));
        check("Sun, 21 Nov 2286 04:46:39 GMT", Some(10_000_039_599));
        check("Thu, 01 Jan 1970 00:00:00 GMT", Some(0));
        check("Wed, 31 Dec 1969 23:59:59 GMT", Some(-1));
        check("Fri, 29 Feb 2028 00:00:00 GMT", Some(1_835_395_200));
    }

    #[test]
    fn letter_case_and_the_truth_of_the_weekday_do_not_matter() {
        check("SUN, 06 NOV 1994 08:49:37 gMT", Some(784_111_777));
        check("Mon, 06 Nov 1994 08:49:37 GMT", Some(784_111_777));
        check("mONDAY, 06-nOV-94 08:49:37 gmt", Some(784_111_777));
        check("sun nov  6 08:49:37 1994", Some(784_111_777));
    }

    #[test]
    fn everything_else_is_invalid() {
        for text in [
            "",
            "0",
            "-1",
            "foo",
            "Thu, 18 Aug 2050 02:01:18 UTC",
            "Thu, 18 Aug 2050 02:01:18 AEST",
            "Thu, 18 Aug 2050 02:01:18 +0000",
            "Thu, 18 Aug 2050 02:01:18",
            "Thu, 18 Aug 50 02:01:18 GMT",
            "Thu 18 Aug 2050 02:01:18 GMT",
            "Thu,18 Aug 2050 02:01:18 GMT",
            "Thu, 18  Aug  2050 02:01:18 GMT",
            "Thu, 18-Aug-2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 02.01.18 GMT",
            "Thu, 18 Aug 2050 2:01:18 GMT",
            "Thu, 8 Aug 2050 02:01:18 GMT",
            "Thu, 31 Feb 2050 02:01:18 GMT",
            "Thu, 29 Feb 2050 02:01:18 GMT",
            "Thu, 00 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug 2050 24:01:18 GMT",
            "Thu, 18 Aug 2050 02:60:18 GMT",
            "Thu, 18 Aug 2050 02:01:61 GMT",
            "Thu, 18 Aug 2050 02:01:18 GMT x",
            "Thursday, 18-Aug-2050 02:01:18 GMT",
            "Foo, 18 Aug 2050 02:01:18 GMT",
            "Thu, 18 Aug +050 02:01:18 GMT",
            "Thu Aug 8 02:01:18 2050",
            "Thu Aug  8 02:01:18 2050 GMT",
        ] {
            check(text, None);
        }
    }

    #[test]
    fn a_two_digit_year_over_fifty_years_ahead_is_of_the_past_century() {
        check("Thursday, 18-Aug-50 02:01:18 GMT", Some(2_544_400_878));
        check("Monday, 23-Nov-76 00:00:00 GMT", Some(days_from_civil(2076, 11, 23) * DAY));
        check("Monday, 23-Nov-76 00:00:01 GMT", Some(days_from_civil(1976, 11, 23) * DAY + 1));
        check("Monday, 01-Jan-77 00:00:00 GMT", Some(days_from_civil(1977, 1, 1) * DAY));
    }

    #[test]
    fn what_is_written_is_read_again() {
        for unix in [0, 784_111_777, NOW, LAST] {
            assert_eq!(parse(format(unix).as_bytes(), NOW), Some(unix));
        }
        assert_eq!(format(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(format(-5), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(format(i64::MAX), format(LAST));
    }
}
