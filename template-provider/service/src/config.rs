//! Configuration in layers: defaults, then the TOML file, then the environment, then flags. Read raw, then checked;
//! docs/decisions/0001-config.md says why it is written here.
//!
//! | module | what for |
//! |---|---|
//! | `keys` | all keys of a program, and the README's table |
//! | `file`, `layers` | the config file; the layers put over each other |
//! | `check` | from the layers' values to the checked config |
//! | `problem`, `problems` | what is wrong, in words that let a person mend it |
//! | `redact` | secrets are kept out of messages |
//! | `init` | a fresh config file |

mod check;
mod file;
mod init;
mod keys;
mod layers;
mod problem;
mod problems;
mod redact;

pub(crate) use file::usual_places;
pub(crate) use init::{Fresh, init};
pub(crate) use keys::Keys;
pub use keys::keys_markdown;
pub use layers::config_from_text;
pub(crate) use layers::{Inputs, load};
pub use problem::{Problem, Refusal};
pub use problems::Problems;
