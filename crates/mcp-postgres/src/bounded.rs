//! Streams of results with a deadline.

use std::task::Poll;

use futures_util::{
    TryStreamExt,
    stream::{self, BoxStream},
};
use sqlx::{
    Either,
    postgres::{PgQueryResult, PgRow},
};
use tokio::time::{Instant, sleep_until};

use crate::{DatabaseError, error::through_sqlx};

/// An item of a statement's results.
pub(crate) type Step = Either<PgQueryResult, PgRow>;

/// Ends a stream of results at a deadline. `ended` receives the error, if there is one, and may change it.
pub(crate) fn bounded<'e>(
    mut results: BoxStream<'e, Result<Step, sqlx::Error>>,
    end: Instant,
    mut ended: impl FnMut(Option<sqlx::Error>) -> Option<sqlx::Error> + Send + 'e,
) -> BoxStream<'e, Result<Step, sqlx::Error>> {
    let mut timer = Box::pin(sleep_until(end));
    Box::pin(stream::poll_fn(move |context| match results.as_mut().poll_next(context) {
        Poll::Ready(Some(Ok(step))) => Poll::Ready(Some(Ok(step))),
        Poll::Ready(Some(Err(error))) => Poll::Ready(ended(Some(error)).map(Err)),
        Poll::Ready(None) => Poll::Ready(ended(None).map(Err)),
        Poll::Pending => {
            timer.as_mut().poll(context).map(|()| ended(Some(through_sqlx(DatabaseError::TimedOut))).map(Err))
        }
    }))
}

/// Returns the first row. Reads all results, since an error may follow a row.
pub(crate) async fn first_row(
    mut results: BoxStream<'_, Result<Step, sqlx::Error>>,
) -> Result<Option<PgRow>, sqlx::Error> {
    let mut first = None;
    while let Some(step) = results.try_next().await? {
        if let Either::Right(row) = step {
            first.get_or_insert(row);
        }
    }
    Ok(first)
}
