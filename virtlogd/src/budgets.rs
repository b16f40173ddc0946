//! Budgets of directories, which jobs keep beside the loop.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use common::server::{Core, StorageId};

use crate::cleaner::Kept;
use crate::logs::outcome::{JobResult, Outcome};
use crate::logs::timer::Timer;
use crate::rotating_file::rotations;
use crate::rules::DirectoryRule;

/// Time between two looks whether a directory's budget is to be seen to.
const PERIOD: Duration = Duration::from_secs(1);

/// Time after which a directory is looked at although no log was rotated: others write there, too.
const UNROTATED_PERIOD: Duration = Duration::from_secs(10);

/// Times that a directory is left alone for as long as a look at it takes.
const REST_FACTOR: u32 = 10;

/// All budgets.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Vec<DirectoryBudget>);

#[derive(Debug)]
struct DirectoryBudget {
    rule: Arc<DirectoryRule>,
    /// Number of its jobs.
    number: u64,
    begun_at: Option<Instant>,
    is_under_way: bool,
    /// It is not looked at before.
    due: Option<Instant>,
    /// Number of rotations at the last look.
    rotations: u64,
    /// The last look has failed, or was in vain, which was logged.
    is_complained_of: bool,
}

impl Budgets {
    /// Makes those of `rules`, whose jobs have these numbers.
    pub(crate) fn new<O>(
        rules: impl Iterator<Item = (Arc<DirectoryRule>, u64)>,
        core: &mut Core<O>,
    ) -> Self {
        let budgets: Vec<_> =
            rules.map(|(rule, number)| DirectoryBudget::new(rule, number)).collect();
        if !budgets.is_empty() {
            core.set_timer(PERIOD, Timer::Budgets.to_source());
        }
        Self(budgets)
    }

    /// Looks at the directories whose time has come. `open` returns the paths of open logs.
    pub(crate) fn look(&mut self, core: &mut Core<Outcome>, open: impl Fn() -> Vec<PathBuf>) {
        let now = Instant::now();
        for budget in self.0.iter_mut().filter(|budget| budget.is_due(now)) {
            budget.begin(core, now, open());
        }
        core.set_timer(PERIOD, Timer::Budgets.to_source());
    }

    /// Takes the result of a job.
    pub(crate) fn ended(&mut self, number: u64, kept: Result<Kept, String>) {
        if let Some(budget) = self.0.iter_mut().find(|budget| budget.number == number) {
            budget.end(kept, Instant::now());
        }
    }

    /// Describes the job of this number.
    pub(crate) fn describe(&self, number: u64) -> Option<String> {
        let budget = self.0.iter().find(|budget| budget.number == number)?;
        Some(format!("keeping the budget of {}", budget.rule.budget.path.display()))
    }
}

impl DirectoryBudget {
    fn new(rule: Arc<DirectoryRule>, number: u64) -> Self {
        Self {
            rule,
            number,
            begun_at: None,
            is_under_way: false,
            due: None,
            rotations: 0,
            is_complained_of: false,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        let is_rested = self.due.is_none_or(|due| now >= due);
        let is_old = self.begun_at.is_none_or(|at| now.duration_since(at) >= UNROTATED_PERIOD);
        !self.is_under_way && is_rested && (is_old || self.rotations != rotations())
    }

    fn begin(&mut self, core: &mut Core<Outcome>, now: Instant, open: Vec<PathBuf>) {
        (self.begun_at, self.is_under_way, self.rotations) = (Some(now), true, rotations());
        let (rule, number) = (Arc::clone(&self.rule), self.number);
        core.submit(StorageId::alone(&rule.budget.path), number, move || {
            let kept = rule.budget.keep(&open).map_err(|error| error.to_string());
            Outcome(JobResult::Budget(number, kept))
        });
    }

    fn end(&mut self, kept: Result<Kept, String>, now: Instant) {
        self.is_under_way = false;
        let took = self.begun_at.map_or(Duration::ZERO, |begun_at| now.duration_since(begun_at));
        self.due = Some(now + took * REST_FACTOR);
        // Of a directory that cannot be looked at, the last answer counts.
        if let Ok(Kept { is_low, .. }) = &kept {
            self.rule.is_low.store(*is_low, Ordering::Relaxed);
        }
        if kept.as_ref().is_ok_and(|kept| kept.has_more) {
            self.begun_at = None;
        }
        let complaint = match kept {
            Ok(Kept { is_exhausted: true, .. }) => "no older part of a log is left".to_owned(),
            Ok(_) => String::new(),
            Err(error) => error,
        };
        let was_complained_of = self.is_complained_of;
        self.is_complained_of = !complaint.is_empty();
        if self.is_complained_of && !was_complained_of {
            tracing::warn!(
                target: "logging.log_cleaner",
                "Unable to keep the budget of {}: {complaint}", self.rule.budget.path.display()
            );
        }
    }
}
