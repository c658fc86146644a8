//! The command line of `megalos`.
//!
//! In: arguments. Out: calls into [`crate::local`], and what they say in text or
//! JSON. Results go to standard output; progress, warnings and errors to
//! standard error. Exit codes: 0, 1 for what failed, 2 for a wrong command line,
//! and the command's own code for `exec` and `connect`.

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use daemon::show::Topic;

use crate::local::down::{self, Down};
use crate::local::exec::{self, Order, Streams};
use crate::local::kernel::FloodingLabs;
use crate::local::plan::Wishes;
use crate::local::progress::Verbosity;
use crate::local::select::{self, CommandError, Selection};
use crate::local::state::StateRoot;
use crate::local::up::{self, Up, UpRequest};
use crate::local::{inspect, supervisor};
use crate::sandbox;

/// Network scenarios over EVPN: real labs, one machine or many.
#[derive(Debug, Parser)]
#[command(name = "megalos", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a lab on this machine.
    Up(UpArgs),
    /// Show how a lab is.
    Status(StatusArgs),
    /// Run a command in a device; its exit code is this command's.
    Exec(ExecArgs),
    /// Open a shell in a device.
    Connect(ConnectArgs),
    /// Run a lab's shutdown scripts and end it.
    Down(DownArgs),
    /// Show what reflectors and workers know.
    Show(ShowArgs),
}

#[derive(Debug, Args)]
struct UpArgs {
    /// The lab's directory, in the Kathará format.
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,
    /// How many nodes the devices are spread over.
    #[arg(long, value_name = "N", default_value = "2", value_parser = parse_count)]
    nodes: NonZeroU8,
    /// How many route reflectors.
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    reflectors: NonZeroU8,
    /// Run a device on a certain node (node1, node2, …); may be repeated.
    #[arg(long, value_name = "DEVICE=NODE", value_parser = parse_place)]
    place: Vec<(String, String)>,
    /// Start the lab even if it could flood this machine for want of a kernel feature.
    #[arg(long)]
    force: bool,
    /// When all is up, have every device ping its neighbours on every LAN.
    #[arg(long)]
    check: bool,
    /// Print the lab's status as JSON when it is up.
    #[arg(long)]
    json: bool,
}

fn parse_count(text: &str) -> Result<NonZeroU8, &'static str> {
    text.parse().map_err(|_| "expected a whole number from 1 on; there can be 64 nodes and 8 reflectors")
}

fn parse_place(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((device, node)) if !device.is_empty() && !node.is_empty() => Ok((device.to_owned(), node.to_owned())),
        _ => Err("expected DEVICE=NODE, such as pc1=node2".to_owned()),
    }
}

/// Which lab: without any of these, that of the current directory, else the only one that is up.
#[derive(Debug, Args)]
struct LabArgs {
    /// The lab in this directory.
    #[arg(short = 'd', long, value_name = "DIR", conflicts_with = "lab")]
    dir: Option<PathBuf>,
    /// The lab of this name.
    #[arg(long, value_name = "NAME")]
    lab: Option<String>,
}

impl LabArgs {
    fn selection(self) -> Selection {
        Selection { directory: self.dir, name: self.lab }
    }
}

#[derive(Debug, Args)]
struct StatusArgs {
    #[command(flatten)]
    lab: LabArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct ExecArgs {
    #[command(flatten)]
    lab: LabArgs,
    /// Give the command a terminal of its own.
    #[arg(short = 't', long)]
    tty: bool,
    /// The device.
    device: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct ConnectArgs {
    #[command(flatten)]
    lab: LabArgs,
    /// The shell to run instead of the device's own.
    #[arg(long, value_name = "PATH")]
    shell: Option<String>,
    /// The device.
    device: String,
}

#[derive(Debug, Args)]
struct DownArgs {
    #[command(flatten)]
    lab: LabArgs,
    /// All labs that are up.
    #[arg(long, conflicts_with_all = ["dir", "lab"])]
    all: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// What to show.
    topic: ShowTopic,
    #[command(flatten)]
    lab: LabArgs,
    /// Only this node or reflector (node1, rr1, …).
    #[arg(long, value_name = "NAME", conflicts_with = "socket")]
    node: Option<String>,
    /// Ask the daemon with this control socket, whether of a lab or not.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["dir", "lab"])]
    socket: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ShowTopic {
    /// BGP sessions.
    Peers,
    /// Routes and their best paths.
    Routes,
    /// LANs.
    Vnis,
    /// MAC addresses.
    Macs,
}

impl From<ShowTopic> for Topic {
    fn from(topic: ShowTopic) -> Self {
        match topic {
            ShowTopic::Peers => Self::Peers,
            ShowTopic::Routes => Self::Routes,
            ShowTopic::Vnis => Self::Vnis,
            ShowTopic::Macs => Self::Macs,
        }
    }
}

/// The entry of `megalos`, called before any thread exists. Hidden subcommands
/// are what a lab is made of: its supervisor, devices, reflectors and workers.
/// Called by a daemon's name, it is that daemon: the container image holds one
/// program and links to it.
pub fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    let daemon: Option<fn(Vec<OsString>) -> ExitCode> = match name.and_then(OsStr::to_str) {
        Some("megalos-rr") => Some(route_reflector::run_cli),
        Some("megalos-speaker") => Some(worker_speaker::run_cli),
        _ => None,
    };
    if let Some(daemon) = daemon {
        return daemon(arguments.into_iter().skip(1).collect());
    }
    let hidden = arguments.get(1).and_then(|first| first.to_str());
    let rest = || arguments.get(2..).unwrap_or_default().to_vec();

    match hidden {
        Some(supervisor::SUBCOMMAND) => supervisor::main(),
        Some(sandbox::INIT_SUBCOMMAND) => sandbox::init_main(),
        Some("__rr") => route_reflector::run_cli(rest()),
        Some("__speaker") => worker_speaker::run_cli(rest()),

        _ => run(Cli::parse_from(arguments)),
    }
}

fn run(cli: Cli) -> ExitCode {
    let outcome = match cli.command {
        Command::Up(args) => up(args),
        Command::Status(args) => status(args),
        Command::Exec(args) => execute(args),
        Command::Connect(args) => connect(args),
        Command::Down(args) => take_down(args),
        Command::Show(args) => show(args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("megalos: {}", error.text);
            ExitCode::from(error.exit_code)
        }
    }
}

/// Prints a result; a reader that is gone is no error.
fn print(text: &str) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

fn print_json(value: &impl serde::Serialize) -> Result<(), CommandError> {
    let text = serde_json::to_string_pretty(value).map_err(CommandError::failure)?;
    print(&format!("{text}\n"));
    Ok(())
}

fn state_root() -> Result<StateRoot, CommandError> {
    StateRoot::open().map_err(CommandError::failure)
}

fn up(args: UpArgs) -> Result<u8, CommandError> {
    let wishes = Wishes { nodes: args.nodes, reflectors: args.reflectors, pinned: args.place };
    let verbosity = if args.json { Verbosity::WarningsOnly } else { Verbosity::Normal };
    let flooding = if args.force { FloodingLabs::Start } else { FloodingLabs::Refuse };
    let request = UpRequest { directory: args.directory, wishes, flooding, verbosity };
    let up = match up::up(&request) {
        Ok(up) => up,
        Err(error) => {
            if args.json {
                print_json(&serde_json::json!({ "error": error.text }))?;
            }
            return Err(error);
        }
    };
    let report = args.check.then(|| inspect::check(&up.lab)).transpose()?;
    if args.json {
        let mut status = serde_json::to_value(inspect::status(&up.lab)?).map_err(CommandError::failure)?;
        if let (Some(fields), Some(report)) = (status.as_object_mut(), &report) {
            let report = serde_json::to_value(report).map_err(CommandError::failure)?;
            fields.insert("check".to_owned(), report);
        }
        print_json(&status)?;
    } else {
        if let Some(report) = &report {
            print(&report.to_text());
        }
        print(&summary(&up, request.wishes.nodes.get()));
    }
    let failed = report.is_some_and(|report| !report.passed());
    Ok(u8::from(failed))
}

/// One line: what there is now, and what to try next.
fn summary(up: &Up, nodes: u8) -> String {
    let count = |count: usize, noun: &str| match count {
        1 => format!("1 {noun}"),
        count => format!("{count} {noun}s"),
    };
    let (devices, lans) = up.counts;
    let next = match &up.first_device {
        Some(device) => format!("try: megalos connect {device}"),
        None => "end it with: megalos down".to_owned(),
    };
    format!(
        "{} is up: {}, {} on {} after {:.1} s; {next}\n",
        up.lab.description.name,
        count(devices, "device"),
        count(lans, "LAN"),
        count(usize::from(nodes), "node"),
        up.elapsed.as_secs_f64(),
    )
}

fn status(args: StatusArgs) -> Result<u8, CommandError> {
    let lab = select::choose_live(&state_root()?, &args.lab.selection())?;
    let status = inspect::status(&lab)?;
    if args.json {
        print_json(&status)?;
    } else {
        print(&status.to_text());
    }
    Ok(0)
}

fn execute(args: ExecArgs) -> Result<u8, CommandError> {
    let lab = select::choose_live(&state_root()?, &args.lab.selection())?;
    let streams = if args.tty { Streams::Terminal } else { Streams::Own };
    exec::run(&lab, Order { device: args.device, argv: args.command, streams })
}

fn connect(args: ConnectArgs) -> Result<u8, CommandError> {
    let lab = select::choose_live(&state_root()?, &args.lab.selection())?;
    let argv = args.shell.into_iter().collect();
    exec::run(&lab, Order { device: args.device, argv, streams: Streams::Terminal })
}

fn take_down(args: DownArgs) -> Result<u8, CommandError> {
    let root = state_root()?;
    if !args.all {
        print(&describe(&down::down(&root, &args.lab.selection())?));
        return Ok(0);
    }
    for found in root.labs().map_err(CommandError::failure)? {
        let key = found.directory.key().to_string_lossy().into_owned();
        let selection = Selection { directory: None, name: Some(key) };
        print(&describe(&down::down(&root, &selection)?));
    }
    Ok(0)
}

fn describe(down: &Down) -> String {
    match down {
        Down::Ended(name) => format!("{name} is down\n"),
        Down::Cleaned(name) => format!("{name} had ended by itself; what was left is cleaned\n"),
    }
}

fn show(args: ShowArgs) -> Result<u8, CommandError> {
    let topic = Topic::from(args.topic);
    if let Some(socket) = &args.socket {
        let rows = inspect::ask(socket, topic)?;
        let text = if args.json { rows.json().map_err(CommandError::failure)? + "\n" } else { rows.table() };
        print(&text);
        return Ok(0);
    }
    let lab = select::choose_live(&state_root()?, &args.lab.selection())?;
    let answers = inspect::show(&lab, topic, args.node.as_deref())?;
    if args.json {
        print_json(&answers)?;
    } else {
        print(&inspect::to_text(&answers));
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_an_executed_command_are_its_own() {
        for line in [&["megalos", "exec", "pc1", "--", "ls", "-l"][..], &["megalos", "exec", "pc1", "ls", "-l"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            let Command::Exec(args) = cli.command else { panic!("not exec") };
            assert_eq!(args.command, ["ls", "-l"]);
        }
    }
}
