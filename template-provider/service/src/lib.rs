//! What every program needs around its core: configuration, logs, signals, drain, status page, metrics.
//!
//! A program implements [`Program`]; [`run`] does the rest. Its keys are given once, in a table of [`Key`]s, and come
//! back as flags (`--node.url`), environment variables (`SLUICE_HUB__NODE__URL`), the file that `init` writes and the
//! README's table. Conventions: an amount of time says its unit in the key's name (`drain_seconds`); a path may begin with
//! `~/` ([`expand_home`]); a list of tables is a [`Key::list`].
//!
//! | module | what for |
//! |---|---|
//! | `program`, `run`, `context` | what a program is, from the command line to the exit status, and what it is given while it runs |
//! | `key`, `config`, `operation`, `command_line` | the table of keys, the layers of a configuration, the keys that all programs have, the flags |
//! | `path`, `secret` | paths as people write them; values that are never printed |
//! | `logs`, `complaints`, `news` | log lines, and those about peers, which cannot fill a disk |
//! | `counters` | totals that never fall |
//! | `status` | page, API and metrics |
//! | `listener`, `sockets`, `files` | listening sockets, passed on and surviving the loss of file descriptors; how many there may be |
//! | `addresses` | the keys that name where a program listens |
//! | `signals`, `systemd` | SIGTERM and SIGINT; what the supervisor is told |
//! | `handover`, `replacement` | a running program is replaced by a new one; SIGUSR2 |
//! | `backoff` | how long to wait before the next attempt |
//!
//! A whole program, to copy from (`examples/beacon.rs`):
//!
//! ```no_run
#![doc = include_str!("../examples/beacon.rs")]
//! ```

mod addresses;
mod backoff;
mod command_line;
mod complaints;
mod config;
mod context;
mod counters;
mod files;
mod handover;
mod key;
mod listener;
mod logs;
mod news;
mod operation;
mod path;
mod program;
mod replacement;
mod run;
mod secret;
mod signals;
mod sockets;
mod status;
mod systemd;

pub use backoff::Backoff;
pub use complaints::Complaints;
pub use config::{Problem, Problems, Refusal, config_from_text, keys_markdown};
pub use context::Context;
pub use counters::{Counter, Counters, JournalError, OTHER, OpenError, SaveError};
pub use files::{fits_open_files, open_files};
pub use handover::{Call, Departure, Given, Parcel, Succession, when_let_go};
pub use key::Key;
pub use listener::{Listener, cannot_listen};
pub use logs::start_logs;
pub use news::News;
pub use operation::{Log, LogFormat, Operation};
pub use path::expand_home;
pub use program::{Finding, Program};
pub use run::run;
pub use secret::Secret;
pub use status::{Cell, Kind, Metric, Page, PageServer, Section, Status, Tone, Value};
