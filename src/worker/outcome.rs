//! Decides what the end of an attempt means: for the delivery (delivered, tried again, dead), for the
//! record of the attempt, and for what is known of the receiver. Writes nothing.

use std::time::{Duration, Instant};

use plugin_webhooks_core::failure::{Failure, FailureKind};
use plugin_webhooks_core::limiter::Verdict;
use plugin_webhooks_core::retry::{Answer, Schedule, Step};
use plugin_webhooks_core::sender::Outcome;

use super::in_flight::Attempt;
use super::prepare::Unsendable;
use crate::delivery::attempts::AttemptRecord;
use crate::delivery::queue::Settlement;
use crate::pg;
use crate::status::DeliveryStatus;

/// Longest reason that is kept of a delivery that cannot be sent, in characters.
const MAX_REASON: usize = 500;

/// What an attempt that has just ended leads to. `schedule` holds where the installation has none.
pub fn of_attempt(
    attempt: &Attempt,
    outcome: Outcome,
    schedule: &Schedule,
    now: Instant,
) -> (Settlement, AttemptRecord) {
    let failure = outcome.result.as_ref().err();
    let record = AttemptRecord {
        age: now.duration_since(outcome.started),
        duration: outcome.duration,
        status: match &outcome.result {
            Ok(status) => Some(*status),
            Err(failure) => failure.status,
        },
        response: outcome.response,
        ..record(attempt, failure.map(|failure| failure.kind))
    };
    let settlement = match outcome.result {
        Ok(_) => Settlement {
            id: attempt.delivery,
            claim_id: attempt.claim_id,
            status: DeliveryStatus::Delivered,
            failed: false,
            error: None,
            delay: Duration::ZERO,
        },
        Err(failure) => failed(attempt, schedule, failure.answer(), failure.message),
    };
    (settlement, record)
}

/// The same for a delivery that could not be sent.
pub fn of_unsendable(unsendable: &Unsendable, schedule: &Schedule) -> (Settlement, AttemptRecord) {
    let (attempt, refusal) = (&unsendable.attempt, &unsendable.refusal);
    let reason = refusal.reason.chars().take(MAX_REASON).collect();
    let mut settlement = failed(attempt, schedule, Answer::default(), reason);
    if refusal.dead {
        settlement.status = DeliveryStatus::Dead;
    }
    (settlement, record(attempt, Some(refusal.kind)))
}

/// A receiver that answers is healthy, even when it refuses this delivery.
pub fn verdict(outcome: &Outcome) -> Verdict {
    match &outcome.result {
        Ok(_) => Verdict::Answers,
        Err(Failure {
            kind: FailureKind::Status,
            status: Some(status),
            ..
        }) if *status < 500 && *status != 429 => Verdict::Answers,
        Err(failure) => match failure.answer().backoff() {
            Some(backoff) => Verdict::Overloaded(Some(backoff)),
            None => Verdict::Fails,
        },
    }
}

/// The record of an attempt that ended now, without an answer.
fn record(attempt: &Attempt, error: Option<FailureKind>) -> AttemptRecord {
    AttemptRecord {
        delivery: attempt.delivery,
        tenant: attempt.tenant,
        installation: attempt.installation,
        number: attempt.failures.saturating_add(1),
        age: Duration::ZERO,
        duration: Duration::ZERO,
        status: None,
        error,
        response: None,
    }
}

fn failed(attempt: &Attempt, schedule: &Schedule, answer: Answer, error: String) -> Settlement {
    let schedule = attempt.schedule.as_ref().unwrap_or(schedule);
    let step = schedule.after_failure(attempt.failures, answer, chance());
    let (status, delay) = match step {
        Step::Retry { after } => (DeliveryStatus::Pending, after),
        Step::Dead => (DeliveryStatus::Dead, Duration::ZERO),
    };
    Settlement {
        id: attempt.delivery,
        claim_id: attempt.claim_id,
        status,
        failed: true,
        error: Some(error),
        delay,
    }
}

/// A random number from 0 to 1, for jitter.
fn chance() -> f64 {
    (u64::from_ne_bytes(pg::random_bytes()) >> 11) as f64 / (1_u64 << 53) as f64
}
