//! What a handler's context knows of its task.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::{
    attempt::Attempt,
    clock::{Clock, millis},
    reservation::Reservation,
};

/// Waits of at most this time are not worth another run.
const SHORT_WAIT: Duration = Duration::from_secs(1);

/// A run of a handler whose call is or may become a task.
pub(crate) struct TaskRun {
    place: Place,
    clock: Clock,
    /// When the waits of this run end, for the next run.
    waits: Mutex<Vec<u64>>,
}

/// Where a handler runs.
enum Place {
    /// In the request, before the task is stored.
    Foreground(Box<Foreground>),
    /// In the background.
    Background(Box<Attempt>),
}

/// A run in the request.
pub(crate) struct Foreground {
    pub(crate) reservation: Reservation,
    /// Whether the call becomes a task at its first step, because the client has the extension.
    pub(crate) ends_at_step: bool,
    /// When the call becomes a task.
    pub(crate) until: Instant,
    pub(crate) status: Mutex<Option<String>>,
}

/// How a handler waits.
pub(crate) enum Wait {
    /// In place, for this time.
    Here(Duration),
    /// By the end of this run.
    Parked,
}

impl TaskRun {
    pub(crate) fn foreground(run: Foreground, clock: Clock) -> Self {
        Self { place: Place::Foreground(Box::new(run)), clock, waits: Mutex::default() }
    }

    pub(crate) fn background(attempt: Attempt, clock: Clock) -> Self {
        Self { place: Place::Background(Box::new(attempt)), clock, waits: Mutex::default() }
    }

    pub(crate) fn id(&self) -> &str {
        match &self.place {
            Place::Foreground(run) => run.reservation.id(),
            Place::Background(attempt) => &attempt.id,
        }
    }

    pub(crate) fn attempt(&self) -> Option<&Attempt> {
        match &self.place {
            Place::Foreground(_) => None,
            Place::Background(attempt) => Some(attempt),
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    /// Returns the place of a run in the request.
    pub(crate) fn reservation(&self) -> Option<&Reservation> {
        match &self.place {
            Place::Foreground(run) => Some(&run.reservation),
            Place::Background(_) => None,
        }
    }

    /// Reports whether a step may run here. In the request, it takes the place of the task: a call that cannot become a task must not
    /// have effects first.
    pub(crate) async fn admit_step(&self) -> bool {
        match &self.place {
            Place::Foreground(run) => !run.ends_at_step && run.reservation.admit_step(self.clock.now()).await,
            Place::Background(_) => true,
        }
    }

    /// Records a step. Returns `false` if this run must not continue.
    pub(crate) async fn record_step(&self, key: &str, value: &RawValue) -> bool {
        match &self.place {
            // It is stored with the task.
            Place::Foreground(_) => true,
            Place::Background(attempt) => attempt.record_step(key, value).await,
        }
    }

    pub(crate) fn set_status(&self, text: String) {
        match &self.place {
            Place::Foreground(run) => *run.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(text),
            Place::Background(attempt) => attempt.set_status(text),
        }
    }

    /// Returns the last status message of a run in the request.
    pub(crate) fn take_status(&self) -> Option<String> {
        match &self.place {
            Place::Foreground(run) => run.status.lock().unwrap_or_else(PoisonError::into_inner).take(),
            Place::Background(_) => None,
        }
    }

    /// Returns the end of a wait that begins now.
    pub(crate) fn wait_end(&self, duration: Duration) -> u64 {
        self.clock.now().saturating_add(millis(duration))
    }

    /// Decides how to wait until a time; `None` if it has passed.
    pub(crate) fn wait_until(&self, end: u64) -> Option<Wait> {
        let left = Duration::from_millis(end.saturating_sub(self.clock.now()));
        if left.is_zero() {
            return None;
        }
        let waits_here = match &self.place {
            Place::Foreground(run) => !run.ends_at_step && Instant::now() + left < run.until,
            Place::Background(_) => left <= SHORT_WAIT,
        };
        if waits_here {
            return Some(Wait::Here(left));
        }
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).push(end);
        Some(Wait::Parked)
    }

    /// Returns when the first wait of this run ends.
    pub(crate) fn first_wait(&self) -> Option<u64> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner).iter().min().copied()
    }
}
