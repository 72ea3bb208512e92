//! The options of the commands that connect to a server.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use countersign::Name;
use countersign_device::{AppId, Imei};
use countersign_host::Address;

use super::buffer_len;
use super::protocol::ProtocolArgs;
use super::seconds::{device_heartbeat, seconds};
use super::tls::ClientTlsArgs;

#[derive(clap::Args)]
pub(crate) struct ConnectArgs {
    /// The server: host:port, [v6]:port or unix:/path
    #[arg(value_name = "ADDR")]
    pub(crate) address: Address,

    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,

    #[command(flatten)]
    pub(crate) tls: ClientTlsArgs,

    /// Scheme mutual: the name that the server must have
    #[arg(long, value_name = "NAME")]
    pub(crate) expect_server: Option<Name>,

    /// The I/O model
    #[arg(long, value_enum, default_value_t = ConnectAdapter::Std)]
    pub(crate) adapter: ConnectAdapter,

    /// A message to send instead of the lines of standard input; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) message: Vec<String>,

    /// Seconds to wait for the server to close after the end of input, and in a byte stream for the next
    /// byte. With framing, the reply to each message is awaited first
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    pub(crate) linger: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConnectAdapter {
    /// Blocking sockets
    Std,
    /// An event loop on its own thread
    Mio,
    /// Async
    Smol,
}

#[derive(clap::Args)]
pub(crate) struct BenchArgs {
    /// The server: host:port, [v6]:port or unix:/path
    #[arg(value_name = "ADDR")]
    pub(crate) address: Address,

    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,

    #[command(flatten)]
    pub(crate) tls: ClientTlsArgs,

    /// Scheme mutual: the name that the server must have
    #[arg(long, value_name = "NAME")]
    pub(crate) expect_server: Option<Name>,

    /// Number of connections
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) connections: u32,

    /// Length of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    pub(crate) size: u32,

    /// Maximum number of unanswered messages on each connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) pipeline: u32,

    /// Length of a buffer in bytes, from 16 KiB to 1 MiB: the most of a message that is read or written at
    /// once
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10, value_parser = buffer_len())]
    pub(crate) buffer: u32,

    /// Send a message on each connection at this interval, whether or not the previous one was answered
    #[arg(long, value_name = "SECS", value_parser = seconds, conflicts_with_all = ["pipeline", "reconnect"])]
    pub(crate) every: Option<Duration>,

    /// How long to send messages
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    pub(crate) duration: Duration,

    /// Stop when this number of messages is answered
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Make a new connection for each message
    #[arg(long)]
    pub(crate) reconnect: bool,

    /// The process id of the server, if it is not the process that listens at ADDR
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,

    /// Print the report as one line of JSON, with times in microseconds
    #[arg(long)]
    pub(crate) json: bool,

    /// Draw the latencies to this file
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct DeviceArgs {
    /// The server: host:port, [v6]:port or unix:/path
    #[arg(value_name = "ADDR")]
    pub(crate) address: Address,

    /// The application id of the device: 36 printable characters, such as a UUID
    #[arg(long, value_name = "ID")]
    pub(crate) app_id: AppId,

    /// The IMEI of the device: 15 digits
    #[arg(long)]
    pub(crate) imei: Imei,

    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,

    #[command(flatten)]
    pub(crate) tls: ClientTlsArgs,

    /// Scheme mutual: the name that the server must have
    #[arg(long, value_name = "NAME")]
    pub(crate) expect_server: Option<Name>,

    /// The interval between heartbeats, at least 0.2
    #[arg(long, value_name = "SECS", default_value = "3", value_parser = device_heartbeat)]
    pub(crate) heartbeat: Duration,

    /// How long to wait for an answer before the connection is closed
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = seconds)]
    pub(crate) answer_timeout: Duration,

    /// End after this number of answered heartbeats
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// The maximum delay before the first attempt to reconnect. It doubles with each further attempt until
    /// a heartbeat is answered. The delay is random below that maximum
    #[arg(long, value_name = "SECS", default_value = "0.5", value_parser = seconds)]
    pub(crate) backoff_base: Duration,

    /// The upper bound of the maximum delay
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    pub(crate) backoff_cap: Duration,
}
