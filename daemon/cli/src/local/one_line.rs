//! Writes JSON on one line, for every definition of a line end: removes white space between tokens, and escapes in
//! strings the three non-ASCII characters at which some readers break lines (U+0085, U+2028, U+2029). Every token is
//! otherwise unchanged.

/// The characters, in UTF-8, and their escapes.
const BREAKS: [(&[u8], &[u8]); 3] = [
    (b"\xc2\x85", b"\\u0085"),
    (b"\xe2\x80\xa8", b"\\u2028"),
    (b"\xe2\x80\xa9", b"\\u2029"),
];

/// Writes valid JSON as one line, without the line's end.
pub(super) fn write(out: &mut Vec<u8>, json: &[u8]) {
    let (mut in_text, mut escaped) = (false, false);
    let mut rest = json;
    while let Some((byte, after)) = rest.split_first() {
        let found = BREAKS.iter().find(|(bytes, _)| rest.starts_with(bytes));
        if let Some((bytes, escape)) = found {
            out.extend_from_slice(escape);
            rest = rest.get(bytes.len()..).unwrap_or_default();
            continue;
        }
        rest = after;
        if !in_text && byte.is_ascii_whitespace() {
            continue;
        }
        in_text = match byte {
            _ if escaped => true,
            b'"' => !in_text,
            _ => in_text,
        };
        escaped = in_text && !escaped && *byte == b'\\';
        out.push(*byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_line(json: &str) -> String {
        let mut out = Vec::new();
        write(&mut out, json.as_bytes());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn white_space_between_tokens_goes_and_tokens_stay() {
        for (json, line) in [
            ("{\n \"a\" :\t[ 1.0 ,\r\n2 ] }\n", r#"{"a":[1.0,2]}"#),
            (r#" " a \" b \\" "#, r#"" a \" b \\""#),
            (r#"{"\ud800" : 1e400}"#, r#"{"\ud800":1e400}"#),
            (r#"["\\", "\n"]"#, r#"["\\","\n"]"#),
            ("true", "true"),
        ] {
            assert_eq!(one_line(json), line);
        }
    }

    #[test]
    fn no_reader_finds_a_line_end_inside() {
        let line = one_line("{\"a\u{2028}\": \"\u{85}\u{2029}\u{e9}\"}");
        assert_eq!(line, "{\"a\\u2028\":\"\\u0085\\u2029\u{e9}\"}");
        let same: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(same["a\u{2028}"], "\u{85}\u{2029}\u{e9}");
    }
}
