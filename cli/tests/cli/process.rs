//! Runs of the program that end by themselves.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::{fs, os::unix::fs::PermissionsExt};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Capture, Scratch, Server, on_adapter};

/// A run that is over.
#[derive(Debug)]
pub(crate) struct Ran {
    /// `None`: a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Fails unless it ended with `code`.
    #[track_caller]
    pub(crate) fn exited(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    #[track_caller]
    pub(crate) fn printed(&self, out: &str) {
        assert_eq!(self.out, out, "{self:?}");
    }

    /// Fails unless standard error has `text`.
    #[track_caller]
    pub(crate) fn said(&self, text: &str) {
        assert!(self.err.contains(text), "{text} is not in {self:?}");
    }
}

/// A run under way, killed on drop.
pub(crate) struct Running {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) out: Capture,
    pub(crate) err: Capture,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = on_adapter(command).spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            out: Capture::start(child.stdout.take().unwrap()),
            err: Capture::start(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(crate) fn type_in(&mut self, text: &[u8]) {
        // A program that is over reads nothing; what it ended with says more than our error.
        let _ = self.stdin.as_mut().unwrap().write_all(text);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Closes its input and waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        self.stdin = None;
        let (out, err) = (self.out.whole(), self.err.whole());
        Ran { code: self.child.wait().unwrap().code(), out, err }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end, with `input` to read.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Ran {
    let mut running = Running::start(command);
    running.type_in(input);
    running.end()
}

/// Does `each` for all of `cases` at once: most of the time is spent waiting.
pub(crate) fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, each: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let each = &each;
            scope.spawn(move || each(case));
        }
    });
}

/// A file in `scratch` with this mode.
pub(crate) fn file(scratch: &Scratch, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
    let path = scratch.path().join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// The permissions of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

impl Server {
    /// Waits for `text` in its log, and returns the line that has it.
    pub(crate) fn logged(&self, text: &str) -> String {
        // A whole line: the end of one may be yet to come.
        let whole = |log: &str| -> Option<String> {
            log.split_inclusive('\n')
                .find(|line| line.ends_with('\n') && line.contains(text))
                .map(Into::into)
        };
        whole(&self.log.wait(text, |log, _| whole(log).is_some())).unwrap()
    }

    /// The most resident memory that it ever had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops it, all of its threads, where they are. That it was told to does not make it so.
    pub(crate) fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let stopped = |task: &Path| {
            let stat = fs::read_to_string(task.join("stat")).unwrap_or_default();
            stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
        };
        while !fs::read_dir(&tasks).unwrap().all(|task| stopped(&task.unwrap().path())) {
            thread::yield_now();
        }
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ran {
        let err = self.log.whole();
        Ran { code: self.child.wait().unwrap().code(), out: String::new(), err }
    }
}
