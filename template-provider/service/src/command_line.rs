//! The command line, made from the table of keys.

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::config::Keys;
use crate::key::{Key, Rule};
use crate::program::Program;

/// The flag of a program that takes over.
pub(crate) const TAKE_OVER: &str = "take-over";

/// The command that writes a config.
const INIT: &str = "init";

/// What the user asked for.
pub(crate) enum Request {
    /// Run, with this file or the usual ones and these flags.
    Run(Flags),
    /// Check the config, and try what it names.
    Check(Flags),
    /// Write a fresh config into this directory.
    Init(PathBuf),
    /// Print the README's table of keys.
    PrintKeys,
    /// A command of the program's own.
    Own(String, ArgMatches),
}

/// The part of the command line that is configuration.
pub(crate) struct Flags {
    pub(crate) config: Option<PathBuf>,
    /// Replace the program that runs with this data directory.
    pub(crate) take_over: bool,
    /// Key path and value.
    pub(crate) keys: Vec<(String, String)>,
}

/// Reads the arguments.
///
/// # Errors
/// clap's; `--help` and `--version` are among them.
pub(crate) fn parse<P: Program>(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Request, clap::Error> {
    let keys = Keys::of::<P>();
    let mut matches = command::<P>(&keys).try_get_matches_from(arguments)?;
    if let Some((name, arguments)) = matches.remove_subcommand() {
        if name != INIT {
            return Ok(Request::Own(name, arguments));
        }
        let dir = arguments.get_one::<PathBuf>("DIR").cloned();
        return Ok(Request::Init(dir.unwrap_or_else(|| PathBuf::from("."))));
    }
    if matches.contains_id("print-keys") {
        return Ok(Request::PrintKeys);
    }
    let flags = flags(&keys, &mut matches);
    Ok(if matches.get_flag("check") { Request::Check(flags) } else { Request::Run(flags) })
}

fn flags(keys: &Keys, matches: &mut ArgMatches) -> Flags {
    let value = |matches: &mut ArgMatches, path: &str| matches.remove_one::<String>(path);
    let set = keys.all.iter().filter_map(|key| Some((key.path().to_owned(), value(matches, key.path())?)));
    let set = set.collect();
    let take_over = matches.get_flag(TAKE_OVER);
    Flags { config: matches.remove_one("config"), take_over, keys: set }
}

fn command<P: Program>(keys: &Keys) -> Command {
    let places = format!("Config file [default: ./{0}.toml, then ~/.config/sluice/{0}.toml]", P::NAME);
    Command::new(P::NAME)
        .bin_name(P::NAME)
        .about(P::ABOUT)
        .version(P::VERSION)
        .args_conflicts_with_subcommands(true)
        .disable_help_subcommand(true)
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help(places),
        )
        .arg(
            Arg::new("check")
                .long("check")
                .action(ArgAction::SetTrue)
                .help("Check the config, try what it names, say what was found, and end"),
        )
        .arg(Arg::new(TAKE_OVER).long(TAKE_OVER).action(ArgAction::SetTrue).conflicts_with("check").help(
            "Replace the program that runs with this data directory while its peers stay connected; start if none runs",
        ))
        .arg(
            Arg::new("print-keys")
                .long("print-keys")
                .hide(true)
                .value_parser([PossibleValue::new("markdown")]),
        )
        .args(keys.all.iter().map(|key| key_argument(keys, key)))
        .subcommand(
            Command::new(INIT)
                .about(format!("Write {}.toml with every key explained and fresh keys generated", P::NAME))
                .arg(Arg::new("DIR").value_parser(value_parser!(PathBuf)).help("Directory [default: .]")),
        )
        .subcommands(P::commands())
}

fn key_argument(keys: &Keys, key: &Key) -> Arg {
    let default = match key.rule {
        Rule::Default(text) => format!(" [default: {text}]"),
        Rule::Required(_) => " [required]".to_owned(),
        Rule::Optional(_) => String::new(),
    };
    let form = if key.is_text() { "TEXT" } else { "TOML" };
    let warning = if key.secret { " Others on this machine can see flags: better use the file." } else { "" };
    Arg::new(key.path())
        .long(key.path())
        .value_name(form)
        .help_heading("Config keys (the environment variable in brackets)")
        .help(format!("{}{warning}{default} [{}]", key.sentence(), keys.variable(key.path())))
}
