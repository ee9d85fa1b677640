//! Which form of an answer a client wants, by the q-values of `Accept` (RFC 9110 section 12.5.1).

use http::{HeaderMap, header::ACCEPT};

/// Quality in thousandths, 0 for "not acceptable", that `Accept` gives to a media type; 1000 without the header.
pub(super) fn quality(headers: &HeaderMap, media: &str) -> u16 {
    let mut best: Option<(u8, u16)> = None;
    let mut given = false;
    for value in headers.get_all(ACCEPT) {
        let Ok(text) = value.to_str() else { continue };
        for range in text.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            if name.is_empty() {
                continue;
            }
            given = true;
            let Some(specificity) = matches(name, media) else { continue };
            let q = parts
                .find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")))
                .map_or(1000, |q| thousandths(q.trim()));
            // The most specific range decides; of equals the greater one.
            if best.is_none_or(|(s, b)| specificity > s || (specificity == s && q > b)) {
                best = Some((specificity, q));
            }
        }
    }
    match best {
        Some((_, q)) => q,
        None if given => 0,
        None => 1000,
    }
}

/// The best of `offers`, the earlier one on a tie; the first where nothing is acceptable.
pub(super) fn choose<'a>(headers: &HeaderMap, offers: &[&'a str]) -> &'a str {
    let mut best = ("", 0);
    for offer in offers {
        let q = quality(headers, offer);
        if q > best.1 {
            best = (offer, q);
        }
    }
    if best.1 == 0 { offers.first().copied().unwrap_or_default() } else { best.0 }
}

fn matches(range: &str, media: &str) -> Option<u8> {
    if range.eq_ignore_ascii_case(media) {
        return Some(2);
    }
    if range == "*/*" {
        return Some(0);
    }
    let kind = range.strip_suffix("/*")?;
    let (media_kind, _) = media.split_once('/')?;
    kind.eq_ignore_ascii_case(media_kind).then_some(1)
}

/// `0.85` as 850; what is no number counts as 1, as most servers do.
fn thousandths(q: &str) -> u16 {
    match q.parse::<f32>() {
        Ok(q) if (0.0..=1.0).contains(&q) => {
            // In range by the guard; three decimals are all that the standard has.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let value = (q * 1000.0).round() as u16;
            value
        }
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OFFERS: [&str; 3] = ["text/html", "application/json", "application/health+json"];

    fn chosen(accept: &str) -> &'static str {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, accept.parse().unwrap());
        choose(&headers, &OFFERS)
    }

    #[test]
    fn q_values_decide_and_a_tie_is_html() {
        assert_eq!(choose(&HeaderMap::new(), &OFFERS), "text/html");
        for (accept, expected) in [
            ("application/json", "application/json"),
            ("*/*", "text/html"),
            ("text/html,application/json", "text/html"),
            ("text/html;q=0.8,application/json;q=0.9", "application/json"),
            ("text/html;q=0,*/*", "application/json"),
            ("application/*", "application/json"),
            ("application/health+json, application/json;q=0.5", "application/health+json"),
            ("APPLICATION/JSON; charset=utf-8", "application/json"),
            ("image/png", "text/html"),
            ("application/json;q=x", "application/json"),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "text/html"),
        ] {
            assert_eq!(chosen(accept), expected, "{accept}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_accept_chooses_an_offer(accept in "[ -~]{0,80}") {
            assert!(OFFERS.contains(&chosen(&accept)));
        }
    }
}
