//! The `issuer` process; everything is in the library.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

#[derive(Parser)]
#[command(name = "issuer", about = "Millrace's reference issuer", version)]
struct Cli {
    #[command(flatten)]
    args: issuer::Args,
}

fn main() -> ExitCode {
    service::process::exit("issuer", issuer::main(Cli::parse().args))
}
