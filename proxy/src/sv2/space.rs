//! Which part of the extranonce an SV2 miner's channels get.
//!
//! Behind the upstream's prefix stand the miners' bytes. An SV1 miner's are zeros, then its slice, then what it rolls
//! ([`Layout`]). An SV2 channel's end at the same place; there are two shapes:
//! - *wide*, where the upstream leaves 16 bytes or more: a 1, a slice of three bytes, 12 bytes to roll. Where the 1 is an SV1
//!   miner has one of its zeros, so the two never meet;
//! - *like SV1's* where it leaves less: the slice, and what an SV1 miner would roll.
//!
//! Slices come from one pool, so no two channels have the same. Zeros before a channel's part and the upstream's prefix
//! stand at the end of the coinbase's first part: an upstream with another prefix changes nothing for the miner.

use crate::slices::{Claim, MOST, Slices};
use crate::work::Layout;
use mining::room::OwnRoom;
use mining::{Extranonces, Lease, Space};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a wide channel, its slice included.
const WIDE: usize = 16;
/// First byte of a wide channel.
const WIDE_MARK: u8 = 1;
/// Bytes of slice in a wide channel, the mark included.
const WIDE_SLICE: usize = 4;

/// How a connection's channels share out their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// See the module.
    Wide,
    /// See the module: bytes of slice, bytes to roll.
    LikeSv1(usize, usize),
}

impl Shape {
    /// The better one on an upstream that leaves this.
    pub fn of(layout: Layout) -> Self {
        if layout.rollable() >= WIDE { Self::Wide } else { Self::LikeSv1(layout.slice, layout.extranonce2) }
    }

    /// Whether channels of this shape can work for an upstream that leaves this.
    pub fn fits(self, layout: Layout) -> bool {
        match self {
            Self::Wide => layout.rollable() >= WIDE,
            Self::LikeSv1(slice, rolled) => (slice, rolled) == (layout.slice, layout.extranonce2),
        }
    }

    /// All bytes of a channel.
    pub fn size(self) -> usize {
        match self {
            Self::Wide => WIDE,
            Self::LikeSv1(slice, rolled) => slice + rolled,
        }
    }

    /// Bytes that an extended channel rolls.
    pub fn rolled(self) -> usize {
        match self {
            Self::Wide => WIDE - WIDE_SLICE,
            Self::LikeSv1(_, rolled) => rolled,
        }
    }

    /// Slices that it has room for.
    fn slices(self) -> u32 {
        match self {
            Self::Wide => MOST,
            Self::LikeSv1(slice, _) => {
                256_u32.checked_pow(u32::try_from(slice).unwrap_or(u32::MAX)).unwrap_or(MOST)
            }
        }
    }

    /// The channel that has this slice; `None` if the slice is too long for the shape.
    pub fn space(self, slice: u32) -> Option<Space> {
        let mut bytes = slice.to_be_bytes();
        let prefix = match self {
            Self::Wide if bytes[0] == 0 => {
                bytes[0] = WIDE_MARK;
                &bytes[..]
            }
            Self::Wide => return None,
            Self::LikeSv1(kept, _) => {
                let (rest, kept) = bytes.split_at(bytes.len().checked_sub(kept)?);
                if rest.iter().any(|&byte| byte != 0) {
                    return None;
                }
                kept
            }
        };
        Space::new(prefix, self.rolled())
    }
}

/// The parts for one connection's channels.
#[derive(Debug)]
pub struct Spaces {
    slices: Arc<Mutex<Slices>>,
    room: OwnRoom,
    shape: Mutex<Shape>,
}

impl Spaces {
    /// With slices from this pool, for as many channels as there is room for. Until an upstream is known, channels are wide, as
    /// nearly every upstream lets them be.
    pub fn new(slices: Arc<Mutex<Slices>>, room: OwnRoom) -> Self {
        Self { slices, room, shape: Mutex::new(Shape::Wide) }
    }

    /// What channels that are opened now have, and those that are open.
    pub fn shape(&self) -> Shape {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For channels that are opened from now on; none may be open.
    pub fn reshape(&self, shape: Shape) {
        *self.shape.lock().unwrap_or_else(PoisonError::into_inner) = shape;
    }

    /// With one of the first so many slices.
    fn part(&self, shape: Shape, slices: u32) -> Option<Lease> {
        let mut claim = Claim::new(&self.slices)?;
        let space = shape.space(claim.slice()).filter(|_| claim.slice() < slices)?;
        claim.used();
        Some(Lease::until_dropped(space, claim))
    }
}

impl Extranonces for Spaces {
    fn rollable(&self) -> usize {
        self.shape().rolled()
    }

    fn lease(&self) -> Option<Lease> {
        let (place, shape) = (self.room.take()?, self.shape());
        // Where an upstream leaves few bytes, half of the slices are for connections that have none.
        let slices = if place.is_own() { shape.slices() } else { shape.slices() / 2 };
        Some(self.part(shape, slices)?.in_place(place))
    }

    fn renew(&self, lease: &mut Lease) -> bool {
        let shape = self.shape();
        lease.move_to(self.part(shape, shape.slices()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use mining::room::Room;
    use std::collections::HashSet;

    /// Behind the upstream's prefix, with zeros for what is rolled.
    fn whole(layout: Layout, own: &[u8], rolled: usize) -> Vec<u8> {
        let padding = layout.rollable() - own.len() - rolled;
        [&vec![0; padding][..], own, &vec![0; rolled]].concat()
    }

    /// Bytes that nobody may share: those that `own` and the zeros before it fix.
    fn fixed(layout: Layout, own: &[u8], rolled: usize) -> Vec<u8> {
        let mut whole = whole(layout, own, rolled);
        whole.truncate(layout.rollable() - rolled);
        whole
    }

    #[test]
    fn no_two_miners_of_an_upstream_can_make_the_same_extranonce_whatever_their_protocol() {
        let slices = [0, 1, 2, 0x100, 0x0102, 0xffff, 0x0100_0000, 0x00ff_ffff, 0x0101_0101];
        for rollable in 4..=32 {
            for wanted in [4, 8] {
                let layout = Layout::fit(rollable, wanted).unwrap();
                let shapes = [Shape::of(layout), Shape::LikeSv1(layout.slice, layout.extranonce2)];
                let mut all = Vec::new();
                for slice in slices {
                    // A slice belongs to one miner, whatever it makes of it.
                    let mut forms = Vec::new();
                    forms
                        .extend(layout.extranonce1(slice).map(|own| fixed(layout, &own, layout.extranonce2)));
                    for shape in shapes.iter().filter(|shape| shape.fits(layout)) {
                        let space = shape.space(slice);
                        forms.extend(space.map(|space| fixed(layout, space.prefix(), space.rollable())));
                    }
                    all.push(forms);
                }
                for (index, forms) in all.iter().enumerate() {
                    for (a, b) in
                        forms.iter().flat_map(|a| all[..index].iter().flatten().map(move |b| (a, b)))
                    {
                        let meet = a.len().min(b.len());
                        assert_ne!(a[..meet], b[..meet], "{rollable} bytes, {wanted} wanted");
                    }
                }
            }
        }
    }

    #[test]
    fn an_upstream_with_sixteen_bytes_leaves_twelve_to_roll_and_a_smaller_one_what_sv1_miners_have() {
        let shape = |rollable| Shape::of(Layout::fit(rollable, 8).unwrap());
        assert_eq!((shape(16), shape(32)), (Shape::Wide, Shape::Wide));
        assert_eq!((shape(16).size(), shape(16).rolled()), (16, 12));
        assert_eq!((shape(12), shape(15)), (Shape::LikeSv1(4, 8), Shape::LikeSv1(4, 8)));
        assert_eq!((shape(8), shape(6)), (Shape::LikeSv1(4, 4), Shape::LikeSv1(2, 4)));
    }

    #[test]
    fn channels_go_on_where_their_bytes_fit() {
        let layout = |rollable| Layout::fit(rollable, 8).unwrap();
        assert!(Shape::Wide.fits(layout(17)) && !Shape::Wide.fits(layout(15)));
        assert!(Shape::LikeSv1(4, 8).fits(layout(16)) && Shape::LikeSv1(4, 8).fits(layout(12)));
        assert!(!Shape::LikeSv1(4, 8).fits(layout(8)) && !Shape::LikeSv1(4, 4).fits(layout(16)));
    }

    #[test]
    fn where_an_upstream_leaves_few_bytes_half_of_the_slices_are_for_connections_that_have_none() {
        let (slices, room) = (Arc::new(Mutex::new(Slices::default())), Room::new(100_000));
        let spaces = || {
            let spaces = Spaces::new(slices.clone(), room.connection());
            spaces.reshape(Shape::LikeSv1(2, 4));
            spaces
        };
        let (greedy, honest) = (spaces(), spaces());
        let taken: Vec<Lease> = std::iter::from_fn(|| greedy.lease()).collect();
        assert_eq!(taken.len(), 1 << 15);
        let first = honest.lease().unwrap();
        assert!(honest.lease().is_none());
        drop((first, taken));
    }

    #[test]
    fn a_closed_channels_part_rests_before_another_gets_it() {
        let slices = Arc::new(Mutex::new(Slices::default()));
        let spaces = Spaces::new(slices.clone(), Room::new(100).connection());
        let prefixes: HashSet<Vec<u8>> =
            (0..100).map(|_| spaces.lease().unwrap().space().prefix().to_vec()).collect();
        assert_eq!(prefixes.len(), 100, "each was dropped at once, but no job was made");
        slices.lock().unwrap().job_made();
        slices.lock().unwrap().job_made();
        assert!(prefixes.contains(spaces.lease().unwrap().space().prefix()));
    }
}
