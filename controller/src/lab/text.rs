//! Character classes and numbers of the lab format, and the cleaning of text files.
//!
//! The format was defined by a program written in Python, so "word character", "blank" and "integer"
//! mean what they mean there: all of Unicode, `1_0` is ten. This module owns those meanings. In: text
//! or bytes; out: the same, trimmed, judged or cleaned. It does no I/O.

use std::borrow::Cow;

/// First code point (the zero) of every run of ten decimal digits in Unicode 14.
const DECIMAL_ZEROS: [u32; 66] = [
    0x0030, 0x0660, 0x06F0, 0x07C0, 0x0966, 0x09E6, 0x0A66, 0x0AE6, 0x0B66, 0x0BE6, 0x0C66, 0x0CE6, 0x0D66, 0x0DE6,
    0x0E50, 0x0ED0, 0x0F20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90, 0x1B50, 0x1BB0, 0x1C40,
    0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10, 0x104A0, 0x10D30, 0x11066, 0x110F0,
    0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650, 0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50,
    0x11DA0, 0x16A60, 0x16AC0, 0x16B50, 0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950,
    0x1FBF0,
];

/// Bytes looked at to tell text from binary, apart from NUL, which is looked for everywhere.
const SAMPLE_BYTES: usize = 8192;

/// Whether the format counts `c` as blank.
pub(super) fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Whether the format counts `c` as a word character: a letter or digit of any script, or `_`.
pub(super) fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// Whether `text` is one word character or more, and nothing else.
pub(super) fn is_word_text(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_word)
}

/// `text` without the blanks around it.
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

/// The value of a decimal digit of any script.
fn decimal_digit(c: char) -> Option<u32> {
    let code = u32::from(c);
    let run = DECIMAL_ZEROS.partition_point(|zero| *zero <= code);
    let zero = DECIMAL_ZEROS.get(run.checked_sub(1)?)?;
    let digit = code - zero;
    (digit < 10).then_some(digit)
}

/// What reading an integer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    /// It fits.
    Value(i64),
    /// It is an integer, but beyond 64 bits.
    TooLarge,
}

/// Reads an integer: blanks around it, a sign, decimal digits of any script, single underscores
/// between digits. `None` if `text` is something else.
pub(super) fn integer(text: &str) -> Option<Integer> {
    let text = trim(text);
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut value: Option<i64> = Some(0);
    let mut after_digit = false;
    for c in digits.chars() {
        if c == '_' && after_digit {
            after_digit = false;
            continue;
        }
        let digit = decimal_digit(c)?;
        value = value.and_then(|v| v.checked_mul(10)?.checked_add(i64::from(digit)));
        after_digit = true;
    }
    if !after_digit {
        return None;
    }
    let signed = value.map(|v| if negative { -v } else { v });
    Some(signed.map_or(Integer::TooLarge, Integer::Value))
}

/// Reads a boolean as the format does, in any case.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.to_lowercase().as_str() {
        "y" | "yes" | "t" | "true" | "on" | "1" => Some(true),
        "n" | "no" | "f" | "false" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Cleans a file on its way into a device: a text file loses its UTF-8 byte order mark and has CRLF
/// turned into LF; a binary file, and a text that needs no cleaning, comes back as it is.
///
/// Binary is what holds a NUL, or is not UTF-8 and has nearly a third of bytes that no text uses.
pub fn normalise_text(bytes: &[u8]) -> Cow<'_, [u8]> {
    if is_binary(bytes) {
        return Cow::Borrowed(bytes);
    }
    let body = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    if !body.windows(2).any(|pair| pair == b"\r\n") {
        return Cow::Borrowed(body);
    }
    let mut clean = Vec::with_capacity(body.len());
    let mut rest = body.iter().copied().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\r' || rest.peek() != Some(&b'\n') {
            clean.push(byte);
        }
    }
    Cow::Owned(clean)
}

fn is_binary(bytes: &[u8]) -> bool {
    if bytes.contains(&0) {
        return true;
    }
    let sample = bytes.get(..SAMPLE_BYTES).unwrap_or(bytes);
    let is_utf8 = match std::str::from_utf8(sample) {
        Ok(_) => true,
        // A character cut in two by the end of the sample is not an error of the file.
        Err(error) => error.error_len().is_none() && sample.len() < bytes.len(),
    };
    if is_utf8 {
        return false;
    }
    let odd = sample.iter().filter(|byte| is_odd(**byte)).count();
    odd * 10 > sample.len() * 3
}

/// Bytes that plain text of an 8-bit code has rarely (upper half) or never (control).
fn is_odd(byte: u8) -> bool {
    byte >= 0x80 || byte == 0x7F || (byte < 0x20 && !matches!(byte, 0x07..=0x0D | 0x1B))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_the_format_reads_them() {
        assert_eq!(integer("0"), Some(Integer::Value(0)));
        assert_eq!(integer("1_0"), Some(Integer::Value(10)));
        assert_eq!(integer("007"), Some(Integer::Value(7)));
        assert_eq!(integer("٣"), Some(Integer::Value(3)));
        assert_eq!(integer(" -1 "), Some(Integer::Value(-1)));
        assert_eq!(integer("99999999999999999999"), Some(Integer::TooLarge));
        for text in ["", "_1", "1_", "1__0", "a", "²", "+-1", "0x1"] {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn booleans_are_read_in_any_case() {
        assert_eq!(boolean("Yes"), Some(true));
        assert_eq!(boolean("OFF"), Some(false));
        assert_eq!(boolean("2"), None);
    }

    #[test]
    fn text_loses_mark_and_carriage_returns_and_binary_is_kept() {
        assert_eq!(&*normalise_text(b"\xEF\xBB\xBFa\r\nb\rc\r\n"), b"a\nb\rc\n");
        assert_eq!(&*normalise_text("caf\u{e9}\r\n".as_bytes()), "café\n".as_bytes());
        assert_eq!(&*normalise_text(b"caf\xE9 au lait\r\n"), b"caf\xE9 au lait\n");
        assert_eq!(&*normalise_text(b"\r\n\0"), b"\r\n\0");
        assert_eq!(&*normalise_text(b"\x1F\x8B\xFF\xFE\r\n"), b"\x1F\x8B\xFF\xFE\r\n");
    }
}
