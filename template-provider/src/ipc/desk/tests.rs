#![allow(clippy::unwrap_used)]

use tokio::task::LocalSet;

use super::super::fake::Node;
use super::*;
use crate::solutions::tests::early;

/// What is said of a whole block whose template the node holds but takes no solutions of, by what it says to whole blocks.
async fn answer_where_the_short_way_fails<const N: usize>(
    whole_blocks: [Verdict; N],
) -> Result<Submission, NotSubmitted> {
    let (solution, transactions) = early();
    transactions.settle(Some(Vec::new()));
    let (block, rest) = FoundBlock::solving(&solution);
    rest.come(solution.block().unwrap().into());
    let answered = async {
        let node = Node::new(whole_blocks);
        let shared = node.shared();
        let (template, tip) = (&solution.template, solution.template.source().tip());
        shared.kept.borrow_mut().keep(1, template.id_at_source(), tip, node.template());
        submit(&shared, &block).await
    };
    LocalSet::new().run_until(answered).await
}

#[tokio::test]
async fn where_the_short_way_fails_the_whole_block_is_handed_in_nevertheless() {
    let accepted = answer_where_the_short_way_fails([Verdict::Taken]).await;
    assert_eq!(accepted, Ok(Submission::Accepted));
    let without_whole_blocks = answer_where_the_short_way_fails([]).await;
    assert!(without_whole_blocks.unwrap_err().to_string().contains("submitSolution"));
}

#[tokio::test]
async fn a_block_that_the_node_may_still_be_checking_is_handed_in_again() {
    let word = |word: &str| Verdict::Refused(word.into());
    let invalid = answer_where_the_short_way_fails([word("duplicate"), word("duplicate-invalid")]).await;
    assert_eq!(invalid, Ok(Submission::Rejected("duplicate-invalid".into())));
    let valid = answer_where_the_short_way_fails([word("duplicate"), word("duplicate")]).await;
    assert_eq!(valid, Ok(Submission::Duplicate));
}

#[tokio::test]
async fn what_is_wrong_with_the_node_is_not_held_against_the_block() {
    for failure in ["", "System error while saving block to disk: No space left on device"] {
        let answer = answer_where_the_short_way_fails([Verdict::Refused(failure.into())]).await;
        assert!(answer.as_ref().is_err_and(|why| why.to_string().ends_with(failure)), "{answer:?}");
    }
    let script = "block-script-verify-flag-failed (Operation not valid with the current stack size)";
    let answer = answer_where_the_short_way_fails([Verdict::Refused(script.into())]).await;
    assert_eq!(answer, Ok(Submission::Rejected(script.into())));
}
