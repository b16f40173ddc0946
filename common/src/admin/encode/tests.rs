use super::*;
use crate::xdr::Reader;

#[test]
fn a_user_without_a_name_is_shown_by_number_and_a_label_comes_last() {
    let identity = Identity {
        uid: 4_294_967_294,
        user_name: None,
        gid: 1000,
        group_name: Some("people".to_owned()),
        pid: 77,
        selinux_label: Some("system_u:system_r:svirt_t:s0".to_owned()),
    };
    let bytes = write_identity(&identity).into_bytes();
    let parameters = params::read(&mut Reader::new(&bytes)).unwrap();
    let expected = [
        Parameter::new("readonly", Value::Boolean(0)),
        Parameter::new("unix_user_id", Value::Int(-2)),
        Parameter::new("unix_user_name", Value::String(b"4294967294")),
        Parameter::new("unix_group_id", Value::Int(1000)),
        Parameter::new("unix_group_name", Value::String(b"people")),
        Parameter::new("unix_process_id", Value::Int(77)),
        Parameter::new("selinux_context", Value::String(b"system_u:system_r:svirt_t:s0")),
    ];
    assert_eq!(parameters, expected);
}
