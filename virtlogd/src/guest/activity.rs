//! Activity of a log since this process has it, for who looks into the daemon.

use crate::rotating_file::Growth;

const MINUTE_MS: u64 = 60_000;

/// Activity of a log.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    size_bytes: u64,
    rotations: u32,
    /// Number of the minute in which it was last written.
    minute: u32,
    /// Bytes written in that minute, and in the one before; 4 GiB at most, as there are thousands of
    /// logs.
    written: [u32; 2],
}

impl Activity {
    /// Notes the size of the file, and its growth until now.
    pub(crate) fn note(&mut self, size_bytes: u64, growth: Growth, now_ms: u64) {
        let minute = u32::try_from(now_ms / MINUTE_MS).unwrap_or(u32::MAX);
        let [this, before] = self.written_by(minute);
        self.written = [this.saturating_add(growth.bytes), before];
        self.minute = minute;
        self.size_bytes = size_bytes;
        self.rotations = self.rotations.saturating_add(growth.rotations);
    }

    /// Returns the size of the file when it was last written.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Returns the number of rotations.
    pub(crate) fn rotations(&self) -> u32 {
        self.rotations
    }

    /// Returns about how many bytes were written in the last 60 s: those of this minute, and a share
    /// of those of the minute before.
    pub(crate) fn last_minute_bytes(&self, now_ms: u64) -> u64 {
        let minute = u32::try_from(now_ms / MINUTE_MS).unwrap_or(u32::MAX);
        let [this, before] = self.written_by(minute);
        let left_ms = MINUTE_MS - now_ms % MINUTE_MS;
        u64::from(this) + u64::from(before) * left_ms / MINUTE_MS
    }

    fn written_by(&self, minute: u32) -> [u32; 2] {
        let [this, before] = self.written;
        match minute.saturating_sub(self.minute) {
            0 => [this, before],
            1 => [0, this],
            _ => [0, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn growth(bytes: u32) -> Growth {
        Growth { bytes, rotations: 1 }
    }

    #[test]
    fn the_last_minute_slides() {
        let mut activity = Activity::default();
        activity.note(100, growth(100), 5 * MINUTE_MS);
        activity.note(150, growth(50), 5 * MINUTE_MS + 59_999);
        assert_eq!(activity.last_minute_bytes(5 * MINUTE_MS + 59_999), 150);
        assert_eq!(activity.last_minute_bytes(6 * MINUTE_MS), 150);
        assert_eq!(activity.last_minute_bytes(6 * MINUTE_MS + 30_000), 75);
        activity.note(10, growth(10), 6 * MINUTE_MS + 30_000);
        assert_eq!(activity.last_minute_bytes(6 * MINUTE_MS + 30_000), 85);
        assert_eq!(activity.last_minute_bytes(7 * MINUTE_MS), 10);
        assert_eq!(activity.last_minute_bytes(8 * MINUTE_MS), 0);
        assert_eq!((activity.size_bytes(), activity.rotations()), (10, 3));
    }
}
