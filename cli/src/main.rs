//! `millrace`, the one binary for people. See [`cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
