//! What can happen, as bytes: [`Action::of`] gives every three bytes a meaning.

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A hasher hands in work worth so many steps of 100,000 sat, if it may work.
    Share(usize, u32),
    /// Others find blocks.
    Blocks(u32),
    /// The pool finds a block.
    Win,
    /// A block or transaction that looks like a win.
    FakeWin(Fake),
    /// The newest blocks are replaced; the pool finds the one at this place of the new ones, if any.
    Reorganise(usize, Option<usize>),
    /// Milliseconds pass.
    Wait(u64),
    /// What is sent to or from a hasher waits on the way, or does no longer.
    Hold(usize, bool),
    /// Something that waits on the way.
    OnTheWay(usize, Way, u8),
    /// The connection ends and begins again.
    Reconnect(usize),
    /// A program ends at one of its next save points, before or after it is written, with or without its power.
    Crash(Who, u8, bool),
    /// A program ends now.
    PowerCut(Who, bool),
    /// A copy of the disks is made.
    Backup(Who),
    /// The copy is put back; for the hub, with its signer's memory or without, or nothing at all.
    Restore(Who, u8),
    /// A dishonest hasher publishes any state that was signed for it.
    Publish(usize, u8),
    /// A hasher asks for a cooperative close.
    AskClose(usize),
    /// A hasher closes by itself.
    Leave(usize),
    /// The hub opens another payout channel.
    TopUp(usize),
    /// A hasher sees and does nothing, or wakes.
    Sleep(usize),
    /// The mempool and blocks ask for more or less.
    Fees(u64),
    /// The hub is gone for good, with all its programs.
    HubGone,
    /// The ledger of the hub asks for what no rule allows.
    Wish(Wish, u8),
    /// A dishonest hub lies.
    Lie(Lie, usize, u8),
    /// A dishonest hub lies twice, before anybody hears of it.
    Lies(Lie, Lie, usize, u8),
    /// A dishonest hasher tells the hub what is not so.
    Forge(Forgery, u8, u8),
    /// The hub says nothing more to a hasher, or does again.
    Mute(usize),
}

/// What a hub's ledger may ask of its ends and signer by mistake. An honest signer refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Another P_B after a win, lower as well.
    Raise,
    /// S takes in a win whose key is not public.
    SettleEarly,
    /// X_B leaves before its time.
    RevealEarly,
    /// A height on a payout channel beside the one it is on.
    SecondChannel,
    /// Far more than the cap.
    OverCap,
}

/// What is done with what waits on the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The first arrives.
    Arrives,
    /// The first is lost.
    Lost,
    /// The first comes twice.
    Twice,
    /// Another one becomes the first.
    Overtakes,
}

/// What looks like a win.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fake {
    /// A plain transaction that pays script_B.
    Plain,
    /// A coinbase that pays script_B one satoshi less than Σ_B.
    Less,
    /// A coinbase that pays the script of the height before.
    OtherHeight,
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The hub's.
    Hub,
    /// A hasher's.
    Hasher(usize),
}

/// How a hub lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// A state of its own making, signed with the real key.
    State,
    /// A state that is not signed by it.
    Forged,
    /// A key that opens nothing.
    WrongKey,
    /// Claims a coinbase that is no win, and so publishes the key.
    ClaimNoWin,
    /// Reveals the key of a height whenever it likes.
    Reveal,
    /// A close over another amount.
    Close,
    /// Takes back a funding or pendings as soon as the chain lets it.
    TakeBack,
    /// Spends the coin that a funding spends, before it is confirmed.
    DoubleSpend,
    /// Never claims, so that no key becomes public.
    NoClaims,
    /// States another Σ_B for the next height: more than a block pays, or for invented hashers, or nothing.
    Sum,
    /// A state over another lock for a height than its sheet has.
    Lock,
}

/// What a dishonest hasher makes of what it sends to the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// Shows a state that was never signed.
    Twisted,
    /// Shows old states, or some twice, or not all.
    Chosen,
    /// Shows another payout channel's states, or speaks for the other hasher.
    Others,
    /// Announces another number of states, or signs that for another connection or with another key.
    Reestablish,
    /// Asks for a close over another amount, at another fee or to another destination.
    Close,
    /// A message that comes at the wrong time, or that only a hub sends.
    Stray,
    /// Asks for a payout channel with other keys, or in another's name.
    Request,
    /// Recalls a payout channel that is not lost, not its own or not that.
    Recall,
}

impl Lie {
    /// By a number.
    fn of(number: u8) -> Self {
        const ALL: [Lie; 11] = [
            Lie::State,
            Lie::Lock,
            Lie::Sum,
            Lie::Forged,
            Lie::WrongKey,
            Lie::ClaimNoWin,
            Lie::Reveal,
            Lie::Close,
            Lie::TakeBack,
            Lie::DoubleSpend,
            Lie::NoClaims,
        ];
        ALL[usize::from(number) % ALL.len()]
    }
}

impl Forgery {
    /// By a number, with what is left of it.
    fn of(number: u8) -> (Self, u8) {
        const ALL: [Forgery; 8] = [
            Forgery::Twisted,
            Forgery::Chosen,
            Forgery::Close,
            Forgery::Reestablish,
            Forgery::Others,
            Forgery::Recall,
            Forgery::Stray,
            Forgery::Request,
        ];
        (ALL[usize::from(number % 8)], number / 8)
    }
}

impl Action {
    /// Every three bytes mean something. Where a hub is honest, a hasher forges instead of its lies.
    pub fn of(bytes: [u8; 3], honest_hub: bool) -> Self {
        let [kind, a, b] = bytes;
        let hasher = usize::from(a) % super::cast::HASHERS;
        let who = match a % 3 {
            0 => Who::Hub,
            n => Who::Hasher(usize::from(n) - 1),
        };
        match kind % 64 {
            0..=13 => Self::Share(hasher, 1 + u32::from(b) % 8),
            14..=19 => Self::Win,
            20..=24 => Self::Blocks(1 + u32::from(a) % 3),
            25..=27 => Self::Blocks(98 + u32::from(a) % 16),
            28..=29 => Self::FakeWin([Fake::Plain, Fake::Less, Fake::OtherHeight][usize::from(a) % 3]),
            30..=32 => {
                // A deep one now and then, at any place of which the pool wins.
                let (depth, spread) = match a {
                    0..=249 => (1 + usize::from(a) % 5, 1),
                    _ => ([7, 12, 25, 50, 80, super::ground::DEEPEST][usize::from(a) - 250], 19),
                };
                let depth = depth.min(super::ground::DEEPEST);
                let place = usize::from(b / 2) * spread % (depth + 1);
                Self::Reorganise(depth, (b % 2 == 1).then_some(place))
            }
            33 => Self::Wait([1_000, 4_999, 5_000, 20_000][usize::from(a) % 4]),
            34..=35 => Self::Hold(hasher, b % 3 != 0),
            36..=38 => {
                let ways = [Way::Arrives, Way::Lost, Way::Twice, Way::Overtakes];
                Self::OnTheWay(hasher, ways[usize::from(b) % 4], b / 4)
            }
            39 => Self::Reconnect(hasher),
            40..=41 => Self::Crash(who, b % 8, b & 8 != 0),
            42 => Self::PowerCut(who, b % 2 == 0),
            43 => Self::Backup(who),
            44 => Self::Restore(who, b),
            // The first hasher is always honest.
            45..=46 if hasher == 0 => Self::forge(a, b),
            45..=46 => Self::Publish(hasher, b),
            47 => Self::AskClose(hasher),
            48 => Self::Leave(hasher),
            49..=50 => Self::TopUp(hasher),
            51 => Self::Sleep(hasher),
            52 => Self::Fees([1_000, 3_000, 20_000, 100][usize::from(a) % 4]),
            53 => {
                if b % 4 == 0 {
                    Self::HubGone
                } else {
                    Self::Wait(5_000)
                }
            }
            54..=57 => {
                let wishes =
                    [Wish::Raise, Wish::SettleEarly, Wish::RevealEarly, Wish::SecondChannel, Wish::OverCap];
                Self::Wish(wishes[usize::from(a) % 5], b)
            }
            58..=62 if honest_hub => Self::forge(a, b),
            60 => Self::Lies(Lie::of(a / 2), Lie::of(a / 22), hasher, b),
            58..=62 => Self::Lie(Lie::of(a / 2), hasher, b),
            _ => Self::Mute(hasher),
        }
    }

    fn forge(a: u8, b: u8) -> Self {
        let (forgery, also) = Forgery::of(a / 2);
        Self::Forge(forgery, also, b)
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Share(hasher, steps) => {
                write!(f, "hasher {hasher} hands in a share worth {steps}00,000 sat")
            }
            Self::Blocks(1) => write!(f, "others find a block"),
            Self::Blocks(count) => write!(f, "others find {count} blocks"),
            Self::Win => write!(f, "the pool finds a block"),
            Self::FakeWin(Fake::Plain) => {
                write!(f, "somebody pays the next height's script_B in a plain transaction")
            }
            Self::FakeWin(Fake::Less) => {
                write!(f, "a block's coinbase pays script_B a satoshi less than Σ_B")
            }
            Self::FakeWin(Fake::OtherHeight) => {
                write!(f, "a block's coinbase pays the script of the height before")
            }
            Self::Reorganise(depth, None) => {
                write!(f, "the last {depth} blocks are replaced by {}", depth + 1)
            }
            Self::Reorganise(depth, Some(place)) => {
                write!(
                    f,
                    "the last {depth} blocks are replaced by {}, of which the pool found number {place}",
                    depth + 1
                )
            }
            Self::Wait(ms) => write!(f, "{ms} ms pass"),
            Self::Hold(hasher, true) => write!(f, "the line to hasher {hasher} stalls"),
            Self::Hold(hasher, false) => write!(f, "the line to hasher {hasher} is free"),
            Self::OnTheWay(hasher, way, _) => write!(f, "on the line to hasher {hasher}, a message: {way:?}"),
            Self::Reconnect(hasher) => write!(f, "hasher {hasher} connects again"),
            Self::Crash(who, commits, written) => {
                let when = if *written { "after" } else { "before" };
                write!(f, "{who} ends {when} its write number {commits} from now")
            }
            Self::PowerCut(who, true) => write!(f, "{who} loses power"),
            Self::PowerCut(who, false) => write!(f, "{who}'s process ends"),
            Self::Backup(who) => write!(f, "{who} makes a copy of its disks"),
            Self::Restore(who, how) => write!(f, "{who} puts the copy of its disks back ({how})"),
            Self::Publish(hasher, which) => {
                write!(f, "hasher {hasher}, if dishonest, publishes old state {which}")
            }
            Self::AskClose(hasher) => write!(f, "hasher {hasher} asks for a close"),
            Self::Leave(hasher) => write!(f, "hasher {hasher} closes by itself"),
            Self::TopUp(hasher) => write!(f, "the hub opens another payout channel for hasher {hasher}"),
            Self::Sleep(hasher) => write!(f, "hasher {hasher} falls asleep, or wakes"),
            Self::Fees(rate) => write!(f, "mempools and blocks take nothing below {rate} sat/kvB"),
            Self::HubGone => write!(f, "the hub is gone for good"),
            Self::Wish(wish, which) => write!(f, "the hub's ledger wishes: {wish:?} {which}"),
            Self::Lie(lie, hasher, how) => {
                write!(f, "the hub, if dishonest, lies to hasher {hasher}: {lie:?} {how}")
            }
            Self::Lies(first, second, hasher, how) => {
                write!(
                    f,
                    "the hub, if dishonest, lies twice to hasher {hasher}: {first:?} {how}, {second:?} {}",
                    how.rotate_left(4)
                )
            }
            Self::Forge(forgery, also, how) => {
                write!(f, "hasher 1, if dishonest, tells the hub what is not so: {forgery:?} {also} {how}")
            }
            Self::Mute(hasher) => {
                write!(f, "the hub, if dishonest, says nothing more to hasher {hasher}, or does again")
            }
        }
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Hub => write!(f, "the hub"),
            Self::Hasher(number) => write!(f, "hasher {number}"),
        }
    }
}
