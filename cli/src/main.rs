//! The command `countersign`: servers, clients, devices, measurements, keys and certificates.

mod adapter;
mod args;
mod bench;
mod blocking_client;
mod certs;
mod client_setup;
mod connect;
mod device;
mod hints;
mod input;
mod key_reload;
mod keygen;
mod loaded_keys;
mod log;
mod reply_printer;
mod serve;
mod status_server;
mod tls;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The exit codes. Success is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// A failure on this machine: a port in use, a full disk.
    Failure = 1,
    /// A mistake in the command line, or in a key or configuration file.
    Usage = 2,
    /// Either end refused to authenticate the other.
    Refused = 3,
    /// The connection was refused, lost or cut short.
    Connection = 4,
    /// The peer broke the protocol.
    Protocol = 5,
}

/// Why a command failed: one line with a remedy.
struct Failed {
    exit: Exit,
    message: String,
}

impl Failed {
    fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

/// Raises the limit of open files to the most that the system allows. Returns the limit, if there is one.
fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Device(args) => device::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Keygen(args) => keygen::run(&args),
        Command::Certs(args) => certs::run(&args),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "countersign", &mut script);
            print(&script)
        }
        Command::Man { command } => man(command.as_deref()),
    };
    ExitCode::from(report(&result))
}

/// Prints the error, if there is one, on standard error. Returns the exit code.
fn report(result: &Result<(), Failed>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(failed) => {
            say(&failed.message);
            failed.exit as u8
        }
    }
}

/// Prints `line` on standard error. Errors are ignored: standard error may be closed.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "countersign: {line}");
}

/// Prints `text`. A broken pipe is not a failure: `head` closes it on purpose.
fn print(text: &[u8]) -> Result<(), Failed> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failed::new(Exit::Failure, error))
        }
        _ => Ok(()),
    }
}

/// Prints the manual page of the program or of the command `name`.
fn man(name: Option<&str>) -> Result<(), Failed> {
    let mut program = Args::command();
    program.build();
    let command = match name {
        None => program,
        Some(name) => {
            let found = program.find_subcommand(name).cloned();
            let unknown = || Failed::new(Exit::Usage, format!("no command `{name}`: see --help"));
            let page = format!("countersign-{name}");
            found.ok_or_else(unknown)?.name(page)
        }
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .render(&mut page)
        .map_err(|error| Failed::new(Exit::Failure, error))?;
    print(&page)
}
