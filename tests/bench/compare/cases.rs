//! What is measured.

use crate::servers::Kind;

/// The same work for several servers; the first is what the others are compared with.
pub(crate) struct Case {
    pub(crate) title: &'static str,
    pub(crate) scheme: &'static str,
    pub(crate) tls: bool,
    pub(crate) connections: &'static [&'static str],
    /// What else `countersign bench` is told.
    pub(crate) load: &'static [&'static str],
    /// Length of a message, in bytes.
    pub(crate) size: usize,
    /// What is done again and again.
    pub(crate) unit: &'static str,
    /// The floor is given the time that the HMACs of sealed frames take.
    pub(crate) sealed: bool,
    /// How much longer than others it is measured.
    pub(crate) times: f64,
    pub(crate) servers: &'static [Kind],
}

const PLAIN: Case = Case {
    title: "",
    scheme: "none",
    tls: false,
    connections: &["--connections", "8"],
    load: &[],
    size: 64,
    unit: "message",
    sealed: false,
    times: 1.0,
    servers: &[Kind::Floor, Kind::MIO, Kind::STD, Kind::SMOL, Kind::Asyncio],
};

/// The scheme `challenge`: a raw byte stream.
const RAW: Case = Case {
    scheme: "challenge",
    servers: &[Kind::Floor, Kind::MIO, Kind::STD, Kind::SMOL, Kind::Asyncio, Kind::Recipe],
    ..PLAIN
};

impl Case {
    /// How many open files either end needs.
    pub(crate) fn files(&self) -> u64 {
        let connections: u64 = self.connections[1].parse().unwrap();
        connections + 100
    }

    /// What the load speaks to `kind`: the floor has no handshake but the one whose proof it does not
    /// look at, and frames that begin with their length are all one to it.
    pub(crate) fn spoken_to(&self, kind: Kind) -> &'static str {
        match (kind, self.scheme) {
            (Kind::Floor, "mutual" | "multiprocessing") => "none",
            (_, scheme) => scheme,
        }
    }

    /// Before 3.12 Python's proofs were of another kind.
    pub(crate) fn compatible(&self) -> &'static [&'static str] {
        if self.scheme == "multiprocessing" { &["--compatible"] } else { &[] }
    }
}

pub(crate) const CASES: &[Case] = &[
    Case {
        title: "connection: challenge, one message of 64 bytes, close",
        connections: &["--connections", "16"],
        load: &["--reconnect"],
        unit: "connection",
        servers: &[
            Kind::Floor,
            Kind::MIO,
            Kind::LOGGING,
            Kind::STD,
            Kind::SMOL,
            Kind::Asyncio,
            Kind::Recipe,
        ],
        ..RAW
    },
    Case {
        title: "connection: mutual, one message of 64 bytes, close",
        scheme: "mutual",
        connections: &["--connections", "16"],
        load: &["--reconnect"],
        unit: "connection",
        servers: &[Kind::MIO, Kind::STD, Kind::SMOL],
        ..PLAIN
    },
    Case { title: "raw: 64 bytes, 16 ahead", load: &["--pipeline", "16"], ..RAW },
    Case { title: "raw: 64 bytes, 64 ahead", load: &["--pipeline", "64"], ..RAW },
    Case { title: "u32: 64 bytes, 16 ahead", load: &["--pipeline", "16"], ..PLAIN },
    Case { title: "u32: 64 bytes, 64 ahead", load: &["--pipeline", "64"], ..PLAIN },
    Case {
        title: "raw: 64 KiB, 4 ahead",
        load: &["--size", "65536", "--pipeline", "4"],
        size: 65_536,
        servers: &[
            Kind::Floor,
            Kind::MIO,
            Kind::LONG,
            Kind::STD,
            Kind::SMOL,
            Kind::Asyncio,
            Kind::Recipe,
        ],
        ..RAW
    },
    Case {
        title: "u32: 64 KiB, 4 ahead",
        load: &["--size", "65536", "--pipeline", "4"],
        size: 65_536,
        servers: &[Kind::Floor, Kind::MIO, Kind::LONG, Kind::STD, Kind::SMOL, Kind::Asyncio],
        ..PLAIN
    },
    Case {
        title: "sealed: 16 KiB, 4 ahead",
        scheme: "mutual",
        load: &["--size", "16384", "--pipeline", "4"],
        size: 16_384,
        sealed: true,
        servers: &[Kind::Floor, Kind::MIO, Kind::STD, Kind::SMOL],
        ..PLAIN
    },
    Case {
        title: "multiprocessing: 64 bytes, 16 ahead",
        scheme: "multiprocessing",
        load: &["--pipeline", "16"],
        servers: &[Kind::Floor, Kind::MIO, Kind::STD, Kind::SMOL, Kind::Multiprocessing],
        ..PLAIN
    },
    Case {
        title: "multiprocessing: 16 KiB, 4 ahead",
        scheme: "multiprocessing",
        load: &["--size", "16384", "--pipeline", "4"],
        size: 16_384,
        servers: &[Kind::Floor, Kind::MIO, Kind::STD, Kind::SMOL, Kind::Multiprocessing],
        ..PLAIN
    },
    Case {
        title: "u32 inside TLS: 16 KiB, 4 ahead",
        tls: true,
        load: &["--size", "16384", "--pipeline", "4"],
        size: 16_384,
        servers: &[Kind::Rustls, Kind::MIO, Kind::STD, Kind::SMOL],
        ..PLAIN
    },
    Case {
        title: "u32: 10,000 connections, each 64 bytes a second",
        connections: &["--connections", "10000"],
        load: &["--every", "1"],
        times: 4.0,
        servers: &[Kind::Floor, Kind::MIO],
        ..PLAIN
    },
];
