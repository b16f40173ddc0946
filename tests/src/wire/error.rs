//! The error object of a reply with status ERROR.

use super::xdr::Reader;

/// Every field of libvirt's error object that these daemons ever fill in.
///
/// The optional domain, network and `str3` are checked to be absent while decoding.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are libvirt's own")]
pub struct RpcError {
    pub code: i32,
    pub domain: i32,
    pub message: Option<String>,
    pub level: i32,
    pub str1: Option<String>,
    pub str2: Option<String>,
    pub int1: i32,
    pub int2: i32,
}

impl RpcError {
    /// Decodes the payload of an error reply; bytes that are not UTF-8 are replaced.
    pub fn decode(payload: &[u8]) -> Self {
        let mut reader = Reader::new(payload);
        let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
        let (code, domain) = (reader.i32(), reader.i32());
        let message = text(reader.optional_string());
        let level = reader.i32();
        assert_eq!(reader.u32(), 0, "the error has a domain object");
        let str1 = text(reader.optional_string());
        let str2 = text(reader.optional_string());
        assert_eq!(reader.optional_string(), None, "the error has a third string");
        let (int1, int2) = (reader.i32(), reader.i32());
        assert_eq!(reader.u32(), 0, "the error has a network object");
        reader.end();
        Self { code, domain, message, level, str1, str2, int1, int2 }
    }

    /// What the RPC layer itself says: code 39, domain 7.
    pub fn rpc(message: &str) -> Self {
        Self::templated(39, 7, "", message)
    }

    /// An operating system error: code 38, the errno in `int1`; `message` is the whole text.
    pub fn system(domain: i32, errno: i32, message: &str) -> Self {
        Self { int1: errno, ..Self::templated(38, domain, "", message) }
    }

    /// An error whose message is the code's `prefix` and a `detail`.
    pub fn templated(code: i32, domain: i32, prefix: &str, detail: &str) -> Self {
        Self {
            code,
            domain,
            message: Some(format!("{prefix}{detail}")),
            level: 2,
            str1: Some(format!("{prefix}%s")),
            str2: Some(detail.to_owned()),
            int1: -1,
            int2: -1,
        }
    }

    /// Flag bits that `function` (a name from libvirt) does not know: code 8.
    pub fn flags(domain: i32, function: &str, bits: u32) -> Self {
        Self {
            code: 8,
            domain,
            message: Some(format!("unsupported flags ({bits:#x}) in function {function}")),
            level: 2,
            str1: Some(function.to_owned()),
            str2: Some("flags".to_owned()),
            int1: 0,
            int2: 0,
        }
    }
}
