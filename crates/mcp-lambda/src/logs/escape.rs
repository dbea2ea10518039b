//! Escaping of dynamic text in log events.

use std::io::Write as _;

/// Writes dynamic text as a JSON string, in both formats. Control characters that a terminal or a log viewer would interpret are
/// escaped too.
pub(super) fn write_quoted(line: &mut Vec<u8>, text: &str) {
    line.push(b'"');
    // Fast path: most text is printable ASCII.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    let (plain, rest) = text.split_at(text.bytes().position(|byte| !is_plain(byte)).unwrap_or(text.len()));
    line.extend_from_slice(plain.as_bytes());
    for own in rest.chars() {
        // Writing to memory cannot fail.
        let _ = match own {
            '"' | '\\' => write!(line, "\\{own}"),
            '\n' => line.write_all(b"\\n"),
            '\r' => line.write_all(b"\\r"),
            '\t' => line.write_all(b"\\t"),
            // All control characters fit into four hex digits.
            _ if is_control(own) => write!(line, "\\u{:04x}", u32::from(own)),
            _ => line.write_all(own.encode_utf8(&mut [0; 4]).as_bytes()),
        };
    }
    line.push(b'"');
}

/// Whether a character is a control character (C0, DEL, C1), a line or paragraph separator, or a bidirectional control.
pub(super) fn is_control(own: char) -> bool {
    own.is_control()
        || matches!(
            own,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}
