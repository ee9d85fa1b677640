//! Names of targets, categories, services, regions and nodes: cheap to clone, checked when made.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name, in bytes (design section 3).
pub const MAX_LENGTH: usize = 128;

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is no valid {what} name: {problem}; expected 1 to 128 of A-Z a-z 0-9 . _ -")]
pub struct NameError {
    /// What kind of name was asked for, such as `target`.
    pub what: &'static str,
    /// The refused text, cut to a readable length.
    pub value: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

fn check(what: &'static str, text: &str) -> Result<(), NameError> {
    let problem = if text.is_empty() {
        "it is empty"
    } else if text.len() > MAX_LENGTH {
        "it is too long"
    } else if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
        "it has a character that is not allowed"
    } else {
        return Ok(());
    };
    let value = text.chars().take(MAX_LENGTH).collect();
    Err(NameError { what, value, problem })
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// The checked name.
            ///
            /// # Errors
            /// `NameError` when the text is empty, over 128 bytes, or has a byte outside `[A-Za-z0-9._-]`.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check($what, text).map(|()| Self(Arc::from(text)))
            }

            /// The name's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let text = String::deserialize(d)?;
                Self::new(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// One probed endpoint's name (FT called it a service).
    TargetName,
    "target"
);
name!(
    /// A named set of targets.
    CategoryName,
    "category"
);
name!(
    /// What a load balancer routes to.
    ServiceName,
    "service"
);
name!(
    /// Where nodes run and targets are probed from.
    RegionName,
    "region"
);
name!(
    /// One running `bellwether serve`.
    NodeName,
    "node"
);

impl CategoryName {
    /// The category that every target is in.
    #[must_use]
    pub fn default_category() -> Self {
        Self(Arc::from("default"))
    }
}

impl RegionName {
    /// The region used when none is named.
    #[must_use]
    pub fn default_region() -> Self {
        Self(Arc::from("default"))
    }
}

impl ServiceName {
    /// The service of a target that names none: its name less a `-<digits>` suffix (design section 1).
    #[must_use]
    pub fn of_target(target: &TargetName) -> Self {
        let name = target.as_str();
        let service = match name.rsplit_once('-') {
            Some((head, tail)) if !head.is_empty() && !tail.is_empty() && tail.bytes().all(|b| b.is_ascii_digit()) => {
                head
            }
            _ => name,
        };
        Self(Arc::from(service))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert!(TargetName::new("foo-service_1.x").is_ok());
        for bad in ["", "a/b", "a b", "ü", &"x".repeat(129)] {
            assert!(TargetName::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn only_a_numeric_suffix_is_cut_from_a_service_name() {
        let service = |t: &str| ServiceName::of_target(&TargetName(Arc::from(t))).to_string();
        assert_eq!(service("foo-service-1"), "foo-service");
        assert_eq!(service("foo-read"), "foo-read", "FT's last-dash guess merged foo-read and foo-write");
        assert_eq!(service("-1"), "-1");
        assert_eq!(service("foo-"), "foo-");
        assert_eq!(service("foo"), "foo");
    }
}
