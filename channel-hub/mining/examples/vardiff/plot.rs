//! One miner under each rule as an SVG: its target over time, while its speed changes.

use crate::simulation::miner::{Life, Trace, live};
use crate::simulation::random::Random;
use crate::simulation::rule::{Maker, Start};
use std::fmt::Write;

const HOUR: f64 = 3600.0;
/// Hashes a second at first: 90 TH/s.
const SPEED: f64 = 9e13;
/// Wanted seconds between two shares.
const INTERVAL: f64 = 10.0;
/// Hours shown; the miner has mined two before.
const SHOWN: f64 = 6.0;
const BEFORE: f64 = 2.0;
/// Size of one rule's strip, in pixels, and of the column of names.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 96.0;
const NAMES: f64 = 120.0;
/// Target over what suits: the strip shows from 1/32 to 32.
const OCTAVES: f64 = 5.0;

/// 90 TH/s, a tenth of that, all again, half, and from there slowly up again.
fn life() -> Life {
    let at = |hours: f64| (BEFORE + hours) * HOUR;
    let mut life = Life::steady(SPEED, at(SHOWN)).then(at(0.5), SPEED / 10.0).then(at(1.5), SPEED);
    life = life.then(at(2.5), SPEED / 2.0);
    for step in 0..60 {
        let part = f64::from(step) / 60.0;
        life = life.then(at(3.5 + 2.0 * part), SPEED * (0.5 + 0.5 * part));
    }
    life
}

/// All rules, one strip each: the target in colour, what suits in grey, both as multiples of the first target.
pub fn svg(rules: &[(&str, Maker)]) -> String {
    let strips = f64::from(u32::try_from(rules.len()).unwrap_or(0));
    let (width, height) = (NAMES + WIDTH + 10.0, strips * HEIGHT + 40.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (strip, (name, maker)) in (0_u32..).zip(rules) {
        let top = f64::from(strip) * HEIGHT + 10.0;
        one(&mut svg, name, *maker, top).unwrap();
    }
    for hour in 0..=6 {
        let x = NAMES + f64::from(hour) / SHOWN * WIDTH;
        writeln!(svg, "<text x=\"{x:.0}\" y=\"{:.0}\" text-anchor=\"middle\">{hour} h</text>", height - 12.0)
            .unwrap();
    }
    svg + "</svg>\n"
}

fn one(svg: &mut String, name: &str, maker: Maker, top: f64) -> std::fmt::Result {
    let life = life();
    let work = SPEED * INTERVAL;
    let trace = live(&life, maker, Start { interval: INTERVAL, work }, &mut Random::new(7));
    let (middle, bottom) = (top + HEIGHT / 2.0, top + HEIGHT - 8.0);
    writeln!(svg, "<text x=\"4\" y=\"{middle:.0}\">{name}</text>")?;
    writeln!(
        svg,
        "<text x=\"4\" y=\"{:.0}\" fill=\"gray\" font-size=\"10\">{} retargets</text>",
        middle + 14.0,
        shown(&trace)
    )?;
    let frame = format!("x=\"{NAMES}\" y=\"{top:.1}\" width=\"{WIDTH}\" height=\"{:.1}\"", bottom - top);
    writeln!(svg, "<rect {frame} fill=\"none\" stroke=\"lightgray\"/>")?;
    let ends = life.speeds.iter().skip(1).map(|(at, _)| *at).chain([life.until]);
    let suits = life.speeds.iter().zip(ends).map(|((begin, speed), end)| (*begin, end, speed * INTERVAL));
    path(svg, suits, "gray", 4.0, work, top)?;
    path(svg, trace.pieces(0.0, life.until), "#c2410c", 1.4, work, top)
}

fn shown(trace: &Trace) -> usize {
    trace.changes(BEFORE * HOUR, (BEFORE + SHOWN) * HOUR)
}

fn path(
    svg: &mut String,
    pieces: impl Iterator<Item = (f64, f64, f64)>,
    colour: &str,
    thick: f64,
    unit: f64,
    top: f64,
) -> std::fmt::Result {
    let x = |at: f64| NAMES + ((at / HOUR - BEFORE) / SHOWN).max(0.0) * WIDTH;
    let y = |work: f64| {
        let octaves = (work / unit).log2().clamp(-OCTAVES, 1.5);
        top + 4.0 + (1.5 - octaves) / (OCTAVES + 1.5) * (HEIGHT - 16.0)
    };
    let mut line = String::new();
    for (begin, end, work) in pieces.filter(|(_, end, _)| *end > BEFORE * HOUR) {
        write!(
            line,
            "{}{:.1} {:.1}H{:.1}",
            if line.is_empty() { 'M' } else { 'L' },
            x(begin),
            y(work),
            x(end)
        )?;
    }
    let opacity = if thick > 2.0 { 0.45 } else { 1.0 };
    writeln!(
        svg,
        "<path d=\"{line}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{thick}\" stroke-opacity=\"{opacity}\"/>"
    )
}
