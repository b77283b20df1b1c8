//! The addresses that a program listens on, by their keys: no two keys may name the same, and `--check` tries each.

use std::net::SocketAddr;

use crate::config::Problem;
use crate::listener;
use crate::operation::Operation;
use crate::program::{Finding, Program};

/// A key, and the address that it names.
type Named = (&'static str, SocketAddr);

/// All of them, the page's last.
pub(crate) fn all<P: Program>(config: &P::Config, operation: &Operation) -> Vec<Named> {
    P::listens(config).into_iter().chain([("page.listen", operation.page)]).collect()
}

/// Keys that name what an earlier one names.
pub(crate) fn taken_twice(all: &[Named]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, (key, address)) in all.iter().enumerate() {
        if let Some((first, other)) = all[..index].iter().find(|(_, other)| collide(*other, *address)) {
            let reason = format!("is taken by {first} = {other} already");
            problems.push(Problem::new(*key, reason, "write another address or port in one of them"));
        }
    }
    problems
}

/// Tries each, and leaves it at once. Whoever listens there or begins to is not disturbed. What is in use is in order where a program
/// runs with this data directory: a new configuration is tried before it is taken over. Where none does, `other_dir` is what more to
/// do if it is that program all the same.
pub(crate) fn probe(all: &[Named], is_running: bool, other_dir: &str) -> Vec<Finding> {
    let probe = |(key, address): &Named| {
        let what = format!("{key} {address}");
        match listener::try_to_bind(*address) {
            Ok(()) => Finding::good(what, "free"),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => match is_running {
                true => Finding::good(what, "in use, by the running program as it seems"),
                false => Finding::bad(what, format!("{error}; {}{other_dir}", listener::mend(key, &error))),
            },
            Err(error) => Finding::bad(what, format!("{error}; {}", listener::mend(key, &error))),
        }
    };
    all.iter().map(probe).collect()
}

/// Whether who listens on one keeps others from the other. Port 0 is any that is free.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    // Linux gives all of IPv4, too, to who listens on [::].
    let covers =
        |one: SocketAddr, other: SocketAddr| one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4());
    one.port() != 0
        && one.port() == other.port()
        && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn named(addresses: &[&str]) -> Vec<Named> {
        let keys = ["first", "second", "third"];
        keys.into_iter().zip(addresses.iter().map(|address| address.parse().unwrap())).collect()
    }

    #[test]
    fn two_keys_with_one_address_are_both_named() {
        let problems = taken_twice(&named(&["0.0.0.0:3333", "127.0.0.1:3334", "127.0.0.1:3333"]));
        assert_eq!(problems.len(), 1, "{problems:?}");
        let said = problems[0].to_string();
        assert!(said.contains("third") && said.contains("first = 0.0.0.0:3333"), "{said}");
        assert_eq!(taken_twice(&named(&["[::]:1", "127.0.0.1:1"])).len(), 1);
        for apart in
            [["127.0.0.1:0", "127.0.0.1:0"], ["127.0.0.1:1", "127.0.0.2:1"], ["[::1]:1", "0.0.0.0:1"]]
        {
            assert!(taken_twice(&named(&apart)).is_empty(), "{apart:?}");
        }
    }

    #[test]
    fn an_address_in_use_is_in_order_only_where_the_program_runs() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = [("listen", listener.local_addr().unwrap())];
        let outcome = |is_running| probe(&taken, is_running, "; or look elsewhere").remove(0).outcome;
        assert!(outcome(true).unwrap().contains("by the running program"));
        let refused = outcome(false).unwrap_err();
        assert!(
            refused.contains("in use") && refused.contains("set listen to another; or look"),
            "{refused}"
        );
        drop(listener);
        assert_eq!(outcome(false).unwrap(), "free");
    }

    #[test]
    fn an_address_of_another_machine_is_told_so_whether_the_program_runs_or_not() {
        let elsewhere = [("listen", "192.0.2.1:3333".parse::<SocketAddr>().unwrap())]; // RFC 5737
        for is_running in [false, true] {
            let refused = probe(&elsewhere, is_running, "").remove(0).outcome.unwrap_err();
            assert!(refused.contains("no address of this machine"), "{refused}");
        }
    }
}
