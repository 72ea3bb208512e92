//! [`Case`]: the workloads to measure.

use crate::server::ServerKind;

/// A workload, and the servers to run it on. The first server is the reference of the ratios.
pub(crate) struct Case {
    pub(crate) title: &'static str,
    pub(crate) scheme: &'static str,
    pub(crate) tls: bool,
    pub(crate) connections: &'static [&'static str],
    /// Further arguments of `countersign bench`.
    pub(crate) load_args: &'static [&'static str],
    /// Length of a message, in bytes.
    pub(crate) size: usize,
    /// The unit of work that the rate counts.
    pub(crate) unit: &'static str,
    /// The floor's time includes that of the HMACs of sealed frames.
    pub(crate) sealed: bool,
    /// Factor on the duration of a measurement.
    pub(crate) duration_factor: f64,
    pub(crate) servers: &'static [ServerKind],
}

/// The scheme `none`, in `u32` frames.
const PLAIN: Case = Case {
    title: "",
    scheme: "none",
    tls: false,
    connections: &["--connections", "8"],
    load_args: &[],
    size: 64,
    unit: "message",
    sealed: false,
    duration_factor: 1.0,
    servers: &[
        ServerKind::Floor,
        ServerKind::MIO,
        ServerKind::STD,
        ServerKind::SMOL,
        ServerKind::Asyncio,
    ],
};

/// The same with short messages, whole and in chunks.
const U32: Case = Case {
    servers: &[
        ServerKind::Floor,
        ServerKind::MIO,
        ServerKind::CHUNKS,
        ServerKind::STD,
        ServerKind::SMOL,
        ServerKind::Asyncio,
    ],
    ..PLAIN
};

/// The scheme `challenge`: a raw byte stream.
const RAW: Case = Case {
    scheme: "challenge",
    servers: &[
        ServerKind::Floor,
        ServerKind::MIO,
        ServerKind::STD,
        ServerKind::SMOL,
        ServerKind::Asyncio,
        ServerKind::Recipe,
    ],
    ..PLAIN
};

impl Case {
    /// Open files that the server or the load needs.
    pub(crate) fn open_files(&self) -> u64 {
        let connections: u64 = self.connections[1].parse().unwrap();
        connections + 100
    }

    /// The scheme that the load uses with a server of `kind`. The floor has no handshake except
    /// `challenge`, whose proof it ignores, and treats all frames with a length prefix alike.
    pub(crate) fn load_scheme(&self, kind: ServerKind) -> &'static str {
        match (kind, self.scheme) {
            (ServerKind::Floor, "mutual" | "multiprocessing") => "none",
            (_, scheme) => scheme,
        }
    }

    /// Python before 3.12 uses other digests.
    pub(crate) fn compatibility_args(&self) -> &'static [&'static str] {
        if self.scheme == "multiprocessing" { &["--compatible"] } else { &[] }
    }
}

pub(crate) const CASES: &[Case] = &[
    Case {
        title: "connection: challenge, one message of 64 bytes, close",
        connections: &["--connections", "16"],
        load_args: &["--reconnect"],
        unit: "connection",
        servers: &[
            ServerKind::Floor,
            ServerKind::MIO,
            ServerKind::LOGGING,
            ServerKind::STD,
            ServerKind::SMOL,
            ServerKind::Asyncio,
            ServerKind::Recipe,
        ],
        ..RAW
    },
    Case {
        title: "connection: mutual, one message of 64 bytes, close",
        scheme: "mutual",
        connections: &["--connections", "16"],
        load_args: &["--reconnect"],
        unit: "connection",
        servers: &[ServerKind::MIO, ServerKind::STD, ServerKind::SMOL],
        ..PLAIN
    },
    Case { title: "raw: 64 bytes, 16 ahead", load_args: &["--pipeline", "16"], ..RAW },
    Case { title: "raw: 64 bytes, 64 ahead", load_args: &["--pipeline", "64"], ..RAW },
    Case { title: "u32: 64 bytes, 16 ahead", load_args: &["--pipeline", "16"], ..U32 },
    Case { title: "u32: 64 bytes, 64 ahead", load_args: &["--pipeline", "64"], ..U32 },
    Case {
        title: "raw: 64 KiB, 4 ahead",
        load_args: &["--size", "65536", "--pipeline", "4"],
        size: 65_536,
        servers: &[
            ServerKind::Floor,
            ServerKind::MIO,
            ServerKind::LONG,
            ServerKind::STD,
            ServerKind::SMOL,
            ServerKind::Asyncio,
            ServerKind::Recipe,
        ],
        ..RAW
    },
    Case {
        title: "u32: 64 KiB, 4 ahead",
        load_args: &["--size", "65536", "--pipeline", "4"],
        size: 65_536,
        servers: &[
            ServerKind::Floor,
            ServerKind::MIO,
            ServerKind::CHUNKS,
            ServerKind::LONG,
            ServerKind::STD,
            ServerKind::SMOL,
            ServerKind::Asyncio,
        ],
        ..PLAIN
    },
    Case {
        title: "sealed: 16 KiB, 4 ahead",
        scheme: "mutual",
        load_args: &["--size", "16384", "--pipeline", "4"],
        size: 16_384,
        sealed: true,
        servers: &[ServerKind::Floor, ServerKind::MIO, ServerKind::STD, ServerKind::SMOL],
        ..PLAIN
    },
    Case {
        title: "multiprocessing: 64 bytes, 16 ahead",
        scheme: "multiprocessing",
        load_args: &["--pipeline", "16"],
        servers: &[
            ServerKind::Floor,
            ServerKind::MIO,
            ServerKind::STD,
            ServerKind::SMOL,
            ServerKind::Multiprocessing,
        ],
        ..PLAIN
    },
    Case {
        title: "multiprocessing: 16 KiB, 4 ahead",
        scheme: "multiprocessing",
        load_args: &["--size", "16384", "--pipeline", "4"],
        size: 16_384,
        servers: &[
            ServerKind::Floor,
            ServerKind::MIO,
            ServerKind::STD,
            ServerKind::SMOL,
            ServerKind::Multiprocessing,
        ],
        ..PLAIN
    },
    Case {
        title: "u32 inside TLS: 16 KiB, 4 ahead",
        tls: true,
        load_args: &["--size", "16384", "--pipeline", "4"],
        size: 16_384,
        servers: &[ServerKind::Rustls, ServerKind::MIO, ServerKind::STD, ServerKind::SMOL],
        ..PLAIN
    },
    Case {
        title: "u32: 10,000 connections, each 64 bytes a second",
        connections: &["--connections", "10000"],
        load_args: &["--every", "1"],
        duration_factor: 4.0,
        servers: &[ServerKind::Floor, ServerKind::MIO],
        ..PLAIN
    },
];
