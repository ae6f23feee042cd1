//! `millrace relayer|settler|issuer`: a service in this process. What `millrace dev` spawns.

use std::process::ExitCode;

use service::process::Args;

/// Runs one, by its library's `main`.
pub(super) fn run(main: fn(Args) -> anyhow::Result<()>, args: Args) -> anyhow::Result<ExitCode> {
    main(args).map(|()| ExitCode::SUCCESS)
}
