//! A report for a person.

use super::report::{Chain, Import, Recipient, Report, Sheet, Window, Wrong};

/// Most recipients that are shown by name.
const MOST_SHOWN: usize = 30;

/// The whole text. Short says whether it is valid, and how long the chain is.
pub(super) fn of(report: &Report, is_long: bool) -> String {
    let mut lines = Vec::new();
    if let Some(network) = &report.network {
        lines.push(format!("Sharechain of {}, genesis {}", network.name, network.genesis));
        lines.push(
            "The rules are the file's; the genesis id binds them: compare it with your network's.".to_owned(),
        );
    }
    match &report.error {
        None => lines.push(valid(report)),
        Some(wrong) => lines.extend(invalid(&report.file, wrong)),
    }
    if let Some(chain) = report.chain.as_ref().filter(|chain| chain.shares > 0) {
        lines.push(String::new());
        if report.error.is_some() {
            lines.push("Up to there:".to_owned());
        }
        lines.extend(summary(chain));
    }
    // Of a file without a share that could be read nothing is known.
    if is_long && report.chain.as_ref().is_some_and(|chain| chain.shares > 0) {
        lines.extend(report.window.iter().flat_map(window));
        lines.extend(sheets(&report.sheets));
    }
    lines.extend(report.import.iter().flat_map(import));
    lines.join("\n") + "\n"
}

fn import(import: &Import) -> Vec<String> {
    let said = if import.done { "IMPORTED into" } else { "NOT IMPORTED into" };
    let mut lines = vec![String::new(), format!("{said} {}", import.store)];
    lines.extend(import.why.iter().map(|why| format!("  why     {why}")));
    lines.extend(import.advice.iter().map(|advice| format!("  do      {advice}")));
    lines
}

fn valid(report: &Report) -> String {
    let Some(chain) = &report.chain else { return "VALID".to_owned() };
    match chain.shares - chain.checked_by_every_rule.min(chain.shares) {
        0 => format!("VALID: {} shares, every rule checked", chain.shares),
        rest => format!(
            "VALID as far as can be known: {} shares, {} by every rule; of the lowest {rest}, whose ancestors the file lacks, \
             proofs of work, commitments, links and difficulty",
            chain.shares, chain.checked_by_every_rule
        ),
    }
}

fn invalid(file: &str, wrong: &Wrong) -> Vec<String> {
    let mut lines = Vec::new();
    match (wrong.number, &wrong.share, wrong.height) {
        (Some(number), Some(share), Some(height)) => {
            lines.push(format!(
                "INVALID: share number {number}, which says that it stands at height {height}"
            ));
            lines.push(format!("  share   {share}"));
            lines.push(format!("  rule    {}: {}", wrong.rule, wrong.why));
        }
        _ => {
            lines.push(format!("UNREADABLE: {file}"));
            lines.push(format!("  why     {}", wrong.why));
        }
    }
    lines.push(format!("  do      {}", wrong.advice));
    lines
}

fn summary(chain: &Chain) -> Vec<String> {
    let mut lines = vec![
        format!("  tip     {}", chain.tip),
        format!(
            "  height  {}, in a block of height {}, {}",
            chain.height,
            chain.block_height,
            utc(chain.time)
        ),
        format!("  work    {} hashes expected from genesis to the tip", grouped(&chain.total_work)),
        format!("  pace    {:.1} s a share on average", chain.seconds_per_share),
        format!(
            "  uncles  {} counted ({:.2} %), {} shares neither on the best branch nor counted",
            chain.uncles, chain.uncle_percent, chain.lost
        ),
    ];
    if chain.lowest_height > 1 {
        lines.push(format!("  begins  at height {}: older shares were pruned", chain.lowest_height));
    }
    lines
}

fn window(window: &Window) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        format!(
            "Window that the next share pays by: {} shares, {} hashes",
            window.shares,
            grouped(&window.work)
        ),
        format!(
            "Next payouts, of the bare subsidy of {} BTC at block height {}:",
            btc(window.value_sat),
            window.block_height
        ),
    ];
    lines.extend(window.recipients.iter().take(MOST_SHOWN).map(recipient));
    if let Some(more) = window.recipients.len().checked_sub(MOST_SHOWN).filter(|more| *more > 0) {
        lines.push(format!("  and {more} more, with less work each; --json has them all"));
    }
    lines
}

fn recipient(recipient: &Recipient) -> String {
    let Recipient { kind, name, percent, .. } = recipient;
    let payout = match recipient.unpaid {
        None => format!("{} BTC", btc(recipient.next_payout_sat)),
        Some(_) => "nothing".to_owned(),
    };
    let why = recipient.unpaid.map(|why| format!(" ({why})")).unwrap_or_default();
    format!("  {percent:>7.3} %  {payout:>18}  {kind:<6} {name}{why}")
}

fn sheets(sheets: &[Sheet]) -> Vec<String> {
    let mut lines = vec![String::new()];
    if sheets.is_empty() {
        lines.push("No lock sheets.".to_owned());
        return lines;
    }
    lines.push("Lock sheets:".to_owned());
    for sheet in sheets {
        let Sheet { hub_id, period, first_height, last_height, share_height, .. } = sheet;
        let aside = if sheet.is_best { "" } else { ", off the best branch" };
        lines.push(format!("  hub {hub_id}"));
        lines.push(format!(
            "      period {period} (block heights {first_height} to {last_height}), in the share at height {share_height}{aside}"
        ));
    }
    lines
}

/// With eight decimals.
fn btc(sat: u64) -> String {
    format!("{}.{:08}", sat / 100_000_000, sat % 100_000_000)
}

/// Digits in groups of three.
fn grouped(digits: &str) -> String {
    let count = digits.len();
    let with_commas = digits.chars().enumerate().flat_map(|(at, digit)| {
        let comma = at > 0 && (count - at).is_multiple_of(3);
        comma.then_some(',').into_iter().chain([digit])
    });
    with_commas.collect()
}

/// Seconds since 1970 as a date: days are counted in years of March to February, whose leap day is the last.
fn utc(unix: u32) -> String {
    let (days, second) = (i64::from(unix / 86_400) + 719_468, unix % 86_400);
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(951_782_399), "2000-02-28 23:59:59 UTC");
        assert_eq!(utc(951_782_400), "2000-02-29 00:00:00 UTC");
        assert_eq!(utc(1_795_478_400), "2026-11-24 00:00:00 UTC");
        assert_eq!(utc(u32::MAX), "2106-02-07 06:28:15 UTC");
    }

    #[test]
    fn amounts_and_work_can_be_read() {
        assert_eq!(btc(312_500_001), "3.12500001");
        assert_eq!(["1", "123", "1234", "1234567"].map(grouped), ["1", "123", "1,234", "1,234,567"]);
    }
}
