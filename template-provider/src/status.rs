//! What the program shows: page, JSON and metrics.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::{Amount, Network};
use distribution::BlockTemplate;
use link::unix_now;
use serde_json::{Value, json};
use service::{Cell, Metric, Page, Section, Status};

use crate::clients::{self, Clients};
use crate::config::Choice;
use crate::feed::Templates;
use crate::health::{Failure, Health, View};
use crate::solution_store::Settled;
use crate::solutions::{Answer, Found, Solutions};
use crate::source::Way;

/// Everything that is shown, read when somebody looks.
#[derive(Debug)]
pub struct Shown {
    /// Where clients are served.
    pub listen: String,
    /// What clients need to know this server by.
    pub authority_public_key: String,
    /// The node's address.
    pub node: String,
    /// How templates are to come.
    pub source: Choice,
    /// How the node is doing.
    pub health: Arc<Health>,
    /// The template in force.
    pub templates: Templates,
    /// Who is connected.
    pub clients: Arc<Clients>,
    /// Blocks found.
    pub solutions: Solutions,
}

impl Status for Shown {
    fn page(&self) -> Page {
        Page::new("Sluice template provider")
            .with(self.template_section())
            .with(self.node_section())
            .with(self.clients_section())
            .with(self.blocks_section())
    }

    fn paths(&self) -> &'static [&'static str] {
        &["status", "template", "node", "clients", "blocks"]
    }

    fn api(&self, path: &str) -> Option<Value> {
        Some(match path {
            "status" => json!({
                "listen": self.listen,
                "authority_public_key": self.authority_public_key,
                "template": self.template(),
                "node": self.node(),
                "clients": self.clients.len(),
                "blocks": self.solutions.found().len(),
            }),
            "template" => self.template(),
            "node" => self.node(),
            "clients" => self.clients.views().iter().map(client).collect(),
            "blocks" => self.solutions.found().iter().map(|found| self.block(found)).collect(),
            _ => return None,
        })
    }

    fn metrics(&self) -> Vec<Metric> {
        let template = self.templates.borrow().clone();
        let parts = template.as_ref().map(|template| template.parts());
        let view = self.health.view();
        vec![
            Metric::gauge("clients", "Clients that are connected").sample(&[], self.clients.len()),
            Metric::gauge("node_reachable", "Whether the node delivers templates")
                .sample(&[], view.active.is_some()),
            self.sources_metric(&view),
            Metric::gauge("template_height", "Height of the block to mine")
                .sample(&[], parts.map_or(0, |parts| parts.height)),
            transactions_metric(template.as_deref()),
            Metric::gauge("template_coinbase_value_sat", "Subsidy and fees")
                .sample(&[], parts.map_or(0, |parts| parts.coinbase.value.to_sat())),
        ]
    }

    fn health(&self) -> Result<(), String> {
        match self.health.view() {
            view if view.published.is_none() && view.problem.is_none() => Err("no template yet".into()),
            view => view.problem.map_or(Ok(()), |(problem, _)| Err(problem)),
        }
    }
}

impl Shown {
    /// JSON's null before the first template.
    fn template(&self) -> Value {
        let Some(template) = self.templates.borrow().clone() else { return Value::Null };
        let parts = template.parts();
        json!({
            "template_id": template.id(),
            "height": parts.height,
            "prev_hash": parts.prev_hash,
            "transactions": transactions(&template),
            "coinbase_value_sat": parts.coinbase.value.to_sat(),
            "fees_sat": template.fees().map(Amount::to_sat),
            "bits": format!("{:08x}", parts.bits.to_consensus()),
            "age_seconds": self.age().as_secs(),
        })
    }

    fn node(&self) -> Value {
        let view = self.health.view();
        let problem = view.problem.as_ref();
        json!({
            "url": self.node,
            "problem": problem.map(|(text, _)| text),
            "away_seconds": problem.map(|(_, since)| since.elapsed().as_secs()),
            "version": view.node.as_ref().map(|node| &node.version),
            "network": view.node.as_ref().and_then(|node| node.network).map(Network::to_core_arg),
            "peers": view.node.as_ref().and_then(|node| node.peers),
            "source": view.active.map(|(way, _)| way.name()),
            "source_seconds": view.active.map(|(_, since)| since.elapsed().as_secs()),
            "failures": Way::ALL.map(|way| failure(way, &view)),
        })
    }

    fn sources_metric(&self, view: &View) -> Metric {
        let metric = Metric::gauge("source", "Whether templates come in this way");
        Way::ALL.iter().fold(metric, |metric, way| {
            metric.sample(&[("way", way.name())], view.active.is_some_and(|(active, _)| active == *way))
        })
    }

    fn block(&self, found: &Found) -> Value {
        let answers = self.solutions.outlets().zip(&found.answers);
        json!({
            "hash": found.hash,
            "height": found.height,
            "transactions": found.transactions,
            "coinbase_value_sat": found.coinbase_value,
            "time": found.time,
            "on_a_node": found.settled().map(|settled| settled == Settled::Done),
            "nodes": answers.map(|(url, answer)| json!({ "url": url, "answer": said(answer) })).collect::<Vec<_>>(),
        })
    }

    /// How long ago the template in force came.
    fn age(&self) -> Duration {
        self.health.view().published.map_or(Duration::ZERO, |at| at.elapsed())
    }

    fn template_section(&self) -> Section {
        let section = Section::pairs("Template");
        let Some(template) = self.templates.borrow().clone() else {
            return section.note("None yet: the node has not delivered one.");
        };
        let parts = template.parts();
        let unknown = if parts.transactions.are_lost() { "never came" } else { "not known yet" };
        section
            .pair("block to mine", parts.height)
            .pair("on top of", parts.prev_hash.to_string())
            .pair("transactions, coinbase included", known_or(unknown, transactions(&template)))
            .pair("pays", btc(parts.coinbase.value))
            .pair("of which fees", known_or(unknown, template.fees().map(btc)))
            .pair("age", format!("{} s", self.age().as_secs()))
    }

    fn node_section(&self) -> Section {
        let view = self.health.view();
        let state = match (&view.problem, view.active) {
            (Some((problem, since)), _) => {
                Cell::bad(format!("{problem} (for {} s)", since.elapsed().as_secs()))
            }
            (None, Some((way, since))) => {
                let text = format!("delivers templates by {way}, for {} s", since.elapsed().as_secs());
                let is_second_best = self.source == Choice::Auto && way == Way::Rpc;
                if is_second_best { Cell::warn(text) } else { Cell::good(text) }
            }
            (None, None) => Cell::warn("not reached yet"),
        };
        let section = Section::pairs("Node").pair("address", self.node.as_str()).pair("state", state);
        let section = Way::ALL.iter().fold(section, |section, way| match &view.failures[way.index()] {
            Some(failure) => section.pair(format!("last failure of {way}"), told(failure)),
            None => section,
        });
        let Some(node) = view.node else { return section };
        let section = section.pair("version", node.version);
        let section = match node.network {
            Some(network) => section.pair("network", network.to_core_arg()),
            None => section,
        };
        match node.peers {
            Some(peers) => section.pair("peers", peers),
            None => section,
        }
    }

    fn clients_section(&self) -> Section {
        let header =
            ["address", "program", "connected", "adds to the coinbase", "templates", "left out", "blocks"];
        let note = format!(
            "Hubs and proxies fetch templates at {} and know this server by its authority key {}.",
            self.listen, self.authority_public_key
        );
        let rows = self.clients.views().into_iter().map(|view| {
            let adds = view
                .constraints
                .map(|c| format!("{} bytes, {} sigops", c.max_additional_size, c.max_additional_sigops));
            [
                Cell::from(view.address.to_string()),
                Cell::from(format!("{} {}", view.vendor, view.firmware)),
                Cell::from(format!("{} s", unix_now().saturating_sub(view.since))),
                adds.map_or_else(|| Cell::warn("not said yet"), Cell::from),
                Cell::from(view.templates),
                Cell::from(left_out(&view)),
                Cell::from(view.solutions),
            ]
        });
        Section::table("Clients", header).note(note).rows(rows)
    }

    fn blocks_section(&self) -> Section {
        let rows = self.solutions.found().into_iter().map(|found| {
            let state = match found.settled() {
                Some(Settled::Done) => Cell::good("on a node"),
                Some(Settled::Rejected) => Cell::bad("rejected"),
                None if found.is_left_for_next_start() => Cell::bad("waiting for the next start"),
                None => Cell::warn("waiting for a node"),
            };
            let answers: Vec<_> = self
                .solutions
                .outlets()
                .zip(&found.answers)
                .map(|(url, answer)| format!("{url}: {}", said(answer)))
                .collect();
            [
                Cell::from(found.height),
                Cell::from(found.hash.to_string()),
                known_or("not known", found.transactions),
                Cell::from(btc(Amount::from_sat(found.coinbase_value))),
                state,
                Cell::from(answers.join("; ")),
            ]
        });
        Section::table("Blocks found", ["height", "hash", "transactions", "pays", "state", "nodes"])
            .rows(rows)
    }
}

/// Of the block, the coinbase included, once they are there.
fn transactions(template: &BlockTemplate) -> Option<usize> {
    Some(template.parts().transactions.all()?.len() + 1)
}

/// No sample for a moment where a template came before its transactions: no number would be right.
fn transactions_metric(template: Option<&BlockTemplate>) -> Metric {
    let metric = Metric::gauge("template_transactions", "Transactions to mine, coinbase included");
    match template.map_or(Some(0), transactions) {
        Some(count) => metric.sample(&[], count),
        None => metric,
    }
}

fn known_or(unknown: &'static str, what: Option<impl Into<Cell>>) -> Cell {
    what.map_or_else(|| Cell::from(unknown), Into::into)
}

/// Transactions that had to give way to the client's coinbase.
fn left_out(view: &clients::View) -> usize {
    view.template.as_ref().map_or(0, |template| template.left_out())
}

fn client(view: &clients::View) -> Value {
    json!({
        "address": view.address.to_string(),
        "vendor": view.vendor,
        "firmware": view.firmware,
        "since": view.since,
        "max_additional_size": view.constraints.map(|constraints| constraints.max_additional_size),
        "max_additional_sigops": view.constraints.map(|constraints| constraints.max_additional_sigops),
        "templates": view.templates,
        "template_id": view.template.as_ref().map(|template| template.id()),
        "transactions": view.template.as_ref().and_then(|template| Some(template.transactions()?.len() + 1)),
        "left_out": left_out(view),
        "transaction_data_requests": view.requests,
        "blocks": view.solutions,
    })
}

fn failure(way: Way, view: &View) -> Value {
    let failure = view.failures[way.index()].as_ref();
    json!({
        "way": way.name(),
        "reason": failure.map(|failure| &failure.reason),
        "seconds": failure.map(|failure| failure.since.elapsed().as_secs()),
        "over": failure.map(|failure| failure.over.is_some()),
    })
}

fn told(failure: &Failure) -> String {
    let Failure { reason, since, over } = failure;
    match over {
        None => format!("{reason} (for {} s)", since.elapsed().as_secs()),
        Some(over) => format!(
            "{reason} (for {} s, until {} s ago)",
            (*over - *since).as_secs(),
            over.elapsed().as_secs()
        ),
    }
}

fn said(answer: &Answer) -> String {
    match answer {
        Answer::Waiting(None) => "not answered yet".into(),
        Answer::Waiting(Some(reason)) => format!("trying again: {reason}"),
        Answer::Has => "has it".into(),
        Answer::Rejected(reason) => format!("rejected: {reason}"),
    }
}

fn btc(amount: Amount) -> String {
    format!("{:.8} BTC", amount.display_in(bitcoin::Denomination::Bitcoin))
}
