//! `connect` on a terminal.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Child, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Termios, tcgetattr};

use crate::KEY;
use crate::common::{Capture, Server, TempDir, countersign, with_adapter};

const UP: &str = "\x1b[A";
const ENTER: &str = "\r";
const END_OF_INPUT: &str = "\x04";
const INTERRUPT: &str = "\x03";

/// Opens a pseudoterminal: its master and the terminal.
fn open_pty() -> (File, File) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let path = OsStr::from_bytes(name.as_bytes());
    let terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
    (File::from(master), terminal)
}

/// `connect` on a pseudoterminal.
struct TerminalSession {
    master: File,
    output: Capture,
    terminal: File,
    before: Termios,
    child: Child,
    /// Not the terminal, so that its end is the end of the process.
    err: Capture,
    server: Option<Server>,
    _scratch: TempDir,
}

impl TerminalSession {
    fn connect() -> Self {
        let dir = TempDir::new();
        let server = Server::start(&dir, KEY, &["--listen", "127.0.0.1:0"]);
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let path = OsStr::from_bytes(name.as_bytes());
        let terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let master = File::from(master);
        let before = tcgetattr(&terminal).unwrap();
        let mut connect = countersign(&dir);
        connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
        connect.env("COUNTERSIGN_KEY", KEY).env("TERM", "xterm");
        let stream = || terminal.try_clone().unwrap();
        connect.stdin(stream()).stdout(stream()).stderr(Stdio::piped());
        let mut child = with_adapter(&mut connect).spawn().unwrap();
        let session = Self {
            output: Capture::start(master.try_clone().unwrap()),
            err: Capture::start(child.stderr.take().unwrap()),
            master,
            terminal,
            before,
            child,
            server: Some(server),
            _scratch: dir,
        };
        session.output.wait("the first prompt", |output, _| output.contains("> "));
        session
    }

    fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    fn wait_output(&self, text: &str) {
        self.output.wait(text, |output, _| output.contains(text));
    }

    /// Waits for a prompt after the last occurrence of `text`. The terminal itself echoes keys that are typed
    /// before the prompt.
    fn wait_prompt_after(&self, text: &str) {
        self.output.wait("a prompt", |output, _| {
            output.rfind(text).is_some_and(|last| output[last..].contains("> "))
        });
    }

    /// Types a message; waits for the reply and the next prompt.
    fn exchange(&mut self, keys: &str, reply: &str) {
        self.type_keys(keys);
        self.type_keys(ENTER);
        self.wait_prompt_after(reply);
    }

    /// Waits for the end of the process. Fails unless the terminal has its initial settings.
    fn wait_exit(&mut self, code: i32) {
        let err = self.err.wait_end();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{err}");
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        assert!(after.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    }
}

impl Drop for TerminalSession {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn prompt_has_editing_and_history() {
    let mut session = TerminalSession::connect();
    session.exchange("hello", "HELLO");
    session.exchange("worl\x7fld", "WORLD");
    session.type_keys(UP);
    session.type_keys(UP);
    session.type_keys(ENTER);
    session.output.wait("the first answer again", |output, _| output.matches("HELLO").count() == 2);
    session.wait_prompt_after("HELLO");
    session.type_keys("quit");
    session.type_keys(ENTER);
    session.wait_exit(0);
}

#[test]
fn end_of_input_or_interrupt_at_the_prompt_ends_connect() {
    for key in [END_OF_INPUT, INTERRUPT] {
        let mut session = TerminalSession::connect();
        session.exchange("hello", "HELLO");
        session.type_keys(key);
        session.wait_exit(0);
    }
}

#[test]
fn terminal_settings_are_restored_when_the_server_dies() {
    let mut session = TerminalSession::connect();
    session.exchange("hello", "HELLO");
    session.type_keys("half a li");
    session.wait_output("half a li");
    assert!(!tcgetattr(&session.terminal).unwrap().local_modes.contains(LocalModes::ICANON));
    session.server = None;
    session.wait_exit(4);
}

#[test]
fn server_stops_when_its_terminal_hangs_up() {
    let dir = TempDir::new();
    let (master, terminal) = open_pty();
    let mut serve = countersign(&dir);
    serve.args(["serve", "--listen", "127.0.0.1:0"]).env("COUNTERSIGN_KEY", KEY);
    serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(terminal);
    let mut child = with_adapter(&mut serve).spawn().unwrap();
    let ready = Capture::start(child.stdout.take().unwrap());
    ready.wait("the ready line", |text, _| text.ends_with('\n'));
    drop(master);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
