//! XDR as far as these programs use it. Reading panics on bad input: that is a failed test.

/// Builds a payload.
#[derive(Debug, Default, Clone)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty payload.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a 32 bit word.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends a 64 bit word.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    /// Appends bytes of a fixed length, a UUID for instance; the length must be a multiple of 4.
    #[must_use]
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        assert_eq!(bytes.len() % 4, 0, "padding of fixed opaque data is not written here");
        self.0.extend(bytes);
        self
    }

    /// Appends a string: its length, its bytes, zero padding to a multiple of 4.
    #[must_use]
    pub fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        let mut next = self.u32(u32::try_from(bytes.len()).expect("a string fits 32 bits"));
        next.0.extend(bytes);
        next.0.resize(next.0.len().next_multiple_of(4), 0);
        next
    }

    /// The payload's bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Takes a payload apart.
#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Reads from the start of `payload`.
    pub fn new(payload: &'a [u8]) -> Self {
        Self(payload)
    }

    /// The next 32 bit word.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// The next 32 bit word, signed.
    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    /// The next 64 bit word.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }

    /// The next string, padding checked to be zero.
    pub fn string(&mut self) -> &'a [u8] {
        let length = usize::try_from(self.u32()).expect("a length fits usize");
        let bytes = self.take(length);
        let padding = self.take(length.next_multiple_of(4) - length);
        assert!(padding.iter().all(|&byte| byte == 0), "padding is not zero");
        bytes
    }

    /// The next string if its presence word is 1.
    pub fn optional_string(&mut self) -> Option<&'a [u8]> {
        match self.u32() {
            0 => None,
            1 => Some(self.string()),
            other => panic!("presence word is {other}"),
        }
    }

    /// Panics unless everything has been read.
    pub fn end(self) {
        assert!(self.0.is_empty(), "{} bytes left in the payload", self.0.len());
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("as many bytes as asked for")
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(length).unwrap_or_else(|| {
            panic!("payload has {} bytes left, {length} needed", self.0.len());
        });
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_padded_to_words() {
        let bytes = Writer::new().string("abcde").u32(7).into_bytes();
        assert_eq!(bytes, b"\0\0\0\x05abcde\0\0\0\0\0\0\x07");
        let mut reader = Reader::new(&bytes);
        assert_eq!((reader.string(), reader.u32()), (&b"abcde"[..], 7));
        reader.end();
    }

    #[test]
    #[should_panic(expected = "4 needed")]
    fn reading_past_the_end_panics() {
        Reader::new(b"abc").u32();
    }
}
