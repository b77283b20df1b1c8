//! Kinds of clients: those for whom the node is asked to leave the same room. Pure.

use distribution::Constraints;

/// Bytes for which the node leaves room at the least: with them header, number of transactions and coinbase weigh 2,000, and it refuses to keep less
/// free (`MINIMUM_BLOCK_RESERVED_WEIGHT`).
const LEAST_SIZE: u32 = 210;
/// Sigops for which it is to leave room at the least: what `getblocktemplate` keeps free, a cost of 400 of 80,000. For fewer a set of templates more is
/// not worth its cost.
const LEAST_SIGOPS: u16 = 100;

/// Constraints, as far as they make a difference to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind(Constraints);

impl Kind {
    /// The usual one, and that of no client: the least room, so the fullest templates.
    pub(super) const LEAST: Self =
        Self(Constraints { max_additional_size: LEAST_SIZE, max_additional_sigops: LEAST_SIGOPS });

    /// What its templates leave room for.
    pub(super) fn room(self) -> Constraints {
        self.0
    }
}

impl From<Constraints> for Kind {
    fn from(constraints: Constraints) -> Self {
        Self(Constraints {
            max_additional_size: constraints.max_additional_size.max(LEAST_SIZE),
            max_additional_sigops: constraints.max_additional_sigops.max(LEAST_SIGOPS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(max_additional_size: u32, max_additional_sigops: u16) -> Kind {
        Constraints { max_additional_size, max_additional_sigops }.into()
    }

    #[test]
    fn clients_for_whom_the_node_is_asked_for_the_same_are_one_kind() {
        let room = Kind::LEAST.room();
        assert_eq!((room.reserved_weight(), room.reserved_sigops()), (2_000, 400));
        // One output and two: P2WPKH, P2WSH or P2TR, both.
        for size in [0, 31, 43, 74, 210] {
            assert_eq!((of(size, 0), of(size, 100)), (Kind::LEAST, Kind::LEAST));
        }
        assert!(of(211, 0) != Kind::LEAST && of(0, 101) != Kind::LEAST && of(211, 0) != of(211, 101));
    }
}
