//! Escaping of text that is not a literal of the code.

use std::io::Write as _;

/// Writes what is not a literal of the code, in both formats: a JSON string, in which characters that a reader of the log
/// might act on instead of show them are escaped too.
pub(super) fn write_quoted(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    // Most texts are ASCII and need no escape.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    let (plain, rest) = text.split_at(text.bytes().position(|byte| !is_plain(byte)).unwrap_or(text.len()));
    line.extend_from_slice(plain.as_bytes());
    for own in rest.chars() {
        // Into memory: it cannot fail.
        let _ = match own {
            '"' | '\\' => write!(line, "\\{own}"),
            '\n' => line.write_all(b"\\n"),
            '\r' => line.write_all(b"\\r"),
            '\t' => line.write_all(b"\\t"),
            // None of them takes more than four digits.
            _ if is_control(own) => write!(line, "\\u{:04x}", u32::from(own)),
            _ => line.write_all(own.encode_utf8(&mut [0; 4]).as_bytes()),
        };
    }
    line.push(b'"');
}

/// C0, DEL and C1, which terminals act on, line and paragraph separators, and what turns the direction of text.
pub(super) fn is_control(own: char) -> bool {
    own.is_control()
        || matches!(
            own,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}
