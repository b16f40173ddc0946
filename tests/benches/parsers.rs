//! What it costs to take a client's bytes and a configuration apart:
//! `cargo bench -p tests --bench parsers`.

use std::hint::black_box;
use std::path::Path;

use common::config::Document;
use common::rpc::Connection;
use common::rpc::connection::{Message, READ_BYTES_MAX, Want};
use common::rpc::header::{Header, kind, status};
use common::xdr::{Reader, Writer};
use criterion::{Criterion, Throughput};

/// The log program's number and a call of it (libvirt's values, on the wire).
const OPEN: Header = Header {
    program: 0x8753_9319,
    version: 1,
    procedure: 1,
    kind: kind::CALL,
    serial: 1,
    status: status::OK,
};

const STRING_BYTES_MAX: u32 = 4_194_304;

/// In the manner of the files that distributions install: comments, and a few keys between them.
const SETTINGS: &str = r#"
# How large a guest's log may grow, in bytes, before it goes on in a new file.
#
max_size = 2097152

# How many older files are kept beside it.
max_backups = 3

log_level = 3
log_filters = "1:logging 4:rpc.netserver 3:util"
log_outputs = "3:syslog:virtlogd"
max_clients = 1024
admin_max_clients = 5
a_list = [ "one", 'two', 3, [ "nested", 4 ] ]
"#;

/// As long as the longest of libvirt's configuration files.
const SETTINGS_REPEATED: usize = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    frames(&mut criterion);
    xdr(&mut criterion);
    config(&mut criterion);
    criterion.final_summary();
}

fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("frame");
    for (name, payload) in [("open", open_arguments()), ("64 KiB", vec![7; 65_536])] {
        let bytes = OPEN.message(&payload);
        group.throughput(Throughput::Bytes(bytes.len().try_into().expect("a length fits")));
        group.bench_function(name, |bencher| {
            bencher.iter(|| receive(&mut Connection::new(), black_box(&bytes)));
        });
    }
    group.finish();
}

/// Copies bytes to where the connection wants them, as a socket would.
fn receive(connection: &mut Connection, mut bytes: &[u8]) -> Message {
    while !bytes.is_empty() {
        let body = connection.space().len().min(bytes.len());
        let len = if connection.wants() == Want::Body { body } else { READ_BYTES_MAX };
        let (now, later) = bytes.split_at(len.min(bytes.len()));
        bytes = later;
        let message = if connection.wants() == Want::Body {
            connection.space()[..now.len()].copy_from_slice(now);
            connection.filled(now.len())
        } else {
            connection.received(now, Vec::new())
        };
        if let Some(message) = message.expect("a sound frame") {
            return message;
        }
    }
    panic!("the connection has no message of a whole frame");
}

fn xdr(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("xdr");
    let bytes = open_arguments();
    group.bench_function("read OPEN's arguments", |bencher| {
        bencher.iter(|| read_open(black_box(&bytes)).expect("sound arguments"));
    });
    group.bench_function("write OPEN's arguments", |bencher| bencher.iter(open_arguments));
    group.finish();
}

type Open<'a> = (&'a [u8], [u8; 16], &'a [u8], &'a [u8], u32);

fn read_open(bytes: &[u8]) -> Result<Open<'_>, common::xdr::Error> {
    let mut reader = Reader::new(bytes);
    let driver = reader.string(STRING_BYTES_MAX)?;
    let uuid = reader.fixed()?;
    let name = reader.string(STRING_BYTES_MAX)?;
    let path = reader.string(STRING_BYTES_MAX)?;
    Ok((driver, uuid, name, path, reader.u32()?))
}

fn open_arguments() -> Vec<u8> {
    let mut writer = Writer::new();
    writer.opaque(b"QEMU").raw(&[0xab; 16]).opaque(b"guest-0001");
    writer.opaque(b"/var/log/libvirt/qemu/guest-0001.log").u32(0);
    writer.into_bytes()
}

fn config(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("config");
    let text = SETTINGS.repeat(SETTINGS_REPEATED);
    group.throughput(Throughput::Bytes(text.len().try_into().expect("a length fits")));
    group.bench_function("parse", |bencher| {
        bencher.iter(|| {
            let bytes = black_box(text.as_bytes());
            Document::parse(Path::new("virtlogd.conf"), bytes).expect("sound settings")
        });
    });
    group.finish();
}
