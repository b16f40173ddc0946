//! Numbers that are the same for the same seed.

/// A generator (`SplitMix64`); good enough to choose steps with.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    pub(crate) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        assert!(end > 0, "no number is below 0");
        usize::try_from(self.number() % end as u64).expect("it is below a usize")
    }

    /// True so many times out of a hundred.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// One of these.
    pub(crate) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// One of these, each as often as its number says.
    pub(crate) fn weighted<T: Copy>(&mut self, all: &[(T, usize)]) -> T {
        let mut dice = self.below(all.iter().map(|(_, weight)| weight).sum());
        for &(one, weight) in all {
            if dice < weight {
                return one;
            }
            dice -= weight;
        }
        unreachable!("the dice is below the sum of the weights")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_always() {
        let numbers = |seed| {
            let mut random = Random::new(seed);
            [(); 4].map(|()| random.number())
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
    }
}
