//! Devices: ours and a Python one, their server: ours and a Python one.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::KEY;
use crate::common::{At, Scratch, Server, countersign};
use crate::peer::{Peer, frame};
use crate::process::{Running, run};
use crate::recipe::python;

mod fleet;
mod inside;

const APP_ID: &str = "996da38d-a7be-4947-aa4c-f8208b5f4ade";
const IMEI: &str = "869858030720693";
const REGISTERED: &[u8] = b"\0\0\0\x02\0\0";

/// A server of devices that says in `unix:status` which there are.
fn serve(scratch: &Scratch, more: &[&str]) -> Server {
    let args = ["--service", "device", "--status", "unix:status"];
    let unless = |name, other| if more.contains(&name) { Vec::new() } else { vec![name, other] };
    let (listen, scheme) = (unless("--listen", "127.0.0.1:0"), unless("--scheme", "none"));
    Server::start(scratch, KEY, &[&args[..], &listen, &scheme, more].concat())
}

/// Our device, whose heart beats five times a second.
fn device(scratch: &Scratch, at: &At, more: &[&str]) -> Command {
    let mut command = countersign(scratch);
    command.args(["device", &at.to_string(), "--app-id", APP_ID, "--imei", IMEI]);
    command.args(["--heartbeat", "0.2", "--backoff-base", "0.2", "--backoff-cap", "0.5"]);
    command.env("COUNTERSIGN_KEY", KEY).args(more);
    command
}

/// A program of tests/device.
fn program(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/device").join(name);
    let mut command = Command::new("python3");
    // -B: leaves nothing beside the sources.
    command.arg("-B").arg(path);
    command
}

fn register(peer: &Peer, imei: &str) {
    peer.send(&frame(format!("\0\0{APP_ID}{imei}").as_bytes()));
}

/// What the status says to who says `line`.
fn status(scratch: &Scratch, line: &str) -> String {
    let mut stream = UnixStream::connect(scratch.path().join("status")).unwrap();
    stream.write_all(line.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

/// Waits until the devices are as `done` has them.
fn until(scratch: &Scratch, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let until = Instant::now() + crate::common::PATIENCE;
    loop {
        let list: Vec<Value> = serde_json::from_str(&status(scratch, "json\n")).unwrap();
        if done(&list) {
            return list;
        }
        assert!(Instant::now() < until, "{list:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Fails unless these are the lines of a device that was let in, and `beats` heartbeats.
#[track_caller]
fn conversation(out: &str, beats: usize) {
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.len(), beats + 2, "{out}");
    assert_eq!(lines[0], "register 0");
    assert!(lines[1].starts_with("time 0 2") && lines[1].len() == 26, "{out}");
    assert!(lines[2..].iter().all(|line| *line == "heartbeat 0"), "{out}");
}

#[test]
fn a_device_registers_asks_the_time_and_ends_after_so_many_heartbeats() {
    for scheme in ["none", "mutual", "multiprocessing"] {
        let scratch = Scratch::new();
        let server = serve(&scratch, &["--scheme", scheme]);
        let mut command = device(&scratch, &server.at[0], &["--count", "3", "--scheme", scheme]);
        conversation(&run(&mut command, b"").exited(0).out, 3);
        let list = until(&scratch, |list| list[0]["connected"] == false);
        assert_eq!((&list[0]["imei"], &list[0]["app_id"]), (&IMEI.into(), &APP_ID.into()));
        assert_eq!(list[0]["times"], 1);
        assert!(list[0]["heartbeat"].is_string() && list[0]["since"].is_string());
        assert_eq!(list[0]["name"], if scheme == "mutual" { "client".into() } else { Value::Null });
    }
}

#[test]
fn a_server_says_how_to_be_its_device() {
    for (scheme, expected) in [
        ("mutual", "--app-id ID --imei IMEI --scheme mutual\n"),
        ("multiprocessing", "--app-id ID --imei IMEI --scheme multiprocessing\n"),
    ] {
        let scratch = Scratch::new();
        let mut command = countersign(&scratch);
        command.args(["serve", "--service", "device", "--listen", "unix:s", "--scheme", scheme]);
        let server = Running::start(&mut command);
        server.out.wait("the address", |text, _| text.contains("LISTENING"));
        server
            .err
            .wait("the command", |text, _| text.contains(&format!(" device unix:s {expected}")));
        server.signal(Signal::TERM);
        server.end().exited(0);
    }
}

#[test]
fn a_device_that_is_refused_for_good_ends() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--scheme", "mutual"]);
    let mut command = device(&scratch, &server.at[0], &["--scheme", "mutual"]);
    run(command.env("COUNTERSIGN_KEY", "another key, as long as that"), b"").exited(3);
}

#[test]
fn a_refusal_that_anybody_can_forge_does_not_end_a_device_that_was_registered() {
    let scratch = Scratch::new();
    let listen = ["--listen", "unix:s", "--service", "device", "--scheme", "mutual"];
    let at = At::Unix(scratch.path().join("s"));
    let server = Server::start(&scratch, KEY, &listen);
    let device = Running::start(&mut device(&scratch, &at, &["--scheme", "mutual"]));
    device.out.wait("a heartbeat", |text, _| text.contains("heartbeat 0"));
    server.signal(Signal::TERM);
    server.end().exited(0);
    // Who has no key says that authentication failed.
    let listener = UnixListener::bind(scratch.path().join("s")).unwrap();
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(b"\0\0\0\x02\x7f\x01").unwrap();
    device.err.wait("the refusal", |text, _| {
        text.contains("refused to authenticate us") && text.ends_with(" s\n")
    });
    drop((stream, listener));
    let _server = Server::start(&scratch, KEY, &listen);
    device.out.wait("another registration", |text, _| text.matches("register 0").count() == 2);
    device.signal(Signal::TERM);
    device.end().exited(0);
}

#[test]
fn a_python_device_is_served() {
    if python() {
        let scratch = Scratch::new();
        let server = serve(&scratch, &[]);
        let At::Tcp(at) = &server.at[0] else { panic!("not TCP") };
        let mut command = program("client.py");
        command.args([&at.ip().to_string(), &at.port().to_string(), IMEI, "3"]);
        let ran = run(&mut command, b"").exited(0);
        ran.printed("0 0 2\n2 0 21\n1 0 2\n1 0 2\n1 0 2\n");
        until(&scratch, |list| list[0]["imei"] == IMEI && list[0]["connected"] == false);
    }
}

#[test]
fn a_python_server_serves_our_device() {
    if python() {
        let scratch = Scratch::new();
        let server = Server::spawn(program("server.py"), 1);
        let mut command = device(&scratch, &server.at[0], &["--count", "3"]);
        conversation(&run(&mut command, b"").exited(0).out, 3);
        server.logged(&format!("register {APP_ID} {IMEI}"));
        server.logged("gone");
    }
}

#[test]
fn a_device_that_registers_again_elsewhere_takes_over() {
    let scratch = Scratch::new();
    for workers in ["1", "2"] {
        let server = serve(&scratch, &["--workers", workers, "--device-interval", "60"]);
        let (old, new) = (Peer::connect(&server.at[0]), Peer::connect(&server.at[0]));
        register(&old, IMEI);
        assert_eq!(old.read(6), REGISTERED);
        register(&new, IMEI);
        assert_eq!(new.read(6), REGISTERED);
        assert!(old.rest().is_empty());
        drop(old);
        let list = until(&scratch, |list| list[0]["times"] == 2);
        assert_eq!((list.len(), &list[0]["connected"]), (1, &Value::Bool(true)));
        new.send(&frame(b"\0\x01"));
        assert_eq!(new.read(6), b"\0\0\0\x02\x01\0");
        server.logged("device taken over");
    }
}

#[test]
fn a_silent_device_is_given_up() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--device-interval", "0.2"]);
    let peer = Peer::connect(&server.at[0]);
    let began = Instant::now();
    register(&peer, IMEI);
    assert_eq!(peer.read(6), REGISTERED);
    assert!(peer.rest().is_empty());
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
    server.logged("reason=device-silent");
    until(&scratch, |list| list[0]["connected"] == false);
}

#[test]
fn a_device_outlives_its_server_and_registers_with_the_next() {
    let scratch = Scratch::new();
    let listen = ["--listen", "unix:s", "--service", "device", "--scheme", "none"];
    let at = At::Unix(scratch.path().join("s"));
    // There is no server yet, and that is no end.
    let device = Running::start(&mut device(&scratch, &at, &[]));
    device.err.wait("a failed attempt", |text, _| text.contains("connecting again in"));
    for lives in 1..=3 {
        let mut server = Server::start(&scratch, KEY, &listen);
        device.out.wait("a heartbeat", |text, _| {
            let parts: Vec<_> = text.split("register 0\n").collect();
            parts.len() == lives + 1 && parts[lives].contains("heartbeat 0")
        });
        server.child.kill().unwrap();
    }
    device.signal(Signal::TERM);
    device.end().exited(0);
}

#[test]
fn a_server_that_registers_a_device_and_closes_is_not_hammered() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = At::Tcp(listener.local_addr().unwrap());
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
    let mut command = countersign(&scratch);
    command.args(["device", &at.to_string(), "--app-id", APP_ID, "--imei", IMEI]).args(backoff);
    let device = Running::start(&mut command);
    device.out.wait("a registration", |text, _| text.contains("register 0"));
    thread::sleep(Duration::from_secs(2));
    // Were the waits as short as the first, there would be some 400. They double, and 25 of them are as
    // good as never over in 2 s.
    let times = counted.try_iter().count();
    assert!(times < 25, "{times} times in 2 s");
    device.signal(Signal::TERM);
    device.end().exited(0);
}

#[test]
fn a_signal_ends_a_device_whatever_it_does() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let nobody = At::Unix(scratch.path().join("nobody"));
    for signal in [Signal::TERM, Signal::INT] {
        let running = Running::start(&mut device(&scratch, &server.at[0], &[]));
        running.out.wait("a heartbeat", |text, _| text.contains("heartbeat 0"));
        running.signal(signal);
        running.end().exited(0);
        let waiting = ["--backoff-base", "1000", "--backoff-cap", "1000"];
        let mut command = countersign(&scratch);
        command.args(["device", &nobody.to_string(), "--app-id", APP_ID, "--imei", IMEI]);
        let running = Running::start(command.args(waiting));
        running.err.wait("a failed attempt", |text, _| text.contains("connecting again in"));
        running.signal(signal);
        running.end().exited(0);
    }
    until(&scratch, |list| list[0]["connected"] == false && list[0]["times"] == 2);
}

#[test]
fn a_device_whose_output_nobody_reads_ends_on_a_signal() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let (_reader, mut writer) = std::io::pipe().unwrap();
    // All that a pipe holds.
    writer.write_all(&[b' '; 1 << 16]).unwrap();
    let mut command = device(&scratch, &server.at[0], &[]);
    let mut child = command.stdout(writer).stderr(Stdio::null()).spawn().unwrap();
    until(&scratch, |list| list.len() == 1);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_peer_that_is_refused_over_and_over_is_one_line_of_the_log() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--max-devices", "1", "--device-interval", "60"]);
    let (holder, other) = (Peer::connect(&server.at[0]), Peer::connect(&server.at[0]));
    register(&holder, IMEI);
    assert_eq!(holder.read(6), REGISTERED);
    for number in 0..100 {
        register(&other, &format!("{number:015}"));
        assert_eq!(other.read(6), b"\0\0\0\x02\0\xff");
    }
    drop((holder, other));
    until(&scratch, |list| list[0]["connected"] == false);
    server.signal(Signal::TERM);
    let log = server.log.whole();
    assert_eq!(log.matches("device refused").count(), 1, "{log}");
}

#[test]
fn the_status_is_a_table_or_json_and_nobody_holds_it_up() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--device-interval", "60"]);
    let peer = Peer::connect(&server.at[0]);
    register(&peer, IMEI);
    assert_eq!(peer.read(6), REGISTERED);
    // More than are told at once.
    let silent: Vec<_> =
        (0..9).map(|_| UnixStream::connect(scratch.path().join("status")).unwrap()).collect();
    for line in ["", "\n", "table\n", "table"] {
        let table = status(&scratch, line);
        let lines: Vec<_> = table.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("IMEI "), "{table}");
        assert!(lines[1].starts_with(&format!("{IMEI}  here ")), "{table}");
    }
    for line in ["json\n", "json", "json\r\nmore"] {
        assert_eq!(status(&scratch, line).lines().count(), 1);
        until(&scratch, |list| list.len() == 1 && list[0]["connected"] == true);
    }
    assert_eq!(status(&scratch, "bogus, and too long\n"), "unknown: say json or table\n");
    // Who says nothing gets the table.
    for mut stream in silent {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert!(text.starts_with("IMEI "), "{text}");
    }
    server.signal(Signal::USR1);
    server.logged(&format!("devices {IMEI}  here "));
    server.logged(&format!("devices [{{\"imei\":\"{IMEI}\""));
    server.signal(Signal::TERM);
    server.end().exited(0);
    assert!(!scratch.path().join("status").exists());
}

#[test]
fn the_status_may_be_asked_over_tcp_from_this_machine() {
    let scratch = Scratch::new();
    let mut command = countersign(&scratch);
    command.args(["serve", "--service", "device", "--scheme", "none", "--listen", "unix:s"]);
    let running = Running::start(command.args(["--status", "127.0.0.1:0"]));
    let text = running.out.wait("the status", |text, _| text.matches('\n').count() == 2);
    let at = text.lines().find_map(|line| line.strip_prefix("STATUS ")).unwrap();
    let mut stream = std::net::TcpStream::connect(at.replace(' ', ":")).unwrap();
    stream.write_all(b"json\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "[]\n");
    running.signal(Signal::TERM);
    running.end().exited(0);
}

#[test]
fn what_does_not_go_together_is_a_usage_error() {
    let scratch = Scratch::new();
    let of_device = ["device", "127.0.0.1:1", "--app-id", APP_ID, "--imei", IMEI];
    for args in [
        &["serve", "--service", "device", "--scheme", "challenge"][..],
        &["serve", "--status", "unix:status"],
        &["serve", "--service", "device", "--scheme", "none", "--status", "0.0.0.0:0"],
        &["serve", "--service", "device", "--device-interval", "0"],
        &["device", "127.0.0.1:1"],
        &["device", "127.0.0.1:1", "--app-id", "short", "--imei", IMEI],
        &["device", "127.0.0.1:1", "--app-id", APP_ID, "--imei", "86985803072069x"],
        &[&of_device[..], &["--count", "0"]].concat(),
        &[&of_device[..], &["--heartbeat", "0"]].concat(),
        &[&of_device[..], &["--heartbeat", "0.1"]].concat(),
        &[&of_device[..], &["--scheme", "challenge"]].concat(),
    ] {
        let ran = run(countersign(&scratch).args(args), b"");
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
    }
}
