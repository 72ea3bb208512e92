//! `countersign bench`.

use std::net::TcpListener;
use std::process::Command;

use serde_json::Value;

use crate::KEY;
use crate::common::{At, Scratch, Server, countersign};
use crate::process::{Ran, run};
use crate::tls::{OURS, THEIRS, with_certs};

fn bench(scratch: &Scratch, at: &At, args: &[&str]) -> Command {
    let mut command = countersign(scratch);
    command.args(["bench", &at.to_string()]).args(args).env("COUNTERSIGN_KEY", KEY);
    command
}

fn measured(ran: &Ran) -> Value {
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.out).unwrap()
}

#[test]
fn every_scheme_is_measured_over_tcp_and_unix_sockets() {
    for scheme in ["mutual", "multiprocessing", "challenge", "none"] {
        let scratch = Scratch::new();
        let scheme = ["--scheme", scheme];
        let listen = ["--listen", "127.0.0.1:0", "--listen", "unix:s"];
        let server = Server::start(&scratch, KEY, &[&listen[..], &scheme].concat());
        for at in &server.at {
            for more in [&["--pipeline", "8"][..], &["--size", "100000"]] {
                let args = ["--connections", "5", "--count", "200", "--duration", "60", "--json"];
                let mut command = bench(&scratch, at, &[&args[..], &scheme, more].concat());
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
fn connections_are_made_anew_for_each_message_if_asked_to() {
    let scratch = with_certs();
    for (tls, scheme) in [(false, "challenge"), (false, "mutual"), (true, "mutual")] {
        let (ours, theirs) = if tls { (&OURS[..], &THEIRS[..]) } else { (&[][..], &[][..]) };
        let scheme = ["--scheme", scheme];
        let listen = ["--listen", "127.0.0.1:0"];
        let server = Server::start(&scratch, KEY, &[&listen[..], &scheme, ours].concat());
        let args = ["--reconnect", "--connections", "3", "--count", "30", "--duration", "60"];
        let mut command = bench(&scratch, &server.at[0], &[&args[..], &scheme, theirs].concat());
        let ran = run(&mut command, b"").exited(0);
        assert!(ran.out.contains("30 of 64 bytes answered"), "{}", ran.out);
        let (_, line) = ran.out.split_once("reconnected  ").unwrap();
        let made: u32 = line.split(',').next().unwrap().parse().unwrap();
        assert!((27..=30).contains(&made), "{}", ran.out);
    }
}

#[test]
fn messages_are_sent_so_often_if_asked_to() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, KEY, &["--listen", "unix:s", "--scheme", "none"]);
    let args = ["--scheme", "none", "--connections", "4", "--every", "0.05", "--count", "20"];
    let more = ["--duration", "60", "--json"];
    let measured =
        measured(&run(&mut bench(&scratch, &server.at[0], &[&args[..], &more].concat()), b""));
    assert_eq!(measured["talked"]["count"], 20, "{measured}");
    // The first of them all is due at once, and each connection's others when theirs are.
    assert!(measured["talked"]["seconds"].as_f64().unwrap() >= 4.0 * 0.05, "{measured}");
}

#[test]
fn buffers_are_as_long_as_asked_for() {
    let scratch = Scratch::new();
    let long = ["--buffer", "65536"];
    for scheme in ["mutual", "challenge", "none"] {
        let scheme = ["--scheme", scheme];
        let listen = ["--listen", "127.0.0.1:0"];
        let server = Server::start(&scratch, KEY, &[&listen[..], &scheme, &long].concat());
        let args = ["--size", "200000", "--count", "20", "--duration", "60", "--json"];
        for more in [&long[..], &[]] {
            let mut command = bench(&scratch, &server.at[0], &[&args[..], &scheme, more].concat());
            let measured = measured(&run(&mut command, b""));
            assert_eq!(measured["talked"]["count"], 20, "{measured}");
        }
        let short = [&["--buffer", "16383"][..], &scheme].concat();
        run(&mut bench(&scratch, &server.at[0], &short), b"").exited(2).said("--buffer");
    }
}

#[test]
fn a_picture_of_the_latencies_is_drawn() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, KEY, &["--listen", "unix:s", "--scheme", "none"]);
    let args = ["--scheme", "none", "--count", "100", "--plot", "latency.svg"];
    run(&mut bench(&scratch, &server.at[0], &args), b"").exited(0);
    let svg = std::fs::read_to_string(scratch.path().join("latency.svg")).unwrap();
    assert!(
        svg.starts_with("<svg") && svg.contains("messages") && svg.contains("<polyline"),
        "{svg}"
    );
}

#[test]
fn a_server_that_answers_nothing_is_left_when_the_time_is_over() {
    let scratch = Scratch::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = At::Tcp(listener.local_addr().unwrap());
    let args = ["--scheme", "none", "--connections", "2", "--duration", "0.2", "--json"];
    let measured = measured(&run(&mut bench(&scratch, &at, &args), b""));
    assert_eq!(
        (&measured["opened"]["count"], &measured["talked"]["count"]),
        (&2.into(), &0.into())
    );
}

#[test]
fn who_cannot_be_measured_is_an_error_with_its_reason() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, KEY, &["--listen", "127.0.0.1:0", "--scheme", "mutual"]);
    let mut wrong = bench(&scratch, &server.at[0], &[]);
    wrong.env("COUNTERSIGN_KEY", "another key that is long enough");
    run(&mut wrong, b"").exited(3).said("refused");
    let nobody = At::Unix(scratch.path().join("nobody"));
    run(&mut bench(&scratch, &nobody, &[]), b"").exited(4).said("is the server running");
    let empty = ["--scheme", "challenge", "--size", "0"];
    run(&mut bench(&scratch, &server.at[0], &empty), b"").exited(2).said("--size");
    let both = ["--every", "1", "--pipeline", "2"];
    run(&mut bench(&scratch, &server.at[0], &both), b"").exited(2).said("--pipeline");
    for args in [["--connections", "0"], ["--pipeline", "0"], ["--count", "0"], ["--duration", "0"]]
    {
        run(&mut bench(&scratch, &server.at[0], &args), b"").exited(2);
    }
}
