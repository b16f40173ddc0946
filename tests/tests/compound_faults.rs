//! Both daemons on seeded random walks through faults that come together: see [`tests::walks`].

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use tests::harness::{Subject, can_hang};
use tests::walks::{Course, Equipment, replay, run};

/// One old walk at a time, beside the new ones.
static TURN: Mutex<()> = Mutex::new(());

tests::ours! { Virtlogd:
    virtlogd_loses_no_line_untold,
    what_did_not_fit_under_its_old_name_is_not_swallowed_by_that,
    what_was_stopped_stays_in_the_journal,
    a_store_that_is_emptied_before_its_first_sentinel_is_noticed,
}
tests::ours! { Virtlockd:
    virtlockd_loses_or_doubles_no_lease,
    what_is_stored_under_new_names_is_not_swallowed_by_the_old_ones,
    a_journal_without_a_sentinel_is_not_taken_to_be_in_the_store,
}

/// With a supervisor that has gone the store is not emptied for libvirt's daemon, and all keys are new.
/// When another supervisor is there the old ones have to be removed before the new ones are stored.
const SWALLOWED: &str = "store 512; act start 4006374771; act start 159567009; \
    act start 3743531004; act acquire 2911278624; begin supervisor-gone 2695247832; \
    event stop 2696332213; act die 3407530166; act release 4020720728; act start 2033828403; \
    event stop 111198766; begin store-small 1238425888; event kill-in-upgrade 2422859116; \
    begin fd-limit 4294058122; event libvirt 4140339495; event upgrade 3792810819; \
    act acquire 883124084; end store-small; act acquire 908453421; act contend 1168373781";

/// Without descriptors what a store has lost cannot be stored again at once. Some of it is given up and
/// stored under a new name later, for which the old one has to be removed before.
const GIVEN_UP: &str = "store 512; act open 3538716737; act open 3225399796; act open 859434828; \
    event upgrade 1237849821; event kill-in-upgrade 3677615820; act open 1604418511; \
    event upgrade 2219012219; event kill-in-upgrade 2408720618; act open 3009379196; \
    act append 1840630889; event kill 3187305171; begin append-only 3393506828; \
    act open 1806426464; act open 3799878876; end append-only; act flood 3023655343; \
    act write 567834360; begin supervisor-slow 352620040; begin fd-limit 1145225451; \
    act trickle 1438908706; begin store-emptied 3388550470; act write 1659076708; \
    act flood 1430595487; act flood 874947152; end fd-limit; begin disk-slow 1412586224; \
    begin read-only 4049316282; act read 1302633168; act open 4243042405";

/// A supervisor that has been away is noticed at the stop only, when the journal must not be begun anew:
/// of logs that were stopped already nothing is at hand.
const AWAY_AT_A_STOP: &str = "store 512; act open 3597656967; act open 512834696; act open 723742360; event kill \
    2054328710; event kill 1569208711; act write 984521976; act flood 2781299735; act \
    die 4234499996; act write 3625449684; begin supervisor-gone 248952660; end \
    supervisor-gone; act append 264892330; begin read-only 3250231539; begin io-error \
    3666105915; act flood 1674283456; begin disk-slow 3589726916; event stop 1911590020";

/// The store is emptied behind a process that got nothing but a journal from it, no sentinel to watch.
const EMPTIED: &str = "store 512; act start 734104199; act start 3082935422; act start 3271464093; act die \
    1514610589; act start 1189593299; begin supervisor-slow 438909136; begin disk-hangs \
    2307554514; begin store-emptied 3583526467; act contend 1979500776; event libvirt \
    2527998927; act leave 2668487344; begin supervisor-gone 3062209987; event upgrade \
    821618608; act contend 2486305374; end supervisor-gone; end disk-hangs; act release \
    3643088646; act die 2847075993; act acquire 1587106105; act start 4254443086; event \
    kill-in-upgrade 2715471322; begin store-emptied 3154744536; end supervisor-slow; begin \
    io-error 2166577385; act die 435614138; act release 1520662104; end io-error; act \
    acquire 375070479; begin supervisor-gone 1246957322";

/// The store is emptied between what is sent and the sentinel behind it, when it holds no other.
const BETWEEN: &str = "store 512; act open 353213916; act open 1034482426; act open 1728124027; event libvirt \
    1052036493; event kill-in-upgrade 2452747738; act open 3080584243; event kill-in-upgrade \
    4203424020; begin store-emptied 1075277926; act die 283606631; event libvirt 3900878164; \
    event upgrade 3183998803; act trickle 3783891206; event upgrade 367878136; begin \
    supervisor-gone 3393191022; event kill 2373906592; act die 1807175835; begin fd-limit \
    1103616054; event upgrade 3813253372; act flood 3590838820; act read 2310263149; act write \
    2213464420; act flood 1831870174; act flood 1187149084; act read 2811955896; end \
    supervisor-gone; begin store-emptied 1356240741; begin disk-full 1309838987; begin \
    store-emptied 3408933903; act append 2889311278";

fn virtlogd_loses_no_line_untold(subject: Subject) {
    walk(subject);
}

fn virtlockd_loses_or_doubles_no_lease(subject: Subject) {
    walk(subject);
}

fn what_did_not_fit_under_its_old_name_is_not_swallowed_by_that(subject: Subject) {
    walk_again(subject, GIVEN_UP);
}

fn what_was_stopped_stays_in_the_journal(subject: Subject) {
    (0..3).for_each(|_| walk_again(subject, AWAY_AT_A_STOP));
}

fn what_is_stored_under_new_names_is_not_swallowed_by_the_old_ones(subject: Subject) {
    walk_again(subject, SWALLOWED);
}

fn a_journal_without_a_sentinel_is_not_taken_to_be_in_the_store(subject: Subject) {
    walk_again(subject, EMPTIED);
}

fn a_store_that_is_emptied_before_its_first_sentinel_is_noticed(subject: Subject) {
    (0..2).for_each(|_| walk_again(subject, BETWEEN));
}

fn walk_again(subject: Subject, steps: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if can_hang("a walk through faults that come together") {
        replay(Course::Faults(subject.program), &equipment(subject), steps);
    }
}

fn walk(subject: Subject) {
    if can_hang("walks through faults that come together") {
        run(Course::Faults(subject.program), &equipment(subject));
    }
}

fn equipment(subject: Subject) -> Equipment {
    let daemon = subject.executable().expect("checked before the test");
    Equipment {
        walker: PathBuf::from(env!("CARGO_BIN_EXE_walker")),
        file_system: PathBuf::from(env!("CARGO_BIN_EXE_stoppable_fs")),
        daemons: daemon.parent().expect("a directory").to_path_buf(),
    }
}
