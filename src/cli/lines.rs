//! Lines of the log for programs: each reaches stderr in one write, so that lines of several threads never mix.
//!
//! Where stderr is the journal, each begins with its priority, as the journal wants it: `journalctl --priority warning` then
//! shows what is to be looked at. The journal takes the sign off; what it keeps is the line.

use std::io::{self, Write};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

use super::service;
use crate::text::JsonOut;

/// Makes the writers of lines.
#[derive(Debug)]
pub struct Lines {
    journal: bool,
}

impl Lines {
    /// To stderr, whatever that is.
    #[must_use]
    pub fn new() -> Self {
        Self { journal: service::stderr_is_the_journal() }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = JsonOut<Line>;

    fn make_writer(&'a self) -> Self::Writer {
        JsonOut::new(Line(Vec::new()))
    }

    fn make_writer_for(&'a self, event: &Metadata<'_>) -> Self::Writer {
        let sign = if self.journal { priority(*event.level()) } else { "" };
        JsonOut::new(Line(sign.as_bytes().to_vec()))
    }
}

/// A level as syslog numbers it.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

/// A line that is being written; it goes out when it is dropped.
#[derive(Debug)]
pub struct Line(Vec<u8>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // Nobody can be told that the log is gone.
        let _ = io::stderr().write_all(&self.0);
    }
}
