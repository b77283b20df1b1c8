//! `sluice-hub sharechain verify FILE` and `show FILE`: what a person sees of an exported chain.
//!
//! | module | what for |
//! |---|---|
//! | [`examine`] | reads a file and checks every rule on the way |
//! | [`report`] | what was found, as data: the JSON |
//! | `text` | the same for a person |

pub mod examine;
pub mod report;
mod text;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use sharechain::ShareId;

/// The command line.
pub fn command() -> Command {
    let file =
        Arg::new("FILE").required(true).value_parser(value_parser!(PathBuf)).help("An exported sharechain");
    let json = Arg::new("json").long("json").action(ArgAction::SetTrue).help("Print one JSON object instead");
    let genesis = Arg::new("genesis")
        .long("genesis")
        .value_name("ID")
        .value_parser(parse_id)
        .help("Id of the genesis share that your network has; another one is an error");
    let command = |name: &'static str, about: &'static str| {
        Command::new(name).about(about).args([file.clone(), json.clone(), genesis.clone()])
    };
    Command::new("sharechain")
        .about("Look at an exported sharechain; needs no config and no network")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(command("verify", "Check every rule of every share, and say what is wrong first"))
        .subcommand(command(
            "show",
            "Check it, and show tip, window, recipients, next payouts and lock sheets",
        ))
}

/// Does it. Exit status 0: the chain is valid; 1: it is not, or is no chain.
///
/// # Errors
/// The answer cannot be printed.
pub fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, arguments)) = arguments.subcommand() else { anyhow::bail!("verify or show") };
    let path = arguments.get_one::<PathBuf>("FILE").cloned().unwrap_or_default();
    let report = examine::file(&path, arguments.get_one::<ShareId>("genesis").copied());
    let text = match arguments.get_flag("json") {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => text::of(&report, name == "show"),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `| head` has seen enough.
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => return Err(why.into()),
        _ => {}
    }
    Ok(if report.valid { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse_id(text: &str) -> Result<ShareId, String> {
    let hash: Result<bitcoin::BlockHash, _> = text.parse();
    hash.map(ShareId::from).map_err(|_| "64 hexadecimal digits are an id".to_owned())
}
