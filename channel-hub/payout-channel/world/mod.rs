//! Nobody loses: a world in which a hub, its hashers, miners and the council do anything that bytes can say, over the real
//! state machines on a simulated chain whose scripts Bitcoin Core's consensus code judges (issue 5, "How it must behave").
//!
//! This crate's own tests play it, on random traces and with each of R1 to R7 switched off, and so does `integration`'s fuzz target.
//! docs/decisions/0006 has the reasons, and what was found.
//!
//! | module | what for |
//! |---|---|
//! | [`bytes`] | traces as bytes: random, changed, shrunk |
//! | [`actions`] | what three bytes mean, in words |
//! | [`world`] | everybody, and what follows from an action |
//! | [`deeds`], [`lines`] | what an action does; what goes between hub and hashers |
//! | [`lies`], [`forgeries`] | what a dishonest hub or hasher does besides; what such a hasher tells the hub |
//! | [`ending`], [`tower`] | the end of a trace; who takes a hasher's money with an exit kit |
//! | [`books`], [`audit`], [`findings`] | the auditor: what was owed, signed, counted and worked for; what must hold; who lost |
//! | [`hub`], [`ledger`], [`reception`], [`treasury`] | the hub's program, reduced to what decides |
//! | [`hasher`], [`exits`], [`council`] | the others' programs |
//! | [`frame`] | messages on their way |
//! | [`disk`], [`view`], [`wallet`] | save points; blocks as a party sees them; a plain wallet |
//! | [`cast`] | keys and timeouts |
//! | [`ground`], [`chain`], [`mempool`], [`consensus`] | the simulated chain |
#![allow(
    unreachable_pub,
    dead_code,
    clippy::module_inception,
    clippy::new_without_default,
    clippy::should_implement_trait,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate
)]

pub mod actions;
pub mod audit;
pub mod books;
pub mod bytes;
pub mod cast;
pub mod chain;
pub mod consensus;
pub mod council;
pub mod deeds;
pub mod disk;
pub mod ending;
pub mod exits;
pub mod findings;
pub mod forgeries;
pub mod frame;
pub mod ground;
pub mod hasher;
pub mod hub;
pub mod ledger;
pub mod lies;
pub mod lines;
pub mod mempool;
pub mod reception;
pub mod tower;
pub mod treasury;
pub mod view;
pub mod wallet;
pub mod world;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;

use actions::Action;
use bytes::{ACTION, LONGEST};
use findings::Finding;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use world::{Setting, World};

/// Why a trace fails.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The auditor says who lost.
    #[error(transparent)]
    Found(#[from] Finding),
    /// Something stopped: a fault of the suite's or of the crate's, but no loss that was noticed.
    #[error("a panic: {0}")]
    Stopped(String),
}

/// The setting of a trace, and its actions.
pub fn decode(bytes: &[u8]) -> (Setting, Vec<Action>) {
    let mut chunks = bytes.chunks_exact(ACTION).map(|chunk| [chunk[0], chunk[1], chunk[2]]);
    let setting = Setting::of(chunks.next().unwrap_or_default());
    (setting, chunks.take(LONGEST).map(|bytes| Action::of(bytes, setting.honest_hub)).collect())
}

/// Plays a trace to its end.
///
/// # Errors
/// Somebody lost.
pub fn play(bytes: &[u8]) -> Result<(), Finding> {
    let (setting, actions) = decode(bytes);
    let mut world = World::new(setting);
    actions.into_iter().for_each(|action| world.act(action));
    world.end()
}

thread_local! {
    static SILENT: Cell<bool> = const { Cell::new(false) };
}

/// The traces that are tried while one is shrunk would all be printed otherwise.
fn quietly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !SILENT.get() {
                hook(panic);
            }
        }));
    });
}

/// Why a trace fails; none if it does not.
pub fn failure(bytes: &[u8]) -> Option<Failure> {
    quietly();
    SILENT.set(true);
    let caught = catch_unwind(AssertUnwindSafe(|| play(bytes)));
    SILENT.set(false);
    match caught {
        Ok(played) => played.err().map(Failure::Found),
        Err(cause) => {
            let text = cause.downcast_ref::<String>().cloned();
            let text = text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string));
            Some(Failure::Stopped(text.unwrap_or_default()))
        }
    }
}

/// A fuzz target's body: plays a trace.
///
/// # Panics
/// Somebody lost.
pub fn run(bytes: &[u8]) {
    if let Err(finding) = play(bytes) {
        panic!("{finding}");
    }
}

/// A trace in sentences, how it ends, and the auditor's figures.
pub fn told(bytes: &[u8]) -> String {
    let (setting, actions) = decode(bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let end = failure(bytes).map_or_else(|| "nobody loses".to_owned(), |failure| failure.to_string());
    let lines: Vec<String> = actions.iter().map(|action| format!("  {action}")).collect();
    SILENT.set(true);
    let figures = catch_unwind(|| {
        let mut world = World::new(setting);
        actions.iter().for_each(|action| world.act(*action));
        let _told = world.end();
        world.figures()
    });
    SILENT.set(false);
    let figures = figures.unwrap_or_default();
    format!("{setting:?}\n{}\n{figures}  in the end: {end}\n  bytes: {hex}", lines.join("\n"))
}
