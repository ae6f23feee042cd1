//! The `relayer` process; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    service::process::exit("relayer", relayer::main(service::process::args(relayer::command())))
}
