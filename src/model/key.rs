//! The grammar of operator keys (design section 3), relative to ROOT: text to value and back.
//! Which keys nodes write is known to `store`; what a value means is decided by `config`.

use std::fmt;

use super::{CategoryName, RegionName, ServiceName, TargetName};

/// Words allowed below `healthcheck/<target>/`.
pub const TARGET_WORDS: [&str; 4] = ["path", "categories", "ack", "spec"];
/// Words allowed below `healthcheck-categories/<category>/`.
pub const CATEGORY_WORDS: [&str; 4] = ["period_seconds", "is_resilient", "sticky", "enabled"];
/// Words allowed below `services/<service>/`.
pub const SERVICE_WORDS: [&str; 2] = ["spec", "failover"];
/// Prefixes that hold operator keys, relative to ROOT; each is watched on its own.
pub const OPERATOR_PREFIXES: [&str; 5] =
    ["healthcheck/", "healthcheck-categories/", "config/aggregate-healthcheck/", "services/", "regions/"];
/// The cluster ack's key, relative to ROOT.
pub const CLUSTER_ACK: &str = "config/aggregate-healthcheck/cluster-ack";

/// A target's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetField {
    /// `path`
    Path,
    /// `categories`
    Categories,
    /// `ack`
    Ack,
    /// `spec`
    Spec,
}

/// A category's field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CategoryField {
    /// `period_seconds`
    PeriodSeconds,
    /// `is_resilient`
    IsResilient,
    /// `sticky`
    Sticky,
    /// `enabled`
    Enabled,
}

/// One operator key, relative to ROOT.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// `healthcheck/<target>/<field>`
    Target(TargetName, TargetField),
    /// `healthcheck-categories/<category>/<field>`
    Category(CategoryName, CategoryField),
    /// `config/aggregate-healthcheck/cluster-ack`
    ClusterAck,
    /// `services/<service>/spec`
    ServiceSpec(ServiceName),
    /// `services/<service>/failover`
    ServiceFailover(ServiceName),
    /// `regions/<region>/spec`
    RegionSpec(RegionName),
    /// `regions/<region>/enabled`
    RegionEnabled(RegionName),
    /// `regions/<region>/overlay/<key>`; the key is a target's or category's (anything else is a fault, kept as text).
    Overlay(RegionName, String),
}

/// What a key below ROOT is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// An operator key.
    Key(Key),
    /// Not ours (others share ROOT), or a key that nodes write: ignored, no hint.
    Foreign,
    /// Below a target or category, but with an unknown word: a hint.
    UnknownWord {
        /// The unknown word.
        word: String,
        /// The words known there.
        known: &'static [&'static str],
        /// A target exists when any key below it exists, a misspelt one included.
        target: Option<TargetName>,
        /// A category is known when a key names it.
        category: Option<CategoryName>,
    },
    /// In an operator's place, with a name that is none: a fault.
    BadName(super::NameError),
}

impl TargetField {
    /// The key's last word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Categories => "categories",
            Self::Ack => "ack",
            Self::Spec => "spec",
        }
    }
    fn of(word: &str) -> Option<Self> {
        [Self::Path, Self::Categories, Self::Ack, Self::Spec].into_iter().find(|f| f.word() == word)
    }
}

impl CategoryField {
    /// The key's last word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PeriodSeconds => "period_seconds",
            Self::IsResilient => "is_resilient",
            Self::Sticky => "sticky",
            Self::Enabled => "enabled",
        }
    }
    fn of(word: &str) -> Option<Self> {
        [Self::PeriodSeconds, Self::IsResilient, Self::Sticky, Self::Enabled].into_iter().find(|f| f.word() == word)
    }
}

/// Reads a key relative to ROOT (no leading slash).
#[must_use]
pub fn parse(relative: &str) -> Parsed {
    if relative == CLUSTER_ACK {
        return Parsed::Key(Key::ClusterAck);
    }
    let Some((room, rest)) = relative.split_once('/') else { return Parsed::Foreign };
    let Some((name, word)) = rest.split_once('/') else { return Parsed::Foreign };
    match room {
        "healthcheck" => match TargetName::new(name) {
            Err(e) => Parsed::BadName(e),
            Ok(target) => match TargetField::of(word) {
                Some(field) => Parsed::Key(Key::Target(target, field)),
                None => Parsed::UnknownWord {
                    word: word.to_owned(),
                    known: &TARGET_WORDS,
                    target: Some(target),
                    category: None,
                },
            },
        },
        "healthcheck-categories" => match CategoryName::new(name) {
            Err(e) => Parsed::BadName(e),
            Ok(category) => match CategoryField::of(word) {
                Some(field) => Parsed::Key(Key::Category(category, field)),
                None => Parsed::UnknownWord {
                    word: word.to_owned(),
                    known: &CATEGORY_WORDS,
                    target: None,
                    category: Some(category),
                },
            },
        },
        "services" => match (ServiceName::new(name), word) {
            (Ok(service), "spec") => Parsed::Key(Key::ServiceSpec(service)),
            (Ok(service), "failover") => Parsed::Key(Key::ServiceFailover(service)),
            (Err(e), "spec" | "failover") => Parsed::BadName(e),
            // Others write `services/<s>/servers/…` here.
            _ => Parsed::Foreign,
        },
        "regions" => parse_region(name, word),
        _ => Parsed::Foreign,
    }
}

fn parse_region(name: &str, word: &str) -> Parsed {
    let overlay = word.strip_prefix("overlay/");
    if overlay.is_none() && !matches!(word, "spec" | "enabled") {
        return Parsed::Foreign;
    }
    match (RegionName::new(name), overlay) {
        (Err(e), _) => Parsed::BadName(e),
        (Ok(region), Some(inner)) => Parsed::Key(Key::Overlay(region, inner.to_owned())),
        (Ok(region), None) if word == "spec" => Parsed::Key(Key::RegionSpec(region)),
        (Ok(region), None) => Parsed::Key(Key::RegionEnabled(region)),
    }
}

impl fmt::Display for Key {
    /// The key relative to ROOT.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(name, field) => write!(f, "healthcheck/{name}/{}", field.word()),
            Self::Category(name, field) => write!(f, "healthcheck-categories/{name}/{}", field.word()),
            Self::ClusterAck => f.write_str(CLUSTER_ACK),
            Self::ServiceSpec(name) => write!(f, "services/{name}/spec"),
            Self::ServiceFailover(name) => write!(f, "services/{name}/failover"),
            Self::RegionSpec(name) => write!(f, "regions/{name}/spec"),
            Self::RegionEnabled(name) => write!(f, "regions/{name}/enabled"),
            Self::Overlay(region, inner) => write!(f, "regions/{region}/overlay/{inner}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operator_key_reads_what_it_writes() {
        for text in [
            "healthcheck/foo-1/path",
            "healthcheck/foo-1/categories",
            "healthcheck/foo-1/ack",
            "healthcheck/foo-1/spec",
            "healthcheck-categories/read/period_seconds",
            "healthcheck-categories/read/is_resilient",
            "healthcheck-categories/read/sticky",
            "healthcheck-categories/read/enabled",
            "config/aggregate-healthcheck/cluster-ack",
            "services/foo/spec",
            "services/foo/failover",
            "regions/eu/spec",
            "regions/eu/enabled",
            "regions/eu/overlay/healthcheck/foo-1/ack",
        ] {
            match parse(text) {
                Parsed::Key(key) => assert_eq!(key.to_string(), text),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn others_keys_are_foreign_and_misspelt_ones_are_hints() {
        for text in
            ["services/foo/servers/1", "regions/eu/leader", "regions/eu/nodes/a", "x", "placement/a/0", "healthcheck/x"]
        {
            assert_eq!(parse(text), Parsed::Foreign, "{text}");
        }
        assert!(matches!(parse("healthcheck/foo/pth"), Parsed::UnknownWord { target: Some(_), .. }));
        assert!(matches!(parse("healthcheck-categories/a/enable"), Parsed::UnknownWord { category: Some(_), .. }));
        assert!(matches!(parse("healthcheck/a b/path"), Parsed::BadName(_)));
    }
}
