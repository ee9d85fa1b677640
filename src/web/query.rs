//! Query strings as design section 6 reads them: repeated parameters merged, empty words dropped, percent-encoding
//! decoded once (a bad percent stays as it is), `+` a space.

use percent_encoding::percent_decode_str;

/// Longest query that is read; more is cut (hyper bounds the whole head as well).
const MAX_WORDS: usize = 1024;

/// A query's decoded pairs, in the order given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads a raw query string.
    pub(super) fn parse(raw: Option<&str>) -> Self {
        let pairs = raw.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).take(MAX_WORDS);
        Self(
            pairs
                .map(|pair| {
                    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// All words of a comma list, over all repetitions; trimmed, without empty and repeated ones.
    pub(super) fn words(&self, name: &str) -> Vec<String> {
        let mut words: Vec<String> = Vec::new();
        for (_, value) in self.0.iter().filter(|(n, _)| n == name) {
            for word in value.split(',').map(str::trim).filter(|w| !w.is_empty()) {
                if words.len() < MAX_WORDS && !words.iter().any(|w| w == word) {
                    words.push(word.to_owned());
                }
            }
        }
        words
    }

    /// Whether some repetition of `name` is exactly `value`.
    pub(super) fn is(&self, name: &str, value: &str) -> bool {
        self.0.iter().any(|(n, v)| n == name && v == value)
    }

    /// The last value of a parameter.
    pub(super) fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The first name that is none of `known`.
    pub(super) fn unknown(&self, known: &[&str]) -> Option<&str> {
        self.0.iter().map(|(n, _)| n.as_str()).find(|n| !known.contains(n))
    }
}

fn decode(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_merged_trimmed_and_decoded_once() {
        let query = Query::parse(Some("categories=a,,b&x=1&categories=%20c%2Cd+,a&categories=%252C&categories=%zz"));
        assert_eq!(query.words("categories"), ["a", "b", "c", "d", "%2C", "%zz"]);
        assert!(Query::parse(Some("categories=,&categories")).words("categories").is_empty());
        assert!(Query::parse(None).words("categories").is_empty());
    }

    #[test]
    fn values_are_found_by_name() {
        let query = Query::parse(Some("cache=true&cache=false&dry_run=1"));
        assert!(query.is("cache", "false"));
        assert_eq!(query.last("dry_run"), Some("1"));
        assert_eq!(query.unknown(&["cache"]), Some("dry_run"));
    }

    proptest::proptest! {
        #[test]
        fn any_query_gives_clean_words(raw in ".{0,200}", encoded in "(%[0-9a-fA-F]{0,2}|[a,+&=]){0,40}") {
            for text in [raw, format!("categories={encoded}")] {
                let words = Query::parse(Some(&text)).words("categories");
                for (i, word) in words.iter().enumerate() {
                    assert!(!word.is_empty() && !word.contains(',') && word.trim() == word, "{text:?}: {word:?}");
                    assert!(!words[..i].contains(word), "{text:?}: {word:?} twice");
                }
            }
        }
    }
}
