//! Dates and times of messages.

use crate::message_error::MessageError;
use crate::text::text;

text!(
    /// A local date and time, `YYYY-MM-DD HH:MM:SS`.
    ///
    /// Each number is within its range. The day may not exist in the month (February 31), and the second
    /// may be 60.
    DateTime,
    19,
    |bytes| {
        const SHAPE: &[u8; 19] = b"0000-00-00 00:00:00";
        let shaped = bytes.iter().zip(SHAPE).all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        });
        let number = |at: usize| (bytes[at].wrapping_sub(b'0'), bytes[at + 1].wrapping_sub(b'0'));
        let (month, day) = (number(5), number(8));
        let (hour, minute, second) = (number(11), number(14), number(17));
        shaped
            && ((0, 1)..=(1, 2)).contains(&month)
            && ((0, 1)..=(3, 1)).contains(&day)
            && hour <= (2, 3)
            && minute <= (5, 9)
            && second <= (6, 0)
    }
);
