//! Bounds on connections, and who gives way where one is reached.
#![allow(clippy::unwrap_used)]

use super::*;
use link::places::LOOK_AGAIN;
use mining::Work;

fn from(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

fn peer() -> Peer {
    Peer {
        address: from("1.1.1.1:1"),
        version: 2,
        flags: 0,
        host: String::new(),
        port: 0,
        device: link::Device::default(),
    }
}

const UNPROVEN: Duration = Duration::from_secs(120);

/// There is work, and was before anybody came.
fn connections(max_connections: usize, max_connections_per_address: usize) -> Arc<Connections> {
    let connections = without_work(max_connections, max_connections_per_address);
    connections.feed.serve_since(Instant::now().checked_sub(Duration::from_secs(1)).unwrap());
    connections
}

fn without_work(max_connections: usize, max_connections_per_address: usize) -> Arc<Connections> {
    let limits = Limits { max_connections, max_connections_per_address, max_channels: 100 };
    Connections::new(limits, Duration::from_secs(6), Arc::default(), CancellationToken::new())
}

#[test]
fn connections_are_bounded_in_all_and_by_address_and_leave_room_when_they_go() {
    let now = Instant::now();
    let connections = connections(3, 2);
    let first = connections.enter(from("1.1.1.1:1"), now).unwrap();
    let _second = connections.enter(from("1.1.1.1:2"), now).unwrap();
    assert_eq!(connections.enter(from("1.1.1.1:3"), now).unwrap_err(), TooMany::PerAddress);
    let _third = connections.enter(from("2.2.2.2:1"), now).unwrap();
    assert_eq!(connections.enter(from("3.3.3.3:1"), now).unwrap_err(), TooMany::Connections);
    drop(first);
    assert_eq!(connections.count(), 2);
    connections.enter(from("1.1.1.1:4"), now).unwrap();
}

#[test]
fn one_network_of_ipv6_is_one_address() {
    let now = Instant::now();
    let connections = connections(10, 1);
    let _first = connections.enter(from("[2001:db8:0:1::1]:1"), now).unwrap();
    assert_eq!(connections.enter(from("[2001:db8:0:1:9::9]:1"), now).unwrap_err(), TooMany::PerAddress);
    connections.enter(from("[2001:db8:0:2::1]:1"), now).unwrap();
}

#[test]
fn one_without_a_mining_channel_gives_way_where_a_bound_is_reached_and_one_that_mines_does_not() {
    let start = Instant::now();
    let later = start + UNUSED;
    let connections = connections(2, 2);
    let mines = connections.enter(from("1.1.1.1:1"), start).unwrap();
    mines.spoke(start);
    mines.set_up(peer(), start);
    mines.opened(2, Channel::sample(), start);
    let waits = connections.enter(from("1.1.1.1:2"), start).unwrap();
    waits.spoke(start);
    waits.set_up(peer(), start);
    assert!(connections.enter(from("2.2.2.2:1"), later - Duration::from_secs(1)).is_err());
    let next = connections.enter(from("2.2.2.2:1"), later).unwrap();
    assert!(waits.leave.is_cancelled() && !mines.leave.is_cancelled());
    drop(waits);
    assert_eq!(connections.count(), 2, "its place is counted once");
    next.spoke(later);
    next.set_up(peer(), later);
    mines.closed(2, later);
    assert!(connections.enter(from("3.3.3.3:1"), later).is_err());
    connections.enter(from("3.3.3.3:1"), later + UNUSED).unwrap();
    assert!(mines.leave.is_cancelled());
}

#[test]
fn silent_ones_give_way_first_then_those_whose_handshake_is_not_done_in_its_time() {
    let start = Instant::now();
    let connections = connections(3, 3);
    let shaking = connections.enter(from("1.1.1.1:1"), start).unwrap();
    shaking.spoke(start);
    let unused = connections.enter(from("1.1.1.1:2"), start).unwrap();
    unused.spoke(start);
    unused.set_up(peer(), start);
    let silent = connections.enter(from("1.1.1.1:3"), start).unwrap();
    assert!(connections.enter(from("2.2.2.2:1"), start).is_err(), "it has only just come");
    let next = connections.enter(from("2.2.2.2:1"), start + SILENT).unwrap();
    next.spoke(start + SILENT);
    assert!(silent.leave.is_cancelled());
    assert!(connections.enter(from("2.2.2.2:2"), start + SHAKING - Duration::from_millis(1)).is_err());
    assert!(!shaking.leave.is_cancelled());
    let last = connections.enter(from("2.2.2.2:2"), start + UNUSED).unwrap();
    last.spoke(start + UNUSED);
    assert!(shaking.leave.is_cancelled());
    assert!(!unused.leave.is_cancelled(), "it came further");
}

#[test]
fn a_crowd_that_waits_for_its_handshakes_keeps_nobody_else_out() {
    let start = Instant::now();
    let later = start + SHAKING;
    let connections = connections(1_000, 1_000);
    let crowd: Vec<_> = (1..=1_000)
        .map(|port| {
            let guard = connections.enter(([1, 1, 1, 1], port).into(), start).unwrap();
            guard.spoke(start);
            guard
        })
        .collect();
    assert!(connections.enter(from("2.2.2.2:1"), start + SHAKING / 2).is_err(), "they have their time");
    let newcomers: Vec<_> =
        (1..=200).map(|port| connections.enter(([2, 2, 2, 2], port).into(), later).unwrap()).collect();
    assert!(newcomers.iter().all(|newcomer| !newcomer.leave.is_cancelled()));
    assert_eq!(crowd.iter().filter(|guard| guard.leave.is_cancelled()).count(), 200);
    let again = connections.enter(from("1.1.1.1:2000"), later + LOOK_AGAIN).unwrap();
    assert!(!again.leave.is_cancelled());
}

#[test]
fn a_crowd_that_knocks_where_its_own_bound_is_reached_keeps_nobody_else_out() {
    let start = Instant::now();
    let later = start + SHAKING;
    let connections = connections(200, 100);
    let crowd = |address, port: u16| {
        let guard = connections.enter((address, port).into(), start).unwrap();
        guard.spoke(start);
        guard
    };
    let _here: Vec<_> = (1..=100).map(|port| crowd([1, 1, 1, 1], port)).collect();
    let _there: Vec<_> = (1..=100).map(|port| crowd([1, 1, 1, 2], port)).collect();
    let knocks = connections.enter(from("1.1.1.1:2000"), later).unwrap();
    assert!(connections.enter(from("2.2.2.2:1"), later).is_ok());
    drop(knocks);
}

/// Two that mine, of which the second has brought a share.
fn idle_and_proven(connections: &Arc<Connections>, start: Instant, addresses: [&str; 2]) -> [Guard; 2] {
    let guards = addresses.map(|address| {
        let guard = connections.enter(from(address), start).unwrap();
        guard.spoke(start);
        guard
    });
    let channel = Channel::sample();
    channel.count_accepted(Work::new(1), Work::new(1));
    guards[0].opened(2, Channel::sample(), start);
    guards[1].opened(2, channel, start);
    guards
}

#[test]
fn a_channel_that_never_brought_a_share_gives_way_at_last_and_one_that_did_never() {
    let start = Instant::now();
    let connections = connections(2, 2);
    let [idle, proven] = idle_and_proven(&connections, start, ["1.1.1.1:1", "1.1.1.2:1"]);
    assert!(connections.enter(from("2.2.2.2:1"), start + UNPROVEN - Duration::from_secs(1)).is_err());
    let newest = connections.enter(from("2.2.2.2:1"), start + UNPROVEN).unwrap();
    newest.spoke(start + 9 * UNPROVEN);
    assert!(idle.leave.is_cancelled() && !proven.leave.is_cancelled());
    assert!(connections.enter(from("2.2.2.2:2"), start + 9 * UNPROVEN).is_err());
}

#[test]
fn time_without_work_counts_against_nobody() {
    let start = Instant::now();
    let served = start + 5 * UNPROVEN;
    let connections = without_work(2, 2);
    let [idle, _proven] = idle_and_proven(&connections, start, ["1.1.1.1:1", "1.1.1.2:1"]);
    assert!(connections.enter(from("2.2.2.2:1"), served).is_err(), "nobody could bring a share");
    connections.feed.serve_since(served);
    let late = served + UNPROVEN;
    assert!(connections.enter(from("2.2.2.2:1"), late - Duration::from_secs(1)).is_err());
    assert!(!idle.leave.is_cancelled());
    connections.enter(from("2.2.2.2:1"), late).unwrap();
    assert!(idle.leave.is_cancelled());
}

#[test]
fn many_places_are_found_at_one_look() {
    let start = Instant::now();
    let later = start + UNUSED;
    let connections = connections(100, 100);
    let unused: Vec<_> =
        (1..=100).map(|port| connections.enter(([1, 1, 1, 1], port).into(), start)).collect();
    for guard in &unused {
        let guard = guard.as_ref().unwrap();
        guard.spoke(start);
        guard.set_up(peer(), start);
    }
    let others: Vec<_> =
        (1..=100).map(|host| connections.enter(([2, 2, 2, host], 1).into(), later)).collect();
    assert!(others.iter().all(Result::is_ok));
    assert!(unused.iter().all(|guard| guard.as_ref().unwrap().leave.is_cancelled()));
    assert_eq!(connections.enter(from("3.3.3.3:1"), later).unwrap_err(), TooMany::Connections);
}

#[test]
fn newcomers_of_one_moment_get_places_one_after_the_other_from_a_crowd_of_silent_ones_at_their_own_address() {
    let start = Instant::now();
    let later = start + SILENT;
    let connections = connections(2_000, 1_000);
    let enter = |address, port| connections.enter((address, port).into(), start).unwrap();
    let silent: Vec<_> = (1..=1_000).map(|port| enter([1, 1, 1, 1], port)).collect();
    let elsewhere: Vec<_> = (1..=1_000).map(|port| enter([2, 2, 2, 2], port)).collect();
    for port in 2_000..2_500 {
        let newcomer = connections.enter(([1, 1, 1, 1], port).into(), later).unwrap();
        newcomer.spoke(later);
        assert!(silent[usize::from(port - 2_000)].leave.is_cancelled());
        std::mem::forget(newcomer);
    }
    assert!(elsewhere.iter().all(|other| !other.leave.is_cancelled()), "an address pays with its own");
    assert_eq!(connections.count(), 2_000);
}
