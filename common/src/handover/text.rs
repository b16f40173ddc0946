//! Text forms of bytes in the document.

use std::borrow::Cow;

/// Converts bytes that are usually UTF-8.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    // Ten times as fast as a lossy conversion.
    match str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// Bytes of a guest's or driver's name that are handed over; ours. Names of libvirt's guests have
/// 255 at most.
pub const NAME_BYTES_MAX: usize = 4096;

/// Truncates a name to [`NAME_BYTES_MAX`] at a character boundary.
#[must_use]
pub fn name(bytes: &[u8]) -> &[u8] {
    let Some(cut) = bytes.get(..NAME_BYTES_MAX) else { return bytes };
    let is_inside = |byte: &u8| *byte & 0xc0 == 0x80;
    match bytes.get(NAME_BYTES_MAX) {
        Some(next) if is_inside(next) && str::from_utf8(bytes).is_ok() => {
            let start = cut.iter().rposition(|byte| !is_inside(byte));
            start.and_then(|start| cut.get(..start)).unwrap_or(cut)
        }
        _ => cut,
    }
}

/// Formats a uuid as 8-4-4-4-12 hexadecimal digits.
#[must_use]
pub fn uuid(bytes: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (place, byte) in bytes.iter().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        push_hex(&mut text, *byte);
    }
    text
}

/// Parses a uuid, with or without dashes.
#[must_use]
pub fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.chars().filter(|&letter| letter != '-').collect();
    unhex(&digits)?.try_into().ok()
}

/// Formats bytes as two hexadecimal digits each.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    bytes.iter().for_each(|byte| push_hex(&mut text, *byte));
    text
}

/// Returns [`hex`] of bytes that are not UTF-8.
#[must_use]
pub fn hex_unless_text(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes).is_err().then(|| hex(bytes))
}

/// Returns the bytes given in hexadecimal, else those of `text`.
#[must_use]
pub fn bytes_of<'a>(hexadecimal: Option<&str>, text: &'a str) -> Cow<'a, [u8]> {
    match hexadecimal.and_then(unhex) {
        Some(bytes) => bytes.into(),
        None => text.as_bytes().into(),
    }
}

fn push_hex(text: &mut String, byte: u8) {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap_or_default();
    text.push(digit(byte >> 4));
    text.push(digit(byte & 15));
}

/// Parses the output of [`hex`].
#[must_use]
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit =
        |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pairs = text.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            &[high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests;
