//! The options of `countersign serve`.

use std::time::Duration;

use clap::ValueEnum;
use countersign_host::{Address, MessageMemory, PeerLimitOptions};

use super::protocol::ProtocolArgs;
use super::seconds::{seconds, session_heartbeat};
use super::tls::ServerTlsArgs;
use super::{buffer_len, message_len};

#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// The address to listen on: host:port, [v6]:port or unix:/path; port 0 selects a free port; may be
    /// repeated. For unix:/path a lock on the file /path.lock, which stays, admits one server at a time
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9999")]
    pub(crate) listen: Vec<Address>,

    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,

    #[command(flatten)]
    pub(crate) tls: ServerTlsArgs,

    /// How to answer messages
    #[arg(long, value_enum, default_value_t = ServiceName::Upper)]
    pub(crate) service: ServiceName,

    /// The I/O model
    #[arg(long, value_enum, default_value_t = ServeAdapter::Mio)]
    pub(crate) adapter: ServeAdapter,

    /// Threads that accept connections; with the adapter mio, each has its own event loop
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: u16,

    /// Maximum number of connections; further ones are closed when they are accepted [default: 10000, or
    /// 1000 with the adapter std]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,

    /// Length of a buffer in bytes, from 16 KiB to 1 MiB: the most of a message that is read or written at
    /// once
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10, value_parser = buffer_len())]
    pub(crate) buffer: u32,

    /// Answer while a message is still arriving, in buffers of bounded size, rather than whole messages.
    /// A client must read the answer while it sends
    #[arg(long, conflicts_with_all = ["max_message", "message_memory"])]
    pub(crate) stream: bool,

    /// Longest message, in bytes; a longer one ends the connection
    #[arg(long, value_name = "BYTES", default_value_t = MessageMemory::DEFAULT_MAX_MESSAGE, value_parser = message_len)]
    pub(crate) max_message: usize,

    /// Memory for all messages that are longer than a buffer, in bytes; at least twice --max-message
    #[arg(long, value_name = "BYTES", default_value_t = MessageMemory::DEFAULT_TOTAL)]
    pub(crate) message_memory: usize,

    /// Buffers in each direction: connections that can receive, and that can send, a message at the same
    /// time; others wait. While some wait, a key that holds more than an equal share, or without keys an
    /// address, loses the connection that has held one for longest
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_buffers: u32,

    /// Maximum number of unfinished handshakes; further connections are closed when they are accepted
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_handshakes: u32,

    /// Maximum number of unfinished handshakes from one IPv4 address or IPv6 /64 network
    #[arg(long, value_name = "N", default_value_t = PeerLimitOptions::default().handshakes, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) source_handshakes: u32,

    /// Failed authentications from one address after which its connections are closed when they are
    /// accepted; the count decreases by ten per second
    #[arg(long, value_name = "N", default_value_t = PeerLimitOptions::default().failures, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) source_failures: u32,

    /// Scheme mutual: the longest silence before an end sends a heartbeat, from 1 to 3600, or 0 for no
    /// heartbeats; a peer that is silent for twice that time plus 5 s is disconnected
    #[arg(long, value_name = "SECS", default_value = "15", value_parser = session_heartbeat)]
    pub(crate) heartbeat: Duration,

    /// Service device: the expected interval between messages of a device; one that is silent for three
    /// intervals is disconnected
    #[arg(long, value_name = "SECS", default_value = "3", value_parser = seconds)]
    pub(crate) device_interval: Duration,

    /// Service device: the number of devices to remember, connected or not; when all of them are
    /// connected, further devices are refused
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_devices: u32,

    /// Service device: where to print the devices, a loopback address or unix:/path. A client of this
    /// address may send the line `json` or `table`; the default is the table. SIGUSR1 logs both
    #[arg(long, value_name = "ADDR")]
    pub(crate) status: Option<Address>,

    /// Apply the limits per address to clients on this machine, too; they share one address
    #[arg(long)]
    pub(crate) limit_local: bool,

    /// What to log: off, error, warn, info, debug, trace, or a filter such as countersign=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,

    /// The format of the log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceName {
    /// Answer each message with the message in ASCII capitals
    Upper,
    /// Answer each message with the same message
    Echo,
    /// Register devices, answer with the time, receive heartbeats
    Device,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeAdapter {
    /// An event loop: one thread for all connections
    Mio,
    /// Blocking sockets: a thread for each connection
    Std,
    /// An async executor: a task for each connection
    Smol,
}

impl ServeAdapter {
    /// The default maximum of connections.
    pub(crate) fn connections(self) -> u32 {
        match self {
            Self::Mio | Self::Smol => 10_000,
            Self::Std => 1_000,
        }
    }

    /// The number of descriptors of each connection.
    pub(crate) fn files(self) -> u64 {
        match self {
            Self::Mio | Self::Smol => 1,
            Self::Std => 2,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines of text
    Text,
    /// One JSON object per line
    Json,
}
