//! Tokens, and events that carry them.

/// A value that identifies an event source, convertible to 64 bits and back.
pub trait Token: Copy + std::fmt::Debug {
    /// Returns the number for the kernel.
    fn into_bits(self) -> u64;
    /// Returns the value of that number.
    fn from_bits(bits: u64) -> Self;
}

/// A ready fd or a timer that has fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<T> {
    /// An fd is readable, writable, or at its end.
    Ready(T),
    /// Precedes the fd's [`Event::Ready`]: no input follows what can be read now, so nothing more
    /// will be reported either.
    Ending(T),
    /// A timer has fired.
    Timer(T),
}
