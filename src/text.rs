//! Text from outside, on its way to somebody's terminal.
//!
//! Entries, agents, addresses and error texts come from anybody, and a terminal obeys what stands in them: escape sequences
//! move the cursor, rename the window and answer in the user's place, and signs for the direction of writing show one text
//! as another. Everything that is printed goes through here: sentences and log lines by [`plain`], JSON by [`JsonOut`],
//! which stays the same JSON. Nothing is changed in what is stored, hashed or answered over HTTP.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Whether a terminal does something with this character other than showing it: C0, DEL and C1 controls, marks and
/// overrides of direction, separators of lines and paragraphs, and what joins or parts characters unseen.
#[must_use]
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The text with everything that [`is_unsafe`] written as `\u{1b}`.
#[must_use]
pub fn plain(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_unsafe(c) {
            // Writing into a string cannot fail.
            let _ = write!(plain, "\\u{{{:x}}}", u32::from(c));
        } else {
            plain.push(c);
        }
    }
    Cow::Owned(plain)
}

/// Passes JSON on with what [`is_unsafe`] written as `\u009b`, which means the same in JSON: it can only stand in strings,
/// where C0 controls are escaped already. White space between values stays as it is.
#[derive(Debug)]
pub struct JsonOut<W> {
    out: W,
    /// The beginning of a character that is not complete.
    held: Vec<u8>,
}

impl<W: Write> JsonOut<W> {
    /// Writes to `out`.
    pub fn new(out: W) -> Self {
        Self { out, held: Vec::new() }
    }

    fn put(&mut self, text: &str) -> io::Result<()> {
        let mut rest = text;
        let escaped = |c: char| is_unsafe(c) && !matches!(c, '\n' | '\r' | '\t');
        while let Some(at) = rest.find(escaped) {
            let (before, after) = rest.split_at(at);
            self.out.write_all(before.as_bytes())?;
            let mut chars = after.chars();
            if let Some(c) = chars.next() {
                // All of them are below U+10000: one unit of four digits.
                write!(self.out, "\\u{:04x}", u32::from(c))?;
            }
            rest = chars.as_str();
        }
        self.out.write_all(rest.as_bytes())
    }
}

impl<W: Write> Write for JsonOut<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let mut rest = all.as_slice();
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(text) => {
                    self.put(text)?;
                    return Ok(bytes.len());
                }
                Err(error) => error,
            };
            let (good, bad) = rest.split_at(error.valid_up_to());
            self.put(std::str::from_utf8(good).unwrap_or_default())?;
            let Some(wrong) = error.error_len() else {
                self.held = bad.to_vec();
                return Ok(bytes.len());
            };
            self.out.write_all("\u{fffd}".as_bytes())?;
            rest = &bad[wrong..];
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        for (text, shown) in [
            ("Grüße, 世界 🙂", "Grüße, 世界 🙂"),
            ("\u{1b}]0;owned\u{7}\u{1b}[2J", "\\u{1b}]0;owned\\u{7}\\u{1b}[2J"),
            ("a\nb\rc\td", "a\\u{a}b\\u{d}c\\u{9}d"),
            ("\u{7f}\u{9b}31m\u{85}", "\\u{7f}\\u{9b}31m\\u{85}"),
            ("pay\u{202e}001\u{202c}\u{2066}\u{2069}", "pay\\u{202e}001\\u{202c}\\u{2066}\\u{2069}"),
            (
                "\u{200e}\u{200f}\u{61c}\u{2028}\u{2029}\u{feff}",
                "\\u{200e}\\u{200f}\\u{61c}\\u{2028}\\u{2029}\\u{feff}",
            ),
            ("o\u{200b}n\u{200d}e\u{2060}\u{206f}", "o\\u{200b}n\\u{200d}e\\u{2060}\\u{206f}"),
        ] {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn json_means_the_same_and_shows_nothing_unsafe_however_it_is_cut() {
        let value =
            serde_json::json!({ "data": ["\u{1b}[31m", "\u{7f}\u{9b}2J\u{202e}x\u{2069}", "Grüße, 世界 🙂\n"] });
        let text = format!("{value:#}\n");
        for size in 1..=text.len() {
            let mut out = JsonOut::new(Vec::new());
            text.as_bytes().chunks(size).for_each(|chunk| out.write_all(chunk).expect("memory"));
            let shown = String::from_utf8(out.out).expect("UTF-8");
            assert!(!shown.chars().any(|c| is_unsafe(c) && c != '\n'), "{shown:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
            assert!(shown.contains("Grüße, 世界 🙂"), "what can be shown is: {shown}");
        }
        let mut out = JsonOut::new(Vec::new());
        out.write_all(b"a\x9b\xffb").expect("memory");
        assert_eq!(out.out, "a\u{fffd}\u{fffd}b".as_bytes());
    }
}
