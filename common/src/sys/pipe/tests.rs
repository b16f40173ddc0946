use super::*;

#[test]
fn a_pipe_without_a_writer_is_at_its_end_once_it_is_empty() {
    let (reader, writer) = pipe().unwrap();
    assert!(!has_no_writer(&reader).unwrap());
    assert_eq!(state(&reader).unwrap(), State::Empty);
    nix::unistd::write(&writer, b"x").unwrap();
    drop(writer);
    assert!(has_no_writer(&reader).unwrap());
    assert_eq!(state(&reader).unwrap(), State::Waiting);
    read(&reader, &mut [0]).unwrap();
    assert_eq!(state(&reader).unwrap(), State::AtEnd);
}

#[test]
fn bytes_can_be_counted_without_a_call_for_it() {
    let (reader, writer) = pipe().unwrap();
    for piece in [&[0; 10][..], &[0; 5000]] {
        nix::unistd::write(&writer, piece).unwrap();
        assert_eq!(count_copies(&reader).unwrap(), readable_bytes(&reader).unwrap());
    }
    assert_eq!(readable_bytes(&reader).unwrap(), 5010);
}

#[test]
fn a_pipe_has_room_for_all_of_a_piece_or_none() {
    let (_reader, writer) = pipe().unwrap();
    let mut written = 0;
    while has_room(&writer).unwrap() {
        write(&writer, &[0; ATOMIC_BYTES]).unwrap();
        written += ATOMIC_BYTES;
    }
    assert_eq!(written, usual_bytes());
    assert_eq!(write(&writer, &[0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn ends_belong_together_if_they_are_of_one_pipe() {
    let ((reader, writer), (other_reader, other_writer)) = (pipe().unwrap(), pipe().unwrap());
    assert!(are_ends(&reader, &writer));
    assert!(!are_ends(&writer, &reader) && !are_ends(&reader, &reader));
    assert!(!are_ends(&reader, &other_writer) && !are_ends(&writer, &other_writer));
    assert!(!are_ends(&reader, &other_reader));
    let file = tempfile::tempfile().unwrap();
    assert!(!are_ends(&file, &file), "no pipe");
}
