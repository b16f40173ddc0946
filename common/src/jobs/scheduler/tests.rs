use super::super::job::Returned;
use super::*;
use crate::jobs::slow::QUICK_ROW;

const HERE: StorageId = StorageId::of(1);
const HUNG: StorageId = StorageId::of(2);

fn jobs(list: &[(StorageId, u64)]) -> Jobs<u64> {
    let mut jobs = Jobs::new();
    for &(place, source) in list {
        jobs.submit(place, source, move || source);
    }
    jobs
}

fn run_away(jobs: &mut Jobs<u64>, was_quick: bool) -> Option<u64> {
    let job = jobs.next_away()?;
    let (id, outcome) = (job.id, job.run());
    jobs.returned(Returned { id, outcome, was_quick });
    jobs.take_ended()
}

#[test]
fn what_was_overtaken_makes_its_place_slow_and_no_other() {
    let mut jobs = jobs(&[(HUNG, 1), (HUNG, 2), (HERE, 3), (HUNG, 4)]);
    let hung = jobs.next_here().unwrap();
    jobs.thread_changed();
    assert_eq!(jobs.next_here().map(|job| job.source), Some(3));
    jobs.ended_here(3);
    assert!(jobs.next_here().is_none() && jobs.next_away().is_none());
    let late: Vec<_> = std::iter::from_fn(|| jobs.take_late()).collect();
    assert_eq!((late, jobs.in_flight().count()), (vec![1, 2, 4], 3));
    jobs.returned(Returned { id: hung.id, outcome: 1, was_quick: false });
    assert_eq!((jobs.take_ended(), jobs.take_ended()), (Some(3), Some(1)));
    assert_eq!(run_away(&mut jobs, false), Some(2), "one at a time, in order");
    assert_eq!(run_away(&mut jobs, false), Some(4));
    assert!(jobs.are_over());
}

#[test]
fn whoever_waits_is_not_behind_all_for_which_nobody_does() {
    let mut jobs: Jobs<u64> = Jobs::new();
    (10..14).for_each(|number| jobs.submit_unhurried(HERE, number, move || number));
    (0..2).for_each(|number| jobs.submit(HERE, number, move || number));
    let order = std::iter::from_fn(|| {
        let job = jobs.next_here()?;
        jobs.ended_here(job.source);
        jobs.take_ended()
    });
    assert_eq!(order.collect::<Vec<_>>(), [10, 0, 11, 1, 12, 13]);
}

#[test]
fn a_place_is_quick_again_after_enough_quick_jobs() {
    let mut jobs = jobs(&[(HUNG, 0)]);
    let hung = jobs.next_here().unwrap();
    jobs.thread_changed();
    jobs.returned(Returned { id: hung.id, outcome: 0, was_quick: false });
    for source in 0..QUICK_ROW.into() {
        jobs.submit(HUNG, source, move || source);
        assert!(jobs.next_here().is_none());
        run_away(&mut jobs, true).unwrap();
    }
    jobs.submit(HUNG, 9, || 9);
    assert!(jobs.next_here().is_some());
}

#[test]
fn however_many_places_hang_a_thread_is_left_for_the_loop() {
    let mut jobs: Jobs<u64> = Jobs::new();
    let hanging = (0..THREADS_MAX as u64).filter(|&number| {
        jobs.submit(StorageId::of(number), number, move || number);
        let begun = jobs.next_here().is_some();
        jobs.thread_changed();
        begun
    });
    assert_eq!(hanging.count(), THREADS_MAX - 1);
    assert_eq!(jobs.in_flight().count(), THREADS_MAX);
}
