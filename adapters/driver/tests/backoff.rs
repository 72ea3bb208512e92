//! Delays between attempts to connect.

#![cfg(test)]

use core::time::Duration;

use countersign_driver::Backoff;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn limit_doubles_up_to_the_cap_until_reset() {
    let mut backoff = Backoff::new(SECOND, 7 * SECOND);
    for limit in [1, 2, 4, 7, 7] {
        assert_eq!(backoff.limit(), limit * SECOND);
        assert_eq!(backoff.delay(u64::MAX), limit * SECOND);
    }
    backoff.reset();
    assert_eq!(backoff.limit(), SECOND);
    assert_eq!(backoff.delay(u64::MAX), SECOND);
}

#[test]
fn delays_are_uniform_from_zero_to_the_limit() {
    let draw = |random| Backoff::new(SECOND, SECOND).delay(random);
    assert_eq!(draw(0), Duration::ZERO);
    assert_eq!(draw(u64::MAX / 2), SECOND / 2);
    assert_eq!(draw(u64::MAX / 4 * 3), SECOND / 4 * 3);
    // With a limit of 3 µs, each of 0, 1, 2 and 3 µs has a quarter of the range.
    let few = |random| Backoff::new(3 * SECOND / 1_000_000, SECOND).delay(random).as_micros();
    assert_eq!([0, 1, 2, 3].map(|quarter| few(quarter << 62)), [0, 1, 2, 3]);
    assert_eq!([1, 2, 3].map(|quarter| few((quarter << 62) - 1)), [0, 1, 2]);
}

#[test]
fn extreme_limits_do_not_overflow() {
    let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
    assert_eq!(backoff.delay(u64::MAX), Duration::from_micros(u64::MAX));
    assert_eq!(backoff.limit(), Duration::MAX);
    let mut backoff = Backoff::new(7 * SECOND, SECOND);
    assert_eq!(backoff.limit(), SECOND);
    backoff.delay(0);
    backoff.reset();
    assert_eq!(backoff.limit(), SECOND);
    assert_eq!(Backoff::default(), Backoff::new(SECOND / 2, 60 * SECOND));
}
