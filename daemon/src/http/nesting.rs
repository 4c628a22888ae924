//! Bounds how deep JSON is nested, so that its later readers need no deep stack.

/// Whether lists and objects in valid JSON are nested deeper than `most` levels.
pub(super) fn nested_deeper_than(json: &[u8], most: usize) -> bool {
    // Every level takes one byte to open. This count is several times faster than the walk, and nearly always
    // sufficient.
    if opened(json) <= most {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for &byte in json {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b'[' | b'{' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Returns how many bytes would open a list or an object, including those in strings. Counted piece by piece, many
/// bytes at a time.
fn opened(json: &[u8]) -> usize {
    json.chunks(usize::from(u8::MAX))
        .map(|piece| {
            let opens = |b: &u8| u8::from(matches!(b, b'[' | b'{'));
            usize::from(piece.iter().map(opens).sum::<u8>())
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_is_counted_outside_of_strings_only() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!nested_deeper_than(nested(128).as_bytes(), 128));
        assert!(nested_deeper_than(nested(129).as_bytes(), 128));
        assert!(nested_deeper_than(nested(100_000).as_bytes(), 128));
        let text = format!(r#"["\"{}",{}]"#, "[".repeat(500), "[],".repeat(200) + "1");
        assert!(!nested_deeper_than(text.as_bytes(), 2));
    }
}
