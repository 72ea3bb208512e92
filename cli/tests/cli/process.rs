//! Child processes that end by themselves.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::{fs, os::unix::fs::PermissionsExt};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Capture, Server, TempDir, with_adapter};

/// The result of a process.
#[derive(Debug)]
pub(crate) struct Output {
    /// The exit code; `None` if a signal ended the process.
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Output {
    /// Fails unless the process exited with `code`.
    #[track_caller]
    pub(crate) fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Fails unless standard output is `out`.
    #[track_caller]
    pub(crate) fn expect_stdout(&self, out: &str) {
        assert_eq!(self.out, out, "{self:?}");
    }

    /// Fails unless standard error contains `text`.
    #[track_caller]
    pub(crate) fn expect_stderr(&self, text: &str) {
        assert!(self.err.contains(text), "{text} is not in {self:?}");
    }
}

/// A running process, killed on drop.
pub(crate) struct Process {
    child: Child,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) out: Capture,
    pub(crate) err: Capture,
}

impl Process {
    pub(crate) fn start(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = with_adapter(command).spawn().unwrap();
        Self {
            stdin: child.stdin.take(),
            out: Capture::start(child.stdout.take().unwrap()),
            err: Capture::start(child.stderr.take().unwrap()),
            child,
        }
    }

    pub(crate) fn write_stdin(&mut self, text: &[u8]) {
        // If the process has ended, its result shows more than this error.
        let _ = self.stdin.as_mut().unwrap().write_all(text);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Closes standard input and waits for the end.
    pub(crate) fn wait(mut self) -> Output {
        self.stdin = None;
        let (out, err) = (self.out.wait_end(), self.err.wait_end());
        Output { code: self.child.wait().unwrap().code(), out, err }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` with `input` on standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut running = Process::start(command);
    running.write_stdin(input);
    running.wait()
}

/// Runs `each` for all `cases` in parallel: tests spend most of their time waiting.
pub(crate) fn in_parallel<T: Send>(cases: impl IntoIterator<Item = T>, each: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let each = &each;
            scope.spawn(move || each(case));
        }
    });
}

/// Writes a file with mode `mode`.
pub(crate) fn file(dir: &TempDir, name: &str, bytes: &[u8], mode: u32) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// The permission bits of a file.
pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

impl Server {
    /// Waits for a log line that contains `text`, and returns it.
    pub(crate) fn wait_log(&self, text: &str) -> String {
        // Only complete lines: the end of the last one may not have arrived yet.
        let line = |log: &str| -> Option<String> {
            log.split_inclusive('\n')
                .find(|line| line.ends_with('\n') && line.contains(text))
                .map(Into::into)
        };
        line(&self.log.wait(text, |log, _| line(log).is_some())).unwrap()
    }

    /// The peak resident memory, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.status("VmHWM:")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Stops all threads by SIGSTOP, and waits until they are stopped: the signal takes effect later.
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

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> Output {
        let err = self.log.wait_end();
        Output { code: self.child.wait().unwrap().code(), out: String::new(), err }
    }
}
