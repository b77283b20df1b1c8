//! Bytes from a socket → whole lines, each at most [`MAX_LINE`] bytes.

/// Longest line a miner may send, in bytes, without its end. Real ones stay below 500.
pub const MAX_LINE: usize = 16 * 1024;

/// Room that is kept while nothing is in it, in bytes; a submit.
const KEPT: usize = 256;

/// A line went past [`MAX_LINE`]; nothing behind it can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {MAX_LINE} bytes")]
pub struct LineTooLong;

/// The bytes that came and are not handed out yet.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the first byte is that is not handed out.
    start: usize,
    /// How far `buffer` has been searched for a line's end, so that no byte is looked at twice.
    searched: usize,
}

impl Lines {
    /// Takes bytes in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end (`\n` or `\r\n`); `None` until more bytes come.
    ///
    /// # Errors
    /// A line is longer than [`MAX_LINE`], whole or not; nothing sensible comes after it.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, LineTooLong> {
        let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.tidy();
            self.searched = self.buffer.len();
            return if self.rest().len() > MAX_LINE { Err(LineTooLong) } else { Ok(None) };
        };
        let (start, end) = (self.start, self.searched + end);
        (self.start, self.searched) = (end + 1, end + 1);
        let line = &self.buffer[start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() > MAX_LINE { Err(LineTooLong) } else { Ok(Some(line)) }
    }

    /// What is not handed out: the beginning of a line, and whole lines where [`Self::next_line`] was not asked for all.
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Moves what is left to the front, and gives back memory that a burst has taken.
    fn tidy(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.is_empty() {
            self.buffer.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_out_whole_however_the_bytes_arrive() {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for byte in b"one\ntwo\r\n\nthree" {
            lines.push(&[*byte]);
            while let Some(line) = lines.next_line().unwrap() {
                out.push(line.to_vec());
            }
        }
        assert_eq!(out, [&b"one"[..], b"two", b""]);
        lines.push(b"!\nx\n");
        assert_eq!(lines.next_line().unwrap().unwrap(), &b"three!"[..]);
        assert_eq!(lines.next_line().unwrap().unwrap(), &b"x"[..]);
        assert_eq!(lines.next_line(), Ok(None));
    }

    #[test]
    fn a_line_at_the_bound_passes_and_one_byte_more_does_not() {
        let mut lines = Lines::default();
        lines.push(&vec![b'a'; MAX_LINE]);
        lines.push(b"\n");
        assert_eq!(lines.next_line().unwrap().unwrap().len(), MAX_LINE);
        lines.push(&vec![b'a'; MAX_LINE + 1]);
        assert_eq!(lines.next_line(), Err(LineTooLong));
        let mut lines = Lines::default();
        lines.push(&vec![b'a'; MAX_LINE + 1]);
        lines.push(b"\n");
        assert_eq!(lines.next_line(), Err(LineTooLong));
    }
}
