//! CPython's multiprocessing.connection, in real Python of both generations, against ours.
//!
//! docs/TESTING.md says which of CPython's own tests is which of these.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::KEY;
use crate::common::{At, Scratch, Server, countersign};
use crate::process::{Ran, at_once, file, run};
use crate::pythons::{Generation, Python, for_each_python};

const OTHER: &str = "another key that is long enough too";
/// The lengths around that up to which CPython sends header and message in one, and long ones.
const SIZES: [usize; 7] = [0, 1, 16_383, 16_384, 16_385, 65_536, 1_000_000];
const MD5: &[&str] = &["--digest", "md5"];
const COMPATIBLE: &[&str] = &["--compatible"];

/// The options with which ours speak with this generation.
fn policies(generation: Generation) -> [&'static [&'static str]; 2] {
    match generation {
        Generation::Old => [MD5, COMPATIBLE],
        Generation::New => [&[], COMPATIBLE],
    }
}

/// A program of tests/multiprocessing.
fn program(python: &Python, program: &str, key: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/multiprocessing").join(program);
    let mut command = python.command();
    command.arg(path).env("PEER_KEY", key);
    command
}

/// What a Python client with this key makes of the server at `at`.
fn client(python: &Python, at: &At, key: &str, act: &[&str]) -> Ran {
    run(program(python, "client.py", key).arg(at.to_string()).args(act), b"")
}

/// Fails unless the client was told that its key was refused, and nothing else.
#[track_caller]
fn rejected(ran: Ran) {
    let ran = ran.exited(3);
    ran.printed("");
    ran.said("AuthenticationError digest sent was rejected");
}

fn serve(scratch: &Scratch, args: &[&str]) -> Server {
    let ours = ["--listen", "127.0.0.1:0", "--listen", "unix:s", "--scheme", "multiprocessing"];
    Server::start(scratch, KEY, &[&ours, args].concat())
}

/// Has `check` look at each Python with each server that speaks with it, at each of its addresses.
fn served(args: &[&str], check: impl Fn(&Python, &Server, &At) + Sync) {
    for_each_python(|python| {
        at_once(policies(python.generation()), |policy| {
            let scratch = Scratch::new();
            let server = serve(&scratch, &[policy, args].concat());
            server.at.iter().for_each(|at| check(python, &server, at));
        });
    });
}

/// Has clients of each Python do `act` with a server that echoes.
fn plays(act: &[&str]) {
    let scratch = Scratch::new();
    let server = serve(&scratch, &["--compatible", "--service", "echo"]);
    for_each_python(|python| {
        for at in &server.at {
            client(python, at, KEY, act).exited(0);
        }
    });
}

#[test]
fn a_python_client_is_served() {
    served(&[], |python, _, at| {
        let ran = client(python, at, KEY, &["say", "hello", "", "Größe 1"]);
        ran.exited(0).printed("HELLO\n\nGRößE 1\n");
    });
}

#[test]
fn a_python_client_with_another_key_is_refused_and_the_next_is_served() {
    served(&[], |python, server, at| {
        for key in [OTHER, ""] {
            rejected(client(python, at, key, &["say", "hello"]));
        }
        client(python, at, KEY, &["say", "hello"]).exited(0).printed("HELLO\n");
        server.logged("scheme=multiprocessing reason=wrong-key");
    });
}

#[test]
fn an_empty_key_is_none_of_ours() {
    let scratch = Scratch::new();
    let key = file(&scratch, "key", b"\n", 0o600);
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["connect", "127.0.0.1:1"]] {
        let command = || {
            let mut command = countersign(&scratch);
            command.args(args).args(["--scheme", "multiprocessing"]);
            command
        };
        for command in [command().env("COUNTERSIGN_KEY", ""), command().arg("--key-file").arg(&key)]
        {
            run(command, b"").exited(2).said("empty");
        }
    }
}

#[test]
fn messages_of_every_length_come_back_whole() {
    let sizes = SIZES.map(|size| size.to_string());
    let sizes: Vec<_> = sizes.iter().map(String::as_str).collect();
    for service in ["echo", "upper"] {
        served(&["--service", service], |python, _, at| {
            client(python, at, KEY, &[&["sizes", service], &sizes[..]].concat()).exited(0);
        });
    }
}

#[test]
fn a_message_of_16_mib_comes_back_whole() {
    plays(&["sizes", "echo", &(16 << 20).to_string()]);
}

#[test]
fn the_long_form_of_a_length_is_good_for_short_messages_too() {
    served(&["--service", "echo"], |python, _, at| {
        client(python, at, KEY, &["long_headers"]).exited(0).printed("hello\n\nlast\n");
    });
}

#[test]
fn a_message_beyond_max_frame_ends_the_connection() {
    served(&["--max-frame", "1000"], |python, server, at| {
        client(python, at, KEY, &["sizes", "upper", "1000"]).exited(0);
        client(python, at, KEY, &["too_long", "1001"]).exited(0);
        server.logged("scheme=multiprocessing reason=frame-too-long");
    });
}

#[test]
fn many_messages_need_no_reader_in_between() {
    plays(&["many", "5000"]);
}

#[test]
fn many_python_clients_are_served_at_once() {
    plays(&["crowd", "50"]);
}

#[test]
fn what_python_makes_of_objects_comes_back_as_it_was() {
    plays(&["objects"]);
}

#[test]
fn slices_of_buffers_are_messages() {
    plays(&["slices"]);
}

#[test]
fn replies_go_into_buffers() {
    plays(&["into"]);
}

#[test]
fn polling_sees_each_message_even_an_empty_one_and_merges_none() {
    plays(&["poll"]);
}

#[test]
fn several_connections_are_waited_for_at_once() {
    plays(&["wait_for_several"]);
}

#[test]
fn each_digest_is_spoken_with_a_python_that_knows_it() {
    at_once(["md5", "sha256", "sha384", "sha3-256", "sha3-384"], |digest| {
        for policy in [&[][..], COMPATIBLE] {
            let scratch = Scratch::new();
            let server =
                serve(&scratch, &[&["--service", "echo", "--digest", digest], policy].concat());
            for python in Generation::New.pythons() {
                let act = ["digest", &digest.replace('-', "_")];
                client(python, &server.at[0], KEY, &act).exited(0);
            }
        }
    });
}

#[test]
fn a_compatible_server_speaks_with_either_generation_whichever_digest_it_prefers() {
    for digest in ["md5", "sha256", "sha384", "sha3-256", "sha3-384"] {
        let scratch = Scratch::new();
        let server = serve(&scratch, &["--compatible", "--digest", digest]);
        for_each_python(|python| {
            let ran = client(python, &server.at[0], KEY, &["say", "hello"]);
            ran.exited(0).printed("HELLO\n");
        });
    }
}

#[test]
fn a_strict_server_refuses_the_other_generation_and_says_why() {
    for_each_python(|python| {
        let strict = if python.generation() == Generation::Old { &[][..] } else { MD5 };
        let scratch = Scratch::new();
        let server = serve(&scratch, strict);
        for at in &server.at {
            client(python, at, KEY, &["say", "hello"]).exited(3).printed("");
        }
        server.logged("scheme=multiprocessing reason=nothing-in-common");
    });
}

#[test]
fn a_python_client_that_gives_no_key_hears_the_challenge_and_is_refused() {
    served(&[], |python, server, at| {
        client(python, at, KEY, &["keyless"]).exited(0);
        server.logged("scheme=multiprocessing reason=malformed");
    });
}

#[test]
fn a_challenge_of_our_own_is_not_answered() {
    served(&[], |python, server, at| {
        client(python, at, KEY, &["reflect"]).exited(0);
        server.logged("scheme=multiprocessing reason=reflected");
    });
}

#[test]
fn python_clients_that_hang_up_in_the_middle_harm_nobody_else() {
    served(&["--service", "echo"], |python, server, at| {
        client(python, at, KEY, &["leave"]).exited(0);
        server.logged("scheme=multiprocessing reason=truncated-handshake");
        server.logged("scheme=multiprocessing reason=truncated-message");
    });
}

#[test]
fn a_message_beyond_2_gib_goes_through_and_is_never_held() {
    // Older ones send none that long.
    let of =
        |generation: Generation| generation.pythons().find(|python| python.version >= (3, 8, 0));
    let Some(python) = Generation::BOTH.into_iter().rev().find_map(of) else { return };
    let scratch = Scratch::new();
    let server =
        serve(&scratch, &["--compatible", "--service", "echo", "--max-frame", "4294967296"]);
    let before = server.memory();
    let began = Instant::now();
    at_once(&server.at, |at| {
        client(python, at, KEY, &["huge"]).exited(0);
    });
    let grown = server.peak_memory().saturating_sub(before);
    println!("2 GiB and back, twice: {:?}, and {grown} bytes more of memory", began.elapsed());
    assert!(grown < 4 << 20, "{grown} bytes more for one message");
}

/// A Python listener, over TCP or, in `scratch`, over a Unix socket.
fn listener(python: &Python, scratch: &Scratch, unix: bool, key: &str, act: &str) -> Server {
    let mut command = program(python, "listener.py", key);
    command.current_dir(scratch.path()).arg(act);
    if unix {
        command.arg("unix:s");
    }
    Server::spawn(command, 1)
}

/// What `connect` with these options makes of the listener at `at`.
fn connect(scratch: &Scratch, at: &At, args: &[&str], input: &[u8]) -> Ran {
    let mut command = countersign(scratch);
    command.args(["connect", &at.to_string(), "--scheme", "multiprocessing"]).args(args);
    run(command.env("COUNTERSIGN_KEY", KEY), input)
}

/// Has `check` look at what `connect` makes of each Python's listener that has this key and does
/// `act`, over TCP and over a Unix socket, with each of the options that speak with it.
fn connected(key: &str, act: &str, args: &[&str], input: &[u8], check: impl Fn(Ran) + Sync) {
    for_each_python(|python| {
        at_once([false, true], |unix| {
            let scratch = Scratch::new();
            let listener = listener(python, &scratch, unix, key, act);
            at_once(policies(python.generation()), |policy| {
                check(connect(&scratch, &listener.at[0], &[policy, args].concat(), input));
            });
        });
    });
}

const HELLO: &[&str] = &["--message", "hello"];

#[test]
fn we_are_served_by_a_python_listener() {
    let input = "hello\n\nGröße 1\n";
    connected(KEY, "upper", &[], input.as_bytes(), |ran| {
        ran.exited(0).printed("HELLO\n\nGRößE 1\n");
    });
}

#[test]
fn a_python_listener_has_messages_of_every_length_from_us() {
    let lines: String = SIZES.map(|size| "x".repeat(size) + "\n").concat();
    connected(KEY, "upper", &[], lines.as_bytes(), |ran| {
        assert!(ran.exited(0).out == lines.to_uppercase(), "not what was sent");
    });
}

#[test]
fn a_python_listener_has_many_messages_from_us() {
    let lines: String = (0..5000).map(|n| format!("message {n}\n")).collect();
    connected(KEY, "upper", &[], lines.as_bytes(), |ran| {
        ran.exited(0).printed(&lines.to_uppercase());
    });
}

#[test]
fn a_python_listener_with_another_key_refuses_us_and_serves_the_next() {
    connected(OTHER, "upper", HELLO, b"", |ran| {
        let ran = ran.exited(3);
        ran.printed("");
        ran.said("refused to authenticate us");
    });
    for_each_python(|python| {
        let scratch = Scratch::new();
        let listener = listener(python, &scratch, false, KEY, "upper");
        let at = &listener.at[0];
        let mut wrong = countersign(&scratch);
        wrong.args(["connect", &at.to_string(), "--scheme", "multiprocessing", "--compatible"]);
        run(wrong.args(HELLO).env("COUNTERSIGN_KEY", OTHER), b"").exited(3);
        connect(&scratch, at, &["--compatible", "--message", "hello"], b"")
            .exited(0)
            .printed("HELLO\n");
        listener.logged("refused: AuthenticationError digest received was wrong");
    });
}

#[test]
fn a_python_listener_with_an_empty_key_has_nothing_of_ours() {
    let patience = [HELLO, &["--handshake-timeout", "1"]].concat();
    connected("", "upper", &patience, b"", |ran| {
        // Before Python 3.13 it takes an empty key for none, and waits for a message.
        assert!(matches!(ran.code, Some(3 | 4)), "{ran:?}");
        ran.printed("");
    });
}

#[test]
fn strict_options_refuse_a_python_listener_of_the_other_generation() {
    for_each_python(|python| {
        let strict = if python.generation() == Generation::Old { &[][..] } else { MD5 };
        for unix in [false, true] {
            let scratch = Scratch::new();
            let listener = listener(python, &scratch, unix, KEY, "upper");
            let ran = connect(&scratch, &listener.at[0], &[strict, HELLO].concat(), b"").exited(3);
            ran.printed("");
            ran.said("--compatible");
        }
    });
}

#[test]
fn a_listener_that_takes_any_answer_is_no_server_of_ours() {
    connected(KEY, "impostor", HELLO, b"", |ran| {
        let ran = ran.exited(3);
        ran.printed("");
        ran.said("proof is wrong");
    });
}

#[test]
fn a_listener_that_speaks_first_is_heard_and_may_leave() {
    connected(KEY, "greet", &[], b"", |ran| ran.printed("welcome\n"));
}

#[test]
fn a_listener_that_is_late_is_waited_for() {
    connected(KEY, "late", HELLO, b"", |ran| ran.exited(0).printed("HELLO\n"));
}

#[test]
fn a_listener_that_never_answers_is_given_up_at_the_deadline() {
    let began = Instant::now();
    let patience = [HELLO, &["--handshake-timeout", "1"]].concat();
    connected(KEY, "mute", &patience, b"", |ran| {
        ran.exited(4).said("handshake took too long");
        assert!(began.elapsed() >= Duration::from_secs(1));
    });
}

#[test]
fn a_listener_that_speaks_something_else_breaks_the_protocol() {
    for act in ["no_challenge", "no_message", "no_verdict"] {
        connected(KEY, act, HELLO, b"", |ran| ran.exited(5).printed(""));
    }
}

#[test]
fn a_listener_that_hangs_up_in_the_middle_is_a_connection_lost() {
    let acts = ["at_once", "after_its_challenge", "before_its_answer", "before_the_reply"];
    at_once(acts, |act| {
        connected(KEY, &format!("leave_{act}"), HELLO, b"", |ran| ran.exited(4).printed(""));
    });
}

#[test]
fn neither_listens_where_the_other_does() {
    for_each_python(|python| {
        let scratch = Scratch::new();
        let theirs = [false, true].map(|unix| listener(python, &scratch, unix, KEY, "echo"));
        for listener in &theirs {
            let at = listener.at[0].to_string();
            let mut serve = countersign(&scratch);
            serve.args(["serve", "--scheme", "multiprocessing", "--listen", &at]);
            run(serve.env("COUNTERSIGN_KEY", KEY), b"").exited(1).said("cannot listen");
        }
        drop(theirs);
        let scratch = Scratch::new();
        let ours = serve(&scratch, &[]);
        for at in &ours.at {
            let mut listener = program(python, "listener.py", KEY);
            run(listener.args(["echo", &at.to_string()]), b"").exited(1).said("in use");
        }
    });
}
