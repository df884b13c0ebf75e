//! Parse, run one command, exit code.
fn main() {}
