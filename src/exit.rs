//! How a command ends: exit codes, and the sentence that goes with a failure.
//!
//! 0 ok, 1 failure, 2 usage, 3 verification failed, 4 not reachable.

use std::io;

use crate::config::ConfigError;

/// Something went wrong.
pub const FAILURE: u8 = 1;
/// The command was typed wrongly, or a setting cannot be used.
pub const USAGE: u8 = 2;
/// What was verified is not what was written.
pub const UNVERIFIED: u8 = 3;
/// No node answers.
pub const UNREACHABLE: u8 = 4;

/// The codes for people, at the end of every help page.
pub const CODES: &str = "Exit codes: 0 ok, 1 failure, 2 usage, 3 verification failed, 4 no node answers.";

/// Why a command ends early.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    /// What to tell the person who typed the command; empty if there is nothing to say.
    pub message: String,
}

impl Failure {
    /// A failure with its exit code and a sentence.
    pub fn new(code: u8, message: impl ToString) -> Self {
        Self { code, message: message.to_string() }
    }

    /// What came of writing to stdout. A reader that has seen enough, as `head` has, is no failure: the command ends
    /// quietly, with success.
    #[must_use]
    pub fn of_stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(0, ""),
            _ => Self::new(FAILURE, format!("cannot write the answer: {error}")),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(USAGE, error)
    }
}

/// Runs a command's asynchronous work in an actix system.
///
/// # Errors
/// Whatever the work ends with.
pub fn in_system<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    actix_web::rt::System::new().block_on(work)
}
