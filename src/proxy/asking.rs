//! A question to the authority whose sender may hang up before the answer. The question goes on without its
//! sender, and a denial is charged to it all the same: hanging up would else be a way around the limit of failures, and
//! one address could keep the authority busy for all. It answers nobody.

use std::sync::Arc;

use crate::validate::{Question, Verdict};

use super::gateway::Gateway;

/// A question that is not answered yet. Dropped, it is followed to its end.
pub(super) struct Asking<'a> {
    gateway: &'a Gateway,
    question: &'a Question,
    is_open: bool,
}

impl<'a> Asking<'a> {
    pub(super) fn begin(gateway: &'a Gateway, question: &'a Question) -> Self {
        Self { gateway, question, is_open: true }
    }

    /// Its sender has the answer.
    pub(super) fn ended(mut self) {
        self.is_open = false;
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.is_open {
            let (validator, question) = (Arc::clone(&self.gateway.validator), self.question.clone());
            self.gateway.failures.follow(self.question.client, async move {
                matches!(validator.validate(&question).await, Ok(Verdict::Deny(_)))
            });
        }
    }
}
