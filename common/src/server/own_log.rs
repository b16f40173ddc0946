//! The daemon's own log, as the loop uses it: the loop never waits for it.

use std::time::{Duration, Instant};

use super::caller::ClientId;
use super::core::Core;
use super::daemon::Answer;
use super::token::Token;
use super::upgrade::Upgrade;
use crate::handover::document::PrivateDaemon;
use crate::logging::{self, Opened};
use crate::rpc::Call;

/// Wait for log files to be opened, while guests wait too.
pub const OPEN_PERIOD: Duration = Duration::from_millis(100);

/// Interval of checks whether the log is written, for an upgrade that waits for it.
const WRITING_PERIOD: Duration = Duration::from_millis(5);

/// Interval of such checks for a log that hangs.
const HANGING_PERIOD: Duration = Duration::from_secs(1);

impl<O> Core<O> {
    /// Continues an admin call whose log files are open.
    pub(super) fn outputs_are_open(
        &mut self,
        asking: ClientId,
        call: Call,
        outputs: Result<Opened, logging::Error>,
    ) {
        self.opened = Some(outputs);
        let answer = self.administer(asking, call);
        if let Answer::Now(result) = answer {
            self.answer(asking, result);
        }
    }

    /// Sets log outputs at once. An output that takes longer than `period` to open is opened on its
    /// first write.
    ///
    /// # Errors
    /// An invalid setting, or an output that cannot be opened.
    pub(super) fn set_log_outputs_within(
        &mut self,
        setting: &str,
        period: Duration,
    ) -> Result<(), logging::Error> {
        let outputs = self.logger.opening(setting)?.open_within(period)?;
        self.use_log_outputs(setting, outputs);
        Ok(())
    }

    /// Sets log outputs that are open already.
    pub(super) fn use_log_outputs(&mut self, setting: &str, outputs: Opened) {
        self.logger.set_outputs(outputs);
        self.overrides.log_outputs = Some(setting.to_owned());
        self.settings_have_changed();
    }

    /// Logs what the predecessor could not: messages that were not written, and what happened while
    /// the outputs were held.
    pub fn log_for_predecessor(&self, from: &PrivateDaemon) {
        if let Some(error) = &from.state_file_error {
            tracing::warn!(
                target: "daemon",
                "Unable to write the state file {} at the upgrade: {error}; the upgrade went on without it",
                self.process_info.state_file.display()
            );
        }
        for (output, messages) in from.unwritten.iter().flatten() {
            tracing::warn!(
                target: "daemon",
                "{messages} messages for the log {output} were lost at the upgrade"
            );
        }
    }

    /// Returns whether all messages are written; schedules another check if not.
    pub(super) fn check_log_written(&mut self) -> bool {
        let is_written = self.logger.is_written();
        if !is_written {
            self.look_again(WRITING_PERIOD);
        }
        is_written
    }

    /// Returns whether an output hangs; schedules another check if so.
    pub(super) fn check_log_hangs(&mut self) -> bool {
        let hangs = self.logger.hanging().is_some();
        if hangs {
            self.look_again(HANGING_PERIOD);
        }
        hangs
    }

    /// Postpones the upgrade until a hanging output answers: an exec ends all other threads first,
    /// and a thread that hangs in the kernel may not end.
    pub(super) fn postpone_for_log(&mut self, output: &str) {
        self.refuse_upgrade(&format_args!(
            "the daemon's own log {output} does not answer; retrying when it does"
        ));
        self.upgrade = Upgrade::Postponed;
    }

    /// Schedules a check of the log. The log does not notify of progress, so a timer does.
    fn look_again(&mut self, period: Duration) {
        if self.looking_again.is_none_or(|timer| timer.due() <= Instant::now()) {
            self.looking_again = Some(self.reactor.set_timer(period, Token::Upgrade));
        }
    }
}
