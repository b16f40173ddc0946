use super::*;

#[test]
fn numbers_of_items_are_read_as_c_reads_them() {
    for text in ["1", "01", "+1", " 1", "\t+01"] {
        assert_eq!(Level::from_item(text), Some(Level::Debug), "{text:?}");
    }
    assert_eq!(Level::from_item("4"), Some(Level::Error));
    for text in ["", "+", "0", "5", "-1", "++1", "1 ", "1x", "debug", "4294967297", "１"] {
        assert_eq!(Level::from_item(text), None, "{text:?}");
    }
}

#[test]
fn the_variable_takes_names_and_plain_digits() {
    assert_eq!(Level::from_variable("1"), Some(Level::Debug));
    assert_eq!(Level::from_variable("warning"), Some(Level::Warning));
    for text in ["0", "5", "01", "+1", "INFO", "1x", " 1"] {
        assert_eq!(Level::from_variable(text), None, "{text:?}");
    }
}
