#![allow(clippy::unwrap_used)]

use tokio::task::LocalSet;

use super::super::fake::Node;
use super::*;
use crate::solutions::tests::early;

/// What is said of a whole block whose template the node holds but takes no solutions of.
async fn answer_where_the_short_way_fails(whole_block: Option<Verdict>) -> Result<Submission, String> {
    let (solution, transactions) = early();
    transactions.settle(Some(Vec::new()));
    let (block, rest) = FoundBlock::solving(&solution);
    rest.come(solution.block().unwrap());
    let answered = async {
        let node = Node::new(whole_block);
        let shared = node.shared();
        let (template, tip) = (&solution.template, solution.template.source().tip());
        shared.kept.borrow_mut().keep(template.id_at_source(), tip, node.template());
        submit(&shared, &block).await
    };
    LocalSet::new().run_until(answered).await
}

#[tokio::test]
async fn where_the_short_way_fails_the_whole_block_is_handed_in_nevertheless() {
    let accepted = answer_where_the_short_way_fails(Some(Verdict::Taken)).await;
    assert_eq!(accepted, Ok(Submission::Accepted));
    let without_whole_blocks = answer_where_the_short_way_fails(None).await;
    assert!(without_whole_blocks.unwrap_err().contains("submitSolution"));
}
