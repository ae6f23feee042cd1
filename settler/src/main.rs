//! The `settler` process; everything is in the library.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

fn main() -> ExitCode {
    service::process::exit("settler", settler::main(service::process::args(settler::command())))
}
