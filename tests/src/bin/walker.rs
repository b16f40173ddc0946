//! A process of a walk through faults that come together, see `tests::walks`.

fn main() {
    tests::walks::main();
}
