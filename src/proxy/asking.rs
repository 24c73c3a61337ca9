//! A question to the authority whose sender may hang up before the answer. The question goes on without its
//! sender, and a denial is charged to it all the same: hanging up would else be a way around the limit of failures, and
//! one address could keep the authority busy for all. It answers nobody.

use std::sync::Arc;

use crate::{
    limit::failures::Attempt,
    validate::{Question, Verdict},
};

use super::gateway::Gateway;

/// A question that is not answered yet. Dropped, it is followed to its end.
pub(super) struct Asking<'a> {
    gateway: &'a Gateway,
    question: &'a Question,
    /// `None`: no failure of this sender is counted.
    attempt: Option<Attempt<'a>>,
}

impl<'a> Asking<'a> {
    pub(super) fn begin(gateway: &'a Gateway, question: &'a Question, attempt: Option<Attempt<'a>>) -> Self {
        Self { gateway, question, attempt }
    }

    /// Its sender is there to have the answer.
    pub(super) fn ended(mut self) -> Option<Attempt<'a>> {
        self.attempt.take()
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.attempt.take() {
            let (validator, question) = (Arc::clone(&self.gateway.validator), self.question.clone());
            attempt
                .follow(async move { matches!(validator.validate(&question).await, Ok(Verdict::Deny(_))) });
        }
    }
}
