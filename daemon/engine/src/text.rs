//! Truncates and cleans text from outside before it is stored, shown or logged.

/// Truncates a text to `most` bytes: its start, followed by a mark with the length of the whole if something was cut
/// off. Only the mark, if `most` is too short for it.
#[must_use]
pub fn cut(mut text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let mark = format!("… ({} bytes)", text.len());
    let end = text.floor_char_boundary(most.saturating_sub(mark.len()));
    text.truncate(end);
    // Otherwise the kept part would hold the allocation of the whole.
    text.shrink_to(most);
    text.push_str(&mark);
    text
}

/// Whether a character changes the direction of the text around it, hides in it, or is invisible: soft hyphen,
/// direction marks and overrides, joiners, line and paragraph separators, tags (Unicode, UAX #9 and UTR #36).
#[must_use]
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

/// Makes everything in foreign text visible: control characters, and the invisible ones that reorder or hide text.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() || is_invisible(character) {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_within_its_bound_stays_as_it_is() {
        for text in ["", "a", "é…"] {
            assert_eq!(cut(text.to_owned(), text.len()), text);
        }
    }

    proptest! {
        #[test]
        fn a_longer_one_is_its_beginning_and_a_mark(text: String, most in 25_usize..60) {
            let whole = text.len();
            let cut = cut(text.clone(), most);
            prop_assert!(cut.len() <= most);
            if whole > most {
                let mark = format!("… ({whole} bytes)");
                let kept = cut.strip_suffix(&mark).unwrap();
                prop_assert!(text.starts_with(kept));
                prop_assert!(kept.len() + mark.len() + 3 >= most);
            }
        }
    }
}
