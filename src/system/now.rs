//! The system clock, and the precision of this process's sleeps. Apart from `wait`, so that a module that only needs the time
//! does not depend on how a collector waits.

use std::time::{SystemTime, UNIX_EPOCH};

/// The system clock in microseconds since the Unix epoch; 0 if the clock is set to an earlier date.
pub fn wall_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// Sets this process's timer slack to its minimum, for precise sleeps. Linux's default is 50 µs: see PR_SET_TIMERSLACK in
/// prctl(2). On systems without this file nothing changes.
pub fn sharpen_sleeps() {
    let _ = std::fs::write("/proc/self/timerslack_ns", "1");
}
