//! Foreign text made fit to be kept and shown: one line, no control characters, bounded. Pure.

use std::sync::{Arc, LazyLock};

/// Most bytes of an observation's output.
pub const MAX_OUTPUT: usize = 512;

/// One line of at most `max` bytes: control characters and marks that turn the writing direction are taken out, runs of
/// white space become one space, what is cut off is marked by `…`.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max));
    push_clean(&mut out, text, max);
    out
}

/// As `clean`, made to be kept; one allocation where nothing has to change, none where nothing is left.
#[must_use]
pub fn shared(text: &str, max: usize) -> Arc<str> {
    static EMPTY: LazyLock<Arc<str>> = LazyLock::new(|| Arc::from(""));
    if text.is_empty() {
        return Arc::clone(&EMPTY);
    }
    // Plain ASCII without two spaces in a row is most of what there is.
    let plain =
        |(last, good): (u8, bool), b: u8| (b, good && (0x20..0x7f).contains(&b) && !(b == b' ' && last == b' '));
    let (last, good) = text.bytes().fold((b' ', text.len() <= max), plain);
    if good && last != b' ' { Arc::from(text) } else { Arc::from(clean(text, max)) }
}

/// As `clean`, appended to `out`, which stays within `max` bytes.
pub fn push_clean(out: &mut String, text: &str, max: usize) {
    const MARK: &str = "…";
    let mut space = false;
    let begin = out.len();
    // Where to cut so that the mark still fits.
    let mut cut = out.len();
    for c in text.chars() {
        if c.is_whitespace() || c == '\u{85}' {
            space = out.len() > begin;
            continue;
        }
        if c.is_control() || is_direction_mark(c) {
            continue;
        }
        let needed = c.len_utf8() + usize::from(space);
        if out.len() + needed > max {
            out.truncate(cut);
            if out.len() + MARK.len() <= max {
                out.push_str(MARK);
            }
            return;
        }
        if std::mem::take(&mut space) {
            out.push(' ');
        }
        out.push(c);
        if out.len() + MARK.len() <= max {
            cut = out.len();
        }
    }
}

const fn is_direction_mark(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_line_without_tricks() {
        assert_eq!(clean("  a\r\n\tb\u{0}\u{1b}[31mc \u{202e}d  ", 100), "a b[31mc d");
        assert_eq!(clean("abcdefghij", 10), "abcdefghij");
        assert_eq!(clean("abcdefghijk", 10), "abcdefg…");
        assert_eq!(clean("äöüäöü", 7), "äö…");
    }

    proptest! {
        #[test]
        fn shared_is_the_same_text(text in "([ -~]{0,40}|.{0,40})", max in 0usize..64) {
            prop_assert_eq!(shared(&text, max).to_string(), clean(&text, max));
        }

        #[test]
        fn always_bounded(text in ".{0,200}", prefix in "[a-z]{0,8}", max in 0usize..64) {
            let mut out = prefix.clone();
            push_clean(&mut out, &text, max);
            prop_assert!(out.len() <= max.max(prefix.len()));
            prop_assert!(out.starts_with(&prefix) || prefix.len() > max);
            prop_assert!(!out.chars().any(char::is_control));
        }
    }
}
