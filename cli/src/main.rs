//! `millrace`, the one binary for people. See [`cli`].

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

fn main() -> ExitCode {
    cli::main()
}
