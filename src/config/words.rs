//! Words as people write them: which known word is near a misspelt one, and which words mean on and off.

/// The words that `parse_bool` takes, for messages.
pub const BOOL_WORDS: &str = "true or false (also 1, 0, t, f, on, off, yes, no)";

/// The known word that is probably meant: a few letters away, or one that it begins. `None` when none is near.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.trim().to_ascii_lowercase();
    if word.is_empty() || word.len() > crate::model::name::MAX_LENGTH {
        return None;
    }
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let lower = candidate.to_ascii_lowercase();
        let limit = (word.len().max(lower.len()) / 3).max(1);
        // Lengths alone bound the distance from below: most candidates need no comparison.
        let distance = if word.len() >= 3 && lower.starts_with(&word) {
            1
        } else if word.len().abs_diff(lower.len()) > limit {
            continue;
        } else {
            strsim::osa_distance(&word, &lower)
        };
        // Short words are all alike: `on` is not meant by `no`.
        if distance > limit || distance >= lower.len() {
            continue;
        }
        if best.is_none_or(|(d, _)| distance < d) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, word)| word)
}

/// Go's `ParseBool` words, and on/off, yes/no; without regard to case, trimmed. `None` for anything else.
#[must_use]
pub fn parse_bool(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "on" | "yes" => Some(true),
        "0" | "f" | "false" | "off" | "no" => Some(false),
        _ => None,
    }
}

/// The boolean word that was probably meant.
#[must_use]
pub fn nearest_bool(text: &str) -> Option<&'static str> {
    nearest(text, ["true", "false"])
}

/// A text cut to at most `max` characters, marked where it was cut.
#[must_use]
pub fn cut(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some(_) => text.chars().take(max.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["path", "categories", "ack", "spec", "period_seconds", "enabled"];
        for (word, want) in [
            ("pth", Some("path")),
            ("Path", Some("path")),
            ("category", Some("categories")),
            ("catgeories", Some("categories")),
            ("period", Some("period_seconds")),
            ("enable", Some("enabled")),
            ("kubernetes", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(nearest(word, known), want, "{word}");
        }
    }

    #[test]
    fn bool_words() {
        for word in ["1", "t", "T", "TRUE", "true", "True", "on", "Yes", " true\n"] {
            assert_eq!(parse_bool(word), Some(true), "{word:?}");
        }
        for word in ["0", "f", "F", "FALSE", "false", "False", "OFF", "no"] {
            assert_eq!(parse_bool(word), Some(false), "{word:?}");
        }
        for word in ["", "2", "fasle", "tru", "enabled"] {
            assert_eq!(parse_bool(word), None, "{word:?}");
        }
        assert_eq!(nearest_bool("fasle"), Some("false"));
    }

    #[test]
    fn cutting_keeps_whole_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
    }
}
