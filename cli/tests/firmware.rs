//! The programs in tests/firmware on a Cortex-M3 in QEMU, whose UART is connected to the command.
//! `cargo test -p countersign-cli --test firmware -- --nocapture` prints their flash, RAM and stack.

#![cfg(test)]

#[allow(dead_code, reason = "shared with tests that need more of it")]
#[path = "common/common.rs"]
mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs, io};

use common::{Capture, Server, ServerAddr, TempDir, countersign, skip};

const KEY: &str = "a-key-that-is-long-enough-for-anyone";
/// Debian's compiler: rustup's has no core for this target.
const RUSTC: &str = "/usr/bin/rustc";
const CARGO: &str = "/usr/bin/cargo";

/// Builds the programs once and returns their directory. `None`, after a report, if a tool is missing.
fn programs() -> Option<&'static Path> {
    static BUILT: OnceLock<Option<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(build).as_deref()
}

fn build() -> Option<PathBuf> {
    let core =
        |sysroot: &str| Path::new(sysroot).join("lib/rustlib/src/rust/library/core").exists();
    let sysroot = stdout_of(Command::new(RUSTC).args(["--print", "sysroot"]));
    if !sysroot.is_some_and(|sysroot| core(sysroot.trim())) {
        skip("rustc-web, cargo-web and rust-web-src");
        return None;
    }
    for (tool, package) in [("ld.lld", "lld"), ("qemu-system-arm", "qemu-system-arm")] {
        if stdout_of(Command::new(tool).arg("--version")).is_none() {
            skip(package);
            return None;
        }
    }
    let at = Path::new(env!("CARGO_TARGET_TMPDIR")).join("firmware");
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/firmware");
    // `digests` needs a build of its own: a feature applies to all programs of one build.
    for more in [&["--features", "digests", "--bin", "everything"][..], &["--bins"]] {
        let mut cargo = Command::new(CARGO);
        cargo.current_dir(&sources).args(["build", "--release", "--locked", "-Zbuild-std=core"]);
        cargo.arg("--target-dir").arg(&at).args(more);
        // The variables that cargo has set for this test are wrong for that compiler.
        for (name, _) in env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("CARGO") || name.starts_with("RUST"))
            {
                cargo.env_remove(name);
            }
        }
        if let Some(home) = env::var_os("CARGO_HOME") {
            cargo.env("CARGO_HOME", home);
        }
        cargo.env("RUSTC", RUSTC).env("RUSTC_BOOTSTRAP", "1");
        let built = cargo.output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    }
    Some(at.join("thumbv7m-none-eabi/release"))
}

/// The output of a program, if it exists and succeeds.
fn stdout_of(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}

/// A server and its address.
fn serve(dir: &TempDir, args: &[&str]) -> (Server, String) {
    let mut command = countersign(dir);
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(args).env("COUNTERSIGN_KEY", KEY);
    let server = Server::spawn(command, 1);
    let ServerAddr::Tcp(at) = &server.at[0] else { panic!("not TCP") };
    let at = at.to_string();
    (server, at)
}

/// An emulated board, stopped on drop.
struct Board {
    child: Child,
    output: Capture,
}

impl Board {
    fn start(program: &Path, at: &str, words: &[&str]) -> Self {
        let mut command = Command::new("qemu-system-arm");
        command.args(["-M", "lm3s6965evb", "-cpu", "cortex-m3", "-nographic", "-monitor", "none"]);
        let words: String = words.iter().map(|word| format!(",arg={word}")).collect();
        command.arg("-semihosting-config").arg(format!("enable=on,target=native{words}"));
        command.arg("-serial").arg(format!("tcp:{at}")).arg("-kernel").arg(program);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = Capture::start(child.stderr.take().unwrap());
        Self { child, output }
    }

    /// Waits for the end. Fails unless the exit code is `code` and the output has `lines` in this order.
    #[track_caller]
    fn expect_end(mut self, code: i32, lines: &[&str]) -> Vec<String> {
        let text = self.output.wait_end();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{text}");
        let output: Vec<_> = text.lines().map(|line| line.trim_end().to_owned()).collect();
        let mut rest = output.iter();
        for line in lines {
            assert!(rest.any(|it| it == line), "{line} is not in {text}");
        }
        output
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines about each reply.
const REPLIES: [&str; 6] = [
    "established server",
    "answered 5",
    "answered 0",
    "answered 400",
    "answered 513",
    "answered 3000",
];

#[test]
fn board_authenticates_and_keeps_an_idle_line() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new();
    let (_server, at) = serve(&dir, &["--service", "echo", "--heartbeat", "1"]);
    // Longer than the time after which either end disconnects a silent peer: two heartbeats and 5 s.
    let board = Board::start(&programs.join("mutual"), &at, &[KEY, "1", "8"]);
    board.expect_end(0, &[&REPLIES[..], &["idle 8", "answered 7", "done"]].concat());
}

#[test]
fn board_with_wrong_key_is_refused() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new();
    let (server, at) = serve(&dir, &[]);
    let wrong = "another-key-that-is-long-enough-too";
    let board = Board::start(&programs.join("mutual"), &at, &[wrong, "1", "1"]);
    board.expect_end(3, &["refused alert-refused"]);
    server.log.wait("the reason", |log, _| log.contains("scheme=mutual reason=wrong-key"));
}

#[test]
fn board_detects_a_cut_line() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new();
    let (mut server, at) = serve(&dir, &["--service", "echo", "--heartbeat", "1"]);
    let board = Board::start(&programs.join("mutual"), &at, &[KEY, "1", "1", "wait"]);
    board.output.wait("the board", |output, _| output.contains("waiting"));
    // A serial line has no end of stream: the board detects the silence.
    server.child.kill().unwrap();
    board.expect_end(4, &["waiting", "ended peer-silent"]);
}

#[test]
fn board_runs_the_device_protocol() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new();
    let (server, at) = serve(&dir, &["--service", "device"]);
    let board = Board::start(&programs.join("device"), &at, &[KEY, "1"]);
    board.expect_end(
        0,
        &["register 0", "time 0", "heartbeat 0", "heartbeat 0", "heartbeat 0", "done"],
    );
    let registered = "imei=869858030720693";
    server.log.wait("the device", |log, _| log.contains(registered));
}

#[test]
fn board_supports_every_scheme() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new();
    for (scheme, digest) in
        [("mutual", "sha256"), ("none", "sha256"), ("challenge", "md5"), ("challenge", "sha3-384")]
            .into_iter()
            .chain([("challenge", "sha512"), ("multiprocessing", "sha256")])
    {
        let digests = ["--digest", digest];
        let args = ["--service", "echo", "--scheme", scheme];
        let digests = if digest == "sha256" { &[][..] } else { &digests[..] };
        let (_server, at) = serve(&dir, &[&args[..], digests].concat());
        let words = [scheme, KEY, "1", digest];
        let board = Board::start(&programs.join("everything"), &at, &words);
        board.expect_end(
            0,
            &["answered 5", "answered 400", "answered 1025", "answered 3000", "done"],
        );
    }
}

/// Bytes of flash and static RAM, from the segments of the program.
fn sizes(program: &Path) -> (u32, u32) {
    let elf = fs::read(program).unwrap();
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap());
    let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().unwrap()));
    let (table, entry, count) = (word(28) as usize, half(42), half(44));
    let segments = (0..count).map(|i| table + i * entry).filter(|&at| word(at) == 1);
    segments.fold((0, 0), |(flash, ram), at| {
        let (address, filled, whole) = (word(at + 8), word(at + 16), word(at + 20));
        (flash + filled, ram + if address >= 0x2000_0000 { whole } else { 0 })
    })
}

#[test]
fn flash_ram_and_stack_are_within_limits() {
    let Some(programs) = programs() else { return };
    let dir = TempDir::new();
    let mut table =
        String::from("| program | flash | static RAM | deepest stack |\n|---|---|---|---|\n");
    for (name, serves, words) in [
        ("baseline", &[][..], &["-"][..]),
        ("challenge", &["--service", "echo", "--scheme", "challenge"], &[KEY]),
        ("mutual", &["--service", "echo"], &[KEY, "1", "1"]),
        ("device", &["--service", "device"], &[KEY, "1"]),
        ("everything", &["--service", "echo"], &["mutual", KEY, "1"]),
    ] {
        let (_server, at) = serve(&dir, serves);
        let program = programs.join(name);
        let output = Board::start(&program, &at, words).expect_end(0, &["done"]);
        let stack = output.iter().find_map(|line| line.split_once("stack ")).unwrap().1;
        let (flash, ram) = sizes(&program);
        table += &format!("| `{name}` | {flash} | {ram} | {stack} |\n");
        assert!(stack.parse::<u32>().unwrap() < 8 << 10, "{table}");
        assert!(flash < 96 << 10 && ram < 8 << 10, "{table}");
    }
    writeln!(io::stdout(), "{table}").unwrap();
}
