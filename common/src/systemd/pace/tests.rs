use super::*;

const STEP: Duration = Duration::from_millis(3);
const BURST: u32 = 5;

/// Counts steps until none is due.
fn steps(pace: &mut Pace, now: Instant) -> u32 {
    let mut count = 0;
    while pace.is_due(now) {
        pace.step(now);
        count += 1;
    }
    count
}

#[test]
fn after_a_burst_there_is_a_pace() {
    let (mut pace, begin) = (Pace::new(BURST, STEP), Instant::now());
    assert_eq!(steps(&mut pace, begin), BURST);
    assert_eq!(steps(&mut pace, begin + STEP * 3), 3);
    assert_eq!(steps(&mut pace, begin + STEP * BURST * 100), BURST);
}
