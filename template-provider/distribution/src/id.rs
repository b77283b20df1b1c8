//! Template ids that never repeat: not among clients, not after a restart, and only ever growing.

/// Ids below one block template, for what different clients make of it.
pub const VARIANTS: u64 = 1 << 16;

/// Hands out one id for each block template, [`VARIANTS`] apart.
///
/// They begin at the time of the start, so those of a later start are higher, unless 64 templates a millisecond
/// are made or the clock is set back.
#[derive(Debug)]
pub struct TemplateIds {
    next: u64,
}

/// Leaves room for the milliseconds until the year 2109.
const TIME_SHIFT: u32 = 22;

impl TemplateIds {
    /// Begins at the time of the program's start, in milliseconds since 1970.
    pub fn starting(unix_milliseconds: u64) -> Self {
        Self { next: unix_milliseconds << TIME_SHIFT }
    }

    /// The next id.
    pub fn allocate(&mut self) -> u64 {
        let id = self.next;
        self.next += VARIANTS;
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_over_templates_and_restarts() {
        let mut first = TemplateIds::starting(1_700_000_000_000);
        let mut last = first.allocate();
        for _ in 0..10_000 {
            let id = first.allocate();
            assert!(id >= last + VARIANTS);
            last = id;
        }
        assert!(TemplateIds::starting(1_700_000_000_200).allocate() > last + VARIANTS);
    }
}
