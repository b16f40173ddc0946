//! `std::sync` and `std::thread` as the models have them: [shuttle](https://docs.rs/shuttle) decides
//! which thread goes on at each of their calls.

pub mod sync;
pub mod thread;

use std::env;
use std::time::Instant;

use shuttle::rand::{Rng, thread_rng};

/// Switches between threads in a schedule that has few of them.
const SWITCHES: usize = 3;

/// Checks a model under many schedules: half of them switch at random, half at few places. One that
/// fails is shown with its seed.
pub fn check(name: &str, schedules: usize, model: fn()) {
    let given = env::var("MODEL_SCHEDULES").ok();
    let schedules =
        given.map_or(schedules, |text| text.parse().expect("MODEL_SCHEDULES: a number"));
    let begin = Instant::now();
    shuttle::check_random(model, schedules / 2);
    shuttle::check_pct(model, schedules / 2, SWITCHES);
    println!("model {name}: {schedules} schedules in {:.0?}", begin.elapsed());
}

/// Decides by the schedule's seed: true once in `times`.
pub fn chance(times: u32) -> bool {
    thread_rng().gen_ratio(1, times)
}
