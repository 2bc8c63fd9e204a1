//! Nothing to do yet; the protobuf definitions are compiled here once they land.

fn main() {}
