//! Help, mistakes, completions, manual pages; and that scripts can read all of it.

use crate::common::{Scratch, countersign};
use crate::process::{Ran, run};

fn ran(args: &[&str]) -> Ran {
    run(countersign(&Scratch::new()).args(args), b"")
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    for args in [
        &[][..],
        &["bogus"],
        &["serve", "--bogus"],
        &["serve", "extra"],
        &["serve", "--listen", "9999"],
        &["serve", "--listen", "host:"],
        &["serve", "--listen", "unix:"],
        &["serve", "--listen", "[::1:80"],
        &["serve", "--scheme", "bogus"],
        &["serve", "--digest", "crc32"],
        &["serve", "--service", "bogus"],
        &["serve", "--workers", "0"],
        &["serve", "--max-connections", "-1"],
        &["serve", "--max-frame", "many"],
        &["serve", "--handshake-timeout", "0"],
        &["serve", "--handshake-timeout", "-1"],
        &["serve", "--handshake-timeout", "nan"],
        &["serve", "--handshake-timeout", "soon"],
        &["serve", "--scheme", "none", "--log", "[=bogus"],
        &["serve", "--key", "a secret"],
        &["connect"],
        &["connect", "nowhere"],
        &["connect", "127.0.0.1:1", "--message"],
        &["connect", "127.0.0.1:1", "--linger", "never"],
        &["keygen", "extra"],
        &["completions"],
        &["completions", "bogus"],
        &["man", "bogus"],
    ] {
        let ran = ran(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.out.is_empty() && !ran.err.is_empty(), "{args:?}: {ran:?}");
    }
}

#[test]
fn help_names_every_option() {
    let program = ran(&["--help"]).exited(0);
    for command in ["serve", "connect", "device", "keygen", "completions", "man"] {
        assert!(program.out.contains(command), "{command}");
    }
    for (command, options) in [
        (
            "serve",
            "listen scheme digest key-file kid keyring name heartbeat service adapter workers \
             max-connections max-frame handshake-timeout device-interval max-devices status log \
             log-format",
        ),
        (
            "connect",
            "scheme digest key-file kid keyring name expect-server adapter message linger max-frame handshake-timeout",
        ),
        (
            "device",
            "app-id imei scheme digest key-file kid keyring name heartbeat answer-timeout count \
             backoff-base backoff-cap",
        ),
        ("keygen", "out"),
    ] {
        let help = ran(&[command, "--help"]).exited(0).out;
        for option in options.split_whitespace() {
            assert!(help.contains(&format!("--{option} ")), "{command} --{option}");
        }
    }
    assert_eq!(
        ran(&["--version"]).exited(0).out,
        concat!("countersign ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = ran(&["completions", shell]).exited(0).out;
        for word in ["countersign", "serve", "connect", "keygen", "handshake-timeout"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_have_their_sections() {
    let page = ran(&["man"]).exited(0).out;
    for text in [".TH countersign 1", ".SH NAME", ".SH SYNOPSIS", "serve", "connect", "keygen"] {
        assert!(page.contains(text), "{text}");
    }
    for command in ["serve", "connect", "device", "keygen"] {
        let page = ran(&["man", command]).exited(0).out;
        assert!(page.contains(&format!(".TH countersign-{command} 1")), "{command}");
        assert!(page.contains(".SH OPTIONS"), "{command}");
    }
    assert!(ran(&["man", "serve"]).exited(0).out.contains("max\\-connections"));
}

#[test]
fn what_is_no_terminal_gets_no_colour() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["bogus"],
        &["connect", "--scheme", "bogus"],
        &["connect", "127.0.0.1:1", "--key-file", "absent"],
        &["connect", "127.0.0.1:1", "--scheme", "none", "--message", "x"],
        &["completions", "fish"],
        &["man"],
    ] {
        let ran = ran(args);
        assert!(!ran.out.contains('\x1b') && !ran.err.contains('\x1b'), "{args:?}: {ran:?}");
    }
}
