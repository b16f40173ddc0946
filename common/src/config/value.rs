//! Values as the grammar has them.

/// One value of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Without a minus sign; `None` when it exceeds 64 bits.
    Unsigned(Option<u64>),
    /// With a minus sign. No key of libvirt's takes one.
    Negative,
    /// The bytes between the quotes, up to the first NUL as in C.
    String(Vec<u8>),
    /// Values of any types.
    List(Vec<Self>),
}

/// One `key = value` of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Letters, digits and underscores.
    pub key: String,
    /// Where the key stands, from 1.
    pub line: usize,
    /// What it is set to.
    pub value: Value,
}
