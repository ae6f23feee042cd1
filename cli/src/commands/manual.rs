//! `millrace completions` and `millrace man`: what a shell and `man` know of the command lines, made from these themselves.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use crate::args::Cli;
use crate::output::Printer;

const COMPLETIONS: &str = "\
Examples:
  millrace completions bash > /etc/bash_completion.d/millrace
  millrace completions zsh > \"${fpath[1]}/_millrace\"
  millrace completions fish --of relayer > ~/.config/fish/completions/relayer.fish";

const MAN: &str = "\
Examples:
  millrace man /usr/local/share/man/man1    a page for each program and each subcommand; then: man millrace-pay
  millrace man | man -l -                   the page of millrace itself";

/// A program that comes with Millrace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Program {
    Millrace,
    Relayer,
    Settler,
    Issuer,
}

impl Program {
    fn command(self) -> Command {
        match self {
            Program::Millrace => Cli::command(),
            Program::Relayer => relayer::command(),
            Program::Settler => settler::command(),
            Program::Issuer => issuer::command(),
        }
    }
}

#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
    /// The program whose command line is completed.
    #[arg(long, value_enum, default_value_t = Program::Millrace)]
    of: Program,
}

#[derive(Debug, Args)]
#[command(after_help = MAN)]
pub(crate) struct ManArgs {
    /// Where to write the pages of all programs and subcommands; the page of millrace goes to stdout where absent.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn completions(args: CompletionsArgs) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(&script(args.of, args.shell)).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

fn script(program: Program, shell: Shell) -> Vec<u8> {
    let mut command = program.command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

pub(crate) fn man(args: ManArgs, printer: &Printer) -> anyhow::Result<ExitCode> {
    match args.dir {
        Some(dir) => {
            let pages = write_pages(&dir)?;
            printer.note(format_args!("{pages} pages in {}", dir.display()));
        }
        None => {
            let page = clap_mangen::Man::new(Cli::command());
            page.render(&mut std::io::stdout()).context("cannot write to stdout")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for each program and each of its subcommands, and says how many there are.
fn write_pages(dir: &Path) -> anyhow::Result<usize> {
    let mut pages = 0;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    for program in Program::value_variants() {
        let command = program.command();
        pages += names(&command).len();
        clap_mangen::generate_to(command, dir)
            .with_context(|| format!("cannot write to {}", dir.display()))?;
    }
    Ok(pages)
}

/// The page of a command and those of its subcommands: `millrace-keys-new`.
fn names(command: &Command) -> Vec<String> {
    let mut names = vec![command.get_name().to_owned()];
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        names.extend(self::names(below).into_iter().map(|name| format!("{}-{name}", command.get_name())));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_every_subcommand_and_option() {
        let names: Vec<String> = Cli::command()
            .get_subcommands()
            .filter(|c| !c.is_hide_set())
            .map(|c| c.get_name().to_owned())
            .collect();
        assert!(names.len() > 15, "{names:?}");
        for shell in Shell::value_variants() {
            for program in Program::value_variants() {
                let text = String::from_utf8(script(*program, *shell)).expect("a script is text");
                assert!(text.contains("config"), "{shell} {program:?}: --config, or the subcommand");
                if *program == Program::Millrace {
                    let missing: Vec<_> = names.iter().filter(|name| !text.contains(name.as_str())).collect();
                    assert!(missing.is_empty(), "{shell}: {missing:?}");
                    assert!(text.contains("redis-url") && text.contains("expires-at"), "{shell}: options");
                }
            }
        }
    }

    #[test]
    fn bash_understands_what_it_is_given() {
        let dir = tempfile::tempdir().expect("a temp dir");
        for program in Program::value_variants() {
            let file = dir.path().join(format!("{program:?}"));
            std::fs::write(&file, script(*program, Shell::Bash)).expect("writable");
            let checked =
                std::process::Command::new("bash").arg("-n").arg(&file).status().expect("bash is there");
            assert!(checked.success(), "{program:?}");
        }
    }

    #[test]
    fn every_program_and_subcommand_has_a_page() {
        let dir = tempfile::tempdir().expect("a temp dir");
        let pages = write_pages(dir.path()).expect("written");
        let mut expected: Vec<String> =
            Program::value_variants().iter().flat_map(|program| names(&program.command())).collect();
        expected.retain(|name| !name.ends_with("-help"));
        assert_eq!(expected.len(), pages);
        for name in
            ["millrace", "millrace-keys-new", "millrace-verify-receipt", "relayer", "settler", "issuer"]
        {
            assert!(expected.iter().any(|page| page == name), "{name}: {expected:?}");
        }
        for name in &expected {
            let page = std::fs::read_to_string(dir.path().join(format!("{name}.1")));
            let page = page.unwrap_or_else(|error| panic!("{name}.1: {error}"));
            assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{name}: {page}");
        }
        let written = std::fs::read_dir(dir.path()).expect("readable").count();
        assert_eq!(written, pages, "and nothing else has one");
    }
}
