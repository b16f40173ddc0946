use super::*;

const PROGRAM: Program = Program { number: 0x8753_9319, version: 1, last_procedure: 4 };
/// Another program of the same socket, with fewer procedures and a higher version.
const OTHER: Program = Program { number: 0x7175_6572, version: 2, last_procedure: 2 };
const CALL: Header = Header {
    program: PROGRAM.number,
    version: 1,
    procedure: 2,
    kind: kind::CALL,
    serial: 9,
    status: status::OK,
};

fn accept(header: Header) -> Incoming {
    super::accept(&[OTHER, PROGRAM], Message { header, payload: Vec::new(), fds: Vec::new() })
}

fn refusal(header: Header) -> String {
    match accept(header) {
        Incoming::Answered(out) => {
            String::from_utf8_lossy(&out.unsent_bytes().concat()).into_owned()
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_call_of_the_program_goes_to_its_handler() {
    assert!(matches!(accept(CALL), Incoming::Call(Call { procedure: 2, .. }, _)));
}

#[test]
fn program_then_status_then_procedure_are_checked() {
    let bad = Header { program: 1, status: 1, procedure: 9, ..CALL };
    assert!(refusal(bad).contains("Cannot find program 1 version 1"));
    let bad = Header { program: PROGRAM.number, ..bad };
    assert!(refusal(bad).contains("Unexpected message status 1"));
    let bad = Header { status: 0, ..bad };
    assert!(refusal(bad).contains("unknown procedure: 9"));
}

#[test]
fn each_program_has_its_own_version_and_procedures() {
    let call = Header { program: OTHER.number, version: 2, ..CALL };
    let Incoming::Call(Call { procedure: 2, .. }, reply_to) = accept(call) else {
        panic!("refused")
    };
    assert_eq!(reply_to.program(), OTHER.number);
    assert!(refusal(Header { procedure: 3, ..call }).contains("unknown procedure: 3"));
    let bad = Header { version: 1, ..call };
    assert!(refusal(bad).contains("Cannot find program 1903519090 version 1"));
    let bad = Header { version: 2, ..CALL };
    assert!(refusal(bad).contains("Cannot find program -2024565991 version 2"));
}

#[test]
fn program_numbers_are_printed_as_signed() {
    let bad = Header { version: 2, ..CALL };
    assert!(refusal(bad).contains("Cannot find program -2024565991 version 2"));
}

#[test]
fn what_is_no_call_is_dropped() {
    for kind in [-1, 1, 2, 3, 5, 6, 9] {
        assert!(matches!(accept(Header { kind, ..CALL }), Incoming::Dropped));
        assert!(matches!(accept(Header { kind, program: 7, ..CALL }), Incoming::Dropped));
    }
}

#[test]
fn a_ping_is_answered_with_serial_0_and_nothing_else_of_keepalive_is() {
    let ping = Header {
        program: keepalive::PROGRAM,
        kind: kind::MESSAGE,
        procedure: keepalive::PING,
        ..CALL
    };
    let Incoming::Answered(pong) = accept(ping) else { panic!("no pong") };
    let expected = Header { procedure: keepalive::PONG, serial: 0, ..ping };
    assert_eq!(pong.unsent_bytes().concat(), expected.message(&[]));
    assert!(matches!(accept(Header { procedure: 2, ..ping }), Incoming::Dropped));
    assert!(matches!(accept(Header { version: 2, ..ping }), Incoming::Dropped));
    assert!(refusal(Header { kind: kind::CALL, ..ping }).contains("Cannot find program"));
}
