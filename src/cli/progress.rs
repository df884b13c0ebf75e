//! Progress on stderr: a bar when the end is known, a count when it is not, and nothing unless somebody watches.

use std::fmt::Write;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub enum Unit {
    /// Blocks of a chain.
    Blocks,
    /// Bytes of a file.
    Bytes,
    /// Lines of an input.
    Lines,
}

/// A bar up to `of`, or a count without an end. Hidden unless stderr is a terminal, and while stdout is one that the
/// command writes much to.
pub fn bar(what: &'static str, unit: Unit, of: Option<u64>, quiet: bool) -> ProgressBar {
    let (done, pace) = match unit {
        Unit::Bytes => ("{bytes} of {total_bytes}", "{bytes_per_sec}"),
        Unit::Blocks => ("{human_pos} of {human_len} blocks", "{pace}"),
        Unit::Lines => ("{human_pos} of {human_len} lines", "{pace}"),
    };
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let template = match of {
        Some(_) => format!("{{msg}} [{{bar:30}}] {{percent}} %  {done}  {pace}, {{eta}} left"),
        None => format!("{{spinner}} {{msg}} {}  {pace}", done.split(" of ").next().unwrap_or_default()),
    };
    // A template that does not parse would be a slip of ours: the usual bar is shown then.
    let style = ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // Whole ones: nobody reads fractions of a block a second.
    let style = style.with_key("pace", |state: &ProgressState, out: &mut dyn Write| {
        let _ = write!(out, "{}/s", HumanCount(state.per_sec().round() as u64));
    });
    ProgressBar::with_draw_target(of, target).with_style(style.progress_chars("=> ")).with_message(what)
}

/// A line that says how things stand, drawn again and again. Hidden as a [`bar`] is.
pub fn line(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    // As above.
    let style =
        ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    ProgressBar::with_draw_target(None, target).with_style(style)
}
