//! A failing list of steps made shorter: steps are left out as long as it still fails.

use std::time::Instant;

/// Leaves out ever fewer steps at a time, until `end` at the latest. `fails` gives how the steps fail, if
/// they do in the way that is looked for.
pub(crate) fn shortest<S: Clone, F>(
    steps: &[S],
    failure: F,
    end: Instant,
    mut fails: impl FnMut(&[S], &F) -> Option<F>,
) -> (Vec<S>, F) {
    let mut shortest = (steps.to_vec(), failure);
    let mut count = shortest.0.len() / 2;
    while count > 0 {
        let mut start = 0;
        let mut has_shrunk = false;
        while start < shortest.0.len() {
            if Instant::now() > end {
                return shortest;
            }
            let mut shorter = shortest.0.clone();
            shorter.drain(start..(start + count).min(shorter.len()));
            match fails(&shorter, &shortest.1) {
                Some(failure) => {
                    shortest = (shorter, failure);
                    has_shrunk = true;
                }
                None => start += count,
            }
        }
        if !has_shrunk || count > 1 {
            count /= 2;
        }
    }
    shortest
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_needed_for_the_failure_stays() {
        let steps: Vec<u32> = (0..50).collect();
        let fails = |steps: &[u32], ()| (steps.contains(&7) && steps.contains(&40)).then_some(());
        let end = Instant::now() + Duration::from_secs(60);
        let (left, ()) = shortest(&steps, (), end, |steps, &failure| fails(steps, failure));
        assert_eq!(left, [7, 40]);
    }
}
