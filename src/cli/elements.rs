//! A stream of JSON values cut into values: the elements of one array, as the tutorial writes a chain, or one value a line.
//!
//! Owns the cutting, byte by byte, whatever the size of the pieces that come in. Judges no value: whoever takes one does.

use thiserror::Error;

/// Bytes of one value: a block of 1 MiB with every byte escaped as six, its header, and room for fields nobody needs.
pub const MAX_ELEMENT: usize = 16 * 1024 * 1024;

/// The text cannot be cut.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ElementsError {
    /// One value is longer than any block.
    #[error("one value is longer than {MAX_ELEMENT} bytes")]
    TooLong,
    /// The array has no end.
    #[error("the text ends in the middle of the array")]
    Truncated,
    /// Something else stands where a value or an end should.
    #[error("{found:?} stands where {wanted} should")]
    Unexpected {
        /// The character.
        found: char,
        /// What should stand there.
        wanted: &'static str,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// Nothing but space so far.
    Begin,
    /// Between lines, or inside one.
    Lines,
    /// Behind `[`: a value or the end.
    First,
    /// Behind a comma: a value.
    Next,
    /// Inside a value of an array.
    Value,
    /// Behind `]`: nothing more.
    End,
}

/// Cuts.
#[derive(Debug)]
pub struct Elements {
    state: State,
    /// What came and was not taken.
    text: Vec<u8>,
    /// Bytes of it that were taken.
    taken: usize,
    /// Bytes of it that were looked at.
    seen: usize,
    depth: u32,
    string: bool,
    escape: bool,
}

impl Default for Elements {
    fn default() -> Self {
        Self { state: State::Begin, text: Vec::new(), taken: 0, seen: 0, depth: 0, string: false, escape: false }
    }
}

impl Elements {
    /// Takes the next piece of the text.
    pub fn push(&mut self, piece: &[u8]) {
        self.text.drain(..self.taken);
        self.seen -= self.taken;
        self.taken = 0;
        self.text.extend_from_slice(piece);
    }

    /// Whether the text is an array; `None` before its first character.
    #[must_use]
    pub fn is_array(&self) -> Option<bool> {
        match self.state {
            State::Begin => None,
            State::Lines => Some(false),
            State::First | State::Next | State::Value | State::End => Some(true),
        }
    }

    /// The next whole value; `None` when more text is needed.
    ///
    /// # Errors
    /// The text is no array of values and no lines of them.
    pub fn next(&mut self) -> Result<Option<&[u8]>, ElementsError> {
        while let Some(&byte) = self.text.get(self.seen) {
            if self.state == State::Lines {
                self.seen += 1;
                if byte == b'\n' {
                    let line = self.taken..self.seen - 1;
                    self.taken = self.seen;
                    if !self.text[line.clone()].trim_ascii().is_empty() {
                        return Ok(Some(self.text[line].trim_ascii()));
                    }
                }
            } else if self.state == State::Value {
                let ends = !self.string && self.depth == 0 && matches!(byte, b',' | b']');
                self.seen += 1;
                if ends {
                    let value = self.taken..self.seen - 1;
                    self.taken = self.seen;
                    self.state = if byte == b',' { State::Next } else { State::End };
                    return Ok(Some(self.text[value].trim_ascii()));
                }
                self.step(byte);
            } else {
                self.between(byte)?;
            }
            if self.seen - self.taken > MAX_ELEMENT {
                return Err(ElementsError::TooLong);
            }
        }
        Ok(None)
    }

    /// A byte outside all values.
    fn between(&mut self, byte: u8) -> Result<(), ElementsError> {
        let unexpected = |wanted| Err(ElementsError::Unexpected { found: char::from(byte), wanted });
        match (self.state, byte) {
            (_, b' ' | b'\t' | b'\r' | b'\n') => {}
            (State::Begin, b'[') => self.state = State::First,
            (State::Begin, _) => {
                self.state = State::Lines;
                self.taken = self.seen;
                return Ok(());
            }
            (State::First, b']') => self.state = State::End,
            (State::First | State::Next, b',' | b']') => return unexpected("a value"),
            (State::First | State::Next, _) => {
                self.state = State::Value;
                self.taken = self.seen;
                return Ok(());
            }
            _ => return unexpected("the end"),
        }
        self.seen += 1;
        self.taken = self.seen;
        Ok(())
    }

    /// A byte inside a value: whether a string and how many brackets are open.
    fn step(&mut self, byte: u8) {
        if self.string {
            match byte {
                _ if self.escape => self.escape = false,
                b'\\' => self.escape = true,
                b'"' => self.string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// The text has ended: the last line, if it has no line end.
    ///
    /// # Errors
    /// The array has no end.
    pub fn finish(&mut self) -> Result<Option<&[u8]>, ElementsError> {
        match self.state {
            State::Begin | State::End => Ok(None),
            State::Lines => {
                let line = self.text[self.taken..].trim_ascii();
                Ok((!line.is_empty()).then_some(line))
            }
            State::First | State::Next | State::Value => Err(ElementsError::Truncated),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values of a text that comes in pieces of a size.
    fn cut(text: &str, size: usize) -> Result<Vec<String>, ElementsError> {
        let (mut elements, mut found) = (Elements::default(), Vec::new());
        let own = |value: &[u8]| String::from_utf8(value.to_vec()).expect("text");
        for piece in text.as_bytes().chunks(size) {
            elements.push(piece);
            while let Some(value) = elements.next()? {
                found.push(own(value));
            }
        }
        found.extend(elements.finish()?.map(own));
        Ok(found)
    }

    #[test]
    fn arrays_and_lines_are_cut_the_same_in_every_size_of_pieces() {
        for (text, wanted) in [
            ("", &[][..]),
            (" \n ", &[]),
            ("[]", &[]),
            (" [ ] \n", &[]),
            (r#"[{"a":"]},\"["},[1,[2]] , "x,]\\" ]"#, &[r#"{"a":"]},\"["}"#, "[1,[2]]", r#""x,]\\""#]),
            ("{\"a\":1}\n\n {\"b\":[2]} \r\n{\"c\":3}", &["{\"a\":1}", "{\"b\":[2]}", "{\"c\":3}"]),
            ("[1]\n", &["1"]),
            ("\n 5\n", &["5"]),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(cut(text, size).expect(text), wanted, "{text:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_cannot_be_cut_is_named() {
        for (text, error) in [
            ("[1,2", ElementsError::Truncated),
            ("[", ElementsError::Truncated),
            ("[1,", ElementsError::Truncated),
            ("[,1]", ElementsError::Unexpected { found: ',', wanted: "a value" }),
            ("[1,]", ElementsError::Unexpected { found: ']', wanted: "a value" }),
            ("[1] 2", ElementsError::Unexpected { found: '2', wanted: "the end" }),
        ] {
            for size in [1, 1000] {
                assert_eq!(cut(text, size), Err(error.clone()), "{text:?}");
            }
        }
        let long = "x".repeat(MAX_ELEMENT + 1);
        assert_eq!(cut(&long, 1 << 20), Err(ElementsError::TooLong));
        assert_eq!(cut(&format!("[{long}"), 1 << 20), Err(ElementsError::TooLong));
    }
}
