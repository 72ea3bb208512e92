//! Where keys come from, and which are refused.

use std::fs;
use std::process::Command;

use crate::KEY;
use crate::common::{Scratch, Server, countersign};
use crate::process::{Ran, file, mode, run};

/// `serve` without any key given.
fn keyless(scratch: &Scratch, args: &[&str]) -> Server {
    let mut command = countersign(scratch);
    command.arg("serve").args(args);
    Server::spawn(command, 1)
}

/// Runs the announced command, as a person would copy it.
fn follow(scratch: &Scratch, server: &Server) -> Ran {
    let announced = server.logged(" connect ");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{} --message hello", announced.trim()));
    run(shell.current_dir(scratch.path()).env_remove("COUNTERSIGN_KEY"), b"")
}

#[test]
fn a_key_is_made_and_the_announced_command_connects() {
    for args in [
        &["--listen", "127.0.0.1:0"][..],
        &["--listen", "127.0.0.1:0", "--digest", "md5"],
        &["--listen", "127.0.0.1:0", "--digest", "sha3-384"],
        &["--listen", "0.0.0.0:0"],
        &["--listen", "unix:s"],
    ] {
        let scratch = Scratch::new();
        let server = keyless(&scratch, args);
        let key = scratch.path().join("countersign.key");
        assert_eq!(mode(&key), 0o600);
        let text = fs::read_to_string(&key).unwrap();
        assert!(text.len() == 65 && text.ends_with('\n'), "{text:?}");
        server.logged("made a new key in countersign.key");
        follow(&scratch, &server).exited(0).printed("HELLO\n");
    }
}

#[test]
fn the_announced_command_survives_a_path_with_a_blank() {
    let scratch = Scratch::new();
    let server = keyless(&scratch, &["--listen", "unix:a socket"]);
    follow(&scratch, &server).exited(0).printed("HELLO\n");
}

#[test]
fn the_key_that_is_there_is_used_again() {
    let scratch = Scratch::new();
    drop(keyless(&scratch, &["--listen", "127.0.0.1:0"]));
    let key = scratch.path().join("countersign.key");
    let first = fs::read(&key).unwrap();
    let server = keyless(&scratch, &["--listen", "127.0.0.1:0"]);
    server.logged("using the key in countersign.key");
    assert_eq!(fs::read(&key).unwrap(), first);
    follow(&scratch, &server).exited(0).printed("HELLO\n");
}

#[test]
fn no_key_is_made_where_none_is_asked_for() {
    for args in [&["--scheme", "none"][..], &["--key-file", "given"]] {
        let scratch = Scratch::new();
        file(&scratch, "given", KEY.as_bytes(), 0o600);
        let server = keyless(&scratch, &[&["--listen", "127.0.0.1:0"], args].concat());
        assert!(!scratch.path().join("countersign.key").exists());
        drop(server);
    }
}

/// Either command with this key, which it must not take.
fn refused(scratch: &Scratch, args: &[&str], key: Option<&[u8]>) -> [Ran; 2] {
    [&["serve", "--listen", "127.0.0.1:0"][..], &["connect", "127.0.0.1:1", "--message", "x"]].map(
        |command| {
            let mut command_line = countersign(scratch);
            command_line.args(command).args(args);
            if let Some(key) = key {
                command_line.env("COUNTERSIGN_KEY", std::str::from_utf8(key).unwrap());
            }
            let ran = run(&mut command_line, b"").exited(2);
            ran.printed("");
            ran
        },
    )
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_remedy() {
    for (given, args) in [("given", &["--key-file", "given"][..]), ("countersign.key", &[])] {
        for open in [0o640, 0o604, 0o666] {
            let scratch = Scratch::new();
            let path = file(&scratch, given, KEY.as_bytes(), open);
            for ran in refused(&scratch, args, None) {
                ran.said(&format!("`chmod 600 {given}`"));
            }
            assert_eq!(mode(&path), open);
        }
    }
}

#[test]
fn a_key_file_with_no_key_or_too_long_a_one_is_refused() {
    for (bytes, reason) in
        [(&b""[..], "empty"), (b"\n", "empty"), (&[b'x'; 1025], "longer than 1024")]
    {
        let scratch = Scratch::new();
        file(&scratch, "given", bytes, 0o600);
        for ran in refused(&scratch, &["--key-file", "given"], None) {
            ran.said("given");
            ran.said(reason);
        }
    }
}

#[test]
fn a_key_file_that_is_not_there_is_named() {
    let scratch = Scratch::new();
    for ran in refused(&scratch, &["--key-file", "absent"], None) {
        ran.said("absent");
        ran.said("No such file");
    }
    // A file named by a person is not one to be made.
    assert!(!scratch.path().join("absent").exists());
}

#[test]
fn a_key_in_the_environment_has_the_same_bounds() {
    let scratch = Scratch::new();
    for (key, reason) in [(&b""[..], "empty"), (&[b'x'; 1025], "longer than 1024")] {
        for ran in refused(&scratch, &[], Some(key)) {
            ran.said(reason);
        }
    }
}

#[test]
fn connect_without_a_key_says_where_one_could_be() {
    let scratch = Scratch::new();
    let ran = run(countersign(&scratch).args(["connect", "127.0.0.1:1"]), b"").exited(2);
    for place in ["--key-file", "COUNTERSIGN_KEY", "countersign.key"] {
        ran.said(place);
    }
    assert!(!scratch.path().join("countersign.key").exists());
}

#[test]
fn the_key_file_named_comes_before_the_environment_and_that_before_the_default() {
    let scratch = Scratch::new();
    file(&scratch, "given", b"the key that is in the file\n", 0o600);
    file(&scratch, "countersign.key", b"the key that is there anyway", 0o600);
    for (args, key) in [
        (&["--key-file", "given"][..], "the key that is in the file"),
        (&[], "the environment's key"),
    ] {
        let mut serve = countersign(&scratch);
        serve.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        serve.env("COUNTERSIGN_KEY", "the environment's key");
        let server = Server::spawn(serve, 1);
        let mut connect = countersign(&scratch);
        connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]);
        run(connect.env("COUNTERSIGN_KEY", key), b"").exited(0).printed("HELLO\n");
    }
}

#[test]
fn a_short_key_works_and_is_warned_of_without_being_shown() {
    let scratch = Scratch::new();
    let server = Server::start(&scratch, "peekaboo", &["--listen", "127.0.0.1:0"]);
    server.logged("the secret has 8 bytes");
    let mut connect = countersign(&scratch);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
    connect.args(["--message", "hello"]);
    let ran = run(connect.env("COUNTERSIGN_KEY", "peekaboo"), b"").exited(0);
    ran.printed("HELLO\n");
    ran.said("countersign keygen");
    assert!(!ran.err.contains("peekaboo"));
}

#[test]
fn keygen_prints_a_key_that_is_new_each_time() {
    let scratch = Scratch::new();
    let keys = [(); 2].map(|()| run(countersign(&scratch).arg("keygen"), b"").exited(0).out);
    assert_ne!(keys[0], keys[1]);
    for key in keys {
        let digits = key.strip_suffix('\n').unwrap();
        assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn keygen_writes_a_file_for_its_owner_alone_and_never_over_another() {
    let scratch = Scratch::new();
    let keygen = || run(countersign(&scratch).args(["keygen", "--out", "new"]), b"");
    keygen().exited(0).printed("");
    let path = scratch.path().join("new");
    assert_eq!(mode(&path), 0o600);
    let first = fs::read(&path).unwrap();
    assert_eq!(first.len(), 65);
    let ran = keygen().exited(2);
    ran.said("new");
    ran.said("exists");
    assert_eq!(fs::read(&path).unwrap(), first);
    let server = keyless(&scratch, &["--listen", "127.0.0.1:0", "--key-file", "new"]);
    let mut connect = countersign(&scratch);
    connect.args(["connect", &server.at[0].to_string(), "--key-file", "new", "--message", "hello"]);
    run(&mut connect, b"").exited(0).printed("HELLO\n");
}

#[test]
fn servers_that_start_at_once_agree_on_one_key() {
    let scratch = Scratch::new();
    let servers: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| keyless(&scratch, &["--listen", "127.0.0.1:0"])))
            .collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    for server in &servers {
        let mut client = countersign(&scratch);
        client.args(["connect", &server.at[0].to_string(), "--message", "hello"]);
        assert_eq!(run(&mut client, b"").exited(0).out, "HELLO\n");
    }
    let files = fs::read_dir(scratch.path()).unwrap().count();
    assert_eq!(files, 1, "drafts are left");
}

#[test]
fn a_server_that_cannot_listen_leaves_no_key() {
    let scratch = Scratch::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    run(countersign(&scratch).args(["serve", "--listen", &at]), b"").exited(1);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_file_is_refused_without_harmful_advice() {
    let scratch = Scratch::new();
    for path in ["/", "/dev/zero"] {
        let ran = run(countersign(&scratch).args(["serve", "--key-file", path]), b"").exited(2);
        assert!(ran.err.contains("not a file") && !ran.err.contains("chmod"), "{}", ran.err);
    }
}
