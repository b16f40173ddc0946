//! The daemon's own log, as far as the loop has to do with it: it never waits for that.

use std::time::{Duration, Instant};

use super::caller::ClientId;
use super::core::Core;
use super::daemon::Answer;
use super::token::Token;
use super::upgrade::Upgrade;
use crate::handover::document::PrivateDaemon;
use crate::logging::{self, Opened};
use crate::rpc::Call;

/// How long files of the log may take to be opened while guests wait.
pub const OPEN_PERIOD: Duration = Duration::from_millis(100);

/// How often it is looked whether the log is written, for an upgrade that waits for that.
const WRITING_PERIOD: Duration = Duration::from_millis(5);

/// The same for a log that hangs.
const HANGING_PERIOD: Duration = Duration::from_secs(1);

impl<O> Core<O> {
    /// The log files that an admin call waited for are open.
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

    /// Sets log outputs at once. What takes longer to open than `period` is opened when it is written to.
    ///
    /// # Errors
    /// What is wrong with the setting, or an output that cannot be opened.
    pub(super) fn set_log_outputs_within(
        &mut self,
        setting: &str,
        period: Duration,
    ) -> Result<(), logging::Error> {
        let outputs = self.logger.opening(setting)?.open_within(period)?;
        self.use_log_outputs(setting, outputs);
        Ok(())
    }

    /// Sets log outputs that are open.
    pub(super) fn use_log_outputs(&mut self, setting: &str, outputs: Opened) {
        self.logger.set_outputs(outputs);
        self.overrides.log_outputs = Some(setting.to_owned());
        self.settings_have_changed();
    }

    /// Says what the image before could not write to its log.
    pub fn tell_of_unwritten(&self, from: &PrivateDaemon) {
        for (output, messages) in from.unwritten.iter().flatten() {
            tracing::warn!(
                target: "daemon",
                "{messages} messages for the log {output} were lost at the upgrade"
            );
        }
    }

    /// Looks whether all that was logged is written, and sees to another look if it is not.
    pub(super) fn check_log_written(&mut self) -> bool {
        let is_written = self.logger.is_written();
        if !is_written {
            self.look_again(WRITING_PERIOD);
        }
        is_written
    }

    /// Looks whether an output does not answer, and sees to another look if one does not.
    pub(super) fn check_log_hangs(&mut self) -> bool {
        let hangs = self.logger.hanging().is_some();
        if hangs {
            self.look_again(HANGING_PERIOD);
        }
        hangs
    }

    /// An exec ends all other threads first, and one that hangs in the kernel may not end: while an output
    /// does not answer an upgrade waits for that.
    pub(super) fn postpone_for_log(&mut self, output: &str) {
        self.refuse_upgrade(&format_args!(
            "the daemon's own log {output} does not answer; to be tried again then"
        ));
        self.upgrade = Upgrade::Postponed;
    }

    /// The log says nothing when it has got on, so it is looked at again in the turn that a timer makes.
    fn look_again(&mut self, period: Duration) {
        if self.looking_again.is_none_or(|timer| timer.due() <= Instant::now()) {
            self.looking_again = Some(self.reactor.set_timer(period, Token::Upgrade));
        }
    }
}
