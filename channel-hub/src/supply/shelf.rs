//! Templates that a share may still turn into a block, with their transactions once those have come.
//!
//! Templates of one provider share most of their transactions; what the template before had too is not kept twice.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use mining::TemplateId;
use tokio::sync::watch;

/// Templates kept: more than the jobs that a mining channel may still hand in shares for.
const MAX_TEMPLATES: usize = 64;

/// A template's transactions, serialised with their witnesses, in block order, without the coinbase.
pub type Transactions = Arc<[Arc<[u8]>]>;

/// How far the hub is with a template's transactions.
#[derive(Clone, Debug)]
pub enum Fetched {
    /// Asked for.
    Waiting,
    /// Here.
    Here(Transactions),
    /// The provider does not give them.
    Refused,
}

/// Templates of published jobs, the newest ones.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<VecDeque<(TemplateId, Kept)>>);

#[derive(Debug)]
struct Kept {
    provider: usize,
    fetched: watch::Sender<Fetched>,
}

/// One template on the shelf.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Index of the provider it came from.
    pub provider: usize,
    /// Follows its transactions.
    pub fetched: watch::Receiver<Fetched>,
}

impl Shelf {
    /// Keeps a place for a template of the provider with this index. False: it has one already.
    pub fn put(&self, template: TemplateId, provider: usize) -> bool {
        let mut templates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if templates.iter().any(|(id, _)| *id == template) {
            return false;
        }
        if templates.len() == MAX_TEMPLATES {
            templates.pop_front();
        }
        templates.push_back((template, Kept { provider, fetched: watch::Sender::new(Fetched::Waiting) }));
        true
    }

    /// A template's transactions have come, or will not.
    pub fn fill(&self, template: TemplateId, transactions: Option<Vec<Vec<u8>>>) {
        let known = self.newest_transactions();
        let fetched = transactions.map_or(Fetched::Refused, |list| Fetched::Here(share(list, &known)));
        let templates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, kept)) = templates.iter().find(|(id, _)| *id == template) {
            kept.fetched.send_replace(fetched);
        }
    }

    /// A template's transactions are asked for once more: whoever waits for them waits on.
    pub fn expect_again(&self, template: TemplateId) {
        let templates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, kept)) = templates.iter().find(|(id, _)| *id == template) else { return };
        kept.fetched.send_if_modified(|fetched| {
            let is_refused = matches!(fetched, Fetched::Refused);
            if is_refused {
                *fetched = Fetched::Waiting;
            }
            is_refused
        });
    }

    /// The template, if it is still here.
    pub fn find(&self, template: TemplateId) -> Option<Entry> {
        let templates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, kept) = templates.iter().find(|(id, _)| *id == template)?;
        Some(Entry { provider: kept.provider, fetched: kept.fetched.subscribe() })
    }

    fn newest_transactions(&self) -> Transactions {
        let templates = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |kept: &Kept| match &*kept.fetched.borrow() {
            Fetched::Here(transactions) => Some(Arc::clone(transactions)),
            Fetched::Waiting | Fetched::Refused => None,
        };
        templates.iter().rev().find_map(|(_, kept)| here(kept)).unwrap_or_default()
    }
}

/// The same list, with the memory of equal transactions in `known`.
fn share(list: Vec<Vec<u8>>, known: &Transactions) -> Transactions {
    let known: HashSet<Arc<[u8]>> = known.iter().cloned().collect();
    list.into_iter()
        .map(|bytes| known.get(&*bytes).map_or_else(|| bytes.as_slice().into(), Arc::clone))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn id(id: u64) -> TemplateId {
        TemplateId { provider: 3, id }
    }

    fn transactions(shelf: &Shelf, template: u64) -> Transactions {
        match &*shelf.find(id(template)).unwrap().fetched.borrow() {
            Fetched::Here(transactions) => Arc::clone(transactions),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_transaction_of_two_templates_is_kept_once() {
        let shelf = Shelf::default();
        shelf.put(id(1), 0);
        shelf.fill(id(1), Some(vec![vec![1; 100], vec![2; 100]]));
        shelf.put(id(2), 0);
        shelf.fill(id(2), Some(vec![vec![2; 100], vec![3; 100]]));
        let (first, second) = (transactions(&shelf, 1), transactions(&shelf, 2));
        assert_eq!(second.iter().map(|t| t[0]).collect::<Vec<_>>(), [2, 3]);
        assert!(Arc::ptr_eq(&first[1], &second[0]));
    }

    #[test]
    fn the_oldest_template_goes_when_the_shelf_is_full() {
        let shelf = Shelf::default();
        for n in 0..=MAX_TEMPLATES as u64 {
            assert!(shelf.put(id(n), 0));
        }
        assert!(shelf.find(id(0)).is_none());
        assert!(shelf.find(id(1)).is_some());
        assert!(!shelf.put(id(1), 0), "a template is asked for once");
    }

    #[test]
    fn only_what_was_refused_is_expected_again() {
        let shelf = Shelf::default();
        for (n, came) in [(1, None), (2, Some(vec![vec![1; 100]]))] {
            shelf.put(id(n), 0);
            shelf.fill(id(n), came);
            shelf.expect_again(id(n));
        }
        assert!(matches!(*shelf.find(id(1)).unwrap().fetched.borrow(), Fetched::Waiting));
        assert_eq!(transactions(&shelf, 2).len(), 1);
    }

    #[tokio::test]
    async fn who_waits_for_the_transactions_hears_of_them() {
        let shelf = Shelf::default();
        shelf.put(id(1), 2);
        let mut entry = shelf.find(id(1)).unwrap();
        assert_eq!(entry.provider, 2);
        shelf.fill(id(1), None);
        let fetched = entry.fetched.wait_for(|f| !matches!(f, Fetched::Waiting)).await.unwrap();
        assert!(matches!(*fetched, Fetched::Refused));
    }
}
