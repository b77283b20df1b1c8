//! Save before send, by type: what must be on disk before a message leaves is a [`Transition`], and the message comes out of
//! it only through the store.
//!
//! A machine has changed in memory when it returns a transition. If the store fails, or the transition is dropped, the
//! machine is ahead of its disk: it must be thrown away and restored.

/// Where events go. Events of one commit are kept together or not at all.
pub trait Store<E> {
    /// Why it could not be written. The program must stop: see the module's text.
    type Error;

    /// Adds an event to the open commit.
    ///
    /// # Errors
    /// It could not be written.
    fn append(&mut self, event: &E) -> Result<(), Self::Error>;

    /// Ends the commit; returns when it is as safe as asked.
    ///
    /// # Errors
    /// It could not be written.
    fn commit(&mut self, durability: Durability) -> Result<(), Self::Error>;
}

/// How safe an event must be before its message leaves (DESIGN.md §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// Survives the end of the process: credits, since an old state cannot hurt.
    Process,
    /// Survives the loss of power (fsync): terms, `Frozen`, wins before their keys leave, a hasher's states.
    Power,
}

/// Events that must be saved, and what may leave then.
#[must_use = "the message leaves only through save, and the machine is ahead of its disk until then"]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition<E, M> {
    events: Vec<E>,
    durability: Durability,
    release: M,
}

/// Transitions that are saved in one commit.
#[must_use = "the messages leave only through commit"]
#[derive(Debug)]
pub struct Batch<M> {
    durability: Durability,
    release: Vec<M>,
}

impl<E, M> Transition<E, M> {
    pub(crate) fn new(events: Vec<E>, durability: Durability, release: M) -> Self {
        Self { events, durability, release }
    }

    /// Saves the events, then releases the message.
    ///
    /// # Errors
    /// The store's; the message stays.
    pub fn save<S: Store<E>>(self, store: &mut S) -> Result<M, S::Error> {
        self.events.iter().try_for_each(|event| store.append(event))?;
        store.commit(self.durability)?;
        Ok(self.release)
    }

    /// What changed.
    pub fn events(&self) -> &[E] {
        &self.events
    }

    /// Both in one commit, this one's events first, as safe as the more careful asks for.
    pub fn and<N, O>(mut self, other: Transition<E, N>, join: impl FnOnce(M, N) -> O) -> Transition<E, O> {
        self.events.extend(other.events);
        Transition {
            events: self.events,
            durability: self.durability.max(other.durability),
            release: join(self.release, other.release),
        }
    }

    /// The same with another message.
    pub fn map<N>(self, change: impl FnOnce(M) -> N) -> Transition<E, N> {
        Transition { events: self.events, durability: self.durability, release: change(self.release) }
    }
}

impl<M> Default for Batch<M> {
    fn default() -> Self {
        Self { durability: Durability::Process, release: Vec::new() }
    }
}

impl<M> Batch<M> {
    /// Adds a transition to the store's open commit.
    ///
    /// # Errors
    /// The store's; no message leaves.
    pub fn push<E, S: Store<E>>(
        &mut self,
        transition: Transition<E, M>,
        store: &mut S,
    ) -> Result<(), S::Error> {
        transition.events.iter().try_for_each(|event| store.append(event))?;
        self.durability = self.durability.max(transition.durability);
        self.release.push(transition.release);
        Ok(())
    }

    /// Ends the commit, then releases all messages in their order.
    ///
    /// # Errors
    /// The store's; no message leaves.
    pub fn commit<E, S: Store<E>>(self, store: &mut S) -> Result<Vec<M>, S::Error> {
        store.commit(self.durability)?;
        Ok(self.release)
    }
}

/// Keeps events in memory: for tests, and where something else keeps them.
impl<E: Clone> Store<E> for Vec<E> {
    type Error = std::convert::Infallible;

    fn append(&mut self, event: &E) -> Result<(), Self::Error> {
        self.push(event.clone());
        Ok(())
    }

    fn commit(&mut self, _: Durability) -> Result<(), Self::Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails at the given step; remembers the last commit's durability.
    struct Failing(u32, Option<Durability>);

    impl Failing {
        fn step(&mut self) -> Result<(), ()> {
            self.0 = self.0.checked_sub(1).ok_or(())?;
            Ok(())
        }
    }

    impl Store<u8> for Failing {
        type Error = ();

        fn append(&mut self, _: &u8) -> Result<(), ()> {
            self.step()
        }

        fn commit(&mut self, durability: Durability) -> Result<(), ()> {
            self.1 = Some(durability);
            self.step()
        }
    }

    #[test]
    fn no_message_leaves_before_every_event_and_the_commit_are_written() {
        let transition = Transition::new(vec![1_u8, 2], Durability::Power, "message");
        for step in 0..3 {
            assert_eq!(transition.clone().save(&mut Failing(step, None)), Err(()));
        }
        let mut store = Failing(3, None);
        assert_eq!(transition.save(&mut store), Ok("message"));
        assert_eq!(store.1, Some(Durability::Power));
    }

    #[test]
    fn a_batch_is_as_safe_as_its_most_careful_transition() {
        let (mut batch, mut store) = (Batch::default(), Failing(9, None));
        for (event, durability) in [(1_u8, Durability::Power), (2, Durability::Process)] {
            assert!(batch.push(Transition::new(vec![event], durability, event), &mut store).is_ok());
        }
        assert_eq!(batch.commit(&mut store), Ok(vec![1, 2]));
        assert_eq!(store.1, Some(Durability::Power));
    }
}
