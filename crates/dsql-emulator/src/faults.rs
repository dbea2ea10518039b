//! Injection of failures, by seeded random numbers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Faults, error_response::ErrorResponse};

/// Injects failures with configured probabilities, by a seeded random number generator.
#[derive(Debug)]
pub(crate) struct FaultInjector(Mutex<State>);

#[derive(Debug)]
struct State {
    faults: Faults,
    random: fastrand::Rng,
    /// Responses since the failures were set.
    responses: u64,
}

/// Outcome of an injected failure of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CommitFault {
    /// The transaction is rolled back.
    Before(ErrorResponse),
    /// The transaction is committed, and the client gets an error.
    After(ErrorResponse),
}

impl FaultInjector {
    pub(crate) fn new(faults: Faults) -> Self {
        Self(Mutex::new(State::new(faults)))
    }

    pub(crate) fn set(&self, faults: Faults) {
        *self.lock() = State::new(faults);
    }

    /// Returns the failure to inject into the commit of a transaction with writes.
    pub(crate) fn at_commit(&self) -> Option<CommitFault> {
        let State { faults, random, .. } = &mut *self.lock();
        if random.f64() < faults.conflict {
            return Some(CommitFault::Before(marked(ErrorResponse::conflict(), faults)));
        }
        if random.f64() < faults.unavailable {
            let error = ErrorResponse::server_unavailable();
            return Some(if random.bool() { CommitFault::After(error) } else { CommitFault::Before(error) });
        }
        None
    }

    /// Returns the failure to inject into a statement that reads or writes.
    pub(crate) fn at_statement(&self) -> Option<ErrorResponse> {
        let State { faults, random, .. } = &mut *self.lock();
        (random.f64() < faults.schema_change).then(|| marked(ErrorResponse::schema_changed(), faults))
    }

    /// Reports whether the connection is closed in place of the response to a statement.
    pub(crate) fn at_response(&self) -> bool {
        let State { faults, responses, .. } = &mut *self.lock();
        *responses += 1;
        faults.disconnect_at == Some(*responses)
    }

    /// Reports whether a connection with a valid token is denied access.
    pub(crate) fn at_authentication(&self) -> bool {
        let State { faults, .. } = &mut *self.lock();
        let is_denied = faults.denied > 0;
        faults.denied = faults.denied.saturating_sub(1);
        is_denied
    }

    /// Applies [`Faults::marker_as_code`].
    pub(crate) fn mark(&self, error: ErrorResponse) -> ErrorResponse {
        marked(error, &self.lock().faults)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(faults: Faults) -> Self {
        Self { faults, random: fastrand::Rng::with_seed(faults.seed), responses: 0 }
    }
}

fn marked(error: ErrorResponse, faults: &Faults) -> ErrorResponse {
    if faults.marker_as_code { error.with_marker_as_code() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_determines_the_failures_and_probabilities_hold() {
        let faults = Faults { conflict: 0.2, unavailable: 0.1, schema_change: 0.5, seed: 7, ..Faults::default() };
        let draw = |faults| {
            let injector = FaultInjector::new(faults);
            (0..2000).map(|_| (injector.at_commit(), injector.at_statement())).collect::<Vec<_>>()
        };

        let drawn = draw(faults);

        assert_eq!(drawn, draw(faults));
        assert_ne!(drawn, draw(Faults { seed: 8, ..faults }));
        let count = |fault: &CommitFault| drawn.iter().filter(|(own, _)| own.as_ref() == Some(fault)).count();
        let conflicts = count(&CommitFault::Before(ErrorResponse::conflict()));
        let before = count(&CommitFault::Before(ErrorResponse::server_unavailable()));
        let after = count(&CommitFault::After(ErrorResponse::server_unavailable()));
        assert!((300..500).contains(&conflicts) && before > 40 && after > 40, "{conflicts} {before} {after}");
        assert!((900..1100).contains(&drawn.iter().filter(|(_, own)| own.is_some()).count()));
        assert!(draw(Faults::default()).iter().all(|own| *own == (None, None)));
    }
}
