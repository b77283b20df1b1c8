//! The questions that the documents answer, each with its tables and plots.
//!
//! | module | question |
//! |---|---|
//! | [`latency`] | how many shares become uncles, how much work is lost, by distance and by number of nodes |
//! | [`distance`] | what a node loses that is farther away than all others |
//! | [`partitions`] | what a network loses that was cut in two |
//! | [`strategies`] | what withholding, ignoring uncles and private forks bring |
//! | [`lies`] | what shares bring that make the next ones cheap |
//! | [`identities`] | what a recipient gains that splits into many |
//! | [`dropping`] | what a hasher loses that drops the chain shares it finds for its hub |
//! | [`pays`] | how far pay scatters, through a hub, in P2Pool, alone |

pub mod distance;
pub mod dropping;
pub mod identities;
pub mod latency;
pub mod lies;
pub mod partitions;
pub mod pays;
pub mod strategies;

use crate::simulation::table::Table;

/// One question, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Study {
    /// Uncles and lost work, by distance and by number of nodes.
    Latency,
    /// A node farther away than all others.
    Distance,
    /// A network cut in two for some minutes.
    Partitions,
    /// Withholding, ignoring uncles, private forks.
    Strategies,
    /// Shares that make the next ones cheap.
    Lies,
    /// One recipient under many names.
    Identities,
    /// A hasher that drops the chain shares it finds for its hub.
    Dropping,
    /// How far pay scatters: hub, P2Pool, alone.
    Pay,
}

/// What a study found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// In the order in which they are shown.
    pub tables: Vec<Table>,
    /// By file name.
    pub plots: Vec<(&'static str, String)>,
}

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// What the documents show.
    Full,
    /// A little of everything, in seconds: for tests.
    Quick,
}

impl Effort {
    /// One of two amounts.
    pub fn of<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

impl Study {
    /// All of them, in the order of the document.
    pub const ALL: [Self; 8] = [
        Self::Latency,
        Self::Distance,
        Self::Partitions,
        Self::Strategies,
        Self::Lies,
        Self::Identities,
        Self::Dropping,
        Self::Pay,
    ];

    /// Its name on the command line, and of its place in the document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latency => "latency",
            Self::Distance => "distance",
            Self::Partitions => "partitions",
            Self::Strategies => "strategies",
            Self::Lies => "lies",
            Self::Identities => "identities",
            Self::Dropping => "dropping",
            Self::Pay => "pay",
        }
    }

    /// Runs it.
    pub fn run(self, effort: Effort) -> Findings {
        match self {
            Self::Latency => latency::run(effort),
            Self::Distance => distance::run(effort),
            Self::Partitions => partitions::run(effort),
            Self::Strategies => strategies::run(effort),
            Self::Lies => lies::run(effort),
            Self::Identities => identities::run(effort),
            Self::Dropping => dropping::run(effort),
            Self::Pay => pays::run(effort),
        }
    }
}
