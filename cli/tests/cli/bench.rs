//! `countersign bench`.

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::KEY;
use crate::common::{Server, ServerAddr, TempDir, countersign};
use crate::process::{Output, run};
use crate::tls::{CLIENT_TLS, SERVER_TLS, with_certs};

fn bench(dir: &TempDir, at: &ServerAddr, args: &[&str]) -> Command {
    let mut command = countersign(dir);
    command.args(["bench", &at.to_string()]).args(args).env("COUNTERSIGN_KEY", KEY);
    command
}

fn measured(output: &Output) -> Value {
    assert_eq!(output.code, Some(0), "{output:?}");
    serde_json::from_str(&output.out).unwrap()
}

#[test]
fn every_scheme_is_measured_over_tcp_and_unix_sockets() {
    for scheme in ["mutual", "multiprocessing", "challenge", "none"] {
        let dir = TempDir::new();
        let scheme = ["--scheme", scheme];
        let listen = ["--listen", "127.0.0.1:0", "--listen", "unix:s"];
        let server = Server::start(&dir, KEY, &[&listen[..], &scheme].concat());
        for at in &server.at {
            for more in [&["--pipeline", "8"][..], &["--size", "100000"]] {
                let args = ["--connections", "5", "--count", "200", "--duration", "60", "--json"];
                let mut command = bench(&dir, at, &[&args[..], &scheme, more].concat());
                let measured = measured(&run(&mut command, b""));
                assert_eq!(measured["opened"]["count"], 5, "{measured}");
                assert_eq!(measured["talked"]["count"], 200, "{measured}");
                assert_eq!(measured["reconnected"]["count"], 0, "{measured}");
                assert_eq!(measured["failed"], Value::Object(serde_json::Map::new()));
                let latency = &measured["latency_us"];
                let longest = latency["max"].as_f64().unwrap();
                let median = latency["p50"].as_f64().unwrap();
                assert!(0.0 < median && median <= longest, "{measured}");
                if cfg!(target_os = "linux") {
                    assert!(measured["talked"]["server_cpu_seconds"].is_f64(), "{measured}");
                }
            }
        }
    }
}

#[test]
fn reconnect_makes_a_connection_for_each_message() {
    let dir = with_certs();
    for (tls, scheme) in [(false, "challenge"), (false, "mutual"), (true, "mutual")] {
        let (ours, theirs) =
            if tls { (&SERVER_TLS[..], &CLIENT_TLS[..]) } else { (&[][..], &[][..]) };
        let scheme = ["--scheme", scheme];
        let listen = ["--listen", "127.0.0.1:0"];
        let server = Server::start(&dir, KEY, &[&listen[..], &scheme, ours].concat());
        let args = ["--reconnect", "--connections", "3", "--count", "30", "--duration", "60"];
        let mut command = bench(&dir, &server.at[0], &[&args[..], &scheme, theirs].concat());
        let output = run(&mut command, b"").expect_code(0);
        assert!(output.out.contains("30 of 64 bytes answered"), "{}", output.out);
        let (_, line) = output.out.split_once("reconnected  ").unwrap();
        let made: u32 = line.split(',').next().unwrap().parse().unwrap();
        assert!((27..=30).contains(&made), "{}", output.out);
    }
}

#[test]
fn every_sends_messages_at_the_interval() {
    let dir = TempDir::new();
    let server = Server::start(&dir, KEY, &["--listen", "unix:s", "--scheme", "none"]);
    let args = ["--scheme", "none", "--connections", "4", "--every", "0.05", "--count", "20"];
    let more = ["--duration", "60", "--json"];
    let measured =
        measured(&run(&mut bench(&dir, &server.at[0], &[&args[..], &more].concat()), b""));
    assert_eq!(measured["talked"]["count"], 20, "{measured}");
    // Of 20 messages on 4 connections, the last one of each connection is due after 4 intervals.
    assert!(measured["talked"]["seconds"].as_f64().unwrap() >= 4.0 * 0.05, "{measured}");
}

#[test]
fn buffer_sets_the_length_of_buffers() {
    let dir = TempDir::new();
    let long = ["--buffer", "65536"];
    for scheme in ["mutual", "challenge", "none"] {
        let scheme = ["--scheme", scheme];
        let listen = ["--listen", "127.0.0.1:0"];
        let server = Server::start(&dir, KEY, &[&listen[..], &scheme, &long].concat());
        let args = ["--size", "200000", "--count", "20", "--duration", "60", "--json"];
        for more in [&long[..], &[]] {
            let mut command = bench(&dir, &server.at[0], &[&args[..], &scheme, more].concat());
            let measured = measured(&run(&mut command, b""));
            assert_eq!(measured["talked"]["count"], 20, "{measured}");
        }
        let short = [&["--buffer", "16383"][..], &scheme].concat();
        run(&mut bench(&dir, &server.at[0], &short), b"").expect_code(2).expect_stderr("--buffer");
    }
}

#[test]
fn plot_draws_the_latencies() {
    let dir = TempDir::new();
    let server = Server::start(&dir, KEY, &["--listen", "unix:s", "--scheme", "none"]);
    let args = ["--scheme", "none", "--count", "100", "--plot", "latency.svg"];
    run(&mut bench(&dir, &server.at[0], &args), b"").expect_code(0);
    let svg = std::fs::read_to_string(dir.path().join("latency.svg")).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("messages") && svg.contains("<polyline"),
        "{svg}"
    );
}

#[test]
fn bench_of_silent_server_ends_after_duration() {
    let dir = TempDir::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = ServerAddr::Tcp(listener.local_addr().unwrap());
    let args = ["--scheme", "none", "--connections", "2", "--duration", "0.2", "--json"];
    let measured = measured(&run(&mut bench(&dir, &at, &args), b""));
    assert_eq!(
        (&measured["opened"]["count"], &measured["talked"]["count"]),
        (&2.into(), &0.into())
    );
}

#[test]
fn bench_reports_why_a_server_cannot_be_measured() {
    let dir = TempDir::new();
    let server = Server::start(&dir, KEY, &["--listen", "127.0.0.1:0", "--scheme", "mutual"]);
    let mut wrong = bench(&dir, &server.at[0], &[]);
    wrong.env("COUNTERSIGN_KEY", "another key that is long enough");
    run(&mut wrong, b"").expect_code(3).expect_stderr("refused");
    let absent = ServerAddr::Unix(dir.path().join("absent"));
    run(&mut bench(&dir, &absent, &[]), b"").expect_code(4).expect_stderr("is the server running");
    let empty = ["--scheme", "challenge", "--size", "0"];
    run(&mut bench(&dir, &server.at[0], &empty), b"").expect_code(2).expect_stderr("--size");
    let both = ["--every", "1", "--pipeline", "2"];
    run(&mut bench(&dir, &server.at[0], &both), b"").expect_code(2).expect_stderr("--pipeline");
    for args in [["--connections", "0"], ["--pipeline", "0"], ["--count", "0"], ["--duration", "0"]]
    {
        run(&mut bench(&dir, &server.at[0], &args), b"").expect_code(2);
    }
}
