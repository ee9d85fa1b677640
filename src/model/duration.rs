//! Durations as people write them: a number of seconds, or text such as `500ms`, `10s`, `5m`, `2h`, `1d`, `1m30s`.
//! On output they are seconds.

use std::time::Duration;

/// Why a text or number is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no duration; expected seconds or text such as 500ms, 10s, 5m, 2h, 1d")]
pub struct DurationError(pub String);

/// Longest accepted duration: ten years, so that no sum with an instant can overflow.
const MAX: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Reads `10`, `0.5`, `500ms`, `10s`, `5m`, `2h`, `1d` or a chain such as `1m30s`.
///
/// # Errors
/// `DurationError` with the text when it is none of these, negative, or over ten years.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let bad = || DurationError(text.chars().take(64).collect());
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(digits).ok_or_else(bad)?;
        let value: f64 = number.parse().map_err(|_| bad())?;
        let unit_len = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_len).ok_or_else(bad)?;
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            // A bare number stands alone; `1m30` would be ambiguous.
            "" if total == 0.0 && tail.is_empty() => 1.0,
            _ => return Err(bad()),
        };
        total += value * scale;
        rest = tail;
    }
    from_secs(total).ok_or_else(bad)
}

/// A duration of that many seconds; `None` when negative, not finite, or over ten years.
#[must_use]
pub fn from_secs(seconds: f64) -> Option<Duration> {
    Duration::try_from_secs_f64(seconds).ok().filter(|d| *d <= MAX)
}

/// Seconds for output: whole ones as integers.
#[must_use]
pub fn to_json(duration: Duration) -> serde_json::Value {
    if duration.subsec_nanos() == 0 { duration.as_secs().into() } else { duration.as_secs_f64().into() }
}

/// `serde(with)` for a duration.
pub mod seconds {
    use std::{fmt, time::Duration};

    use serde::{Deserializer, Serialize, Serializer, de};

    /// Writes seconds.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        super::to_json(*d).serialize(s)
    }

    /// Reads a number of seconds or text.
    ///
    /// # Errors
    /// When it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Duration;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration: seconds or text such as 500ms, 10s, 5m")
            }
            fn visit_str<E: de::Error>(self, v: &str) -> Result<Duration, E> {
                super::parse(v).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Duration, E> {
                super::parse(&v.to_string()).map_err(E::custom)
            }
            fn visit_i64<E: de::Error>(self, v: i64) -> Result<Duration, E> {
                super::parse(&v.to_string()).map_err(E::custom)
            }
            fn visit_f64<E: de::Error>(self, v: f64) -> Result<Duration, E> {
                super::from_secs(v).ok_or_else(|| E::custom(super::DurationError(v.to_string())))
            }
        }
        d.deserialize_any(Visitor)
    }
}

/// `serde(with)` for an optional duration.
pub mod optional_seconds {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Wrapped(#[serde(with = "super::seconds")] Duration);

    /// Writes seconds or null.
    ///
    /// # Errors
    /// Only the serializer's own.
    pub fn serialize<S: Serializer>(d: &Option<Duration>, s: S) -> Result<S::Ok, S::Error> {
        match d {
            Some(d) => super::seconds::serialize(d, s),
            None => s.serialize_none(),
        }
    }

    /// Reads null, a number of seconds or text.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Wrapped>::deserialize(d)?.map(|w| w.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, millis) in [
            ("10", 10_000),
            ("0.5", 500),
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            (" 1d ", 86_400_000),
            ("0", 0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for bad in ["", "s", "-1", "10 s", "1m30", "10x", "1..2s", "99999999999999d", "ten"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }
}
