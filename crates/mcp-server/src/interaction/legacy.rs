//! Questions to clients of 2025-11-25, with the features `interactive` and `store`.
//!
//! Such a client gets a question as a request of the server, in an event stream that ends before the response. It posts its answer
//! and resumes the stream by `GET` with `Last-Event-ID` (2025-11-25, `basic/transports`, "Resumability and Redelivery"). No
//! environment waits: the call is sealed into the event id or kept in the store, and the handler runs again when its answers are
//! complete, as in a multi round-trip request.
//!
//! From the bottom up: `seal` (the cipher), `session` (the session id), `tokens` (ids of questions and events), `timed_store`
//! (the store until a deadline), `open_calls` (the bound on open questions, and cancellation), `round` (a call that waits for answers), `questions` ([`LegacyQuestions`]: asking and
//! answering), `resume` (the claim of a round, and its outcome).

mod open_calls;
mod questions;
mod resume;
mod round;
mod seal;
mod session;
#[cfg(test)]
mod tests;
mod timed_store;
mod tokens;

pub use questions::{AskError, LegacyQuestions, NewRound};
pub use resume::Resumption;
pub use round::{AskedRound, Replay, RoundOutcome, StreamEvent};
pub use session::LegacySession;
pub use tokens::{OpenedEvent, OpenedQuestion};
