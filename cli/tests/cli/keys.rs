//! The sources of keys, and the keys that are refused.

use std::fs;
use std::process::Command;

use crate::KEY;
use crate::common::{Server, TempDir, countersign};
use crate::process::{Output, file, mode, run};

/// `serve` without a key in the environment.
fn serve(dir: &TempDir, args: &[&str]) -> Server {
    let mut command = countersign(dir);
    command.arg("serve").args(args);
    Server::spawn(command, 1)
}

/// Runs the announced command in a shell, as a user would copy it.
fn run_announced(dir: &TempDir, server: &Server) -> Output {
    let announced = server.wait_log(" connect ");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{} --message hello", announced.trim()));
    run(shell.current_dir(dir.path()).env_remove("COUNTERSIGN_KEY"), b"")
}

#[test]
fn generated_key_and_announced_command_work() {
    for args in [
        &["--listen", "127.0.0.1:0"][..],
        &["--listen", "127.0.0.1:0", "--digest", "md5"],
        &["--listen", "127.0.0.1:0", "--digest", "sha3-384"],
        &["--listen", "0.0.0.0:0"],
        &["--listen", "unix:s"],
    ] {
        let dir = TempDir::new();
        let server = serve(&dir, args);
        let key = dir.path().join("countersign.key");
        assert_eq!(mode(&key), 0o600);
        let text = fs::read_to_string(&key).unwrap();
        assert!(text.len() == 65 && text.ends_with('\n'), "{text:?}");
        server.wait_log("made a new key in countersign.key");
        run_announced(&dir, &server).expect_code(0).expect_stdout("HELLO\n");
    }
}

#[test]
fn announced_command_quotes_paths_with_spaces() {
    let dir = TempDir::new();
    let server = serve(&dir, &["--listen", "unix:a socket"]);
    run_announced(&dir, &server).expect_code(0).expect_stdout("HELLO\n");
}

#[test]
fn existing_default_key_is_reused() {
    let dir = TempDir::new();
    drop(serve(&dir, &["--listen", "127.0.0.1:0"]));
    let key = dir.path().join("countersign.key");
    let first = fs::read(&key).unwrap();
    let server = serve(&dir, &["--listen", "127.0.0.1:0"]);
    server.wait_log("using the key in countersign.key");
    assert_eq!(fs::read(&key).unwrap(), first);
    run_announced(&dir, &server).expect_code(0).expect_stdout("HELLO\n");
}

#[test]
fn unneeded_key_is_not_generated() {
    for args in [&["--scheme", "none"][..], &["--key-file", "given"]] {
        let dir = TempDir::new();
        file(&dir, "given", KEY.as_bytes(), 0o600);
        let server = serve(&dir, &[&["--listen", "127.0.0.1:0"], args].concat());
        assert!(!dir.path().join("countersign.key").exists());
        drop(server);
    }
}

/// Runs `serve` and `connect` with this key, which both must refuse.
fn refused(dir: &TempDir, args: &[&str], key: Option<&[u8]>) -> [Output; 2] {
    [&["serve", "--listen", "127.0.0.1:0"][..], &["connect", "unix:absent", "--message", "x"]].map(
        |command| {
            let mut command_line = countersign(dir);
            command_line.args(command).args(args);
            if let Some(key) = key {
                command_line.env("COUNTERSIGN_KEY", std::str::from_utf8(key).unwrap());
            }
            let output = run(&mut command_line, b"").expect_code(2);
            output.expect_stdout("");
            output
        },
    )
}

#[test]
fn readable_key_file_is_refused_with_chmod_hint() {
    for (given, args) in [("given", &["--key-file", "given"][..]), ("countersign.key", &[])] {
        for mode_bits in [0o640, 0o604, 0o666] {
            let dir = TempDir::new();
            let path = file(&dir, given, KEY.as_bytes(), mode_bits);
            for output in refused(&dir, args, None) {
                output.expect_stderr(&format!("`chmod 600 {given}`"));
            }
            assert_eq!(mode(&path), mode_bits);
        }
    }
}

#[test]
fn empty_or_overlong_key_file_is_refused() {
    for (bytes, reason) in [(&b""[..], "empty"), (b"\n", "empty"), (&[b'x'; 1025], "exceeds 1024")]
    {
        let dir = TempDir::new();
        file(&dir, "given", bytes, 0o600);
        for output in refused(&dir, &["--key-file", "given"], None) {
            output.expect_stderr("given");
            output.expect_stderr(reason);
        }
    }
}

#[test]
fn missing_key_file_is_named() {
    let dir = TempDir::new();
    for output in refused(&dir, &["--key-file", "absent"], None) {
        output.expect_stderr("absent");
        output.expect_stderr("No such file");
    }
    // `serve` generates only the default file, not a given one.
    assert!(!dir.path().join("absent").exists());
}

#[test]
fn key_in_environment_has_the_same_length_limits() {
    let dir = TempDir::new();
    for (key, reason) in [(&b""[..], "empty"), (&[b'x'; 1025], "longer than 1024")] {
        for output in refused(&dir, &[], Some(key)) {
            output.expect_stderr(reason);
        }
    }
}

#[test]
fn connect_without_key_lists_key_sources() {
    let dir = TempDir::new();
    let output = run(countersign(&dir).args(["connect", "unix:absent"]), b"").expect_code(2);
    for place in ["--key-file", "COUNTERSIGN_KEY", "countersign.key"] {
        output.expect_stderr(place);
    }
    assert!(!dir.path().join("countersign.key").exists());
}

#[test]
fn key_file_precedes_environment_and_default() {
    let dir = TempDir::new();
    file(&dir, "given", b"the key that is in the file\n", 0o600);
    file(&dir, "countersign.key", b"the key in the default file", 0o600);
    for (args, key) in [
        (&["--key-file", "given"][..], "the key that is in the file"),
        (&[], "the environment's key"),
    ] {
        let mut command = countersign(&dir);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(args);
        command.env("COUNTERSIGN_KEY", "the environment's key");
        let server = Server::spawn(command, 1);
        let mut connect = countersign(&dir);
        connect.args(["connect", &server.at[0].to_string(), "--message", "hello"]);
        run(connect.env("COUNTERSIGN_KEY", key), b"").expect_code(0).expect_stdout("HELLO\n");
    }
}

#[test]
fn short_key_works_with_a_warning() {
    let dir = TempDir::new();
    let server = Server::start(&dir, "peekaboo", &["--listen", "127.0.0.1:0"]);
    server.wait_log("the secret has 8 bytes");
    let mut connect = countersign(&dir);
    connect.args(["connect", &server.at[0].to_string(), "--scheme", "challenge"]);
    connect.args(["--message", "hello"]);
    let output = run(connect.env("COUNTERSIGN_KEY", "peekaboo"), b"").expect_code(0);
    output.expect_stdout("HELLO\n");
    output.expect_stderr("countersign keygen");
    assert!(!output.err.contains("peekaboo"));
}

#[test]
fn keygen_prints_a_new_key_each_time() {
    let dir = TempDir::new();
    let keys = [(); 2].map(|()| run(countersign(&dir).arg("keygen"), b"").expect_code(0).out);
    assert_ne!(keys[0], keys[1]);
    for key in keys {
        let digits = key.strip_suffix('\n').unwrap();
        assert!(digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn keygen_writes_private_file_without_overwriting() {
    let dir = TempDir::new();
    let keygen = || run(countersign(&dir).args(["keygen", "--out", "new"]), b"");
    keygen().expect_code(0).expect_stdout("");
    let path = dir.path().join("new");
    assert_eq!(mode(&path), 0o600);
    let first = fs::read(&path).unwrap();
    assert_eq!(first.len(), 65);
    let output = keygen().expect_code(2);
    output.expect_stderr("new");
    output.expect_stderr("exists");
    assert_eq!(fs::read(&path).unwrap(), first);
    let server = serve(&dir, &["--listen", "127.0.0.1:0", "--key-file", "new"]);
    let mut connect = countersign(&dir);
    connect.args(["connect", &server.at[0].to_string(), "--key-file", "new", "--message", "hello"]);
    run(&mut connect, b"").expect_code(0).expect_stdout("HELLO\n");
}

#[test]
fn concurrent_servers_agree_on_one_key() {
    let dir = TempDir::new();
    let servers: Vec<_> = std::thread::scope(|scope| {
        let starting: Vec<_> =
            (0..8).map(|_| scope.spawn(|| serve(&dir, &["--listen", "127.0.0.1:0"]))).collect();
        starting.into_iter().map(|server| server.join().unwrap()).collect()
    });
    for server in &servers {
        let mut client = countersign(&dir);
        client.args(["connect", &server.at[0].to_string(), "--message", "hello"]);
        assert_eq!(run(&mut client, b"").expect_code(0).out, "HELLO\n");
    }
    let files = fs::read_dir(dir.path()).unwrap().count();
    assert_eq!(files, 1, "temporary files are left");
}

#[test]
fn failed_bind_leaves_no_key_file() {
    let dir = TempDir::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let at = taken.local_addr().unwrap().to_string();
    run(countersign(&dir).args(["serve", "--listen", &at]), b"").expect_code(1);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn directories_and_devices_are_refused_as_key_files() {
    let dir = TempDir::new();
    for path in ["/", "/dev/zero"] {
        let output = run(
            countersign(&dir).args(["serve", "--listen", "127.0.0.1:0", "--key-file", path]),
            b"",
        )
        .expect_code(2);
        assert!(
            output.err.contains("not a file") && !output.err.contains("chmod"),
            "{}",
            output.err
        );
    }
}
