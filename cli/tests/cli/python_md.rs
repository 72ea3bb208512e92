//! docs/PYTHON.md, run as it stands.
//!
//! A block of Python is a file, whose name its first line has. In other blocks, lines after `$ ` are
//! commands and the rest is what they print. One that prints where it listens runs until the next of
//! its kind, or the next section. Only ports differ.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::common::{At, Scratch, Server};
use crate::process::{file, run};
use crate::pythons::Generation;

const PORT: &str = "9999";

struct Reader {
    scratch: Scratch,
    path: OsString,
    files: BTreeMap<String, String>,
    /// Those that no command has named.
    unused: Vec<String>,
    server: Option<Server>,
}

impl Reader {
    /// With what the reader is told to have.
    fn sit_down() -> Option<Self> {
        let scratch = Scratch::new();
        let tools = scratch.path().join("tools");
        fs::create_dir(&tools).unwrap();
        symlink(env!("CARGO_BIN_EXE_countersign"), tools.join("countersign")).unwrap();
        symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs"), scratch.path().join("docs"))
            .unwrap();
        for (name, generation) in [("python3", Generation::New), ("python3.11", Generation::Old)] {
            let python = generation.pythons().next()?.program.display().to_string();
            let script = format!("#!/bin/sh\nexec '{python}' -B \"$@\"\n");
            file(&scratch, &format!("tools/{name}"), script.as_bytes(), 0o755);
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([tools].into_iter().chain(env::split_paths(&path))).unwrap();
        Some(Self { scratch, path, files: BTreeMap::new(), unused: Vec::new(), server: None })
    }

    /// Types `line` in, where ports are `port`.
    fn shell(&mut self, line: &str, port: &str) -> Command {
        for (name, text) in &self.files {
            fs::write(self.scratch.path().join(name), text.replace(PORT, port)).unwrap();
        }
        self.unused.retain(|name| !line.contains(&**name));
        let mut command = Command::new("sh");
        command.current_dir(self.scratch.path()).env("PATH", &self.path);
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
            At::Tcp(at) => format!("LISTENING {} {PORT}", at.ip()),
            At::Unix(path) => {
                let path = path.strip_prefix(self.scratch.path()).unwrap();
                format!("LISTENING unix {}", path.display())
            }
        };
        assert_eq!(at, ready, "{line}");
        self.server = Some(server);
    }

    fn run(&mut self, line: &str, prints: &str) {
        let port = match self.server.as_ref().map(|server| &server.at[0]) {
            Some(At::Tcp(at)) => at.port().to_string(),
            _ => PORT.into(),
        };
        run(&mut self.shell(line, &port), b"").exited(0).printed(prints);
    }

    /// A block of commands and what they print.
    fn work_through(&mut self, block: &str) {
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
fn python_md_works_as_it_stands() {
    let Some(mut reader) = Reader::sit_down() else { return };
    let text = fs::read_to_string(reader.scratch.path().join("docs/PYTHON.md")).unwrap();
    for section in text.split("\n## ") {
        for block in section.split("\n```").skip(1).step_by(2) {
            let (language, block) = block.split_once('\n').unwrap();
            match language {
                "python" => {
                    let name = block.lines().next().unwrap().strip_prefix("# ").unwrap();
                    reader.unused.push(name.into());
                    reader.files.insert(name.into(), format!("{block}\n"));
                }
                "" => reader.work_through(block),
                other => panic!("who runs {other}?"),
            }
        }
        reader.server = None;
    }
    assert_eq!(reader.unused, [""; 0], "nobody runs them");
    assert!(reader.files.len() >= 3);
}
