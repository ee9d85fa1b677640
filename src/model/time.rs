//! Instants as values: the wall clock for people, the monotonic clock for intervals. Nothing here reads a clock.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A wall-clock instant in UTC, in milliseconds since the Unix epoch; RFC 3339 in text and JSON.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no time; expected RFC 3339 such as 2026-01-31T12:00:00Z")]
pub struct TimestampError(pub String);

impl Timestamp {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// This instant moved forward, saturating.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Earlier by this.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time since `earlier`, zero when it is later than this.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `2026-01-31T12:00:00.000Z`, from 1970 up to 9999. By hand: reports hold thousands of them.
    #[must_use]
    pub fn text(self) -> Option<[u8; 24]> {
        const END: u64 = 253_402_300_800_000;
        let millis = u64::try_from(self.0).ok().filter(|millis| *millis < END)?;
        let (day, in_day) = (millis / 86_400_000, millis % 86_400_000);
        // Days counted from a first of March that begins a cycle of 400 years: leap days then come last
        // (the proleptic Gregorian calendar).
        let days = day + 719_468;
        let (cycle, in_cycle) = (days / 146_097, days % 146_097);
        let year_in_cycle = (in_cycle - in_cycle / 1_460 + in_cycle / 36_524 - in_cycle / 146_096) / 365;
        let in_year = in_cycle - (365 * year_in_cycle + year_in_cycle / 4 - year_in_cycle / 100);
        let month_from_march = (5 * in_year + 2) / 153;
        let day_of_month = in_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = cycle * 400 + year_in_cycle + u64::from(month <= 2);
        let (seconds, millis) = (in_day / 1000, in_day % 1000);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let parts = [
            (0, 4, year),
            (5, 2, month),
            (8, 2, day_of_month),
            (11, 2, seconds / 3600),
            (14, 2, seconds / 60 % 60),
            (17, 2, seconds % 60),
            (20, 3, millis),
        ];
        for (at, digits, mut value) in parts {
            for place in text.get_mut(at..at + digits)?.iter_mut().rev() {
                *place = b'0' + u8::try_from(value % 10).ok()?;
                value /= 10;
            }
        }
        Some(text)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(text) = self.text() {
            return f.write_str(std::str::from_utf8(&text).unwrap_or_default());
        }
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(t) => write!(f, "{t:.3}"),
            Err(_) => write!(f, "{}ms", self.0),
        }
    }
}
impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
impl FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let parsed: Result<jiff::Timestamp, _> = text.trim().parse();
        parsed.map(|t| Self(t.as_millisecond())).map_err(|_| TimestampError(text.to_owned()))
    }
}
impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}
impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A monotonic instant: time since an origin that is fixed for the process. It runs on while the machine is suspended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Mono(Duration);

impl Mono {
    /// The instant this long after the origin.
    #[must_use]
    pub const fn from_origin(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Time since the origin.
    #[must_use]
    pub const fn elapsed(self) -> Duration {
        self.0
    }

    /// This instant moved forward, saturating.
    #[must_use]
    pub const fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(by))
    }

    /// Time since `earlier`, zero when it is later than this.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Both clocks read at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Wall clock, for display and for what people wrote (ack expiry).
    pub wall: Timestamp,
    /// Monotonic clock, for ages and intervals.
    pub mono: Mono,
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_time_is_written_as_the_calendar_has_it(millis in -1_000_000_000_000_i64..260_000_000_000_000) {
            let by_calendar = jiff::Timestamp::from_millisecond(millis).map(|t| format!("{t:.3}"));
            if let Ok(by_calendar) = by_calendar {
                assert_eq!(Timestamp::from_millis(millis).to_string(), by_calendar);
            }
        }
    }

    #[test]
    fn the_days_around_leap_days_are_written_well() {
        for text in [
            "1970-01-01T00:00:00.000Z",
            "2000-02-29T23:59:59.999Z",
            "2100-02-28T12:00:00.001Z",
            "2100-03-01T00:00:00.000Z",
            "2024-12-31T23:59:59.000Z",
            "9999-12-30T21:59:59.999Z",
        ] {
            assert_eq!(text.parse::<Timestamp>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn timestamps_read_what_they_write() {
        let t = Timestamp::from_millis(1_790_000_000_123);
        let text = t.to_string();
        assert!(text.ends_with('Z'), "{text}");
        assert_eq!(text.parse::<Timestamp>().unwrap(), t);
        assert_eq!("2026-01-31T13:00:00+01:00".parse::<Timestamp>(), "2026-01-31T12:00:00Z".parse());
        assert!("yesterday".parse::<Timestamp>().is_err());
    }
}
