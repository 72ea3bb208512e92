//! The command line.

mod client;
mod protocol;
mod seconds;
mod serve;
mod tls;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub(crate) use client::{BenchArgs, ConnectAdapter, ConnectArgs, DeviceArgs};
pub(crate) use protocol::{ProtocolArgs, SchemeName};
pub(crate) use serve::{LogFormat, ServeAdapter, ServeArgs, ServiceName};
pub(crate) use tls::{ClientTlsArgs, ServerTlsArgs};

/// Authenticated connections between programs that hold the same key
#[derive(Parser)]
#[command(name = "countersign", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a server: authenticate clients and answer their messages
    Serve(ServeArgs),
    /// Connect to a server, send messages and print the replies
    ///
    /// Each line of standard input is a message, without its newline. The line `quit` or the end of input
    /// ends the connection. In a byte stream (scheme challenge), empty lines are ignored.
    Connect(ConnectArgs),
    /// Run a device: register with a server, ask for the time and send heartbeats
    ///
    /// Prints a line for each answer: `register`, `time` or `heartbeat`, the error code (0 means success),
    /// and the time for `time`. When the connection is lost or cannot be made, connects and registers
    /// again after a random delay. Ends after --count heartbeats, on SIGTERM or SIGINT, and when
    /// authentication is refused before the first registration.
    #[command(mut_arg("scheme", |arg| arg.default_value("none")))]
    Device(DeviceArgs),
    /// Measure a server that answers each message with one of the same length
    ///
    /// Opens the connections, then sends on all of them. Reports handshakes and messages per second, their
    /// latencies, and the server's processor time if it runs on this machine. The clients share one
    /// thread, which can be the bottleneck: compare the processor times.
    Bench(BenchArgs),
    /// Generate a random secret
    Keygen(KeygenArgs),
    /// Generate a root certificate, and certificates signed by it for a server and a client
    ///
    /// Writes root.crt, root.key, server.crt, server.key, client.crt and client.key. Run the server with
    /// --tls-cert server.crt --tls-key server.key --tls-client-ca root.crt, and the client with --tls-ca
    /// root.crt --tls-cert client.crt --tls-key client.key. root.key is needed only to sign more
    /// certificates.
    Certs(CertsArgs),
    /// Print shell completions
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// The command to document, instead of the whole program
        command: Option<String>,
    },
}

#[derive(clap::Args)]
pub(crate) struct CertsArgs {
    /// The directory to write to; created if it does not exist
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// A DNS name or an address of the server, in addition to localhost, 127.0.0.1 and ::1; may be
    /// repeated
    #[arg(long, value_name = "HOST")]
    pub(crate) name: Vec<String>,

    /// The validity period
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) days: u32,
}

#[derive(clap::Args)]
pub(crate) struct KeygenArgs {
    /// Write the secret to this new file, readable by its owner only, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// Parses the length of a buffer in bytes.
/// A message of at least one byte, and short enough that two fit the address space.
fn message_len(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(len) if (1..=usize::MAX / 4).contains(&len) => Ok(len),
        _ => Err("a number of bytes, at least 1".into()),
    }
}

fn buffer_len() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(16 << 10..=1 << 20)
}
