//! The processor time of a server on this machine, on Linux.

use std::fs;
use std::path::Path;
use std::time::Duration;

use countersign_host::Address;

/// A process.
pub(crate) struct Processor(u32);

impl Processor {
    /// The process `pid`, or the one that listens at `address`. `None` if that is not on this machine, or
    /// belongs to another user.
    pub(crate) fn of(address: &Address, pid: Option<u32>) -> Option<Self> {
        match pid {
            Some(pid) => Some(Self(pid)),
            None => listener(address).map(Self),
        }
    }

    /// The processor time used so far. The resolution is 10 ms on most systems.
    pub(crate) fn time(&self) -> Option<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0)).ok()?;
        // Fields are counted after the name, which may contain any character: user and system time are
        // fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')')?;
        let mut fields = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let ticks = fields.next()?.ok()? + fields.next()?.ok()?;
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        Some(Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
    }
}

/// The id of the process that listens at `address`.
fn listener(address: &Address) -> Option<u32> {
    let inode = match address {
        Address::Tcp { host, port } => {
            let local = host == "localhost"
                || host.parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
            local.then(|| listening(*port)).flatten()?
        }
        Address::Unix(path) => listening_unix(path)?,
    };
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.find(|pid| {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut targets = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        targets.any(|target| target.to_str() == Some(&socket))
    })
}

/// The inode of the TCP socket that listens on `port`.
fn listening(port: u16) -> Option<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (_, hex) = fields.get(1)?.rsplit_once(':')?;
            // State 0A: LISTEN.
            let found = *fields.get(3)? == "0A" && u16::from_str_radix(hex, 16) == Ok(port);
            found.then(|| fields.get(9).map(ToString::to_string)).flatten()
        })
    })
}

/// The inode of the Unix socket that listens at `path`.
fn listening_unix(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let table = fs::read_to_string("/proc/net/unix").ok()?;
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // Flag 00010000: SO_ACCEPTCON.
        let listens = *fields.get(3)? == "00010000";
        let at = fs::canonicalize(fields.get(7)?).ok()?;
        (listens && at == path).then(|| fields[6].to_owned())
    })
}
