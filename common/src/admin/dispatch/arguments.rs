//! Arguments that several procedures have.

use crate::admin::params;
use crate::rpc::error::{Domain, Error};
use crate::xdr::{self, Reader};

pub(super) fn no_flags(flags: u32, function: &str) -> Result<(), Error> {
    match flags {
        0 => Ok(()),
        bits => Err(Error::unsupported_flags(Domain::Admin, bits, function)),
    }
}

pub(super) fn string<'a>(arguments: &mut Reader<'a>) -> Result<&'a [u8], xdr::Error> {
    arguments.string(params::STRING_BYTES_MAX)
}
