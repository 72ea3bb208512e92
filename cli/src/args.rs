//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use countersign::{Config, ConfigError, Digest, KeyId, Multiprocessing, Mutual, Name, Scheme};
use countersign_device::{AppId, Imei};
use countersign_host::{Address, PeerLimitOptions, process_id};

use crate::{Exit, Failed};

/// One program proves to another that it holds the same key, and then they talk
#[derive(Parser)]
#[command(name = "countersign", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Serve: authenticate whoever connects, and answer their messages
    Serve(ServeArgs),
    /// Connect to a server, send it messages and print its replies
    ///
    /// Each line of standard input is a message, without its newline; a line `quit`, or the end of
    /// input, finishes. In a byte stream (scheme challenge) an empty message is nothing.
    Connect(ConnectArgs),
    /// Be a device: register with a server, ask it the time, and keep the heart beating
    ///
    /// Prints each answer on a line of its own: `register`, `time` or `heartbeat`, the error code, 0 if
    /// all is well, and the time behind its own. When the connection is lost, or there is none to be
    /// had, connects and registers again after a random time. Ends when authentication is refused
    /// before it was ever registered, after --count heartbeats, and on SIGTERM or SIGINT.
    #[command(mut_arg("scheme", |arg| arg.default_value("none")))]
    Device(DeviceArgs),
    /// Measure a server that answers each message with one as long
    ///
    /// Opens connections and holds them, then has all of them talk: handshakes and messages in a second,
    /// how long they took, and the server's processor time where it is on this machine. The clients are
    /// one thread, which may well be what holds a server up: look at the processor times.
    Bench(BenchArgs),
    /// Make a new random secret
    Keygen(KeygenArgs),
    /// Make a root, and a certificate and key that it signed for a server and for a client
    ///
    /// They go to root.crt, root.key, server.crt, server.key, client.crt and client.key. Serve with
    /// --tls-cert server.crt --tls-key server.key --tls-client-ca root.crt, connect with --tls-ca
    /// root.crt --tls-cert client.crt --tls-key client.key. Nobody needs root.key but to sign more.
    Certs(CertsArgs),
    /// Print completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man {
        /// Of this command rather than of the whole program
        command: Option<String>,
    },
}

#[derive(clap::Args)]
pub(crate) struct ServeArgs {
    /// Where to listen: host:port, [v6]:port or unix:/path; port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9999")]
    pub(crate) listen: Vec<Address>,

    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,

    #[command(flatten)]
    pub(crate) tls: ServerTlsArgs,

    /// What to do with messages
    #[arg(long, value_enum, default_value_t = ServiceName::Upper)]
    pub(crate) service: ServiceName,

    /// What drives the connections
    #[arg(long, value_enum, default_value_t = ServeAdapter::Mio)]
    pub(crate) adapter: ServeAdapter,

    /// Threads that accept connections, each with an event loop of its own where there are such
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) workers: u16,

    /// Connections at once; one more is closed as soon as it is made. 10000 unless given, or 1000 where
    /// each has a thread
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_connections: Option<u32>,

    /// Length of a buffer, in bytes, from 16 KiB to 1 MiB: so much of a message is read, and sent, at once
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10, value_parser = buffer_len())]
    pub(crate) buffer: u32,

    /// Buffers each way: connections that may be in the middle of receiving, and of sending, at once;
    /// the others wait for one
    #[arg(long, value_name = "N", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_buffers: u32,

    /// Handshakes under way at once; one more connection is closed as soon as it is made
    #[arg(long, value_name = "N", default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_handshakes: u32,

    /// Of these, from one address: an IPv4 address, or an IPv6 network of 64 bits
    #[arg(long, value_name = "N", default_value_t = PeerLimitOptions::default().handshakes, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) source_handshakes: u32,

    /// Failed authentications from one address before its connections are closed as soon as they
    /// are made; ten a second are forgiven
    #[arg(long, value_name = "N", default_value_t = PeerLimitOptions::default().failures, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) source_failures: u32,

    /// Of the scheme mutual: how long either end may be silent before it gives a sign of life, 1 to
    /// 3600, or 0 for never; after twice as long and 5 s a silent peer is given up
    #[arg(long, value_name = "SECS", default_value = "15", value_parser = heartbeat)]
    pub(crate) heartbeat: Duration,

    /// Of the service device: how often a device is to be heard of; one that is silent for three times
    /// as long is given up
    #[arg(long, value_name = "SECS", default_value = "3", value_parser = seconds)]
    pub(crate) device_interval: Duration,

    /// Of the service device: devices remembered, those that are gone too; when so many are connected,
    /// one more is refused
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_devices: u32,

    /// Of the service device: where to print which devices there are, a loopback address or
    /// unix:/path. Who connects may send a line, `json` or `table`, and gets the table without one;
    /// SIGUSR1 has both logged
    #[arg(long, value_name = "ADDR")]
    pub(crate) status: Option<Address>,

    /// Apply the limits of one address to peers on this machine too, who share one
    #[arg(long)]
    pub(crate) limit_local: bool,

    /// What to log: off, error, warn, info, debug, trace, or a filter such as countersign=debug
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,

    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(clap::Args)]
pub(crate) struct ConnectArgs {
    /// The server: host:port, [v6]:port or unix:/path
    #[arg(value_name = "ADDR")]
    pub(crate) address: Address,

    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,

    #[command(flatten)]
    pub(crate) tls: ClientTlsArgs,

    /// Of the scheme mutual: the only name that the server may have
    #[arg(long, value_name = "NAME")]
    pub(crate) expect_server: Option<Name>,

    /// What drives the connection
    #[arg(long, value_enum, default_value_t = ConnectAdapter::Std)]
    pub(crate) adapter: ConnectAdapter,

    /// A message to send, instead of the lines of standard input; may be repeated
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    pub(crate) message: Vec<String>,

    /// After the end of input, leave when the server has not agreed for so long; in a byte stream,
    /// when nothing has come for so long. Where messages have bounds the reply to each is waited for
    #[arg(long, value_name = "SECS", default_value = "1", value_parser = seconds)]
    pub(crate) linger: Duration,
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

    /// Of the scheme mutual: the only name that the server may have
    #[arg(long, value_name = "NAME")]
    pub(crate) expect_server: Option<Name>,

    /// Connections that are held at once
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) connections: u32,

    /// Length of a message, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 64, value_parser = clap::value_parser!(u32).range(..=1 << 30))]
    pub(crate) size: u32,

    /// Messages that each connection sends ahead of their answers
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) pipeline: u32,

    /// Length of a buffer, in bytes, from 16 KiB to 1 MiB: so much of a message is sent, and read, at once
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 10, value_parser = buffer_len())]
    pub(crate) buffer: u32,

    /// Each connection sends a message so often, whether or not the last one was answered
    #[arg(long, value_name = "SECS", value_parser = seconds, conflicts_with_all = ["pipeline", "reconnect"])]
    pub(crate) every: Option<Duration>,

    /// How long to talk
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    pub(crate) duration: Duration,

    /// Talk until so many messages are answered, if that takes less
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// One message on each connection, and then another connection
    #[arg(long)]
    pub(crate) reconnect: bool,

    /// The server's process, if it is not the one that listens at the address
    #[arg(long, value_name = "PID")]
    pub(crate) server_pid: Option<u32>,

    /// Print one line of JSON, times in microseconds
    #[arg(long)]
    pub(crate) json: bool,

    /// Draw the latencies
    #[arg(long, value_name = "FILE.svg")]
    pub(crate) plot: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct DeviceArgs {
    /// The server: host:port, [v6]:port or unix:/path
    #[arg(value_name = "ADDR")]
    pub(crate) address: Address,

    /// The application of the device: 36 printable characters, as a UUID has
    #[arg(long, value_name = "ID")]
    pub(crate) app_id: AppId,

    /// Which device it is: 15 digits
    #[arg(long)]
    pub(crate) imei: Imei,

    #[command(flatten)]
    pub(crate) protocol: ProtocolArgs,

    #[command(flatten)]
    pub(crate) tls: ClientTlsArgs,

    /// Of the scheme mutual: the only name that the server may have
    #[arg(long, value_name = "NAME")]
    pub(crate) expect_server: Option<Name>,

    /// How long after one heartbeat the next one is due, 0.2 at least
    #[arg(long, value_name = "SECS", default_value = "3", value_parser = beat)]
    pub(crate) heartbeat: Duration,

    /// How long the server may take for an answer before the connection is given up
    #[arg(long, value_name = "SECS", default_value = "10", value_parser = seconds)]
    pub(crate) answer_timeout: Duration,

    /// End after so many answered heartbeats
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// The longest wait before the first attempt to connect again; it doubles with each further one
    /// until a heartbeat is answered. How long it is below that is random
    #[arg(long, value_name = "SECS", default_value = "0.5", value_parser = seconds)]
    pub(crate) backoff_base: Duration,

    /// The longest wait before any attempt
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = seconds)]
    pub(crate) backoff_cap: Duration,
}

/// What both ends must agree on.
#[derive(Clone, clap::Args)]
pub(crate) struct ProtocolArgs {
    /// How the ends prove who they are
    #[arg(long, value_enum, default_value_t = SchemeName::Mutual)]
    pub(crate) scheme: SchemeName,

    /// Of the schemes challenge and multiprocessing: what the HMAC is over; of the latter not sha1 or
    /// sha512
    #[arg(long, value_enum, default_value_t = DigestName::Sha256)]
    pub(crate) digest: DigestName,

    /// Of the scheme multiprocessing: give and take every proof that Python itself would, also md5 as
    /// before Python 3.12; otherwise only the digest asked for
    #[arg(long)]
    pub(crate) compatible: bool,

    /// The file whose bytes, less one final newline, are the secret; else the environment variable
    /// COUNTERSIGN_KEY; else countersign.key here, which `serve` makes if there is none
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Of the scheme mutual: the id of the key, 1 to 32 characters
    #[arg(long, value_name = "ID", default_value = Mutual::DEFAULT_KEY_ID)]
    pub(crate) kid: KeyId,

    /// Of the scheme mutual: a TOML file of many keys, each a [[key]] with id, secret, roles
    /// ("client", "server": what this end may be), and if need be names (the peer's), not_before and
    /// not_after
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    pub(crate) keyring: Option<PathBuf>,

    /// Of the scheme mutual: what this end is called, 1 to 64 characters; `server` for serve and
    /// `client` otherwise unless given
    #[arg(long)]
    pub(crate) name: Option<Name>,

    /// The longest frame to accept, in bytes; of the scheme mutual no longer than a buffer: 16401,
    /// which are 16 KiB of a message that may go on in the next
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    pub(crate) max_frame: u64,

    /// How long a handshake may take
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = seconds)]
    pub(crate) handshake_timeout: Duration,
}

fn buffer_len() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(16 << 10..=1 << 20)
}

/// TLS, of a server.
#[derive(clap::Args)]
pub(crate) struct ServerTlsArgs {
    /// Serve inside TLS, with the certificate in this file, in PEM, and those that lead to its CA
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM, in a file that nobody else can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// Require of each client a certificate that is in this file, in PEM, or signed by a CA that is
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_client_ca: Option<PathBuf>,
}

/// TLS, of a client.
#[derive(clap::Args)]
pub(crate) struct ClientTlsArgs {
    /// Connect inside TLS, to a server whose certificate is signed by a CA in this file, in PEM, and is
    /// for its name; or is in this file itself, whatever its name
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_ca: Option<PathBuf>,

    /// The certificate to show, in PEM, and those that lead to its CA
    #[arg(long, value_name = "FILE", requires_all = ["tls_ca", "tls_key"])]
    pub(crate) tls_cert: Option<PathBuf>,

    /// The certificate's private key, in PEM, in a file that nobody else can read
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub(crate) tls_key: Option<PathBuf>,

    /// The name that the server's certificate is for, if it is not that in ADDR; `localhost` for a Unix
    /// socket
    #[arg(long, value_name = "NAME", requires = "tls_ca")]
    pub(crate) tls_name: Option<String>,
}

#[derive(clap::Args)]
pub(crate) struct CertsArgs {
    /// The directory to put them into; it is made if need be
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// A DNS name or an address of the server, beside localhost, 127.0.0.1 and ::1; may be repeated
    #[arg(long, value_name = "HOST")]
    pub(crate) name: Vec<String>,

    /// How long they are valid
    #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
    pub(crate) days: u32,
}

#[derive(clap::Args)]
pub(crate) struct KeygenArgs {
    /// Write it to this new file, which only you can read, instead of standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemeName {
    /// Both ends prove that they hold the key; then frames that nobody else can make or change
    Mutual,
    /// The client proves that it holds the key; then a raw byte stream
    Challenge,
    /// What Python's multiprocessing.connection does: both ends prove that they hold the key; then
    /// frames as Python has them
    Multiprocessing,
    /// Nothing is proved; then length-prefixed frames
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DigestName {
    Sha256,
    Md5,
    Sha1,
    Sha384,
    Sha512,
    #[value(name = "sha3-256")]
    Sha3_256,
    #[value(name = "sha3-384")]
    Sha3_384,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServiceName {
    /// Send back in ASCII capitals
    Upper,
    /// Send back as it is
    Echo,
    /// Register devices, tell them the time, hear their heartbeats
    Device,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeAdapter {
    /// An event loop: one thread for all connections
    Mio,
    /// Blocking sockets: a thread for each connection
    Std,
    /// An executor: a task for each connection
    Smol,
}

impl ServeAdapter {
    /// Connections at once, unless otherwise asked for.
    pub(crate) fn connections(self) -> u32 {
        match self {
            Self::Mio | Self::Smol => 10_000,
            Self::Std => 1_000,
        }
    }

    /// Open files that a connection takes.
    pub(crate) fn files(self) -> u64 {
        match self {
            Self::Mio | Self::Smol => 1,
            Self::Std => 3,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ConnectAdapter {
    /// Blocking sockets
    Std,
    /// An event loop on a thread of its own
    Mio,
    /// Futures
    Smol,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines to read
    Text,
    /// One JSON object a line
    Json,
}

impl ProtocolArgs {
    /// What to speak, inside TLS or not, where `name` is what this end is called unless something else
    /// was asked for, and `refine` adds what this end has to say to the scheme mutual.
    pub(crate) fn config(
        &self,
        name: &str,
        inside_tls: bool,
        refine: impl FnOnce(Mutual) -> Mutual,
    ) -> Result<Config, Failed> {
        let scheme = match self.scheme {
            SchemeName::None => Scheme::None,
            SchemeName::Challenge => Scheme::Challenge { digest: self.digest.digest() },
            SchemeName::Multiprocessing => {
                let policy = self.multiprocessing();
                if !policy.digests().any(|digest| digest == self.digest.digest()) {
                    return Err(Failed::new(Exit::Usage, ConfigError::Digest));
                }
                Scheme::Multiprocessing(policy)
            }
            SchemeName::Mutual => {
                let name = match self.name {
                    Some(name) => name,
                    None => Name::new(name).map_err(|error| Failed::new(Exit::Usage, error))?,
                };
                let instance = process_id().map_err(|error| Failed::new(Exit::Failure, error))?;
                let mutual = refine(Mutual::new(name, instance).with_key_id(self.kid));
                // TLS protects every byte, and the channel binding says that it is the same TLS.
                Scheme::Mutual(if inside_tls {
                    mutual.with_channel_binding().without_tags()
                } else {
                    mutual
                })
            }
        };
        Ok(Config::new(scheme)
            .with_max_frame(self.max_frame)
            .with_handshake_timeout(self.handshake_timeout))
    }

    pub(crate) fn multiprocessing(&self) -> Multiprocessing {
        let policy = Multiprocessing::new(self.digest.digest());
        if self.compatible { policy.compatible() } else { policy }
    }

    /// The options that the other end needs to speak the same.
    pub(crate) fn for_the_other_end(&self) -> String {
        let mut options = String::new();
        match self.scheme {
            SchemeName::Mutual if self.kid.as_str() != Mutual::DEFAULT_KEY_ID => {
                options += " --kid ";
                options += self.kid.as_str();
            }
            SchemeName::Mutual => {}
            SchemeName::Challenge => options += " --scheme challenge",
            SchemeName::Multiprocessing => options += " --scheme multiprocessing",
            SchemeName::None => options += " --scheme none",
        }
        let has_digest = matches!(self.scheme, SchemeName::Challenge | SchemeName::Multiprocessing);
        if has_digest && self.digest != DigestName::Sha256 {
            options += " --digest ";
            options += self.digest.digest().name();
        }
        if self.scheme == SchemeName::Multiprocessing && self.compatible {
            options += " --compatible";
        }
        options
    }
}

impl DigestName {
    pub(crate) fn digest(self) -> Digest {
        match self {
            Self::Sha256 => Digest::Sha256,
            Self::Md5 => Digest::Md5,
            Self::Sha1 => Digest::Sha1,
            Self::Sha384 => Digest::Sha384,
            Self::Sha512 => Digest::Sha512,
            Self::Sha3_256 => Digest::Sha3_256,
            Self::Sha3_384 => Digest::Sha3_384,
        }
    }
}

/// Seconds in whole milliseconds, within the bounds of a heartbeat.
fn heartbeat(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if seconds == 0.0 || (1.0..=3600.0).contains(&seconds) {
        Ok(Duration::from_millis((seconds * 1e3) as u64))
    } else {
        Err("must be 0, or from 1 to 3600 seconds".to_owned())
    }
}

/// Seconds, with a fraction if need be.
/// Faster than that, and no connection is ever quiet enough to be stopped in order.
fn beat(text: &str) -> Result<Duration, String> {
    let beat = seconds(text)?;
    if beat < Duration::from_millis(200) {
        Err("must be 0.2 at least".to_owned())
    } else {
        Ok(beat)
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (0.001..=1e9).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("must be from 0.001 to 1000000000 seconds".to_owned())
    }
}
