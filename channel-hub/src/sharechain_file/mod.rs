//! `sluice-hub sharechain verify FILE`, `show FILE` and `import FILE`: what a person sees of an exported chain, and how a hub begins
//! with it.
//!
//! | module | what for |
//! |---|---|
//! | [`examine`] | reads a file and checks every rule on the way |
//! | [`take`] | puts its chain into a hub's store |
//! | [`report`] | what was found, as data: the JSON |
//! | `text` | the same for a person |

pub mod examine;
pub mod report;
pub mod take;
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
        .about("Look at an exported sharechain, or begin with it; needs no config and no network")
        .subcommand_required(true)
        .disable_help_subcommand(true)
        .subcommand(command("verify", "Check every rule of every share, and say what is wrong first"))
        .subcommand(command(
            "show",
            "Check it, and show tip, window, recipients, next payouts and lock sheets",
        ))
        .subcommand(
            command("import", "Check it, and put it into the store of a hub that does not run")
                .mut_arg("genesis", |genesis| genesis.required(true))
                .arg(
                    Arg::new("data-dir")
                        .long("data-dir")
                        .value_name("DIR")
                        .required(true)
                        .value_parser(value_parser!(PathBuf))
                        .help("The hub's data directory (its key data_dir)"),
                )
                .arg(
                    Arg::new("replace")
                        .long("replace")
                        .action(ArgAction::SetTrue)
                        .help("Put it in place of the chain that the store holds"),
                ),
        )
}

/// Does it. Exit status 0: the chain is valid, and imported if that was asked; 1: it is not, or is no chain.
///
/// # Errors
/// The answer cannot be printed.
pub fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let Some((name, arguments)) = arguments.subcommand() else { anyhow::bail!("verify, show or import") };
    let path = arguments.get_one::<PathBuf>("FILE").cloned().unwrap_or_default();
    let genesis = arguments.get_one::<ShareId>("genesis").copied();
    let report = match (name, genesis) {
        ("import", Some(genesis)) => {
            let data_dir = arguments.get_one::<PathBuf>("data-dir").cloned().unwrap_or_default();
            take::file(&path, genesis, &data_dir, arguments.get_flag("replace"))
        }
        _ => examine::file(&path, genesis),
    };
    let text = match arguments.get_flag("json") {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => text::of(&report, name == "show"),
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // `| head` has seen enough.
        Err(why) if why.kind() != std::io::ErrorKind::BrokenPipe => return Err(why.into()),
        _ => {}
    }
    let is_done = report.import.as_ref().is_none_or(|import| import.done);
    Ok(if report.valid && is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn parse_id(text: &str) -> Result<ShareId, String> {
    let hash: Result<bitcoin::BlockHash, _> = text.parse();
    hash.map(ShareId::from).map_err(|_| "64 hexadecimal digits are an id".to_owned())
}
