//! Texts of errors, as the C library has them.

use std::io;

/// Returns the C library's text for an error number.
#[must_use]
pub fn errno_text(errno: i32) -> String {
    io_text(&io::Error::from_raw_os_error(errno))
}

/// Returns the C library's text for an error of the system, without Rust's addition; any other
/// error's own text.
#[must_use]
pub fn io_text(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(end) => text.get(..end).unwrap_or(&text).to_owned(),
        None => text,
    }
}
