//! The `settler` process; everything is in the library.

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: service::Allocator = service::Allocator;

#[derive(Parser)]
#[command(name = "settler", about = "Millrace's settler: redeems vouchers with the issuer", version)]
struct Cli {
    #[command(flatten)]
    args: settler::Args,
}

fn main() -> ExitCode {
    service::process::exit("settler", settler::main(Cli::parse().args))
}
