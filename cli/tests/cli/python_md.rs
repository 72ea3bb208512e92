//! The examples of docs/PYTHON.md, run unchanged except for ports.
//!
//! A block of Python is a file; its first line is a comment with the name. In other blocks, lines that
//! begin with `$ ` are commands and the lines after them their output. A command whose output begins with
//! `LISTENING ` is a server; it runs until the next server or the next section.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::{Server, ServerAddr, TempDir};
use crate::cpython::Generation;
use crate::process::{file, run};

/// The port in the documentation.
const PORT: &str = "9999";

/// Runs the examples.
struct DocRunner {
    dir: TempDir,
    path: OsString,
    files: BTreeMap<String, String>,
    /// The files that no command has named.
    unused: Vec<String>,
    server: Option<Server>,
}

impl DocRunner {
    /// With the tools that the documentation requires; `None` if one is missing.
    fn new() -> Option<Self> {
        let dir = TempDir::new();
        let tools = dir.path().join("tools");
        fs::create_dir(&tools).unwrap();
        symlink(env!("CARGO_BIN_EXE_countersign"), tools.join("countersign")).unwrap();
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"), dir.path().join("docs")).unwrap();
        for (name, generation) in [("python3", Generation::New), ("python3.11", Generation::Old)] {
            let python = generation.pythons().next()?.program.display().to_string();
            let script = format!("#!/bin/sh\nexec '{python}' -B \"$@\"\n");
            file(&dir, &format!("tools/{name}"), script.as_bytes(), 0o755);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([tools].into_iter().chain(env::split_paths(&path))).unwrap();
        Some(Self { dir, path, files: BTreeMap::new(), unused: Vec::new(), server: None })
    }

    /// A shell with the command `line`, in which [`PORT`] is replaced by `port`.
    fn shell(&mut self, line: &str, port: &str) -> Command {
        for (name, text) in &self.files {
            fs::write(self.dir.path().join(name), text.replace(PORT, port)).unwrap();
        }
        self.unused.retain(|name| !line.contains(&**name));
        let mut command = Command::new("sh");
        command.current_dir(self.dir.path()).env("PATH", &self.path);
        command.env_remove("COUNTERSIGN_KEY");
        command.args(["-c", &format!("exec {}", line.replace(PORT, port))]);
        command
    }

    fn start(&mut self, line: &str, ready: &str) {
        self.server = None;
        let tcp = ready.contains(PORT);
        let anywhere = if tcp && line.contains("serve") { " --listen 127.0.0.1:0" } else { "" };
        let command = self.shell(&format!("{line}{anywhere}"), "0");
        let server = Server::spawn(command, 1);
        let at = match &server.at[0] {
            ServerAddr::Tcp(at) => format!("LISTENING {} {PORT}", at.ip()),
            ServerAddr::Unix(path) => {
                let path = path.strip_prefix(self.dir.path()).unwrap();
                format!("LISTENING unix {}", path.display())
            }
        };
        assert_eq!(at, ready, "{line}");
        self.server = Some(server);
    }

    fn run(&mut self, line: &str, prints: &str) {
        let port = match self.server.as_ref().map(|server| &server.at[0]) {
            Some(ServerAddr::Tcp(at)) => at.port().to_string(),
            _ if line.contains(PORT) => panic!("no server for: {line}"),
            _ => String::new(),
        };
        run(&mut self.shell(line, &port), b"").expect_code(0).expect_stdout(prints);
    }

    /// Runs a block of commands and compares their output.
    fn run_block(&mut self, block: &str) {
        for entry in format!("\n{block}").split("\n$ ").skip(1) {
            let (line, prints) = entry.split_once('\n').unwrap_or((entry, ""));
            println!("$ {line}");
            match prints {
                "" => self.run(line, ""),
                _ if prints.starts_with("LISTENING ") => self.start(line, prints),
                _ => self.run(line, &format!("{prints}\n")),
            }
        }
    }
}

#[test]
fn python_md_examples_run_unchanged() {
    let Some(mut runner) = DocRunner::new() else { return };
    let text = fs::read_to_string(runner.dir.path().join("docs/PYTHON.md")).unwrap();
    for section in text.split("\n## ") {
        for block in section.split("\n```").skip(1).step_by(2) {
            let (language, block) = block.split_once('\n').unwrap();
            match language {
                "python" => {
                    let name = block.lines().next().unwrap().strip_prefix("# ").unwrap();
                    runner.unused.push(name.into());
                    runner.files.insert(name.into(), format!("{block}\n"));
                }
                "" => runner.run_block(block),
                other => panic!("unknown language: {other}"),
            }
        }
        runner.server = None;
    }
    assert_eq!(runner.unused, [""; 0], "files without a command");
    assert!(runner.files.len() >= 3);
}
