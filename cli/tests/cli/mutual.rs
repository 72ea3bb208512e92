//! The default scheme: both ends prove that they hold the key.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;

use crate::KEY;
use crate::common::{At, Scratch, Server, countersign};
use crate::process::{Ran, Running, file, run};

const OTHER: &str = "another key that is long enough too";

fn serve(scratch: &Scratch, args: &[&str]) -> Server {
    let mut command = countersign(scratch);
    command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
    if !args.contains(&"--keyring") {
        command.env("COUNTERSIGN_KEY", KEY);
    }
    Server::spawn(command, 1)
}

/// Says hello to `at`, with this key.
fn hello(scratch: &Scratch, at: &At, key: &str, args: &[&str]) -> Ran {
    let mut command = countersign(scratch);
    command.args(["connect", &at.to_string(), "--message", "hello"]).args(args);
    run(command.env("COUNTERSIGN_KEY", key), b"")
}

/// A keyring in `scratch` of keys with these ids, secrets and further lines.
fn keyring(scratch: &Scratch, keys: &[(&str, &str, &str)]) -> PathBuf {
    let text: String = keys
        .iter()
        .map(|(id, secret, rest)| {
            format!("[[key]]\nid = \"{id}\"\nsecret = \"{secret}\"\nroles = [\"server\"]\n{rest}\n")
        })
        .collect();
    file(scratch, "keys.toml", text.as_bytes(), 0o600)
}

#[test]
fn ends_of_one_key_talk_and_the_log_of_another_says_why_it_is_refused() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let at = &server.at[0];
    hello(&scratch, at, KEY, &[]).exited(0).printed("HELLO\n");
    let ran = hello(&scratch, at, OTHER, &[]).exited(3);
    ran.printed("");
    ran.said("refused to authenticate us");
    assert!(server.logged("refused").contains("scheme=mutual reason=wrong-key"));
}

#[test]
fn whatever_is_wrong_the_client_is_told_the_same_and_the_log_what_it_was() {
    let scratch = Scratch::new();
    let names = "names = [\"alice\"]";
    let past = "not_after = 2001-01-01T00:00:00Z";
    let ring = keyring(&scratch, &[("k", KEY, names), ("old", KEY, past)]);
    let text = fs::read_to_string(&ring).unwrap()
        + &format!("[[key]]\nid = \"up\"\nsecret = \"{KEY}\"\nroles = [\"client\"]\n");
    let ring = file(&scratch, "keys.toml", text.as_bytes(), 0o600);
    let server = serve(&scratch, &["--keyring", ring.to_str().unwrap(), "--name", "gate"]);
    let at = &server.at[0];
    let alice = ["--kid", "k", "--name", "alice"];
    hello(&scratch, at, KEY, &[&alice[..], &["--expect-server", "gate"]].concat()).exited(0);
    let mut told = Vec::new();
    for (args, key, reason) in [
        (&["--kid", "k", "--name", "alice"][..], OTHER, "wrong-key"),
        (&["--kid", "none", "--name", "alice"], KEY, "unknown-key"),
        (&["--kid", "old", "--name", "alice"], KEY, "key-out-of-date"),
        (&["--kid", "up", "--name", "alice"], KEY, "key-wrong-role"),
        (&["--kid", "k", "--name", "bob"], KEY, "name-not-admitted"),
        (&["--kid", "k", "--name", "gate"], KEY, "own-name"),
        (&["--kid", "k", "--name", "alice", "--expect-server", "g"], KEY, "other-server-expected"),
    ] {
        let ran = hello(&scratch, at, key, args).exited(3);
        ran.printed("");
        server.logged(&format!("scheme=mutual reason={reason}"));
        told.push(ran.err.replace(&at.to_string(), ""));
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
}

#[test]
fn a_server_that_does_not_hold_the_key_is_refused_by_the_client() {
    // It answers with what it recorded of another session: a frame that only looks right.
    let scratch = Scratch::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = At::Tcp(listener.local_addr().unwrap());
    let impostor = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let mut m1 = b"\0\0\0\x29\x01CSGN\x01\x01\x01\x01".to_vec();
        m1.extend([0x42; 32]);
        stream.write_all(&m1).unwrap();
        let mut header = [0; 4];
        stream.read_exact(&mut header).unwrap();
        let mut m2 = vec![0; u32::from_be_bytes(header) as usize];
        stream.read_exact(&mut m2).unwrap();
        let mut m3 = b"\0\0\0\x40\x03\x06server".to_vec();
        m3.extend([0xd4; 16]);
        m3.extend(16401_u32.to_be_bytes());
        m3.extend(15000_u32.to_be_bytes());
        m3.extend([0x17; 32]);
        stream.write_all(&m3).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let ran = hello(&scratch, &at, KEY, &[]).exited(3);
    ran.said("the peer's proof is wrong");
    ran.printed("");
    assert!(impostor.join().unwrap().is_empty(), "the message went to an impostor");
}

#[test]
fn a_secret_that_can_be_guessed_is_refused_at_both_ends() {
    let scratch = Scratch::new();
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["connect", "127.0.0.1:1"]] {
        let ran =
            run(countersign(&scratch).args(args).env("COUNTERSIGN_KEY", "fifteen bytes--"), b"");
        ran.exited(2).said("countersign keygen");
    }
}

#[test]
fn a_keyring_with_a_mistake_is_refused_with_its_line() {
    let scratch = Scratch::new();
    let ring = keyring(&scratch, &[("k", KEY, ""), ("bad id", KEY, "")]);
    let mut command = countersign(&scratch);
    command.args(["serve", "--listen", "127.0.0.1:0", "--keyring", ring.to_str().unwrap()]);
    let ran = run(&mut command, b"").exited(2);
    ran.said("line 7");
    assert!(!ran.err.contains(KEY), "{ran:?}");
    command.args(["--scheme", "challenge"]);
    run(&mut command, b"").exited(2).said("--key-file");
}

#[test]
fn on_sighup_new_keys_count_and_nobody_is_lost_whose_key_is_still_there() {
    let scratch = Scratch::new();
    let ring = keyring(&scratch, &[("a", KEY, ""), ("b", OTHER, "")]);
    let server = serve(&scratch, &["--keyring", ring.to_str().unwrap(), "--workers", "2"]);
    let at = &server.at[0];
    let connect = |kid, key| {
        let mut command = countersign(&scratch);
        command.args(["connect", &at.to_string(), "--kid", kid]).env("COUNTERSIGN_KEY", key);
        let mut running = Running::start(&mut command);
        running.type_in(b"before\n");
        running.out.wait("an answer", |out, _| out == "BEFORE\n");
        running
    };
    let (mut stays, goes) = (connect("a", KEY), connect("b", OTHER));
    const NEW: &str = "a new key that is long enough as well";
    hello(&scratch, at, NEW, &["--kid", "a"]).exited(3);

    // A file with a mistake changes nothing.
    file(&scratch, "keys.toml", b"[[key]]\nid = 7\n", 0o600);
    server.signal(Signal::HUP);
    assert!(server.logged("keys not read again").contains("line 2"));
    hello(&scratch, at, OTHER, &["--kid", "b"]).exited(0);

    // `a` has a second key, `b` has none any more.
    keyring(&scratch, &[("a", KEY, ""), ("a", NEW, "not_before = 2020-01-01T00:00:00Z")]);
    server.signal(Signal::HUP);
    goes.out.wait("the end", |_, over| over);
    let ran = goes.end().exited(4);
    ran.said("the peer's application ended the session");
    hello(&scratch, at, NEW, &["--kid", "a"]).exited(0);
    hello(&scratch, at, KEY, &["--kid", "a"]).exited(0);
    hello(&scratch, at, OTHER, &["--kid", "b"]).exited(3);
    stays.type_in(b"after\n");
    stays.out.wait("an answer", |out, _| out == "BEFORE\nAFTER\n");
    stays.end().exited(0);
}

#[test]
fn a_client_with_nothing_to_say_stays_for_many_heartbeats() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--heartbeat", "1"]);
    let mut command = countersign(&scratch);
    command.args(["connect", &server.at[0].to_string()]).env("COUNTERSIGN_KEY", KEY);
    let mut running = Running::start(&mut command);
    running.type_in(b"before\n");
    running.out.wait("an answer", |out, _| out == "BEFORE\n");
    // Frozen, it gives no sign of life: two heartbeats and five seconds.
    running.signal(Signal::STOP);
    server.logged("reason=peer-silent");
    running.signal(Signal::CONT);
    let ran = running.end().exited(4);
    ran.said("for we were too slow");
}

#[test]
fn a_server_without_room_says_so() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--max-connections", "1"]);
    let at = &server.at[0];
    let mut command = countersign(&scratch);
    command.args(["connect", &at.to_string()]).env("COUNTERSIGN_KEY", KEY);
    let mut first = Running::start(&mut command);
    first.type_in(b"hello\n");
    first.out.wait("an answer", |out, _| out == "HELLO\n");
    hello(&scratch, at, KEY, &[]).exited(4).said("no room now");
}

#[test]
fn messages_of_any_length_come_back_whole() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--service", "echo"]);
    for len in [0, 1, 16_383, 16_384, 16_385, 100_000] {
        let line = "x".repeat(len) + "\n";
        let mut command = countersign(&scratch);
        command.args(["connect", &server.at[0].to_string()]).env("COUNTERSIGN_KEY", KEY);
        run(&mut command, line.as_bytes()).exited(0).printed(&line);
    }
}

#[test]
fn the_longest_frame_that_either_end_takes_is_kept_to() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--max-frame", "256"]);
    let text = "y".repeat(1000);
    let args = ["--message", &text, "--max-frame", "300"];
    let ran = hello(&scratch, &server.at[0], KEY, &args).exited(0);
    ran.printed(&format!("HELLO\n{}\n", text.to_uppercase()));
}

#[test]
fn a_server_that_does_not_say_that_it_has_finished_may_have_had_more_to_say() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let mut command = countersign(&scratch);
    command.args(["connect", &server.at[0].to_string()]).env("COUNTERSIGN_KEY", KEY);
    let mut running = Running::start(&mut command);
    running.type_in(b"hello\n");
    running.out.wait("an answer", |out, _| out == "HELLO\n");
    server.freeze();
    let ran = running.end().exited(4);
    server.signal(Signal::CONT);
    ran.said("did not say that it had finished");
}

#[test]
fn a_keyring_without_the_key_that_was_asked_for_is_our_own_mistake() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let text = format!("[[key]]\nid = \"k\"\nsecret = \"{KEY}\"\nroles = [\"client\"]\n");
    let ring = file(&scratch, "client.toml", text.as_bytes(), 0o600);
    let at = server.at[0].to_string();
    let mut command = countersign(&scratch);
    command.args(["connect", &at, "--message", "x", "--keyring", ring.to_str().unwrap()]);
    run(&mut command, b"").exited(2).said("--kid");
}

#[test]
fn a_client_of_the_scheme_challenge_gives_a_server_of_this_one_no_answer() {
    let scratch = Scratch::new();
    let server = serve(&scratch, &[]);
    let ran = hello(&scratch, &server.at[0], KEY, &["--scheme", "challenge"]).exited(5);
    ran.printed("");
    ran.said("both ends use the same scheme");
}
