//! One file a subcommand.

pub(crate) mod account;
pub(crate) mod audit;
pub(crate) mod channel;
pub(crate) mod chaos;
pub(crate) mod config;
pub(crate) mod dead;
pub(crate) mod demo;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod inspect;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod manual;
pub(crate) mod openapi;
pub(crate) mod pay;
pub(crate) mod recover;
mod service;
pub(crate) mod upgrade;
pub(crate) mod verify;

use std::process::ExitCode;

use anyhow::Context as _;
use common::config::{LogConfig, LogFormat};

use crate::args::Command;
use crate::output::Printer;

/// Runs a subcommand.
pub(crate) fn run(command: Command, printer: &Printer) -> anyhow::Result<ExitCode> {
    // Services bring their own runtime and their own logging.
    let command = match command {
        Command::Relayer(args) => return service::run(relayer::main, args),
        Command::Settler(args) => return service::run(settler::main, args),
        Command::Issuer(args) => return service::run(issuer::main, args),
        command => command,
    };
    common::telemetry::init(&LogConfig { format: LogFormat::Text, filter: "error".to_owned() })?;
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    runtime.block_on(async {
        match command {
            Command::Dev(args) => dev::run(args, printer).await,
            Command::Demo(args) => demo::run(args, printer).await,
            Command::Keys(command) => keys::run(command, printer).await,
            Command::Account(command) => account::run(command, printer).await,
            Command::Channel(command) => channel::run(command, printer).await,
            Command::Pay(args) => pay::run(args, printer).await,
            Command::Load(args) => load::run(args, printer).await,
            Command::Chaos(args) => chaos::run(args, printer).await,
            Command::Audit(args) => audit::run(args, printer).await,
            Command::Inspect(args) => inspect::run(args, printer).await,
            Command::Upgrade(args) => upgrade::run(args, printer).await,
            Command::Dead(args) => dead::run(args, printer).await,
            Command::Doctor(args) => doctor::run(args, printer).await,
            Command::Journal(command) => journal::run(command, printer).await,
            Command::Verify(command) => verify::run(command, printer).await,
            Command::Config(command) => config::run(command, printer),
            Command::Openapi(args) => openapi::run(args, printer),
            Command::Completions(args) => manual::completions(args),
            Command::Man(args) => manual::man(args, printer),
            Command::Recover(args) => recover::run(args, printer).await,
            Command::Relayer(_) | Command::Settler(_) | Command::Issuer(_) => Ok(ExitCode::FAILURE),
        }
    })
}
