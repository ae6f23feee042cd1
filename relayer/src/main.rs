//! The `relayer` process; everything is in the library.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

#[derive(Parser)]
#[command(name = "relayer", about = "Checks payments and has Redis record them", version)]
struct Cli {
    #[command(flatten)]
    args: relayer::Args,
}

fn main() -> ExitCode {
    service::process::exit("relayer", relayer::main(Cli::parse().args))
}
