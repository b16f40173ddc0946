//! Steps of a walk or a sequence as one text.

use std::fmt::Display;
use std::str::FromStr;

/// Returns the steps as one text, which [`parse`] reads.
pub(crate) fn show<S: Display>(steps: &[S]) -> String {
    steps.iter().map(S::to_string).collect::<Vec<_>>().join("; ")
}

/// Returns the steps in a text.
///
/// # Errors
/// Names the first that is no step.
pub(crate) fn parse<S: FromStr>(text: &str) -> Result<Vec<S>, S::Err> {
    text.split(';').filter(|step| !step.trim().is_empty()).map(str::parse).collect()
}
