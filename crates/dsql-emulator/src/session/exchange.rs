//! Exchanges of a session with Postgres, and errors in place of their replies.

use bytes::BytesMut;
use postgres_protocol::{IsNull, message::frontend};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{OWN, Session};
use crate::{
    refusal::{PostgresError, Refusal},
    wire::{Frame, WireError},
};

/// The end of an exchange with Postgres.
pub(super) enum Reply {
    /// The last message, which was not passed on.
    Done(Frame),
    /// The error, as it is sent to the client.
    Failed(Vec<u8>),
}

impl<C: AsyncRead + AsyncWrite + Unpin> Session<C> {
    /// Passes a message to Postgres, and its reply to the client.
    pub(super) async fn pass(&mut self, frame: &Frame, until: &[u8]) -> Result<(), WireError> {
        self.backend.push(&frame.0);
        if let Some(done) = self.ask(until).await? {
            self.client.push(&done.0);
        }
        Ok(())
    }

    /// Sends what was pushed to Postgres. Returns the last message of the reply; an error was reported.
    pub(super) async fn ask(&mut self, until: &[u8]) -> Result<Option<Frame>, WireError> {
        match self.exchange(until, true).await? {
            Reply::Done(frame) => Ok(Some(frame)),
            Reply::Failed(error) => {
                self.report(&error);
                Ok(None)
            }
        }
    }

    /// Rejects a statement, here and in Postgres.
    pub(super) async fn refuse(&mut self, refusal: &Refusal) -> Result<(), WireError> {
        self.fail_backend().await?;
        self.report(&refusal.encode());
        Ok(())
    }

    /// Fails the transaction in Postgres, by a statement that it cannot parse.
    pub(super) async fn fail_backend(&mut self) -> Result<(), WireError> {
        self.backend.encode(|buffer| frontend::parse(OWN, "!", [], buffer))?;
        self.exchange(b"1", false).await?;
        Ok(())
    }

    /// Sends an error, after which messages are ignored until the client synchronizes.
    pub(super) fn report(&mut self, error: &[u8]) {
        self.client.push(error);
        self.is_skipping = true;
        self.transaction.has_failed = self.transaction.is_explicit;
    }

    pub(super) fn bind_unnamed(&mut self, name: &str) -> Result<(), WireError> {
        let bind = |buffer: &mut BytesMut| {
            frontend::bind(name, name, [], [(); 0], |(), _| Ok(IsNull::Yes), [], buffer)
                .map_err(|_| std::io::Error::other("a statement without parameters cannot be bound"))
        };
        self.backend.encode(bind)
    }

    /// Sends what was pushed to Postgres, and passes messages to the client until one of these tags. A client that disconnects
    /// meanwhile ends the session.
    pub(super) async fn exchange(&mut self, until: &[u8], is_seen: bool) -> Result<Reply, WireError> {
        if until != b"Z" {
            self.backend.encode(|buffer| {
                frontend::flush(buffer);
                Ok(())
            })?;
        }
        self.backend.flush().await?;
        loop {
            let frame = tokio::select! {
                frame = self.backend.read_frame() => frame?,
                filled = self.client.fill(), if self.client.has_room() => {
                    filled?;
                    continue;
                }
            };
            match frame.tag() {
                b'E' => {
                    let error = PostgresError::read(frame.body())?;
                    if error.is_fatal() {
                        self.client.push(&frame.0);
                        self.client.flush().await?;
                        return Err(WireError::Closed);
                    }
                    let translated = error.translate(self.shared.limits.transaction_time);
                    let translated = translated.map(|refusal| self.shared.dice.mark(refusal).encode());
                    return Ok(Reply::Failed(translated.unwrap_or_else(|| frame.0.to_vec())));
                }
                tag if until.contains(&tag) => return Ok(Reply::Done(frame)),
                b'S' | b'N' => self.client.push(&frame.0),
                _ if is_seen => {
                    self.client.push(&frame.0);
                    self.client.relieve().await?;
                }
                _ => {}
            }
        }
    }
}
