//! Lets happen what the course says, and looks at every process each second.

use std::ops::Range;
use std::time::Duration;

use anyhow::ensure;
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::course::{Event, Part, course};
use super::lives::Lives;
use crate::world::{self, Chain, World, holds, until};

/// From one block of others to the next.
const TIP: Duration = Duration::from_secs(20);
/// For a restart, and for what settles at the end.
pub(super) const SOON: Duration = Duration::from_secs(60);

/// What was seen on the course.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) lives: Lives,
    pub(super) faults: Vec<String>,
    /// From when to when.
    pub(super) restarts: Vec<Range<std::time::Instant>>,
    /// Mined beside the load, which finds none.
    pub(super) blocks: u32,
    /// Where the chain is at least.
    pub(super) height: u32,
}

/// Follows the course for as long as it is.
pub(super) async fn follow(world: &mut World, whole: Duration, seen: &mut Seen, say: &mut impl FnMut(&str)) {
    let begin = Instant::now();
    let mut next_tip = TIP;
    let mut second = interval(Duration::from_secs(1));
    let mut events = course(whole).into_iter().peekable();
    while begin.elapsed() < whole {
        let due = events.peek().map_or(begin + whole, |(due, _)| begin + *due);
        tokio::select! {
            _ = second.tick() => {
                look(world, &mut seen.lives);
                if begin.elapsed() >= next_tip {
                    next_tip = begin.elapsed() + TIP;
                    grow(world, seen).await;
                }
            }
            () = sleep_until(due) => {
                let Some((_, event)) = events.next() else { break };
                say(&format!("{:4} s: {event:?}", begin.elapsed().as_secs()));
                pass(world, event, seen, say).await;
            }
        }
    }
}

fn look(world: &mut World, lives: &mut Lives) {
    for process in world.processes() {
        if let Some(pid) = process.id().filter(|_| process.is_running()) {
            lives.look(process.name(), pid);
        }
    }
}

/// A block of others: no program of ours is asked, and the node runs whenever this is called.
async fn grow(world: &World, seen: &mut Seen) {
    match world.pool.chain.generate().await {
        Ok(_) => (seen.blocks, seen.height) = (seen.blocks + 1, seen.height + 1),
        Err(error) => seen.faults.push(format!("no block was mined: {error:#}")),
    }
}

/// Lets an event happen, and keeps when it did and what went wrong.
async fn pass(world: &mut World, event: Event, seen: &mut Seen, say: &mut impl FnMut(&str)) {
    let from = Instant::now();
    let outcome = timeout(SOON * 2, happen(world, event)).await;
    seen.restarts.push(from.into_std()..std::time::Instant::now());
    let fault = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{event:?}: {error:#}")),
        Err(_) => Some(format!("{event:?} did not end")),
    };
    fault.iter().for_each(|fault| say(fault));
    seen.faults.extend(fault);
    if let Event::Kill(Part::Node) | Event::Terminate(Part::Node) = event {
        look_at_chain(world, event, seen).await;
    }
}

/// After a restart of the node: it has the blocks that it had.
async fn look_at_chain(world: &World, event: Event, seen: &mut Seen) {
    match world.pool.chain.height().await {
        Ok(height) => {
            // One that is killed may have lost what it had not written down.
            let may_lose = event == Event::Kill(Part::Node);
            let before = std::mem::replace(&mut seen.height, height);
            if height < before && !may_lose {
                seen.faults.push(format!("{event:?}: from height {before} to {height}"));
            }
        }
        Err(error) => seen.faults.push(format!("the node does not say its height: {error:#}")),
    }
}

async fn happen(world: &mut World, event: Event) -> anyhow::Result<()> {
    let (Event::Kill(part) | Event::Terminate(part) | Event::Replace(part)) = event;
    let part = match part {
        Part::Hub => &mut world.pool.hub,
        Part::Proxy => &mut world.proxy,
        Part::TemplateProvider => &mut world.pool.template_provider,
        Part::Node => return restart_node(&mut world.pool.chain, event).await,
    };
    match event {
        Event::Kill(_) => part.kill(),
        Event::Terminate(_) => {
            part.process.terminate(SOON).await?;
        }
        Event::Replace(_) => return replace(part).await,
    }
    part.process.start()?;
    part.wait_healthy(SOON).await
}

async fn restart_node(chain: &mut Chain, event: Event) -> anyhow::Result<()> {
    if let Event::Terminate(_) = event {
        let status = chain.process.terminate(SOON).await?;
        ensure!(status.success(), "it ended with {status}");
    } else {
        chain.kill();
    }
    chain.restart().await
}

async fn replace(part: &mut world::Part) -> anyhow::Result<()> {
    let old = part.process.id();
    part.process.replace("--take-over", SOON).await?;
    until("the successor runs", SOON, async || holds(part.process.id() != old, "the old one")).await?;
    part.wait_healthy(SOON).await
}
