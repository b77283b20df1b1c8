//! Figures as Markdown.

use crate::simulation::measures::{Figures, Step};
use std::fmt::Write;

const HEAD: &str = "\
| rule | retargets/h | off % | off % in drift | scatter % | retargets/h in stalls | 10× faster: settled s | surplus shares | 10× slower: settled s | \
gap s | 2× faster | 2× slower | start 100× too easy | start 100× too hard | back after 1 h | flood |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|
";

/// The table of one share rate.
pub fn of(shares_per_minute: f64, all: &[(&str, Figures)]) -> String {
    let luck = all.first().map_or(0.0, |(_, figures)| figures.luck);
    let mut text =
        format!("### {shares_per_minute} shares a minute\n\nLuck alone scatters by {luck:.1} %.\n\n{HEAD}");
    for (name, figures) in all {
        row(&mut text, name, figures);
    }
    text + "\n"
}

fn row(text: &mut String, name: &str, figures: &Figures) {
    let step = |step: &Step| format!("{:.0} / {:.0}", step.median, step.slow);
    let Figures { retargets, off, off_in_drift, scatter, retargets_in_stalls, up, down, flood, .. } = figures;
    writeln!(
        text,
        "| {name} | {retargets:.2} | {off:.1} | {off_in_drift:.1} | {scatter:.1} | {retargets_in_stalls:.1} | {} | {:.0} | {} | {:.0} \
         | {} | {} | {} | {} | {} | {flood:.0} |",
        step(up),
        up.surplus,
        step(down),
        down.gap,
        step(&figures.doubled),
        step(&figures.halved),
        step(&figures.too_easy),
        step(&figures.too_hard),
        step(&figures.back),
    )
    .unwrap();
}

/// What rounding costs a steady miner.
pub fn of_rounding(all: &[(&str, Figures)]) -> String {
    let mut text =
        "### Rounding, 6 shares a minute\n\n| rule | retargets/h | off % | scatter % |\n|---|---|---|---|\n"
            .to_owned();
    for (name, Figures { retargets, off, scatter, .. }) in all {
        writeln!(text, "| {name} | {retargets:.2} | {off:.1} | {scatter:.1} |").unwrap();
    }
    text + "\n"
}
