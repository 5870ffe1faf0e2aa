//! Hours of the week, in UTC: when a rule is for.
use std::fmt;

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
const DAY: u16 = 24 * 60;

/// From one time of a day until another, on some days of the week. Where it ends no later than it begins it goes on
/// past midnight, and belongs to the day on which it began.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hours {
    /// A bit for each day, Monday's the lowest.
    days: u8,
    /// Minutes of the day.
    from: u16,
    /// The first minute after it.
    until: u16,
}

impl Hours {
    /// Reads `08:00-18:00` and `Mon-Fri 08:00-18:00`, `Sat,Sun 00:00-24:00`.
    pub fn parse(text: &str) -> Option<Self> {
        let (days, times) = text.trim().rsplit_once(' ').unwrap_or(("Mon-Sun", text.trim()));
        let days = days.trim().split(',').map(days_of).try_fold(0, |all, days| Some(all | days?))?;
        let (from, until) = times.split_once('-')?;
        let (from, until) = (minute(from)?, minute(until)?);
        (from < DAY && until > 0).then_some(Self { days, from, until })
    }

    /// Whether it is such an hour. Seconds since the Unix epoch.
    pub fn contains(&self, unix: i64) -> bool {
        // The epoch was a Thursday.
        let day = (unix.div_euclid(86_400) + 3).rem_euclid(7) as u8;
        let minute = (unix.rem_euclid(86_400) / 60) as u16;
        let on = |day: u8| self.days & 1 << day != 0;
        if self.from < self.until {
            return on(day) && (self.from..self.until).contains(&minute);
        }
        (on(day) && minute >= self.from) || (on((day + 6) % 7) && minute < self.until)
    }
}

/// `Mon`, or `Mon-Fri`, which may go round the end of the week.
fn days_of(text: &str) -> Option<u8> {
    let day = |text: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(text.trim()));
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first)?, day(last)?);
    Some(
        (0..7)
            .filter(|day| (day + 7 - first) % 7 <= (last + 7 - first) % 7)
            .fold(0, |all, day| all | 1 << day),
    )
}

fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let figure = |text: &str| {
        (text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse::<u16>().ok())?
    };
    let (hours, minutes) = (figure(hours)?, figure(minutes)?);
    let minute = hours * 60 + minutes;
    (minutes < 60 && minute <= DAY).then_some(minute)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<_> = (0..7).filter(|day| self.days & 1 << day != 0).map(|day| DAYS[day]).collect();
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        write!(f, "{} {}-{}", days.join(","), time(self.from), time(self.until))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23 is a Monday.
    const MONDAY: i64 = 1_795_392_000;

    #[test]
    fn hours_are_of_their_days_and_may_go_past_midnight() {
        for (text, day, time, expected) in [
            ("08:00-18:00", 0, (7, 59), false),
            ("08:00-18:00", 0, (8, 0), true),
            ("08:00-18:00", 6, (17, 59), true),
            ("08:00-18:00", 6, (18, 0), false),
            ("Mon-Fri 08:00-18:00", 4, (12, 0), true),
            ("Mon-Fri 08:00-18:00", 5, (12, 0), false),
            ("sat,sun 00:00-24:00", 5, (23, 59), true),
            ("Sat,Sun 00:00-24:00", 0, (0, 0), false),
            ("Sat-Mon 00:00-24:00", 0, (12, 0), true),
            ("Sat-Mon 00:00-24:00", 1, (12, 0), false),
            ("Fri 22:00-06:00", 4, (23, 0), true),
            ("Fri 22:00-06:00", 5, (5, 59), true),
            ("Fri 22:00-06:00", 5, (6, 0), false),
            ("Fri 22:00-06:00", 5, (22, 0), false),
            ("Sun 22:00-06:00", 0, (1, 0), true),
            ("Mon 12:00-12:00", 1, (11, 59), true),
        ] {
            let (hour, minute) = time;
            let hours = Hours::parse(text).unwrap();
            let at = MONDAY + day * 86_400 + hour * 3_600 + minute * 60;
            assert_eq!(hours.contains(at), expected, "{text} on day {day} at {hour}:{minute}");
            assert_eq!(Hours::parse(&hours.to_string()), Some(hours), "{text}");
        }
        assert!(Hours::parse("Thu 00:00-00:01").unwrap().contains(0), "the epoch");
        assert!(Hours::parse("Wed 23:59-24:00").unwrap().contains(-1), "and before it");
    }

    #[test]
    fn what_is_no_hours_is_refused() {
        for text in [
            "",
            "Mon",
            "8:00-9:00",
            "08:00",
            "08:00-25:00",
            "08:60-09:00",
            "24:00-25:00",
            "08:00-00:00",
            "Foo 08:00-09:00",
            "Mon- 08:00-09:00",
            "Mon,,Tue 08:00-09:00",
            "+8:00-09:00",
            "08:00-24:01",
        ] {
            assert_eq!(Hours::parse(text), None, "{text}");
        }
    }
}
