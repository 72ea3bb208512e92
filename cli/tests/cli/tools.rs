//! Other programs that the tests need: Python and OpenSSL.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::skip;

/// Whether `program` exists and runs with `args`. Reports a skip if it does not.
fn is_installed(program: &str, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    let status = command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let installed = status.is_ok_and(|status| status.success());
    if !installed {
        skip(program);
    }
    installed
}

pub(crate) fn has_openssl() -> bool {
    is_installed("openssl", &["version"])
}

pub(crate) fn has_python() -> bool {
    is_installed("python3", &["--version"])
}

/// Minimal installations of Python lack `ssl`.
pub(crate) fn has_python_ssl() -> bool {
    is_installed("python3", &["-c", "import ssl"])
}

/// The path of the Python program `name` in tests/.
pub(crate) fn script_path(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// `python3` with the program `name` in tests/.
pub(crate) fn python_script(name: &str) -> Command {
    let mut command = Command::new("python3");
    // -B: no __pycache__ in the source tree.
    command.arg("-B").arg(script_path(name));
    command
}
