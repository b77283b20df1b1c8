//! A new node where all others have forgotten the genesis share: it begins with a file.

use sharechain::export::{BadFile, Reader};
use sharechain::import::{BadOne, Imported, NotImported, import};
use sharechain::storage::{Memory, Storage as _, load};
use sharechain::sync::Event;
use sharechain::{Chain, Params, Refused};
use std::time::Duration;

use crate::miner::{SECP, Wish, extend, extend_at, extend_by, hub, params, script, sheet};
use crate::world::World;

const MINUTE: Duration = Duration::from_secs(60);

fn short() -> Params {
    Params { margin: 40, ..params() }
}

/// Pruned, with hubs that are paid and sheets that count.
fn pruned(length: u32) -> Chain {
    let mut chain = Chain::new(short());
    extend_by(&mut chain, 4, &Wish::of(script(0)));
    for at in 0..length {
        let publishes = at % 25 == 3;
        let wish = if publishes {
            Wish { sheet: Some(sheet(7, 0, 0)), ..Wish::of(hub(7)) }
        } else {
            Wish::of(if at % 3 == 0 { hub(7) } else { script(1) })
        };
        extend(&mut chain, &wish);
    }
    assert!(chain.lowest() > 0);
    chain
}

fn file(chain: &Chain) -> Vec<u8> {
    chain.export(Vec::new()).unwrap()
}

fn read(bytes: &[u8]) -> Result<Imported, NotImported> {
    import(Reader::new(bytes)?, &short(), &*SECP)
}

#[test]
fn a_node_that_begins_with_genesis_cannot_join_and_one_that_begins_with_a_file_can() {
    let full = pruned(300);
    let bytes = file(&full);
    let mut world = World::new(vec![full, Chain::new(short())]);
    world.connect(0, 1);
    world.pass(MINUTE);
    assert_eq!(world.nodes[1].chain().len(), 1);
    assert!(world.events.iter().any(|(at, event)| *at == 1 && matches!(event, Event::OutOfReach(_))));

    let Imported { chain: imported, updates } = read(&bytes).unwrap();
    let mut memory = Memory::default();
    updates.into_iter().for_each(|update| memory.apply(update).unwrap());
    let mut full = pruned(300);
    assert_eq!((imported.tip(), imported.len()), (full.tip(), full.len()));
    // It is stored, too, and comes back after a restart.
    let mut again = load(short(), memory.stored().clone(), &SECP).unwrap();
    assert_eq!((again.tip(), again.len(), again.lowest()), (full.tip(), full.len(), full.lowest()));
    let tip = full.tip();
    assert_eq!(again.window(&tip), full.window(&tip));

    extend_by(&mut full, 70, &Wish::of(script(1)));
    let mut world = World::new(vec![full, imported, again]);
    world.connect(0, 1);
    world.connect(0, 2);
    assert!(world.until(MINUTE, World::agree));
    assert_eq!(world.dropped, []);
    let tip = world.nodes[0].chain().tip();
    let windows: Vec<_> = world.nodes.iter_mut().map(|node| node.chain_mut().window(&tip)).collect();
    assert!(windows.iter().all(|window| window == &windows[0]));
}

#[test]
fn a_file_of_another_network_or_too_short_or_altered_is_refused() {
    let full = pruned(200);
    let other = import(Reader::new(&file(&full)[..]).unwrap(), &Params { lag: 9, ..short() }, &*SECP);
    assert!(matches!(other, Err(NotImported::OtherNetwork { .. })));
    let mut bytes = file(&full);
    let end = bytes.len() - 50;
    bytes[end] ^= 1;
    assert!(matches!(
        read(&bytes),
        Err(NotImported::File(BadFile::Checksum | BadFile::Share { .. }) | NotImported::Share { .. })
    ));
    let whole = |chain: &Chain, from: u32, to: u32| {
        let mut writer = sharechain::export::Writer::new(Vec::new(), chain.params()).unwrap();
        for height in from..=to {
            let id = chain.at_height(height).unwrap();
            let sheet = chain.sheet_of(&id).map(|sheet| &**sheet);
            writer.add(chain.encoded(&id).unwrap(), sheet).unwrap();
        }
        writer.finish().unwrap()
    };
    let (lowest, top) = (full.lowest(), full.standing(&full.tip()).unwrap().height);
    let short_one = read(&whole(&full, lowest, lowest + 20));
    assert!(matches!(short_one, Err(NotImported::TooShort { has: 20, .. })));
    assert!(read(&whole(&full, lowest, top)).is_ok());
    // One is missing in the middle.
    let mut writer = sharechain::export::Writer::new(Vec::new(), full.params()).unwrap();
    for height in (lowest..=top).filter(|height| *height != lowest + 70) {
        let id = full.at_height(height).unwrap();
        writer.add(full.encoded(&id).unwrap(), full.sheet_of(&id).map(|sheet| &**sheet)).unwrap();
    }
    let gap = read(&writer.finish().unwrap());
    assert!(matches!(gap, Err(NotImported::Share { why: BadOne::Refused(Refused::Unconnected(_)), .. })));
}

/// Only the lowest shares of a pruned chain may count uncles that nobody has.
#[test]
fn a_file_from_genesis_on_lacks_no_uncle() {
    let mut whole = Chain::new(short());
    let genesis = whole.tip();
    extend(&mut whole, &Wish::of(script(0)));
    extend_at(&mut whole, genesis, &Wish::of(script(1)));
    extend(&mut whole, &Wish::of(script(0)));
    let mut writer = sharechain::export::Writer::new(Vec::new(), whole.params()).unwrap();
    for height in 1..=2 {
        writer.add(whole.encoded(&whole.at_height(height).unwrap()).unwrap(), None).unwrap();
    }
    let lacks = read(&writer.finish().unwrap());
    assert!(matches!(
        lacks,
        Err(NotImported::Share { number: 2, why: BadOne::Refused(Refused::Unconnected(_)) })
    ));
    assert!(read(&file(&whole)).is_ok());
}
