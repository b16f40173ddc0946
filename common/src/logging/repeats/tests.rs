use tracing::Callsite;
use tracing::callsite::DefaultCallsite;

use super::*;

#[test]
fn a_place_that_complains_without_end_is_heard_now_and_then() {
    static META: tracing::Metadata<'static> = tracing::metadata! {
        name: "test", target: "test", level: tracing::Level::ERROR, fields: &[],
        callsite: &SITE, kind: tracing::metadata::Kind::EVENT,
    };
    static SITE: DefaultCallsite = DefaultCallsite::new(&META);
    let place = || tracing::callsite::Identifier(&SITE as &'static dyn Callsite);
    let (mut repeats, begin) = (Repeats::default(), Instant::now());
    for _ in 1..BURST {
        assert_eq!(repeats.judge(place(), begin), Verdict::Logged { left_out: 0 });
    }
    assert_eq!(repeats.judge(place(), begin), Verdict::Last);
    for _ in 0..7 {
        assert_eq!(repeats.judge(place(), begin), Verdict::LeftOut);
    }
    let later = begin + PERIOD;
    assert_eq!(repeats.judge(place(), later), Verdict::Logged { left_out: 7 });
    assert_eq!(repeats.judge(place(), later), Verdict::LeftOut);
    let much_later = begin + 2 * BURST * PERIOD;
    assert_eq!(repeats.judge(place(), much_later), Verdict::Logged { left_out: 1 });
    assert_eq!(repeats.judge(place(), much_later), Verdict::Logged { left_out: 0 });
}
