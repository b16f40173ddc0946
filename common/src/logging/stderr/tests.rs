use super::*;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

#[test]
fn a_file_is_written_where_its_offset_stands() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"before\n").unwrap();
    write(file.as_fd(), b"one\n").unwrap();
    write(file.as_fd(), b"two\n").unwrap();
    assert_eq!(std::fs::read_to_string(path).unwrap(), "before\none\ntwo\n");
}

#[test]
fn a_full_pipe_is_not_waited_for_and_not_made_nonblocking() {
    let (mut reader, writer) = io::pipe().unwrap();
    let line = [b'x'; 1000];
    let mut written = 0;
    let error = loop {
        match write(writer.as_fd(), &line) {
            Ok(bytes) => written += bytes,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let flags = nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_eq!(flags & libc::O_NONBLOCK, 0);
    drop(writer);
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len(), written);
}

#[test]
fn a_pipe_without_reader_is_an_error_and_no_signal() {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    assert!(write(writer.as_fd(), b"lost\n").is_err());
}

#[test]
fn a_full_socket_is_not_waited_for() {
    let (mut reader, writer) = UnixStream::pair().unwrap();
    write(writer.as_fd(), b"line\n").unwrap();
    let mut line = [0; 5];
    reader.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"line\n");
    while write(writer.as_fd(), &[b'x'; 4096]).is_ok() {}
    drop(reader);
    assert!(write(writer.as_fd(), b"lost\n").is_err());
}
