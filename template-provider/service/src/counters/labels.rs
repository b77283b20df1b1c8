//! A total's labels in little memory: a farm has tens of thousands of them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Labels that name a peer. The values of all others are ours, and few.
const OF_PEERS: [&str; 2] = ["hasher", "worker"];

/// Names and values, each name once, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Labels(Box<[(Box<str>, Box<str>)]>);

impl Labels {
    pub(super) fn of(labels: &[(&str, &str)]) -> Self {
        labels.iter().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Those that say which peer's the total is; `None` if it is no peer's.
    pub(super) fn peer(&self) -> Option<Self> {
        let peer: Self = self.iter().filter(|(name, _)| OF_PEERS.contains(name)).collect();
        (!peer.0.is_empty()).then_some(peer)
    }

    /// The same of a peer with this name.
    pub(super) fn of_peer(&self, peer: &str) -> Self {
        self.iter().map(|(name, value)| (name, if OF_PEERS.contains(&name) { peer } else { value })).collect()
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Labels {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(labels: I) -> Self {
        let ordered: BTreeMap<&str, &str> = labels.into_iter().collect();
        Self(ordered.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let labels = BTreeMap::<String, String>::deserialize(deserializer)?;
        Ok(labels.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect())
    }
}
