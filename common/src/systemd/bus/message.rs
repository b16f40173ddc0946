//! D-Bus messages without I/O: encoding of calls, decoding of answers.
//!
//! Supports only a few calls: strings and one number as arguments, and answers with one value of a
//! few kinds. Every length from a peer is bounded before it is used.

use thiserror::Error;

/// Bytes of a message that is read. Ours: the properties of one unit, as in signals about it, take
/// some 20 KiB.
pub(super) const MESSAGE_BYTES_MAX: usize = 256 * 1024;

/// Bytes of a text that is accepted; names of units have 255 at most.
const TEXT_BYTES_MAX: usize = 1024;

/// Bytes before the list of header fields, its length included.
pub(super) const START_BYTES: usize = 16;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// A method call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) destination: &'a str,
    pub(super) path: &'a str,
    pub(super) interface: &'a str,
    pub(super) member: &'a str,
    pub(super) arguments: Arguments<'a>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Arguments<'a> {
    None,
    Number(u32),
    Texts(&'a str, &'a str),
}

/// Value in an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Value {
    Text(String),
    Number(u64),
    /// A number and an object path, systemd's description of a job.
    Numbered(u32, String),
}

/// A message that is not a call.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Return(Value),
    /// The error's name.
    Error(String),
    /// A message that answers no call of ours, such as a signal.
    Other,
}

/// Reason why a message is invalid or not supported.
#[derive(Debug, Error, PartialEq, Eq)]
pub(super) enum Malformed {
    #[error("a message that ends too early")]
    Short,
    #[error("a message of over {MESSAGE_BYTES_MAX} bytes")]
    Long,
    #[error("a message of another version, or in no byte order")]
    Start,
    #[error("a text that is not UTF-8, or of over {TEXT_BYTES_MAX} bytes")]
    Text,
    #[error("a value of type '{0}'")]
    Type(String),
}

/// Encodes a call in little endian, which every peer has to understand.
pub(super) fn encode(serial: u32, call: &Call<'_>) -> Vec<u8> {
    let (signature, body) = encode_arguments(call.arguments);
    let mut fields = Vec::new();
    for (code, kind, text) in [
        (PATH, "o", call.path),
        (DESTINATION, "s", call.destination),
        (INTERFACE, "s", call.interface),
        (MEMBER, "s", call.member),
    ] {
        pad(&mut fields, 8);
        fields.push(code);
        put_signature(&mut fields, kind);
        put_text(&mut fields, text);
    }
    if !signature.is_empty() {
        pad(&mut fields, 8);
        fields.push(SIGNATURE);
        put_signature(&mut fields, "g");
        put_signature(&mut fields, signature);
    }
    let mut bytes = vec![b'l', METHOD_CALL, 0, 1];
    put_number(&mut bytes, length(&body));
    put_number(&mut bytes, serial);
    put_number(&mut bytes, length(&fields));
    bytes.extend(fields);
    pad(&mut bytes, 8);
    bytes.extend(body);
    bytes
}

fn encode_arguments(arguments: Arguments<'_>) -> (&'static str, Vec<u8>) {
    let mut body = Vec::new();
    let signature = match arguments {
        Arguments::None => "",
        Arguments::Number(number) => {
            put_number(&mut body, number);
            "u"
        }
        Arguments::Texts(first, second) => {
            put_text(&mut body, first);
            put_text(&mut body, second);
            "ss"
        }
    };
    (signature, body)
}

fn pad(bytes: &mut Vec<u8>, alignment: usize) {
    bytes.resize(bytes.len().next_multiple_of(alignment), 0);
}

fn put_number(bytes: &mut Vec<u8>, number: u32) {
    pad(bytes, 4);
    bytes.extend(number.to_le_bytes());
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, length(text.as_bytes()));
    bytes.extend(text.as_bytes());
    bytes.push(0);
}

/// Writes a signature. Ours have one or two characters.
fn put_signature(bytes: &mut Vec<u8>, signature: &str) {
    bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
    bytes.extend(signature.as_bytes());
    bytes.push(0);
}

/// Converts a length. Sent texts are far shorter than the limit of read ones.
fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// Returns the length of the message that starts with these bytes.
pub(super) fn total_length(start: &[u8; START_BYTES]) -> Result<usize, Malformed> {
    let mut reader = Reader::new(start)?;
    reader.skip(4)?;
    let body = reader.size()?;
    reader.skip(4)?;
    let fields = reader.size()?;
    let total = (START_BYTES + fields).next_multiple_of(8) + body;
    if total > MESSAGE_BYTES_MAX { Err(Malformed::Long) } else { Ok(total) }
}

/// Decodes a whole message as an answer to the call `serial`.
pub(super) fn decode(bytes: &[u8], serial: u32) -> Result<Answer, Malformed> {
    let mut reader = Reader::new(bytes)?;
    let kind = reader.byte_at(1)?;
    reader.skip(4 + 4 + 4)?;
    let fields_end = reader.size()?.checked_add(START_BYTES).ok_or(Malformed::Long)?;
    let (mut answers, mut error, mut signature) = (None, String::new(), "");
    while reader.at < fields_end {
        reader.align(8)?;
        let code = reader.byte()?;
        match (code, reader.signature()?) {
            (REPLY_SERIAL, "u") => answers = Some(reader.number()?),
            (ERROR_NAME, "s") => error = reader.text()?.to_owned(),
            (SIGNATURE, "g") => signature = reader.signature()?,
            (_, "u") => drop(reader.number()?),
            (_, "s" | "o") => drop(reader.bytes_of_text()?),
            (_, "g") => drop(reader.signature()?),
            (_, other) => return Err(Malformed::Type(other.to_owned())),
        }
    }
    if answers != Some(serial) {
        return Ok(Answer::Other);
    }
    reader.align(8)?;
    match kind {
        METHOD_RETURN => reader.value(signature).map(Answer::Return),
        ERROR => Ok(Answer::Error(error)),
        _ => Ok(Answer::Other),
    }
}

/// A cursor over a message.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    is_big_endian: bool,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let is_big_endian = match bytes.first() {
            Some(b'l') => false,
            Some(b'B') => true,
            Some(_) => return Err(Malformed::Start),
            None => return Err(Malformed::Short),
        };
        if bytes.get(3).is_some_and(|&version| version != 1) {
            return Err(Malformed::Start);
        }
        Ok(Self { bytes, at: 0, is_big_endian })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed::Short)?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(drop)
    }

    fn align(&mut self, alignment: usize) -> Result<(), Malformed> {
        self.skip(self.at.next_multiple_of(alignment) - self.at)
    }

    fn byte_at(&self, index: usize) -> Result<u8, Malformed> {
        self.bytes.get(index).copied().ok_or(Malformed::Short)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let taken = self.take(1)?;
        taken.first().copied().ok_or(Malformed::Short)
    }

    fn number(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed::Short)?;
        Ok(if self.is_big_endian { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    fn long_number(&mut self) -> Result<u64, Malformed> {
        self.align(8)?;
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed::Short)?;
        Ok(if self.is_big_endian { u64::from_be_bytes(bytes) } else { u64::from_le_bytes(bytes) })
    }

    /// Reads a length.
    fn size(&mut self) -> Result<usize, Malformed> {
        let size = usize::try_from(self.number()?).map_err(|_| Malformed::Long)?;
        if size > MESSAGE_BYTES_MAX { Err(Malformed::Long) } else { Ok(size) }
    }

    fn bytes_of_text(&mut self) -> Result<&'a [u8], Malformed> {
        let size = self.size()?;
        let bytes = self.take(size)?;
        self.skip(1)?;
        Ok(bytes)
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let bytes = self.bytes_of_text()?;
        let text = str::from_utf8(bytes).ok().filter(|text| text.len() <= TEXT_BYTES_MAX);
        text.ok_or(Malformed::Text)
    }

    /// Reads a signature of at most 255 bytes, the limit of its length's type.
    fn signature(&mut self) -> Result<&'a str, Malformed> {
        let size = self.byte()?;
        let bytes = self.take(size.into())?;
        self.skip(1)?;
        str::from_utf8(bytes).map_err(|_| Malformed::Text)
    }

    fn value(&mut self, signature: &str) -> Result<Value, Malformed> {
        match signature {
            "s" | "o" => self.text().map(|text| Value::Text(text.to_owned())),
            "u" => self.number().map(|number| Value::Number(number.into())),
            "t" => self.long_number().map(Value::Number),
            "(uo)" => {
                self.align(8)?;
                let number = self.number()?;
                self.text().map(|path| Value::Numbered(number, path.to_owned()))
            }
            // Not recursive: nested variants have no bound.
            "v" => match self.signature()? {
                "v" => Err(Malformed::Type("v".to_owned())),
                inner => self.value(inner),
            },
            other => Err(Malformed::Type(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests;
