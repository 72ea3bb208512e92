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
use crate::common::{Capture, Scratch, Server, countersign, on_adapter};

const UP: &str = "\x1b[A";
const ENTER: &str = "\r";
const END_OF_INPUT: &str = "\x04";
const INTERRUPT: &str = "\x03";

/// A person at a terminal who runs `connect`.
struct Person {
    hands: File,
    screen: Capture,
    terminal: File,
    before: Termios,
    child: Child,
    /// Not the terminal's: its end is the program's.
    err: Capture,
    server: Option<Server>,
    _scratch: Scratch,
}

impl Person {
    fn connects() -> Self {
        let scratch = Scratch::new();
        let server = Server::start(&scratch, KEY, &["--listen", "127.0.0.1:0"]);
        let hands = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&hands).unwrap();
        unlockpt(&hands).unwrap();
        let name = ptsname(&hands, Vec::new()).unwrap();
        let path = OsStr::from_bytes(name.as_bytes());
        let terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let hands = File::from(hands);
        let before = tcgetattr(&terminal).unwrap();
        let mut connect = countersign(&scratch);
        connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
        connect.env("COUNTERSIGN_KEY", KEY).env("TERM", "xterm");
        let side = || terminal.try_clone().unwrap();
        connect.stdin(side()).stdout(side()).stderr(Stdio::piped());
        let mut child = on_adapter(&mut connect).spawn().unwrap();
        let person = Self {
            screen: Capture::start(hands.try_clone().unwrap()),
            err: Capture::start(child.stderr.take().unwrap()),
            hands,
            terminal,
            before,
            child,
            server: Some(server),
            _scratch: scratch,
        };
        person.screen.wait("the first prompt", |screen, _| screen.contains("> "));
        person
    }

    fn types(&mut self, keys: &str) {
        self.hands.write_all(keys.as_bytes()).unwrap();
    }

    fn sees(&self, text: &str) {
        self.screen.wait(text, |screen, _| screen.contains(text));
    }

    /// Waits until, after the last of `text` on the screen, there is a prompt. What is typed
    /// before, the terminal echoes by itself.
    fn is_prompted_after(&self, text: &str) {
        self.screen.wait("a prompt", |screen, _| {
            screen.rfind(text).is_some_and(|last| screen[last..].contains("> "))
        });
    }

    /// Types a message and sees its answer, and the next prompt.
    fn converses(&mut self, keys: &str, answer: &str) {
        self.types(keys);
        self.types(ENTER);
        self.is_prompted_after(answer);
    }

    /// Waits for the program's end, and finds the terminal as it was.
    fn is_left(&mut self, code: i32) {
        let err = self.err.whole();
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{err}");
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes);
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        assert!(after.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn lines_are_typed_at_a_prompt_and_remembered() {
    let mut person = Person::connects();
    person.converses("hello", "HELLO");
    person.converses("worl\x7fld", "WORLD");
    person.types(UP);
    person.types(UP);
    person.types(ENTER);
    person.screen.wait("the first answer again", |screen, _| screen.matches("HELLO").count() == 2);
    person.is_prompted_after("HELLO");
    person.types("quit");
    person.types(ENTER);
    person.is_left(0);
}

#[test]
fn the_end_of_input_and_an_interrupt_at_the_prompt_end_it() {
    for key in [END_OF_INPUT, INTERRUPT] {
        let mut person = Person::connects();
        person.converses("hello", "HELLO");
        person.types(key);
        person.is_left(0);
    }
}

#[test]
fn the_terminal_is_as_before_when_the_server_dies_in_the_middle_of_a_line() {
    let mut person = Person::connects();
    person.converses("hello", "HELLO");
    person.types("half a li");
    person.sees("half a li");
    assert!(!tcgetattr(&person.terminal).unwrap().local_modes.contains(LocalModes::ICANON));
    person.server = None;
    person.is_left(4);
}

#[test]
fn a_server_ends_when_its_terminal_hangs_up() {
    let scratch = Scratch::new();
    let hands = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&hands).unwrap();
    unlockpt(&hands).unwrap();
    let name = ptsname(&hands, Vec::new()).unwrap();
    let path = OsStr::from_bytes(name.as_bytes());
    let terminal = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut serve = countersign(&scratch);
    serve.args(["serve", "--listen", "127.0.0.1:0"]).env("COUNTERSIGN_KEY", KEY);
    serve.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(terminal);
    let mut child = on_adapter(&mut serve).spawn().unwrap();
    let ready = Capture::start(child.stdout.take().unwrap());
    ready.wait("the ready line", |text, _| text.ends_with('\n'));
    drop(hands);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
