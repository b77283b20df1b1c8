//! From the command line to the exit status.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use crate::addresses;
use crate::command_line::{self, Flags, Request};
use crate::config::{self, Fresh, Inputs, Keys, Refusal, keys_markdown};
use crate::context::Context;
use crate::counters::{Counters, is_held};
use crate::logs::start_logs;
use crate::operation::Operation;
use crate::program::{Finding, Program};
use crate::replacement;
use crate::signals::Signals;

/// Everything that `main` does:
/// `fn main() -> std::process::ExitCode { service::run::<channel_hub::Hub>() }`.
///
/// Exit status: 0 after a clean end; 1 when something failed, and stderr says what; 2 for a wrong command line;
/// 130 or 143 after a second signal.
#[must_use]
pub fn run<P: Program>() -> ExitCode {
    let request = match command_line::parse::<P>(std::env::args_os()) {
        Ok(request) => request,
        Err(error) => {
            drop(error.print()); // help and version too; a closed stdout is not our fault
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match request {
        Request::Init(dir) => config::init::<P>(&dir).map(|fresh| say_init::<P>(&fresh)),
        Request::PrintKeys => Ok(say(&keys_markdown::<P>())),
        Request::Own(name, arguments) => P::command(&name, &arguments),
        Request::Check(flags) => check::<P>(flags),
        Request::Run(flags) => start::<P>(flags),
    };
    done.unwrap_or_else(|error| {
        complain(P::NAME, &format!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn check<P: Program>(flags: Flags) -> anyhow::Result<ExitCode> {
    let (operation, config, file) = load::<P>(flags)?;
    let other_dir = other_dir::<P>(&operation);
    let mut findings = vec![Finding::good("config", file), data_dir(&operation, &other_dir)];
    findings.extend(totals(&operation.data_dir));
    let listens = addresses::all::<P>(&config, &operation);
    findings.extend(addresses::probe(&listens, is_held(&operation.data_dir), &other_dir));
    findings.extend(runtime()?.block_on(P::probe(config, &operation.data_dir)));
    let lines: String = findings.iter().map(|finding| format!("{finding}\n")).collect();
    say(&lines);
    let good = findings.iter().all(|finding| finding.outcome.is_ok());
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What more to do where the program seems not to run with this data directory, or its user may not have it: a unit or an image
/// names another in the environment, which a shell does not have. Nothing where somebody has named one.
fn other_dir<P: Program>(operation: &Operation) -> String {
    if !operation.has_default_data_dir(P::NAME) {
        return String::new();
    }
    let (name, variable) = (P::NAME, Keys::of::<P>().variable("data_dir"));
    format!(
        "; if {name} has another data directory here, as its unit and its image set one, set {variable} for --check, too"
    )
}

/// Whether the data directory can be written to. Leaves nothing behind and does not lock it: a check may be run by
/// another user than the program, and beside a running program.
fn data_dir(operation: &Operation, other_dir: &str) -> Finding {
    let dir = &operation.data_dir;
    let what = format!("data directory {}", dir.display());
    // Where it is missing, the directory that it would be made in must take it.
    let here = |above| if above == Path::new("") { Path::new(".") } else { above };
    let there = dir.ancestors().map(here).find(|above| above.exists()).unwrap_or(dir);
    let probe = there.join(format!(".sluice-check-{}", std::process::id()));
    match std::fs::write(&probe, "").and_then(|()| std::fs::remove_file(&probe)) {
        Ok(()) if there == dir => Finding::good(what, "can be written to"),
        Ok(()) => Finding::good(what, "is not there yet and will be made"),
        Err(error) if there == dir => {
            Finding::bad(what, format!("{error}; make it writable, or set data_dir to another{other_dir}"))
        }
        Err(error) => {
            let reason = format!("is not there, and cannot be made in {}: {error}", there.display());
            Finding::bad(what, format!("{reason}; make it, or set data_dir to another{other_dir}"))
        }
    }
}

/// What keeps the totals from being read, if something does.
fn totals(data_dir: &Path) -> Option<Finding> {
    let error = Counters::preview(data_dir).err().filter(|_| data_dir.is_dir())?;
    Some(Finding::bad("totals", error))
}

fn start<P: Program>(flags: Flags) -> anyhow::Result<ExitCode> {
    let take_over = flags.take_over;
    let (operation, config, file) = load::<P>(flags)?;
    start_logs(&operation.log)?;
    let (before, limit) = crate::files::raise_open_files();
    tracing::info!(limit, before, "open files");
    let runtime = runtime()?;
    let code = runtime.block_on(serve::<P>(operation, config, &file, take_over));
    runtime.shutdown_background(); // a task that does not end must not keep the process
    code
}

async fn serve<P: Program>(
    operation: Operation,
    config: P::Config,
    file: &str,
    take_over: bool,
) -> anyhow::Result<ExitCode> {
    let signals = Signals::register()?;
    let context = match take_over {
        true => Context::take_over(P::NAME, P::VERSION, &operation).await?,
        false => Context::open(P::NAME, P::VERSION, &operation).await?,
    };
    let end = context.clone();
    tracing::info!(version = P::VERSION, config = file, page = %format!("http://{}/", context.page.address()), "started");
    let shutdown = context.shutdown.clone();
    let counters = context.counters.clone();
    let cut_off = async {
        shutdown.cancelled().await;
        tokio::time::sleep(operation.drain).await;
    };
    tokio::spawn(replacement::on_signal(shutdown.clone(), end.candidate())?);
    let program = async {
        let ended = tokio::select! {
            ended = Box::pin(P::start(config, context)) => ended,
            () = cut_off => Err(anyhow::anyhow!(
                "not drained after {} s, ended all the same; drain_seconds sets how long that may take",
                operation.drain.as_secs(),
            )),
        };
        end.farewell().await;
        ended.map(|()| ExitCode::SUCCESS)
    };
    let ended = tokio::select! {
        ended = program => ended,
        // Without a farewell: whoever says it twice waits for nobody.
        code = signals.watch(shutdown.clone()) => Ok(ExitCode::from(code)),
    };
    let saved = counters.save();
    match end.has_successor() {
        true => tracing::info!("ended; the successor goes on"),
        false => tracing::info!("ended"),
    }
    let code = ended?; // says more than a disk that is full
    saved?;
    Ok(code)
}

fn load<P: Program>(flags: Flags) -> Result<(Operation, P::Config, String), Refusal> {
    let file = flags.config.or_else(|| config::usual_places(P::NAME).into_iter().find(|path| path.exists()));
    let said = match &file {
        Some(path) => path.display().to_string(),
        None => "no file; defaults, environment and flags".to_owned(),
    };
    let environment = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
        .collect();
    let (operation, config) = config::load::<P>(Inputs { file, environment, flags: flags.keys })?;
    Ok((operation, config, said))
}

/// On a single core a scheduler that other threads could take tasks from only costs.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut builder = match cores {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

fn say_init<P: Program>(fresh: &Fresh) -> ExitCode {
    let facts: String = fresh.facts.iter().map(|fact| format!("{fact}\n")).collect();
    say(&format!(
        "{path} is written; it may hold secret keys, and only its owner can read it.\n\
         {facts}\
         Look through it, then try it:  {name} --config {path} --check\n",
        path = fresh.path.display(),
        name = P::NAME,
    ))
}

fn say(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One line for each thing that is wrong, each with the program's name.
fn complain(program: &str, text: &str) {
    let lines: String = text.lines().map(|line| format!("{program}: {line}\n")).collect();
    drop(std::io::stderr().lock().write_all(lines.as_bytes())); // if it fails, nobody is left to be told
}
