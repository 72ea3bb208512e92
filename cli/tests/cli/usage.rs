//! Help, usage errors, completions and manual pages.

use crate::common::{TempDir, countersign};
use crate::process::{Output, run};

fn countersign_with(args: &[&str]) -> Output {
    run(countersign(&TempDir::new()).args(args), b"")
}

#[test]
fn command_line_mistakes_are_usage_errors() {
    for args in [
        &[][..],
        &["bogus"],
        &["serve", "--bogus"],
        &["serve", "extra"],
        &["serve", "--listen", "8000"],
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
        &["connect", "unix:absent", "--message"],
        &["connect", "unix:absent", "--linger", "never"],
        &["keygen", "extra"],
        &["completions"],
        &["completions", "bogus"],
        &["man", "bogus"],
    ] {
        let output = countersign_with(args);
        assert_eq!(output.code, Some(2), "{args:?}: {output:?}");
        assert!(output.out.is_empty() && !output.err.is_empty(), "{args:?}: {output:?}");
    }
}

#[test]
fn help_lists_every_option() {
    let program = countersign_with(&["--help"]).expect_code(0);
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
        let help = countersign_with(&[command, "--help"]).expect_code(0).out;
        for option in options.split_whitespace() {
            assert!(help.contains(&format!("--{option} ")), "{command} --{option}");
        }
    }
    assert_eq!(
        countersign_with(&["--version"]).expect_code(0).out,
        concat!("countersign ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn completions_contain_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = countersign_with(&["completions", shell]).expect_code(0).out;
        for word in ["countersign", "serve", "connect", "keygen", "handshake-timeout"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn manual_pages_have_their_sections() {
    let page = countersign_with(&["man"]).expect_code(0).out;
    for text in [".TH countersign 1", ".SH NAME", ".SH SYNOPSIS", "serve", "connect", "keygen"] {
        assert!(page.contains(text), "{text}");
    }
    for command in ["serve", "connect", "device", "keygen"] {
        let page = countersign_with(&["man", command]).expect_code(0).out;
        assert!(page.contains(&format!(".TH countersign-{command} 1")), "{command}");
        assert!(page.contains(".SH OPTIONS"), "{command}");
    }
    assert!(countersign_with(&["man", "serve"]).expect_code(0).out.contains("max\\-connections"));
}

#[test]
fn output_to_a_pipe_has_no_colour() {
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["bogus"],
        &["connect", "--scheme", "bogus"],
        &["connect", "unix:absent", "--key-file", "absent"],
        &["connect", "unix:absent", "--scheme", "none", "--message", "x"],
        &["completions", "fish"],
        &["man"],
    ] {
        let output = countersign_with(args);
        assert!(
            !output.out.contains('\x1b') && !output.err.contains('\x1b'),
            "{args:?}: {output:?}"
        );
    }
}
