//! Nobody loses: a world in which a hub, its hashers, miners and the council do anything that bytes can say, over the real
//! state machines on a simulated chain whose scripts Bitcoin Core's consensus code judges (issue 5, "How it must behave").
//!
//! This crate's own tests play it, on random traces and with each of R1 to R7 switched off; no fuzz target plays it yet.
//! docs/decisions/0006 has the reasons, and what was found.
//!
//! | module | what for |
//! |---|---|
//! | [`bytes`] | traces as bytes: random, changed, shrunk |
//! | [`actions`] | what three bytes mean, in words |
//! | [`world`] | everybody, and what follows from an action |
//! | [`lies`] | what a dishonest hub or hasher does besides |
//! | [`ending`] | the end of a trace, and what must hold then |
//! | [`books`] | the auditor: what was owed, signed, counted and worked for |
//! | [`hub`], [`hasher`], [`council`] | their programs, reduced to what decides |
//! | [`disk`], [`view`], [`wallet`] | save points; blocks as a party sees them; a plain wallet |
//! | [`cast`] | keys and timeouts |
//! | [`ground`], [`chain`], [`mempool`], [`consensus`] | the simulated chain |
#![allow(
    unreachable_pub,
    dead_code,
    clippy::module_inception,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate
)]

pub mod actions;
pub mod books;
pub mod bytes;
pub mod cast;
pub mod chain;
pub mod consensus;
pub mod council;
pub mod disk;
pub mod ending;
pub mod ground;
pub mod hasher;
pub mod hub;
pub mod lies;
pub mod mempool;
pub mod view;
pub mod wallet;
pub mod world;

#[cfg(test)]
mod chain_tests;
#[cfg(test)]
mod tests;

use actions::Action;
use bytes::{ACTION, LONGEST};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use world::{Setting, World};

/// The setting of a trace, and its actions.
pub fn decode(bytes: &[u8]) -> (Setting, Vec<Action>) {
    let mut chunks = bytes.chunks_exact(ACTION).map(|chunk| [chunk[0], chunk[1], chunk[2]]);
    let setting = Setting::of(chunks.next().unwrap_or_default());
    (setting, chunks.take(LONGEST).map(Action::of).collect())
}

/// Plays a trace to its end.
///
/// # Panics
/// Somebody lost.
pub fn play(bytes: &[u8]) {
    let (setting, actions) = decode(bytes);
    let mut world = World::new(setting);
    actions.into_iter().for_each(|action| world.act(action));
    world.end();
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
pub fn failure(bytes: &[u8]) -> Option<String> {
    quietly();
    SILENT.set(true);
    let caught = catch_unwind(AssertUnwindSafe(|| play(bytes)));
    SILENT.set(false);
    let cause = caught.err()?;
    let text = cause.downcast_ref::<String>().cloned();
    Some(text.or_else(|| cause.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
}

/// Plays a trace; one that fails is shrunk and told in sentences. Not for libFuzzer, which ends the process at the first panic.
///
/// # Panics
/// Somebody lost.
pub fn run(bytes: &[u8]) {
    if failure(bytes).is_some() {
        let short = bytes::shrunk(bytes, 2_000, |bytes| failure(bytes).is_some());
        panic!("{}", told(&short));
    }
}

/// A trace in sentences, and how it ends.
pub fn told(bytes: &[u8]) -> String {
    let (setting, actions) = decode(bytes);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let end = failure(bytes).unwrap_or_else(|| "nobody loses".to_owned());
    let lines: Vec<String> = actions.iter().map(|action| format!("  {action}")).collect();
    format!("{setting:?}\n{}\n  in the end: {end}\n  bytes: {hex}", lines.join("\n"))
}
