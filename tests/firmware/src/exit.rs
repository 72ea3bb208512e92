//! How a program ends: its last line, and its exit code.

use countersign_embedded_io::ConnectionError;

use crate::{semihosting, stack};

/// Exit code of a program that succeeded. Its last line is `done`.
pub const DONE: u32 = 0;
/// Exit code for a wrong command line or a wrong answer. The last line is `wrong WHAT`.
pub const WRONG: u32 = 2;
/// Exit code of a connection that was not established. The last line is `refused REASON`.
pub const REFUSED: u32 = 3;
/// Exit code of an established connection that failed. The last line is `ended REASON`.
pub const ENDED: u32 = 4;
/// Exit code of a panic. The last line is `panic FILE LINE`.
pub const PANIC: u32 = 101;

/// Ends a program that succeeded, after a line with the deepest stack use in bytes.
pub fn done() -> ! {
    semihosting::print("stack");
    semihosting::print_number(stack::max_depth());
    semihosting::end_line("");
    semihosting::end_line("done");
    semihosting::exit(DONE)
}

/// Ends a program whose input, `what`, is wrong.
pub fn wrong(what: &str) -> ! {
    semihosting::print("wrong");
    semihosting::end_line(what);
    semihosting::exit(WRONG)
}

/// Ends a program whose connection was not established.
pub fn refused<E>(error: ConnectionError<E>) -> ! {
    semihosting::print("refused");
    failed(error, REFUSED)
}

/// Ends a program whose established connection failed.
pub fn ended<E>(error: ConnectionError<E>) -> ! {
    semihosting::print("ended");
    failed(error, ENDED)
}

fn failed<E>(error: ConnectionError<E>, code: u32) -> ! {
    semihosting::end_line(match error {
        ConnectionError::Protocol(error) => error.code(),
        ConnectionError::Io(_) => "io",
        ConnectionError::Send(_) => "send",
        ConnectionError::Buffer(_) => "too-long",
        ConnectionError::PeerFinished => "no-reply",
        ConnectionError::TimedOut => "timed-out",
    });
    semihosting::exit(code)
}
