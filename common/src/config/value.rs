//! Values of the grammar.

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Without a minus sign; `None` when it exceeds 64 bits.
    Unsigned(Option<u64>),
    /// With a minus sign. No key of libvirt's takes one.
    Negative,
    /// Bytes between the quotes, up to the first NUL as in C.
    String(Vec<u8>),
    /// Values of any types.
    List(Vec<Self>),
}

/// A `key = value` entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Letters, digits and underscores.
    pub key: String,
    /// Line of the key, from 1.
    pub line: usize,
    /// The value.
    pub value: Value,
}
