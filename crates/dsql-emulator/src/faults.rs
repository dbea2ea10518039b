//! Injected failures, by seeded random numbers.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Faults, refusal::Refusal};

/// The failures that are injected, and their random numbers.
#[derive(Debug)]
pub(crate) struct Dice(Mutex<State>);

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
    Before(Refusal),
    /// The transaction is committed, and the client gets an error.
    After(Refusal),
}

impl Dice {
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
            return Some(CommitFault::Before(marked(Refusal::conflict(), faults)));
        }
        if random.f64() < faults.unavailable {
            let refusal = Refusal::server_unavailable();
            return Some(if random.bool() { CommitFault::After(refusal) } else { CommitFault::Before(refusal) });
        }
        None
    }

    /// Returns the failure to inject into a statement that reads or writes.
    pub(crate) fn at_statement(&self) -> Option<Refusal> {
        let State { faults, random, .. } = &mut *self.lock();
        (random.f64() < faults.schema_change).then(|| marked(Refusal::schema_changed(), faults))
    }

    /// Reports whether the connection is closed in place of the response to a statement.
    pub(crate) fn at_response(&self) -> bool {
        let State { faults, responses, .. } = &mut *self.lock();
        *responses += 1;
        faults.disconnect_at == Some(*responses)
    }

    /// Applies [`Faults::marker_as_code`].
    pub(crate) fn mark(&self, refusal: Refusal) -> Refusal {
        marked(refusal, &self.lock().faults)
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

fn marked(refusal: Refusal, faults: &Faults) -> Refusal {
    if faults.marker_as_code { refusal.with_marker_as_code() } else { refusal }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_failures_and_probabilities_hold() {
        let faults = Faults { conflict: 0.2, unavailable: 0.1, schema_change: 0.5, seed: 7, ..Faults::default() };
        let draw = |faults| {
            let dice = Dice::new(faults);
            (0..2000).map(|_| (dice.at_commit(), dice.at_statement())).collect::<Vec<_>>()
        };

        let drawn = draw(faults);

        assert_eq!(drawn, draw(faults));
        assert_ne!(drawn, draw(Faults { seed: 8, ..faults }));
        let count = |fault: &CommitFault| drawn.iter().filter(|(own, _)| own.as_ref() == Some(fault)).count();
        let conflicts = count(&CommitFault::Before(Refusal::conflict()));
        let before = count(&CommitFault::Before(Refusal::server_unavailable()));
        let after = count(&CommitFault::After(Refusal::server_unavailable()));
        assert!((300..500).contains(&conflicts) && before > 40 && after > 40, "{conflicts} {before} {after}");
        assert!((900..1100).contains(&drawn.iter().filter(|(_, own)| own.is_some()).count()));
        assert!(draw(Faults::default()).iter().all(|own| *own == (None, None)));
    }
}
