use super::*;

#[test]
fn a_system_error_carries_the_number_and_the_c_librarys_text() {
    let error = Error::system(Domain::Logging, "Cannot open log file: '/x'", 16);
    assert_eq!(error.message(), "Cannot open log file: '/x': Device or resource busy");
    assert_eq!((error.int1, error.int2), (16, -1));
    assert_eq!(error.str2, error.message);
    assert_eq!(error.str1, b"%s");
}

#[test]
fn an_ordinary_error_has_its_prefix_in_the_template_too() {
    let error = Error::new(Code::NoServer, Domain::Rpc, "No server named 'x'");
    assert_eq!(error.message(), "Server not found: No server named 'x'");
    assert_eq!(error.str1, b"Server not found: %s");
    assert_eq!(error.str2, b"No server named 'x'");
}

#[test]
fn texts_of_any_length_can_be_sent() {
    let error = Error::new(Code::NoServer, Domain::Rpc, vec![b'a'; 5_000_000]);
    assert!(error.encode().len() < 3 * TEXT_BYTES_MAX);
}
