//! `countersign`: serve, connect, be a device and make keys from the command line.

mod adapter;
mod args;
mod bench;
mod certs;
mod connect;
mod device;
mod end;
mod input;
mod keygen;
mod log;
mod replies;
mod secret;
mod serve;
mod status;
mod talk;
mod tls;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a command ends with, and what scripts can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// Something of this machine's: a port in use, a full disk.
    Failure = 1,
    /// The command line, or a file that it names, is not right.
    Usage = 2,
    /// Authentication was refused.
    Refused = 3,
    /// The connection was refused or lost.
    Connection = 4,
    /// The peer broke the protocol.
    Protocol = 5,
}

/// Why a command failed, in a line that says what to try.
struct Failed {
    exit: Exit,
    message: String,
}

impl Failed {
    fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string() }
    }
}

/// Has this process have as many open files as the system allows; how many, if that is bounded.
fn allow_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current
}

fn main() -> ExitCode {
    let done = match Args::parse().command {
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
    ExitCode::from(report(&done))
}

/// Says on standard error what failed, and returns the exit code.
fn report(done: &Result<(), Failed>) -> u8 {
    match done {
        Ok(()) => 0,
        Err(failed) => {
            say(&failed.message);
            failed.exit as u8
        }
    }
}

/// Says `line` on standard error; nobody may be there to read it.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "countersign: {line}");
}

/// Prints `text`. Who pipes it into `head` has seen enough, and that is no failure.
fn print(text: &[u8]) -> Result<(), Failed> {
    match io::stdout().write_all(text).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failed::new(Exit::Failure, error))
        }
        _ => Ok(()),
    }
}

/// Prints the manual page of the program, or of one of its commands.
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
