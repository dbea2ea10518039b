//! The session of one client: its messages are executed one by one on a connection to Postgres.
//!
//! A rejected statement is replaced by one that Postgres cannot parse, and the error of Postgres by that of DSQL. The transaction
//! therefore fails in Postgres too, and the protocol state is that after any error. Simple queries are executed by the extended
//! protocol, so that the emulator can act between the execution of a statement and its commit.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::sleep,
};

use crate::{
    emulator::Shared,
    error_response::ErrorResponse,
    faults::CommitFault,
    policy::{Job, Kind, Statement, classify},
    transaction::{Transaction, until},
    wire::{ClientMessage, Connection, Fields, Frame, WireError, server_message},
};

mod exchange;

use exchange::Reply;

/// Prepared statements and portals of a session (STRICT: DSQL documents no number).
const MAX_PREPARED: usize = 1000;
/// Name of the emulator's own statements and portals.
const OWN: &str = "dsql_emulator";

pub(crate) struct Session<C> {
    client: Connection<C>,
    backend: Connection<TcpStream>,
    shared: Arc<Shared>,
    role: String,
    opened: Instant,
    statements: HashMap<String, Arc<Statement>>,
    /// Portals by name, each with the size of its `Bind` message.
    portals: HashMap<String, (Arc<Statement>, usize)>,
    transaction: Transaction,
    /// A statement was executed since the last synchronization.
    has_executed: bool,
    /// An error was sent, and messages are ignored until the client synchronizes.
    is_skipping: bool,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Session<C> {
    pub(crate) fn new(
        client: Connection<C>,
        backend: Connection<TcpStream>,
        shared: Arc<Shared>,
        role: String,
    ) -> Self {
        Self {
            client,
            backend,
            shared,
            role,
            opened: Instant::now(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            transaction: Transaction::default(),
            has_executed: false,
            is_skipping: false,
        }
    }

    /// Serves the client until it disconnects, or its connection is too old.
    pub(crate) async fn run(mut self) -> Result<(), WireError> {
        while let Some(frame) = self.next().await? {
            match ClientMessage::read(&frame)? {
                ClientMessage::Terminate => break,
                ClientMessage::Sync => self.sync().await?,
                ClientMessage::Flush => self.client.flush().await?,
                _ if self.is_skipping => {}
                ClientMessage::Query(sql) => self.query(sql).await?,
                ClientMessage::Parse(name, sql, types) => self.parse(name, sql, types).await?,
                ClientMessage::Bind { portal, statement } => self.bind(&frame, portal, statement).await?,
                ClientMessage::Describe => self.relay(&frame, b"Tn").await?,
                ClientMessage::Execute(portal) => match self.portals.get(portal).cloned() {
                    Some((statement, bytes)) => self.execute(&frame, &statement, bytes).await?,
                    None => self.relay(&frame, b"CIs").await?,
                },
                ClientMessage::CloseStatement(name) => {
                    self.statements.remove(name);
                    self.relay(&frame, b"3").await?;
                }
                ClientMessage::ClosePortal(name) => {
                    self.portals.remove(name);
                    self.relay(&frame, b"3").await?;
                }
                ClientMessage::Copy => {}
            }
            // A client may send any number of messages before it synchronizes.
            self.client.flush_if_large().await?;
        }
        self.client.close().await;
        Ok(())
    }

    /// Waits for the next message; `None` when the connection is too old.
    async fn next(&mut self) -> Result<Option<Frame>, WireError> {
        loop {
            if let Some(frame) = self.client.next_frame()? {
                return Ok(Some(frame));
            }
            let limits = &self.shared.limits;
            // A transaction may end after the connection's age.
            let deadline = match self.transaction.is_explicit {
                true => self.transaction.ends_at(limits),
                false => Some(self.opened + limits.connection_age),
            };
            let late = deadline.map_or(limits.connection_age, until);
            tokio::select! {
                filled = self.client.fill() => filled?,
                frame = self.backend.read_frame() => {
                    let frame = frame?;
                    self.client.push(&frame.0);
                    self.client.flush().await?;
                    if frame.tag() == b'E' {
                        return Err(WireError::Closed);
                    }
                }
                () = sleep(late) => {
                    if !self.transaction.is_explicit {
                        self.shared.aged.fetch_add(1, Ordering::Relaxed);
                        return Ok(None);
                    }
                    if deadline.is_some() {
                        self.expire().await?;
                    }
                }
            }
        }
    }

    /// Ends a transaction that is too old. The next statement gets the error.
    async fn expire(&mut self) -> Result<(), WireError> {
        self.fail_backend().await?;
        self.backend.encode(|buffer| {
            frontend::sync(buffer);
            Ok(())
        })?;
        self.exchange(b"Z", false).await?;
        self.transaction.expire();
        Ok(())
    }

    /// Executes a simple query by the extended protocol.
    async fn query(&mut self, sql: &str) -> Result<(), WireError> {
        let statement = match self.classify(sql).await {
            Ok(statement) => statement,
            Err(error) => {
                self.reject(&error).await?;
                return self.sync().await;
            }
        };
        if statement.kind == Kind::Empty {
            self.client.push(&server_message(b'I', b""));
            return self.sync().await;
        }
        self.statements.remove("");
        self.portals.remove("");
        self.backend.encode(|buffer| frontend::parse("", &statement.sql, [], buffer))?;
        if self.exchange_or_report(b"1").await?.is_some() {
            self.bind_unnamed("")?;
            if self.exchange_or_report(b"2").await?.is_some() {
                self.backend.encode(|buffer| frontend::describe(b'P', "", buffer))?;
                if let Some(description) = self.exchange_or_report(b"Tn").await? {
                    if description.tag() == b'T' {
                        self.client.push(&description.0);
                    }
                    let mut execute = BytesMut::new();
                    frontend::execute("", 0, &mut execute)?;
                    self.execute(&Frame(execute.freeze()), &statement, sql.len()).await?;
                }
            }
        }
        self.sync().await
    }

    async fn classify(&mut self, sql: &str) -> Result<Statement, ErrorResponse> {
        if let Some(error) = self.transaction.take_expiry(&self.shared.limits) {
            return Err(error);
        }
        let statement = classify(sql)?;
        self.wait_for_jobs(&statement).await;
        Ok(statement)
    }

    /// Waits for asynchronous jobs before `CALL sys.wait_for_job`, and before its transaction begins in Postgres: the snapshot of the
    /// transaction must include their results.
    async fn wait_for_jobs(&self, statement: &Statement) {
        if statement.kind == Kind::WaitForJob {
            self.shared.jobs.wait().await;
        }
    }

    async fn parse(&mut self, name: &str, sql: &str, types: &[u8]) -> Result<(), WireError> {
        if name == OWN {
            return Err(WireError::Malformed);
        }
        let statement = match self.classify(sql).await {
            Ok(_) if self.statements.len() >= MAX_PREPARED => {
                return self.reject(&ErrorResponse::new("54000", "too many prepared statements")).await;
            }
            Ok(statement) => statement,
            Err(error) => return self.reject(&error).await,
        };
        let mut body = [name.as_bytes(), b"\0", statement.sql.as_bytes(), b"\0"].concat();
        body.extend(types);
        self.backend.push(&server_message(b'P', &body));
        if let Some(parsed) = self.exchange_or_report(b"1").await? {
            self.statements.insert(name.to_owned(), Arc::new(statement));
            self.client.push(&parsed.0);
        }
        Ok(())
    }

    async fn bind(&mut self, frame: &Frame, portal: &str, statement: &str) -> Result<(), WireError> {
        if self.portals.len() >= MAX_PREPARED {
            return self.reject(&ErrorResponse::new("54000", "too many portals")).await;
        }
        let statement = self.statements.get(statement).cloned();
        if let Some(statement) = &statement {
            self.wait_for_jobs(statement).await;
        }
        self.backend.push(&frame.0);
        if let Some(bound) = self.exchange_or_report(b"2").await? {
            if let Some(statement) = statement {
                self.portals.insert(portal.to_owned(), (statement, frame.len()));
            }
            self.client.push(&bound.0);
        }
        Ok(())
    }

    /// Executes a portal, with the rules of DSQL and the injected failures.
    async fn execute(&mut self, frame: &Frame, statement: &Statement, bytes: usize) -> Result<(), WireError> {
        let shared = Arc::clone(&self.shared);
        self.has_executed = true;
        if let Some(error) = self.transaction.take_expiry(&shared.limits) {
            return self.reject(&error).await;
        }
        // Postgres rejects everything but the end of a failed transaction.
        if self.transaction.has_failed {
            return self.forward(frame, statement).await;
        }
        if let Err(error) = self.transaction.check(statement, bytes, &shared.limits) {
            return self.reject(&error).await;
        }
        let is_read = statement.kind == Kind::Read;
        let is_change = matches!(statement.kind, Kind::Write | Kind::Ddl | Kind::Job(_));
        if (is_read || is_change)
            && let Some(error) = shared.injector.at_statement()
        {
            return self.reject(&error).await;
        }
        let commits = match self.transaction.is_explicit {
            true => statement.kind == Kind::Commit && self.transaction.writes(),
            false => is_change,
        };
        match shared.injector.at_commit().filter(|_| commits) {
            Some(CommitFault::Before(error)) if self.transaction.is_explicit => self.roll_back(&error).await,
            Some(CommitFault::Before(error)) => self.reject(&error).await,
            Some(CommitFault::After(error)) => self.commit_with_error(frame, statement, &error).await,
            None => match &statement.kind {
                Kind::Job(job) => self.start_job(job).await,
                _ => self.forward(frame, statement).await,
            },
        }
    }

    /// Executes a portal, and checks the number of changed rows before its result is forwarded.
    async fn forward(&mut self, frame: &Frame, statement: &Statement) -> Result<(), WireError> {
        self.backend.push(&frame.0);
        let Some(done) = self.exchange_or_report(b"CIs").await? else { return Ok(()) };
        if done.tag() == b'C' {
            let tag = Fields(done.body()).string()?;
            if let Err(error) = self.transaction.count(statement, tag, &self.shared.limits) {
                return self.reject(&error).await;
            }
            match statement.kind {
                Kind::Begin if !self.transaction.is_explicit => self.transaction.begin(),
                Kind::Commit | Kind::Rollback => self.transaction = Transaction::default(),
                _ => {}
            }
        }
        self.client.push(&done.0);
        Ok(())
    }

    /// Executes a portal that commits, and reports an error instead of its result.
    async fn commit_with_error(
        &mut self,
        frame: &Frame,
        statement: &Statement,
        error: &ErrorResponse,
    ) -> Result<(), WireError> {
        if let Kind::Job(job) = &statement.kind {
            let _ = self.shared.jobs.start(&self.role, job).await;
            return self.reject(error).await;
        }
        self.backend.push(&frame.0);
        match self.exchange(b"CIs", false).await? {
            Reply::Failed(error) => self.report(&error),
            Reply::Done(_) => {
                if statement.kind == Kind::Commit {
                    self.transaction = Transaction::default();
                }
                self.report(&error.encode());
            }
        }
        Ok(())
    }

    /// Rolls back an explicit transaction instead of its commit.
    async fn roll_back(&mut self, error: &ErrorResponse) -> Result<(), WireError> {
        self.backend.encode(|buffer| frontend::parse(OWN, "ROLLBACK", [], buffer))?;
        self.bind_unnamed(OWN)?;
        self.backend.encode(|buffer| frontend::execute(OWN, 0, buffer))?;
        self.backend.encode(|buffer| frontend::close(b'S', OWN, buffer))?;
        self.exchange(b"3", false).await?;
        self.transaction = Transaction::default();
        self.report(&error.encode());
        Ok(())
    }

    /// Starts an asynchronous job, and returns its id.
    async fn start_job(&mut self, job: &Job) -> Result<(), WireError> {
        if self.transaction.is_explicit {
            return self.reject(&ErrorResponse::unsupported("the emulator starts no job in a transaction block")).await;
        }
        let shared = Arc::clone(&self.shared);
        match shared.jobs.start(&self.role, job).await {
            Ok(id) => {
                let length = u32::try_from(id.len()).unwrap_or_default().to_be_bytes();
                self.client.push(&server_message(b'D', &[&[0, 1], &length[..], id.as_bytes()].concat()));
                let tag = format!("{}\0", job.kind.command());
                self.client.push(&server_message(b'C', tag.as_bytes()));
                Ok(())
            }
            Err(error) => {
                self.fail_backend().await?;
                self.report(&error.encode());
                Ok(())
            }
        }
    }

    /// Ends a series of messages: an implicit transaction is committed.
    async fn sync(&mut self) -> Result<(), WireError> {
        self.backend.encode(|buffer| {
            frontend::sync(buffer);
            Ok(())
        })?;
        loop {
            match self.exchange(b"Z", true).await? {
                // The commit of an implicit transaction has failed.
                Reply::Failed(error) => self.client.push(&error),
                Reply::Done(ready) => {
                    if std::mem::take(&mut self.has_executed) && self.shared.injector.at_response() {
                        return Err(WireError::Closed);
                    }
                    match ready.body() {
                        b"I" => {
                            self.transaction = Transaction::default();
                            self.portals.clear();
                        }
                        b"E" => self.transaction.has_failed = true,
                        _ => {}
                    }
                    self.client.push(&ready.0);
                    self.is_skipping = false;
                    return self.client.flush().await;
                }
            }
        }
    }
}
