//! Devices and their server, each of ours and in Python.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::KEY;
use crate::common::{Server, ServerAddr, TempDir, countersign};
use crate::peer::{Peer, frame};
use crate::process::{Process, run};
use crate::tools::{has_python, python_script};

mod fleet;
mod tls;

const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
const IMEI: &str = "869858030720693";
const REGISTERED: &[u8] = b"\0\0\0\x02\0\0";

/// A server of devices with its status socket at `unix:status`.
fn serve(dir: &TempDir, more: &[&str]) -> Server {
    let args = ["--service", "device", "--status", "unix:status"];
    let default = |name, value| if more.contains(&name) { Vec::new() } else { vec![name, value] };
    let (listen, scheme) = (default("--listen", "127.0.0.1:0"), default("--scheme", "none"));
    Server::start(dir, KEY, &[&args[..], &listen, &scheme, more].concat())
}

/// Our device, with five heartbeats per second.
fn device(dir: &TempDir, at: &ServerAddr, more: &[&str]) -> Command {
    let mut command = countersign(dir);
    command.args(["device", &at.to_string(), "--app-id", APP_ID, "--imei", IMEI]);
    command.args(["--heartbeat", "0.2", "--backoff-base", "0.2", "--backoff-cap", "0.5"]);
    command.env("COUNTERSIGN_KEY", KEY).args(more);
    command
}

fn register(peer: &Peer, imei: &str) {
    peer.send(&frame(format!("\0\0{APP_ID}{imei}").as_bytes()));
}

/// The reply of the status socket to `line`.
fn status(dir: &TempDir, line: &str) -> String {
    let mut stream = UnixStream::connect(dir.path().join("status")).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Waits until `done` returns true for the list of devices.
fn wait_devices(dir: &TempDir, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + crate::common::PATIENCE;
    loop {
        let list: Vec<Value> = serde_json::from_str(&status(dir, "json\n")).unwrap();
        if done(&list) {
            return list;
        }
        assert!(Instant::now() < deadline, "{list:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Fails unless `out` is the output of a registered device with this number of heartbeats.
#[track_caller]
fn expect_device_output(out: &str, heartbeats: usize) {
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), heartbeats + 2, "{out}");
    assert_eq!(lines[0], "register 0");
    assert!(lines[1].starts_with("time 0 2") && lines[1].len() == 26, "{out}");
    assert!(lines[2..].iter().all(|line| *line == "heartbeat 0"), "{out}");
}

#[test]
fn device_ends_after_count_heartbeats() {
    for scheme in ["none", "mutual", "multiprocessing"] {
        let dir = TempDir::new();
        let server = serve(&dir, &["--scheme", scheme]);
        let mut command = device(&dir, &server.at[0], &["--count", "3", "--scheme", scheme]);
        expect_device_output(&run(&mut command, b"").expect_code(0).out, 3);
        let list = wait_devices(&dir, |list| list[0]["connected"] == false);
        assert_eq!((&list[0]["imei"], &list[0]["app_id"]), (&IMEI.into(), &APP_ID.into()));
        assert_eq!(list[0]["times"], 1);
        assert!(list[0]["heartbeat"].is_string() && list[0]["since"].is_string());
        assert_eq!(list[0]["name"], if scheme == "mutual" { "client".into() } else { Value::Null });
    }
}

#[test]
fn serve_announces_the_device_command() {
    for (scheme, expected) in [
        ("mutual", "--app-id ID --imei IMEI --scheme mutual\n"),
        ("multiprocessing", "--app-id ID --imei IMEI --scheme multiprocessing\n"),
    ] {
        let dir = TempDir::new();
        let mut command = countersign(&dir);
        command.args(["serve", "--service", "device", "--listen", "unix:s", "--scheme", scheme]);
        let server = Process::start(&mut command);
        server.out.wait("the address", |text, _| text.contains("LISTENING"));
        server
            .err
            .wait("the command", |text, _| text.contains(&format!(" device unix:s {expected}")));
        server.signal(Signal::TERM);
        server.wait().expect_code(0);
    }
}

#[test]
fn device_with_wrong_key_ends() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--scheme", "mutual"]);
    let mut command = device(&dir, &server.at[0], &["--scheme", "mutual"]);
    run(command.env("COUNTERSIGN_KEY", "another key, as long as that"), b"").expect_code(3);
}

#[test]
fn forged_refusal_does_not_end_a_registered_device() {
    let dir = TempDir::new();
    let listen = ["--listen", "unix:s", "--service", "device", "--scheme", "mutual"];
    let at = ServerAddr::Unix(dir.path().join("s"));
    let server = Server::start(&dir, KEY, &listen);
    let device = Process::start(&mut device(&dir, &at, &["--scheme", "mutual"]));
    device.out.wait("a heartbeat", |text, _| text.contains("heartbeat 0"));
    server.signal(Signal::TERM);
    server.wait().expect_code(0);
    // A server without the key sends a refusal.
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"\0\0\0\x02\x7f\x01").unwrap();
    device.err.wait("the refusal", |text, _| {
        text.contains("refused to authenticate us") && text.ends_with(" s\n")
    });
    drop((stream, listener));
    let _server = Server::start(&dir, KEY, &listen);
    device.out.wait("another registration", |text, _| text.matches("register 0").count() == 2);
    device.signal(Signal::TERM);
    device.wait().expect_code(0);
}

#[test]
fn python_device_is_served() {
    if has_python() {
        let dir = TempDir::new();
        let server = serve(&dir, &[]);
        let ServerAddr::Tcp(at) = &server.at[0] else { panic!("not TCP") };
        let mut command = python_script("device/client.py");
        command.args([&at.ip().to_string(), &at.port().to_string(), IMEI, "3"]);
        let output = run(&mut command, b"").expect_code(0);
        output.expect_stdout("0 0 2\n2 0 21\n1 0 2\n1 0 2\n1 0 2\n");
        wait_devices(&dir, |list| list[0]["imei"] == IMEI && list[0]["connected"] == false);
    }
}

#[test]
fn device_works_with_python_server() {
    if has_python() {
        let dir = TempDir::new();
        let server = Server::spawn(python_script("device/server.py"), 1);
        let mut command = device(&dir, &server.at[0], &["--count", "3"]);
        expect_device_output(&run(&mut command, b"").expect_code(0).out, 3);
        server.wait_log(&format!("register {APP_ID} {IMEI}"));
        server.wait_log("gone");
    }
}

#[test]
fn second_registration_takes_over() {
    let dir = TempDir::new();
    for workers in ["1", "2"] {
        let server = serve(&dir, &["--workers", workers, "--device-interval", "60"]);
        let (old, new) = (Peer::connect(&server.at[0]), Peer::connect(&server.at[0]));
        register(&old, IMEI);
        assert_eq!(old.read(6), REGISTERED);
        register(&new, IMEI);
        assert_eq!(new.read(6), REGISTERED);
        assert!(old.read_to_end().is_empty());
        drop(old);
        let list = wait_devices(&dir, |list| list[0]["times"] == 2);
        assert_eq!((list.len(), &list[0]["connected"]), (1, &Value::Bool(true)));
        new.send(&frame(b"\0\x01"));
        assert_eq!(new.read(6), b"\0\0\0\x02\x01\0");
        server.wait_log("device taken over");
    }
}

#[test]
fn silent_device_is_disconnected() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--device-interval", "0.2"]);
    let peer = Peer::connect(&server.at[0]);
    let began = Instant::now();
    register(&peer, IMEI);
    assert_eq!(peer.read(6), REGISTERED);
    assert!(peer.read_to_end().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    server.wait_log("reason=device-silent");
    wait_devices(&dir, |list| list[0]["connected"] == false);
}

#[test]
fn device_reconnects_after_server_restarts() {
    let dir = TempDir::new();
    let listen = ["--listen", "unix:s", "--service", "device", "--scheme", "none"];
    let at = ServerAddr::Unix(dir.path().join("s"));
    // The device starts before its server.
    let device = Process::start(&mut device(&dir, &at, &[]));
    device.err.wait("a failed attempt", |text, _| text.contains("connecting again in"));
    for run in 1..=3 {
        let mut server = Server::start(&dir, KEY, &listen);
        device.out.wait("a heartbeat", |text, _| {
            let runs: Vec<_> = text.split("register 0\n").collect();
            runs.len() == run + 1 && runs[run].contains("heartbeat 0")
        });
        server.child.kill().unwrap();
    }
    device.signal(Signal::TERM);
    device.wait().expect_code(0);
}

#[test]
fn device_backs_off_when_server_closes_after_register() {
    let dir = TempDir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = ServerAddr::Tcp(listener.local_addr().unwrap());
    let (times, counted) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let registered =
                stream.read_exact(&mut [0; 57]).and_then(|()| stream.write_all(REGISTERED));
            if registered.is_err() || times.send(()).is_err() {
                break;
            }
        }
    });
    let backoff = ["--backoff-base", "0.01", "--backoff-cap", "1000"];
    let mut command = countersign(&dir);
    command.args(["device", &at.to_string(), "--app-id", APP_ID, "--imei", IMEI]).args(backoff);
    let device = Process::start(&mut command);
    device.out.wait("a registration", |text, _| text.contains("register 0"));
    thread::sleep(Duration::from_secs(2));
    // Without backoff there would be about 400. With doubled delays, 25 take far longer than 2 s.
    let times = counted.try_iter().count();
    assert!(times < 25, "{times} times in 2 s");
    device.signal(Signal::TERM);
    device.wait().expect_code(0);
}

#[test]
fn signals_end_a_device_in_every_state() {
    let dir = TempDir::new();
    let server = serve(&dir, &[]);
    let absent = ServerAddr::Unix(dir.path().join("absent"));
    for signal in [Signal::TERM, Signal::INT] {
        let running = Process::start(&mut device(&dir, &server.at[0], &[]));
        running.out.wait("a heartbeat", |text, _| text.contains("heartbeat 0"));
        running.signal(signal);
        running.wait().expect_code(0);
        let waiting = ["--backoff-base", "1000", "--backoff-cap", "1000"];
        let mut command = countersign(&dir);
        command.args(["device", &absent.to_string(), "--app-id", APP_ID, "--imei", IMEI]);
        let running = Process::start(command.args(waiting));
        running.err.wait("a failed attempt", |text, _| text.contains("connecting again in"));
        running.signal(signal);
        running.wait().expect_code(0);
    }
    wait_devices(&dir, |list| list[0]["connected"] == false && list[0]["times"] == 2);
}

#[test]
fn signal_ends_a_device_with_blocked_output() {
    let dir = TempDir::new();
    let server = serve(&dir, &[]);
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // Fill the pipe.
    writer.write_all(&[b' '; 1 << 16]).unwrap();
    let mut command = device(&dir, &server.at[0], &[]);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    wait_devices(&dir, |list| list.len() == 1);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn repeated_device_refusals_are_logged_once() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--max-devices", "1", "--device-interval", "60"]);
    let (holder, other) = (Peer::connect(&server.at[0]), Peer::connect(&server.at[0]));
    register(&holder, IMEI);
    assert_eq!(holder.read(6), REGISTERED);
    for number in 0..100 {
        register(&other, &format!("{number:015}"));
        assert_eq!(other.read(6), b"\0\0\0\x02\0\xff");
    }
    drop((holder, other));
    wait_devices(&dir, |list| list[0]["connected"] == false);
    server.signal(Signal::TERM);
    let log = server.log.wait_end();
    assert_eq!(log.matches("device refused").count(), 1, "{log}");
}

#[test]
fn status_prints_table_or_json_despite_slow_clients() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--device-interval", "60"]);
    let peer = Peer::connect(&server.at[0]);
    register(&peer, IMEI);
    assert_eq!(peer.read(6), REGISTERED);
    // More than the server answers in parallel.
    let silent: Vec<_> =
        (0..9).map(|_| UnixStream::connect(dir.path().join("status")).unwrap()).collect();
    for line in ["", "\n", "table\n", "table"] {
        let table = status(&dir, line);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("IMEI "), "{table}");
        assert!(lines[1].starts_with(&format!("{IMEI}  here ")), "{table}");
    }
    for line in ["json\n", "json", "json\r\nmore"] {
        assert_eq!(status(&dir, line).lines().count(), 1);
        wait_devices(&dir, |list| list.len() == 1 && list[0]["connected"] == true);
    }
    assert_eq!(status(&dir, "bogus, and too long\n"), "unknown request: send json or table\n");
    // A client that sends nothing gets the table.
    for mut stream in silent {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("IMEI "), "{text}");
    }
    server.signal(Signal::USR1);
    server.wait_log(&format!("devices {IMEI}  here "));
    server.wait_log(&format!("devices [{{\"imei\":\"{IMEI}\""));
    server.signal(Signal::TERM);
    server.wait().expect_code(0);
    assert!(!dir.path().join("status").exists());
}

#[test]
fn status_is_available_on_loopback_tcp() {
    let dir = TempDir::new();
    let mut command = countersign(&dir);
    command.args(["serve", "--service", "device", "--scheme", "none", "--listen", "unix:s"]);
    let running = Process::start(command.args(["--status", "127.0.0.1:0"]));
    let text = running.out.wait("the status", |text, _| text.matches('\n').count() == 2);
    let at = text.lines().find_map(|line| line.strip_prefix("STATUS ")).unwrap();
    let mut stream = std::net::TcpStream::connect(at.replace(' ', ":")).unwrap();
    stream.write_all(b"json\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "[]\n");
    running.signal(Signal::TERM);
    running.wait().expect_code(0);
}

#[test]
fn incompatible_device_options_are_usage_errors() {
    let dir = TempDir::new();
    let of_device = ["device", "unix:absent", "--app-id", APP_ID, "--imei", IMEI];
    for args in [
        &["serve", "--service", "device", "--scheme", "challenge"][..],
        &["serve", "--status", "unix:status"],
        &[
            "serve",
            "--service",
            "device",
            "--scheme",
            "none",
            "--listen",
            "unix:s",
            "--status",
            "0.0.0.0:0",
        ],
        &["serve", "--service", "device", "--device-interval", "0"],
        &["device", "unix:absent"],
        &["device", "unix:absent", "--app-id", "short", "--imei", IMEI],
        &["device", "unix:absent", "--app-id", APP_ID, "--imei", "86985803072069x"],
        &[&of_device[..], &["--count", "0"]].concat(),
        &[&of_device[..], &["--heartbeat", "0"]].concat(),
        &[&of_device[..], &["--heartbeat", "0.1"]].concat(),
        &[&of_device[..], &["--scheme", "challenge"]].concat(),
    ] {
        let output = run(countersign(&dir).args(args), b"");
        assert_eq!(output.code, Some(2), "{args:?}: {output:?}");
    }
}
