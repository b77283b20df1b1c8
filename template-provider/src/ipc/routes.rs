//! Which set of templates serves which clients. Pure.

use distribution::Constraints;

use super::kind::Kind;

/// The sets that have templates.
#[derive(Debug, Default)]
pub(super) struct Routes(Vec<(u64, Kind)>);

impl Routes {
    /// This set has templates now.
    pub(super) fn open(&mut self, set: u64, kind: Kind) {
        self.0.push((set, kind));
    }

    /// This set has no more. Whether that is news.
    pub(super) fn close(&mut self, set: u64) -> bool {
        let before = self.0.len();
        self.0.retain(|(number, _)| *number != set);
        self.0.len() < before
    }

    /// Whether there is a set for this kind.
    pub(super) fn is_open(&self, kind: Kind) -> bool {
        self.0.iter().any(|(_, of)| *of == kind)
    }

    /// The set for these constraints: that of their kind, or the fullest one, which is trimmed for them.
    pub(super) fn of(&self, constraints: Constraints) -> Option<u64> {
        let kind = Kind::from(constraints);
        let own = self.0.iter().find(|(_, of)| *of == kind);
        own.map(|(number, _)| *number).or_else(|| self.fullest())
    }

    /// The set that leaves the least room, and so has the most transactions.
    pub(super) fn fullest(&self) -> Option<u64> {
        let room = |kind: Kind| (kind.room().reserved_weight(), kind.room().reserved_sigops());
        self.0.iter().min_by_key(|(_, of)| room(*of)).map(|(number, _)| *number)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(max_additional_size: u32) -> Constraints {
        Constraints { max_additional_size, max_additional_sigops: 0 }
    }

    #[test]
    fn a_client_without_a_set_of_its_own_gets_the_fullest() {
        let mut routes = Routes::default();
        assert_eq!(routes.of(of(1)), None);
        routes.open(7, of(1000).into());
        routes.open(8, of(300).into());
        routes.open(9, of(5000).into());
        assert_eq!(routes.of(of(1000)), Some(7));
        assert_eq!(routes.of(of(3)), Some(8));
        assert!(routes.close(8) && !routes.close(8));
        assert_eq!(routes.of(of(3)), Some(7));
        routes.open(10, Kind::LEAST);
        assert_eq!((routes.of(of(3)), routes.of(of(43))), (Some(10), Some(10)));
    }
}
