//! Bytes read as choices, so that any bytes are a valid run and small changes are small changes.

/// What is left of the bytes; every choice is 0 or empty at their end.
#[derive(Debug)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of them.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all are read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `end`, which is at most 256; 0 if `end` is.
    pub fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end.max(1)
    }

    /// One of these; `None` if there are none.
    pub fn pick<'b, T>(&mut self, from: &'b [T]) -> Option<&'b T> {
        let index = self.below(from.len());
        from.get(index)
    }

    /// True one time in `n`.
    pub fn rarely(&mut self, n: usize) -> bool {
        self.below(n) == 1
    }

    /// A number of 4 bytes.
    pub fn number(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }

    /// As many bytes as the next byte says, or as there are.
    pub fn bytes(&mut self) -> &'a [u8] {
        let wanted = usize::from(self.byte());
        let (taken, rest) = self.0.split_at(wanted.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// The rest.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }
}
