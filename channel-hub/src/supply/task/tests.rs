//! What a provider is handed, and on which of its connections.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::reward::Reward;

/// One provider, which has connected with these numbers one after the other; and what it is asked.
fn connected(numbers: &[u16]) -> (Supply, mpsc::Receiver<Command>) {
    let (commands, asked) = mpsc::channel(MAX_COMMANDS);
    let known = Known { address: "provider".into(), commands, health: Mutex::default() };
    for number in numbers {
        known.lock().connection = Some(*number);
    }
    let network = Network::Signet;
    let reward = Reward::parse("tb1qcpmga8eqxzwz4nmnew6v6xkapggs3sqzt6w66u", network).unwrap();
    let (urgent, _) = mpsc::channel(MAX_URGENT);
    (Supply { shelf: Shelf::default(), providers: vec![known], urgent, network, reward }, asked)
}

fn solution() -> SubmitSolutionOwned {
    SubmitSolutionOwned {
        template_id: 7,
        version: 0x2000_0000,
        header_timestamp: 1,
        header_nonce: 2,
        coinbase_tx: vec![0_u8; 100].try_into().unwrap(),
    }
}

#[test]
fn a_block_goes_over_the_connection_of_its_template_and_over_no_other() {
    let template = TemplateId { provider: 3, id: 7 };
    let (supply, mut asked) = connected(&[3]);
    assert!(supply.submit(0, template, solution()));
    assert!(matches!(asked.try_recv(), Ok(Command::Solution { connection: 3, .. })));
    for numbers in [&[][..], &[3, 19]] {
        let (supply, mut asked) = connected(numbers);
        assert!(!supply.submit(0, template, solution()), "nobody would hear of it");
        assert!(asked.try_recv().is_err());
    }
}
