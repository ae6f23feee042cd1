//! A failure as one line: what is wrong, the service's code for it, and what to do.

use std::io::Write as _;
use std::process::ExitCode;

use common::problem::Code;
use service::issuer_client::IssuerError;

use crate::client::RelayerError;

/// Says on stderr why the command failed.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // A closed stderr changes nothing about the exit code.
    let _ = writeln!(std::io::stderr().lock(), "error: {}", line(error));
    ExitCode::FAILURE
}

fn line(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Many errors repeat their cause in their own words.
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    match remedy(error) {
        Some(remedy) => format!("{text}; {remedy}"),
        None => text,
    }
}

fn remedy(error: &anyhow::Error) -> Option<&'static str> {
    error.chain().find_map(|cause| {
        if let Some(error) = cause.downcast_ref::<RelayerError>() {
            return match error {
                RelayerError::Refused(problem) => of_code(problem.code),
                RelayerError::NoAnswer { .. } => {
                    Some("is a relayer running there? `millrace dev` starts one; else give --relayer-url")
                }
                RelayerError::Unreadable { .. } => Some("give the URL of a relayer with --relayer-url"),
            };
        }
        match cause.downcast_ref::<IssuerError>()? {
            IssuerError::Refused(problem) => of_code(problem.code),
            IssuerError::Unavailable { .. } => {
                Some("is an issuer running there? `millrace dev` starts one; else give --issuer-url")
            }
        }
    })
}

/// What a person at the command line can do about a problem.
fn of_code(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::InsufficientFunds => "ask for a smaller --capacity, or fund the account with the issuer",
        Code::UnknownAccount => "register it first: millrace account register --key FILE",
        Code::UnknownChannel => "check the id; `millrace channel list` shows what the issuer knows",
        Code::InvalidSignature => {
            "use the key that the channel names as its payer authorizer, or the --state that it was opened with"
        }
        Code::CommitmentReused => "open with a new --state: a seed pays from one channel only",
        Code::OverCapacity => "pay less, or close the channel and open another",
        Code::StaleAmount => "ask for more than the latest amount, or pay with --add",
        Code::ChannelClosing | Code::ChannelClosed | Code::ChannelExpired => "open another channel",
        Code::WrongPayee => "pay through a relayer of the payee that the channel names",
        Code::RateLimited | Code::Overloaded => "wait a little and try again",
        Code::NotFound => "another service answers there: check the URL",
        Code::OutcomeUnknown => "pay the same amount again with --amount: it cannot be charged twice",
        Code::StoreUnavailable => "nothing was recorded; see `millrace doctor`",
        Code::IssuerUnavailable => "nothing was recorded; try again when the relayer reaches its issuer",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;
    use common::problem::Problem;

    #[test]
    fn a_failure_names_the_code_and_what_to_do_in_one_line() {
        let problem = Problem::new(Code::InsufficientFunds).detail("available 5");
        let error = Err::<(), _>(IssuerError::Refused(Box::new(problem)))
            .context("cannot open the channel")
            .expect_err("an error");
        let line = line(&error);
        assert!(line.contains("insufficient_funds") && line.contains("--capacity"), "{line}");
        assert!(line.starts_with("cannot open the channel: ") && !line.contains('\n'), "{line}");
    }
}
