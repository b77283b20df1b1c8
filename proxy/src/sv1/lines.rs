//! Bytes from a socket → whole lines, each at most [`MAX_LINE`] bytes.

use bytes::BytesMut;

/// Longest line a miner may send, in bytes, without its end. Real ones stay below 500.
pub const MAX_LINE: usize = 16 * 1024;

/// Room that a read is offered, in bytes; two submits fit many times.
const READ: usize = 2048;

/// A line went past [`MAX_LINE`]; nothing behind it can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line longer than {MAX_LINE} bytes")]
pub struct LineTooLong;

/// The bytes that came and are not handed out yet.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: BytesMut,
    /// How much of `buffer` has been searched for a line's end, so that no byte is looked at twice.
    searched: usize,
}

impl Lines {
    /// Where the socket's next bytes go (append only), with room for some.
    pub fn buffer(&mut self) -> &mut BytesMut {
        self.buffer.reserve(READ);
        &mut self.buffer
    }

    /// The next whole line without its end (`\n` or `\r\n`); `None` until more bytes come.
    pub fn next_line(&mut self) -> Result<Option<BytesMut>, LineTooLong> {
        let Some(end) = self.buffer[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.buffer.len();
            return if self.searched > MAX_LINE { Err(LineTooLong) } else { Ok(None) };
        };
        let end = self.searched + end;
        self.searched = 0;
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        if line.len() > MAX_LINE { Err(LineTooLong) } else { Ok(Some(line)) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn feed(lines: &mut Lines, bytes: &[u8]) {
        lines.buffer().extend_from_slice(bytes);
    }

    #[test]
    fn lines_come_out_whole_however_the_bytes_arrive() {
        let mut lines = Lines::default();
        let mut out = Vec::new();
        for byte in b"one\ntwo\r\n\nthree" {
            feed(&mut lines, &[*byte]);
            while let Some(line) = lines.next_line().unwrap() {
                out.push(line);
            }
        }
        assert_eq!(out, [&b"one"[..], b"two", b""]);
        feed(&mut lines, b"!\nx\n");
        assert_eq!(lines.next_line().unwrap().unwrap(), &b"three!"[..]);
        assert_eq!(lines.next_line().unwrap().unwrap(), &b"x"[..]);
        assert_eq!(lines.next_line(), Ok(None));
    }

    #[test]
    fn a_line_at_the_bound_passes_and_one_byte_more_does_not() {
        let mut lines = Lines::default();
        feed(&mut lines, &vec![b'a'; MAX_LINE]);
        feed(&mut lines, b"\n");
        assert_eq!(lines.next_line().unwrap().unwrap().len(), MAX_LINE);
        feed(&mut lines, &vec![b'a'; MAX_LINE + 1]);
        assert_eq!(lines.next_line(), Err(LineTooLong));
        let mut lines = Lines::default();
        feed(&mut lines, &vec![b'a'; MAX_LINE + 1]);
        feed(&mut lines, b"\n");
        assert_eq!(lines.next_line(), Err(LineTooLong));
    }
}
