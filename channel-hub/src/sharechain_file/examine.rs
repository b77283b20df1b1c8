//! Reads an exported chain and checks every rule of every share, in the order of the file.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use bitcoin::secp256k1::{Secp256k1, VerifyOnly};
use bitcoin::{Address, Network as Bitcoin, p2p::Magic};
use sharechain::export::{BadFile, Reader};
use sharechain::import::Beginning;
use sharechain::{Body, Chain, FullShare, Params, Recipient, Refused, Share, ShareId};

use super::report::{self, Report, Wrong};

/// Looks at a file. `genesis` is the network that it must be of, if the caller knows.
pub fn file(path: &Path, genesis: Option<ShareId>) -> Report {
    let mut report = Report { file: path.display().to_string(), ..Report::default() };
    match read(path, genesis, &mut report) {
        Ok(()) => report.valid = true,
        Err(wrong) => report.error = Some(wrong),
    }
    report
}

/// Opens a file up to its first share.
pub(super) fn open(path: &Path) -> Result<Reader<BufReader<File>>, Wrong> {
    let unreadable = |why: &dyn std::fmt::Display| of_file(why, "check the path and its permissions");
    let file = File::open(path).map_err(|why| unreadable(&why))?;
    if file.metadata().is_ok_and(|file| file.is_dir()) {
        return Err(unreadable(&"it is a directory"));
    }
    Reader::new(BufReader::new(file)).map_err(|why| bad_file(&why))
}

fn read(path: &Path, genesis: Option<ShareId>, report: &mut Report) -> Result<(), Wrong> {
    let mut reader = open(path)?;
    report.network = Some(network(reader.name(), reader.params()));
    if let Some(genesis) = genesis.filter(|genesis| *genesis != reader.params().genesis()) {
        let why = format!("its genesis share is {}, not {genesis}", reader.params().genesis());
        return Err(of_file(&why, "it is a chain of another network, or of one with other rules"));
    }
    let mut examined = Examined::new(reader.params().clone());
    let outcome = examined.take_all(&mut reader);
    examined.tell(report);
    outcome
}

/// The tree, as far as it was read.
struct Examined {
    params: Params,
    secp: Secp256k1<VerifyOnly>,
    beginning: Beginning,
    sheets: Vec<report::Sheet>,
}

impl Examined {
    fn new(params: Params) -> Self {
        let beginning = Beginning::new(params.clone());
        Self { params, secp: Secp256k1::verification_only(), beginning, sheets: Vec::new() }
    }

    fn take_all(&mut self, reader: &mut Reader<BufReader<File>>) -> Result<(), Wrong> {
        while let Some((share, body)) = reader.next_share().map_err(|why| bad_file(&why))? {
            let (number, id, height) = (reader.count(), share.id(), share.data.height);
            self.take(share, body).map_err(|broken| Wrong {
                number: Some(number),
                share: Some(id.to_string()),
                height: Some(height),
                ..broken
            })?;
        }
        Ok(())
    }

    fn take(&mut self, share: Share, body: Body) -> Result<(), Wrong> {
        let checked = share.check(&self.params, &self.secp).map_err(|rule| broken(&rule))?;
        let full = checked.with_body(body, &self.params).map_err(|rule| broken(&rule))?;
        self.note_sheet(&full);
        self.beginning.take(&full).map(drop).map_err(|why| refused(&why))
    }

    fn note_sheet(&mut self, share: &FullShare) {
        let Some(sheet) = share.sheet() else { return };
        let promise = sheet.promise();
        let first_height = promise.period.saturating_mul(self.params.locks.period);
        self.sheets.push(report::Sheet {
            hub_id: promise.hub_id.to_string(),
            period: promise.period,
            first_height,
            last_height: first_height.saturating_add(self.params.locks.period - 1),
            claim_key: promise.claim_key.to_string(),
            share: share.checked().id().to_string(),
            share_height: share.checked().share().data.height,
            is_best: false,
        });
    }

    fn tell(self, report: &mut Report) {
        let Self { beginning, mut sheets, .. } = self;
        let whole = beginning.judged();
        let mut chain = beginning.into_chain();
        sheets.retain_mut(|sheet| {
            let id = sheet.share.parse::<bitcoin::BlockHash>().ok().map(ShareId::from);
            sheet.is_best = id.is_some_and(|id| chain.is_best(&id));
            id.is_some_and(|id| chain.contains(&id))
        });
        report.sheets = sheets;
        report.chain = Some(summary(&chain, whole));
        report.window = window(&mut chain);
    }
}

fn network(name: &str, params: &Params) -> report::Network {
    report::Network {
        name: name.to_owned(),
        genesis: params.genesis().to_string(),
        window_shares: params.window_shares,
        interval_seconds: params.interval,
        limit_sat: params.limit.to_sat(),
    }
}

#[allow(clippy::cast_precision_loss)] // for the eye
fn summary(chain: &Chain, whole: usize) -> report::Chain {
    let tip = chain.tip();
    let end = chain.standing(&tip).unwrap_or_else(|| unreachable!("the tip is in the tree"));
    let lowest = chain.lowest();
    let first =
        chain.at_height(lowest.max(1).min(end.height)).and_then(|id| chain.standing(&id)).unwrap_or(end);
    let spans = end.height.saturating_sub(lowest.max(1));
    let decode = |id: &ShareId| bitcoin::consensus::deserialize::<Share>(chain.encoded(id)?).ok();
    let best = (lowest..=end.height).filter_map(|height| decode(&chain.at_height(height)?));
    let uncles: usize = best.map(|share| share.data.uncles.len()).sum();
    let shares = chain.len() - usize::from(lowest == 0);
    let on_branch = usize::try_from(end.height - lowest).unwrap_or(0) + usize::from(lowest > 0);
    report::Chain {
        shares,
        checked_by_every_rule: whole,
        lowest_height: lowest.max(u32::from(shares > 0)),
        tip: tip.to_string(),
        height: end.height,
        total_work: end.total_work.to_string(),
        time: end.time,
        block_height: end.block_height,
        seconds_per_share: f64::from(end.time.saturating_sub(first.time)) / f64::from(spans.max(1)),
        uncles,
        uncle_percent: 100.0 * uncles as f64 / (on_branch + uncles).max(1) as f64,
        lost: shares.saturating_sub(on_branch + uncles),
    }
}

/// What the next share would pay, in a block of the tip's height that pays the bare subsidy.
#[allow(clippy::cast_precision_loss)] // for the eye
fn window(chain: &mut Chain) -> Option<report::Window> {
    let tip = chain.tip();
    let block_height = chain.standing(&tip)?.block_height;
    let value = chain.params().subsidy(block_height);
    let end = chain.paying(&tip)?;
    let window = chain.window(&end)?;
    let first = window.weights.first().map(|credit| (*credit.recipient).clone())?;
    let payouts = chain.payouts(&tip, &first, None, block_height, value).unwrap_or_default();
    let bitcoin = network_of(chain.params());
    let whole = window.work.hashes().max(1) as f64;
    let recipients = window.weights.iter().map(|credit| {
        let paid = payouts.iter().find(|payout| payout.recipient == credit.recipient);
        report::Recipient {
            kind: if credit.recipient.hub().is_some() { "hub" } else { "script" },
            name: name(&credit.recipient, bitcoin),
            work: credit.weight.to_string(),
            percent: 100.0 * credit.weight.hashes() as f64 / whole,
            next_payout_sat: paid.map_or(0, |payout| payout.output.value.to_sat()),
            unpaid: match (paid, credit.recipient.hub()) {
                (Some(_), _) => None,
                (None, Some(_)) => Some("below the limit, or no lock sheet of its counts yet"),
                (None, None) => Some("below the limit, or beyond the most outputs"),
            },
        }
    });
    Some(report::Window {
        end: end.to_string(),
        shares: window.shares,
        work: window.work.to_string(),
        block_height,
        value_sat: value.to_sat(),
        recipients: recipients.collect(),
    })
}

fn network_of(params: &Params) -> Bitcoin {
    Bitcoin::try_from(Magic::from_bytes(params.locks.magic)).unwrap_or(Bitcoin::Signet)
}

fn name(recipient: &Recipient, network: Bitcoin) -> String {
    match recipient {
        Recipient::Hub(hub_id) => hub_id.to_string(),
        Recipient::Script(script) => Address::from_script(script, network)
            .map_or_else(|_| script.to_hex_string(), |address| address.to_string()),
    }
}

fn bad_file(why: &BadFile) -> Wrong {
    let advice = match why {
        BadFile::Magic => "export a chain again, or give the file that was exported",
        BadFile::Version(_) => "use a newer sluice-hub",
        BadFile::Read(_) => "try again; if it stays so, the disk may be failing",
        _ => "the file was cut off, damaged or altered on its way: get it again from where it was exported",
    };
    of_file(why, advice)
}

fn of_file(why: &dyn std::fmt::Display, advice: &str) -> Wrong {
    Wrong { rule: "File".to_owned(), why: why.to_string(), advice: advice.to_owned(), ..Wrong::default() }
}

fn refused(why: &Refused) -> Wrong {
    match why {
        Refused::Invalid(rule) => broken(rule),
        Refused::Unconnected(_) => Wrong {
            advice: "the file lacks a share, or has a share before its parent: export the chain again"
                .to_owned(),
            ..broken(why)
        },
        _ => Wrong { advice: "export the chain again".to_owned(), ..broken(why) },
    }
}

/// The rule's name is its variant's, as PROTOCOL.md writes it.
fn broken<E: std::fmt::Debug + std::fmt::Display>(rule: &E) -> Wrong {
    let text = format!("{rule:?}");
    let name = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    Wrong {
        rule: name.to_owned(),
        why: rule.to_string(),
        advice: "every node refuses this share and all that stand on it; what is before it is valid. Ask whoever gave you \
                 the file where it comes from, and mine on no chain that has it"
            .to_owned(),
        ..Wrong::default()
    }
}
