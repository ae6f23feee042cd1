//! The `issuer` process; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::process::exit("issuer", issuer::main(service::process::args(issuer::command())))
}
