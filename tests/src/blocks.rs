//! Blocks that stand-in guests write, and the judge of a trace of them.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Number of the first block of the host that comes second.
pub const SECOND_HOST: u64 = 1 << 40;

/// A block with its number and the time at which it was about to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Number; those of the second host are from [`SECOND_HOST`] on.
    pub number: u64,
    /// Time in milliseconds since boot.
    pub boot_ms: u64,
}

impl Block {
    /// Bytes of a block.
    pub const BYTES: usize = 16;

    /// A block that is written now.
    pub fn now(number: u64) -> Self {
        Self { number, boot_ms: boot_time_ms() }
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.number.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.boot_ms.to_ne_bytes());
        bytes
    }

    /// The block with these bytes.
    ///
    /// # Panics
    /// When there are fewer.
    pub fn parse(bytes: &[u8]) -> Self {
        let number =
            |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self { number: number(0), boot_ms: number(8) }
    }
}

/// Milliseconds since boot, suspended time included.
pub fn boot_time_ms() -> u64 {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).expect("a clock"));
    u64::try_from(time.as_millis()).expect("a short time")
}

/// Returns by how much the first host's last block was early, in milliseconds, or what is wrong: a block
/// of it behind one of the second host, or a block after its lease has run out at `end_ms`.
pub fn judge(trace: &[u8], end_ms: u64) -> Result<u64, String> {
    let blocks: Vec<Block> = trace.chunks_exact(Block::BYTES).map(Block::parse).collect();
    let second = blocks.iter().position(|block| block.number >= SECOND_HOST);
    let Some(second) = second else { return Err("the second host has written nothing".into()) };
    if let Some(late) = blocks[second..].iter().find(|block| block.number < SECOND_HOST) {
        return Err(format!("{late:?} is behind {:?}", blocks[second]));
    }
    match blocks[..second].iter().map(|block| block.boot_ms).max() {
        None => Err("the first host has written nothing".into()),
        Some(last) => {
            end_ms.checked_sub(last).ok_or_else(|| format!("a block {} ms late", last - end_ms))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(blocks: &[(u64, u64)]) -> Vec<u8> {
        let blocks = blocks.iter().map(|&(number, boot_ms)| Block { number, boot_ms });
        blocks.flat_map(Block::bytes).collect()
    }

    #[test]
    fn a_trace_is_judged() {
        assert_eq!(judge(&trace(&[(0, 10), (1, 12), (SECOND_HOST, 30)]), 20), Ok(8));
        let overlap = trace(&[(0, 10), (SECOND_HOST, 15), (1, 12)]);
        assert!(judge(&overlap, 20).unwrap_err().contains("is behind"));
        assert_eq!(
            judge(&trace(&[(0, 25), (SECOND_HOST, 30)]), 20),
            Err("a block 5 ms late".into())
        );
        assert!(judge(&trace(&[(0, 25)]), 20).is_err());
        assert!(judge(&trace(&[(SECOND_HOST, 25)]), 20).is_err());
    }
}
