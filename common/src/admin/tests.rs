use super::*;

#[test]
fn the_version_is_the_same_in_both_forms() {
    let number =
        LIBVIRT_VERSION.split('.').fold(0, |sum, part| sum * 1000 + part.parse::<u64>().unwrap());
    assert_eq!(number, LIBVIRT_VERSION_NUMBER);
}
