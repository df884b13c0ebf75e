//! What commands print: tables for people, JSON for programs, colour only where it is seen, and nothing after the reader of
//! a pipe has gone.

use std::io::{self, BufWriter, IsTerminal, Write};

use clap::{Args, ValueEnum};
use console::measure_text_width;

use crate::exit::Failure;
use crate::text::{JsonOut, is_unsafe};

/// Columns of a terminal that does not say how wide it is, and of everything that is no terminal.
const DEFAULT_WIDTH: usize = 100;

/// How an answer looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// For programs: what the node answered, or one JSON object a line
    Json,
}

#[derive(Clone, Debug, Args)]
pub struct OutputArgs {
    /// How the answer looks; on a terminal a table, otherwise JSON
    #[arg(short, long, value_name = "FORMAT", global = false)]
    output: Option<Format>,
}

impl OutputArgs {
    /// The way in which a command prints.
    pub fn open(&self) -> Out {
        Out::new(self.output)
    }
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    colour: bool,
}

impl Style {
    /// No colours.
    #[cfg(test)]
    pub const PLAIN: Self = Self { colour: false };

    /// With colours.
    #[cfg(test)]
    pub const COLOURED: Self = Self { colour: true };

    fn paint(self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// What counts.
    pub fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    /// What stands beside it.
    pub fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What is well.
    pub fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What somebody should look at.
    pub fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// What is wrong.
    pub fn bad(self, text: &str) -> String {
        self.paint("31", text)
    }
}

/// Whether colour may go to a stream: it is a terminal that knows colours, and nobody has asked for none.
pub fn colour_on(terminal: bool) -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// stdout. Ends the command quietly when its reader has gone.
pub struct Out {
    to: Box<dyn Write>,
    /// Whether people read it.
    pub terminal: bool,
    /// How answers look.
    pub format: Format,
    /// Colours, if they are seen.
    pub style: Style,
    /// Columns that a line may have.
    pub width: usize,
}

impl Out {
    fn new(format: Option<Format>) -> Self {
        let terminal = io::stdout().is_terminal();
        let usual = if terminal { Format::Table } else { Format::Json };
        let size = if terminal { console::Term::stdout().size_checked() } else { None };
        let format = format.unwrap_or(usual);
        // Files and programs get every byte as it is; tables escape what they show.
        let escaped = terminal && format == Format::Json;
        let stdout = BufWriter::new(io::stdout());
        Self {
            to: if escaped { Box::new(JsonOut::new(stdout)) } else { Box::new(stdout) },
            terminal,
            format,
            style: Style { colour: colour_on(terminal) },
            width: size.map_or(DEFAULT_WIDTH, |(_, columns)| usize::from(columns)).max(40),
        }
    }

    /// Whether the answer is for people.
    pub fn is_table(&self) -> bool {
        self.format == Format::Table
    }

    /// Writes bytes; they may wait until [`Out::flush`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.to.write_all(bytes).map_err(|error| Failure::of_stdout(&error))
    }

    /// Writes a line.
    pub fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.bytes(text.as_bytes())?;
        self.bytes(b"\n")
    }

    /// Writes a table.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let text = table(head, rows, self.style);
        self.bytes(text.as_bytes())
    }

    /// Sends everything on its way.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.to.flush().map_err(|error| Failure::of_stdout(&error))
    }
}

/// Rows under a head, each column as wide as its widest cell; the last column is not filled up.
pub fn table(head: &[&str], rows: &[Vec<String>], style: Style) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| measure_text_width(cell));
        cells.chain([head[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', (width + 2).saturating_sub(measure_text_width(cell))));
        }
        format!("{}\n", line.trim_end())
    };
    let head: Vec<String> = head.iter().map(|name| style.dim(name)).collect();
    std::iter::once(line(&head)).chain(rows.iter().map(|row| line(row))).collect()
}

/// A stranger's text on one line, safe for a terminal: what [`is_unsafe`] is shown as escapes, and what is longer than
/// `columns` is cut.
pub fn visible(text: &str, columns: usize) -> String {
    let mut shown = String::new();
    let mut used = 0;
    for character in text.chars() {
        let piece = match character {
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            '\r' => "\\r".to_owned(),
            character if is_unsafe(character) => character.escape_unicode().to_string(),
            character => character.to_string(),
        };
        let wide = measure_text_width(&piece);
        if used + wide > columns.saturating_sub(1) {
            shown.push('…');
            return shown;
        }
        used += wide;
        shown.push_str(&piece);
    }
    shown
}

/// A number with commas between thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count and what is counted.
pub fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", thousands(number), if number == 1 { one } else { many })
}

/// Seconds as the two largest units.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// Unix seconds as a date and a time of day, UTC.
pub fn utc(seconds: u64) -> String {
    // The civil calendar from a count of days, as Howard Hinnant describes it: years begin in March.
    let (days, second) = (seconds / 86400 + 719_468, seconds % 86400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_cannot_drive_the_terminal() {
        assert_eq!(visible("a\x1b[31mb\nc\u{202e}d", 80), "a\\u{1b}[31mb\\nc\\u{202e}d");
        assert_eq!(visible("\u{9b}2J\u{7}\u{61c}\u{200b}", 80), "\\u{9b}2J\\u{7}\\u{61c}\\u{200b}");
        assert_eq!(visible("돌담", 80), "돌담");
        assert_eq!(visible("돌담돌담", 6), "돌담…", "a wide character takes two columns");
        assert_eq!(visible("abcdef", 6), "abcde…");
    }

    #[test]
    fn columns_are_as_wide_as_what_is_seen() {
        let rows = vec![vec!["돌".to_owned(), "1".to_owned()], vec!["a".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["X", "NUMBER"], &rows, Style::PLAIN), "X   NUMBER\n돌  1\na   22\n");
        let painted = table(&["X"], &[vec![Style::COLOURED.bad("no")]], Style::COLOURED);
        assert_eq!(painted, "\x1b[2mX\x1b[0m\n\x1b[31mno\x1b[0m\n");
    }

    #[test]
    fn numbers_and_times_are_written_for_people() {
        assert_eq!([0, 999, 1000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [0, 59, 60, 3599, 3600, 90_000].map(span),
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "1 h 0 min", "1 d 1 h"]
        );
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_782_400, "2000-02-29 00:00:00"),
            (1_630_907_567, "2021-09-06 05:52:47"),
            (4_107_542_399, "2100-02-28 23:59:59"),
            (4_107_542_400, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
