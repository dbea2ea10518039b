//! Repeated rejections: in each minute, the first log events are written. Further ones are counted, and written as one log event.
//!
//! A flood of 10,000 rejected requests then writes less than 1 MB. The log event of a count has the value that each rejection has for a
//! metric: the embedded metric format takes several values of one metric. What is lost are the other fields, such as the request id.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tracing::{
    Event, Metadata,
    field::{Field, Visit},
};

use super::{COUNTER, DIMENSION, HISTOGRAM};

/// The name of the log event of a rejected request. Events of other names are always written.
pub(crate) const REJECTION: &str = "mcp_lambda.rejection";
/// The message of the log event of a count.
pub(super) const MESSAGE: &str = "further rejections were counted";
/// Time after which rejections are written again.
const WINDOW: Duration = Duration::from_secs(60);
/// Rejections that are written in a window: of one kind, and of all kinds.
struct Limits {
    of_kind: u32,
    of_all: u32,
}

const ANONYMOUS: Limits = Limits { of_kind: 10, of_all: 40 };
/// Separate, so that anonymous callers cannot hide the rejections of authenticated ones.
const AUTHENTICATED: Limits = Limits { of_kind: 100, of_all: 400 };
/// Kinds in a window, which bounds the memory. Rejections of further kinds are written. Callers cannot create kinds: the values are
/// status codes and registered names.
const MAX_KINDS: usize = 256;
/// CloudWatch's limit for the values of a metric in one log event.
const MAX_VALUES: usize = 100;

/// The rejections of the current window.
#[derive(Default)]
pub(super) struct Repeats(Mutex<Window>);

#[derive(Default)]
struct Window {
    /// Time of the first rejection.
    begin: Option<SystemTime>,
    written_of_anonymous: u32,
    written_of_authenticated: u32,
    kinds: Vec<Kind>,
}

struct Kind {
    written: u32,
    counted: Summary,
}

/// Rejections of one kind that were counted and not written.
#[derive(Clone)]
pub(super) struct Summary {
    pub(super) metadata: &'static Metadata<'static>,
    /// The message of each rejection.
    pub(super) message: String,
    is_authenticated: bool,
    pub(super) status: Option<u64>,
    /// The item or the route, and its field.
    pub(super) target: Option<(Field, String)>,
    pub(super) count: usize,
    /// Names without their prefix, and sums.
    pub(super) counters: Vec<(&'static str, u64)>,
    /// Names without their prefix, and the value of each rejection.
    pub(super) values: Vec<(&'static str, Vec<f64>)>,
    /// Time of the last rejection.
    pub(super) last: SystemTime,
}

impl Repeats {
    /// Returns whether an event is to be written, and the summaries to be written before it.
    pub(super) fn admit(&self, event: &Event<'_>, now: SystemTime) -> (bool, Vec<Summary>) {
        // Not under the lock: a value may log while it is formatted.
        let rejection = (event.metadata().name() == REJECTION).then(|| Rejection::of(event));
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut due = window.end_if_over(now);
        let is_written = rejection.is_none_or(|rejection| window.count(rejection, now, &mut due));
        (is_written, due)
    }

    /// Ends the window. Returns its summaries.
    pub(super) fn take(&self) -> Vec<Summary> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).end()
    }
}

impl Window {
    /// Ends the window if its time is over, or the clock was set back.
    fn end_if_over(&mut self, now: SystemTime) -> Vec<Summary> {
        match self.begin {
            Some(begin) if now.duration_since(begin).map_or(true, |elapsed| elapsed >= WINDOW) => self.end(),
            _ => Vec::new(),
        }
    }

    fn end(&mut self) -> Vec<Summary> {
        let kinds = std::mem::take(self).kinds.into_iter();
        kinds.map(|kind| kind.counted).filter(|counted| counted.count > 0).collect()
    }

    /// Counts a rejection, unless it is to be written. Returns whether it is.
    fn count(&mut self, rejection: Rejection, now: SystemTime, due: &mut Vec<Summary>) -> bool {
        self.begin.get_or_insert(now);
        let index = match self.kinds.iter().position(|kind| rejection.is_of(&kind.counted)) {
            Some(index) => index,
            None if self.kinds.len() == MAX_KINDS => return true,
            None => {
                self.kinds.push(Kind { written: 0, counted: Summary::new(&rejection, now) });
                self.kinds.len() - 1
            }
        };
        let Some(kind) = self.kinds.get_mut(index) else { return true };
        let (limits, written) = match rejection.is_authenticated {
            true => (AUTHENTICATED, &mut self.written_of_authenticated),
            false => (ANONYMOUS, &mut self.written_of_anonymous),
        };
        if kind.written < limits.of_kind && *written < limits.of_all {
            kind.written += 1;
            *written += 1;
            return true;
        }
        kind.counted.add(rejection, now);
        if kind.counted.count == MAX_VALUES {
            due.push(kind.counted.take());
        }
        false
    }
}

impl Summary {
    fn new(rejection: &Rejection, now: SystemTime) -> Self {
        Self {
            metadata: rejection.metadata,
            message: rejection.message.clone(),
            is_authenticated: rejection.is_authenticated,
            status: rejection.status,
            target: rejection.target.clone(),
            count: 0,
            counters: Vec::new(),
            values: Vec::new(),
            last: now,
        }
    }

    fn add(&mut self, rejection: Rejection, now: SystemTime) {
        self.count += 1;
        self.last = now;
        for (name, value) in rejection.counters {
            match self.counters.iter_mut().find(|own| own.0 == name) {
                Some((_, sum)) => *sum += value,
                None => self.counters.push((name, value)),
            }
        }
        for (name, value) in rejection.values {
            match self.values.iter_mut().find(|own| own.0 == name) {
                Some((_, values)) => values.push(value),
                None => self.values.push((name, vec![value])),
            }
        }
    }

    /// Returns the summary, and resets it.
    fn take(&mut self) -> Self {
        let taken = self.clone();
        self.count = 0;
        self.counters.clear();
        self.values.clear();
        taken
    }
}

/// The fields of a rejection that are counted, and those of its kind.
struct Rejection {
    metadata: &'static Metadata<'static>,
    message: String,
    /// The event names the issuer or the subject of a verified token.
    is_authenticated: bool,
    status: Option<u64>,
    target: Option<(Field, String)>,
    counters: Vec<(&'static str, u64)>,
    values: Vec<(&'static str, f64)>,
}

impl Rejection {
    fn of(event: &Event<'_>) -> Self {
        let mut rejection = Self {
            metadata: event.metadata(),
            message: String::new(),
            is_authenticated: false,
            status: None,
            target: None,
            counters: Vec::new(),
            values: Vec::new(),
        };
        event.record(&mut rejection);
        rejection
    }

    fn is_of(&self, kind: &Summary) -> bool {
        self.metadata.callsite() == kind.metadata.callsite()
            && self.is_authenticated == kind.is_authenticated
            && self.status == kind.status
            && self.target == kind.target
    }
}

impl Visit for Rejection {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "status" {
            self.status = Some(value);
        } else if let Some(name) = field.name().strip_prefix(COUNTER) {
            self.counters.push((name, value));
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.record_u64(field, u64::try_from(value).unwrap_or_default());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if let Some(name) = field.name().strip_prefix(HISTOGRAM).filter(|_| value.is_finite()) {
            self.values.push((name, value));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name().starts_with(DIMENSION) || field.name() == "route" {
            self.target = Some((field.clone(), value.to_owned()));
        }
        self.is_authenticated |= matches!(field.name(), "issuer" | "subject");
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tracing::Subscriber;
    use tracing_subscriber::{
        Layer,
        layer::{Context, SubscriberExt},
    };

    use super::*;

    /// The decisions about log events, at a time that a test sets.
    struct Recording {
        repeats: Repeats,
        now: Mutex<SystemTime>,
        written: Mutex<usize>,
        due: Mutex<Vec<Summary>>,
    }

    struct Recorder(Arc<Recording>);

    impl<S: Subscriber> Layer<S> for Recorder {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let (is_written, due) = self.0.repeats.admit(event, *self.0.now.lock().unwrap());
            *self.0.written.lock().unwrap() += usize::from(is_written);
            self.0.due.lock().unwrap().extend(due);
        }
    }

    impl Recording {
        fn run(log: impl FnOnce(&Self)) -> (usize, Vec<Summary>) {
            let own = Arc::new(Self {
                repeats: Repeats::default(),
                now: Mutex::new(SystemTime::UNIX_EPOCH + WINDOW),
                written: Mutex::default(),
                due: Mutex::default(),
            });
            let subscriber = tracing_subscriber::registry().with(Recorder(Arc::clone(&own)));
            tracing::subscriber::with_default(subscriber, || log(&own));
            let written = *own.written.lock().unwrap();
            let due = std::mem::take(&mut *own.due.lock().unwrap());
            (written, due)
        }

        fn wait(&self, time: Duration) {
            *self.now.lock().unwrap() += time;
        }
    }

    fn reject(status: u16) {
        tracing::info!(name: REJECTION, status, monotonic_counter.refused_calls = 1_u64, histogram.duration_ms = 0.5, "rejected");
    }

    #[test]
    fn rejections_of_a_kind_are_written_again_after_a_minute_and_a_summary_comes_first() {
        let (written, due) = Recording::run(|own| {
            (0..15).for_each(|_| reject(401));
            own.wait(WINDOW - Duration::from_millis(1));
            reject(401);
            own.wait(Duration::from_millis(1));
            reject(401);
        });

        assert_eq!((written, due.len()), (11, 1));
        assert_eq!((due[0].count, due[0].status, due[0].message.as_str()), (6, Some(401), "rejected"));
        assert_eq!(due[0].counters, [("refused_calls", 6)]);
        assert_eq!(due[0].values, [("duration_ms", vec![0.5; 6])]);
        assert_eq!(due[0].last, SystemTime::UNIX_EPOCH + 2 * WINDOW - Duration::from_millis(1));
    }

    #[test]
    fn any_event_ends_a_window_that_is_over() {
        let (written, due) = Recording::run(|own| {
            (0..11).for_each(|_| reject(401));
            own.wait(WINDOW);
            tracing::info!(status = 200, "answered");
        });

        assert_eq!((written, due.len(), due[0].count), (11, 1, 1));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_window() {
        let (_, due) = Recording::run(|own| {
            (0..11).for_each(|_| reject(401));
            *own.now.lock().unwrap() = SystemTime::UNIX_EPOCH;
            reject(401);
        });

        assert_eq!(due.len(), 1);
    }

    #[test]
    fn a_kind_is_summarized_as_soon_as_it_has_the_values_of_one_log_event() {
        let (written, due) = Recording::run(|_| (0..1000).for_each(|_| reject(401)));

        let limit = u32::try_from(written).unwrap();
        assert_eq!((limit, due.len()), (ANONYMOUS.of_kind, (1000 - written) / MAX_VALUES));
        assert!(due.iter().all(|own| own.count == MAX_VALUES && own.values[0].1.len() == MAX_VALUES));
    }

    #[test]
    fn kinds_are_written_apart_up_to_a_limit_for_all() {
        let (written, _) = Recording::run(|_| {
            (0..100).for_each(|_| [400, 401].into_iter().for_each(reject));
            (0..100).for_each(
                |_| tracing::info!(name: REJECTION, status = 401, dimension.item = "a", "rejected elsewhere"),
            );
        });
        assert_eq!(written, 3 * usize::try_from(ANONYMOUS.of_kind).unwrap());

        let (written, _) = Recording::run(|_| (0..100).for_each(|_| (400..499).for_each(reject)));
        assert_eq!(written, usize::try_from(ANONYMOUS.of_all).unwrap());
    }

    #[test]
    fn anonymous_callers_cannot_hide_rejections_of_authenticated_ones() {
        let forbid = || tracing::info!(name: REJECTION, status = 401_u16, subject = "s", "rejected");
        let (written, due) = Recording::run(|own| {
            (0..100).for_each(|_| (400..499).for_each(reject));
            (0..101).for_each(|_| forbid());
            own.wait(WINDOW);
            forbid();
        });

        let expected = ANONYMOUS.of_all + AUTHENTICATED.of_kind + 1;
        assert_eq!(written, usize::try_from(expected).unwrap());
        assert_eq!(due.iter().filter(|own| own.is_authenticated).map(|own| own.count).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let kinds = MAX_KINDS + 50;
        let (written, due) = Recording::run(|own| {
            for _ in 0..2 {
                (0..kinds).for_each(
                    |own| tracing::info!(name: REJECTION, status = 401, dimension.item = format!("{own}"), "rejected"),
                );
            }
            own.wait(WINDOW);
            reject(401);
        });

        assert_eq!((due.len(), written), (MAX_KINDS, usize::try_from(ANONYMOUS.of_all).unwrap() + 2 * 50 + 1));
    }

    #[test]
    fn a_count_is_taken_before_its_window_is_over() {
        Recording::run(|own| {
            (0..12).for_each(|_| reject(401));
            let taken = own.repeats.take();
            assert_eq!((taken.len(), taken[0].count), (1, 2));
            assert_eq!(own.repeats.take().len(), 0);
        });
    }

    #[test]
    fn routes_are_kinds() {
        let call = |route: &str| tracing::info!(name: REJECTION, route, status = 404_u16, "a route was called");
        let (_, due) = Recording::run(|own| {
            (0..11).for_each(|_| ["/a", "/b"].into_iter().for_each(call));
            own.wait(WINDOW);
            reject(401);
        });

        let routes: Vec<_> =
            due.iter().map(|own| own.target.as_ref().unwrap()).map(|own| (own.0.name(), &*own.1)).collect();
        assert_eq!(routes, [("route", "/a"), ("route", "/b")]);
    }

    #[test]
    fn other_events_are_always_written() {
        let (written, due) = Recording::run(|_| {
            for _ in 0..100 {
                tracing::info!(status = 404, monotonic_counter.refused_calls = 1, "a handler's own");
                tracing::error!(status = 500, "a fault");
            }
        });

        assert_eq!((written, due.len()), (200, 0));
    }
}
