//! Minimal Runtime API with low overhead: blocking sockets, no threads.

use std::{
    collections::{HashMap, VecDeque},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsFd,
    time::{Duration, Instant, UNIX_EPOCH},
};

use anyhow::{Context, bail, ensure};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

/// Timeout for the next request of a function.
const TIMEOUT_MS: u16 = 60_000;

/// epoll data of the listener; connections have their index.
const LISTENER: u64 = u64::MAX;

/// Success status in JSON without and with spaces.
const STATUS_OK: [&str; 2] = [r#""statusCode":200"#, r#""statusCode": 200"#];

pub(crate) struct RuntimeApi {
    listener: TcpListener,
    epoll: Epoll,
    /// `None` after the function has closed the connection.
    connections: Vec<Option<TcpStream>>,
    /// Readable sockets of the last epoll call.
    readable: VecDeque<u64>,
    /// Connections on which the function waits for an invocation.
    pollers: VecDeque<usize>,
    /// Start times of active invocations by id.
    active: HashMap<u64, Instant>,
    last_id: u64,
    buffer: Vec<u8>,
}

/// Request of the function.
enum Request {
    Next,
    Response { connection: usize, took: Duration, text: String },
}

impl RuntimeApi {
    pub(crate) fn bind() -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Self {
            listener,
            epoll,
            connections: Vec::new(),
            readable: VecDeque::new(),
            pollers: VecDeque::new(),
            active: HashMap::new(),
            // Functions deduplicate by request id, so ids must be unique across processes.
            last_id: u64::try_from(UNIX_EPOCH.elapsed()?.as_nanos())?,
            buffer: vec![0; 1 << 16],
        })
    }

    pub(crate) fn address(&self) -> anyhow::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    /// Waits until the function requests an invocation.
    pub(crate) fn wait_for_next(&mut self) -> anyhow::Result<()> {
        while self.pollers.is_empty() {
            let Request::Next = self.read_request()? else {
                bail!("the function sent a response without an invocation")
            };
        }
        Ok(())
    }

    /// Dispatches all events, at most `at_once` concurrently, and waits for the responses. Each must be a success that
    /// contains `expected`. Returns the durations in the order of completion.
    pub(crate) fn call<'e>(
        &mut self,
        events: impl Iterator<Item = &'e str>,
        at_once: usize,
        expected: &str,
    ) -> anyhow::Result<Vec<Duration>> {
        let mut events = events.peekable();
        let mut times = Vec::new();
        while events.peek().is_some() || !self.active.is_empty() {
            let is_free = self.active.len() < at_once && events.peek().is_some();
            if is_free && let Some(connection) = self.pollers.pop_front() {
                self.dispatch(connection, events.next().unwrap_or_default())?;
                continue;
            }
            if let Request::Response { connection, took, text } = self.read_request()? {
                // A function that fails quickly would appear fast.
                let is_success = STATUS_OK.iter().any(|ok| text.contains(ok));
                ensure!(is_success && text.contains(expected), "expected a success with `{expected}`, got {text}");
                self.write(connection, b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")?;
                times.push(took);
            }
        }
        Ok(times)
    }

    fn dispatch(&mut self, connection: usize, event: &str) -> anyhow::Result<()> {
        self.last_id += 1;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
             lambda-runtime-aws-request-id: 00000000-0000-0000-{:04x}-{:012x}\r\nlambda-runtime-deadline-ms: 99999999999999\r\n\
             lambda-runtime-trace-id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0\r\n\
             lambda-runtime-invoked-function-arn: arn:aws:lambda:eu-west-1:123456789012:function:bench\r\n\
             content-length: {}\r\n\r\n",
            self.last_id >> 48,
            self.last_id & 0xffff_ffff_ffff,
            event.len()
        );
        let response = [head.as_bytes(), event.as_bytes()].concat();
        self.active.insert(self.last_id, Instant::now());
        self.write(connection, &response)
    }

    fn write(&mut self, connection: usize, bytes: &[u8]) -> anyhow::Result<()> {
        let connection = self.connections[connection].as_mut().context("the function has closed its connection")?;
        Ok(connection.write_all(bytes)?)
    }

    /// Reads one complete request from any connection. Blocks until a socket is readable, since the function needs the
    /// core.
    fn read_request(&mut self) -> anyhow::Result<Request> {
        loop {
            let Some(next) = self.readable.pop_front() else {
                self.wait()?;
                continue;
            };
            if next == LISTENER {
                let (connection, _) = self.listener.accept()?;
                connection.set_nodelay(true)?;
                self.epoll
                    .add(connection.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, self.connections.len() as u64))?;
                self.connections.push(Some(connection));
            } else if let index = usize::try_from(next)?
                && let Some((text, end)) = self.read_from(index)?
                && let Some(request) = self.parse(index, text, end)?
            {
                return Ok(request);
            }
        }
    }

    fn wait(&mut self) -> anyhow::Result<()> {
        let mut events = [EpollEvent::empty(); 128];
        let ready = self.epoll.wait(&mut events, TIMEOUT_MS)?;
        ensure!(ready > 0, "the function sent no request for {TIMEOUT_MS} ms");
        self.readable.extend(events[..ready].iter().map(EpollEvent::data));
        Ok(())
    }

    /// Reads a complete request and the time of its end; `None` if the function closed the connection, as clients do
    /// with unneeded connections.
    fn read_from(&mut self, index: usize) -> anyhow::Result<Option<(String, Instant)>> {
        let mut filled = 0;
        loop {
            let connection = self.connections[index].as_mut().context("the connection is closed")?;
            let read = connection.read(&mut self.buffer[filled..])?;
            let end = Instant::now();
            if read == 0 {
                self.connections[index] = None;
                let is_there = self.connections.iter().any(Option::is_some);
                ensure!(filled == 0 && !self.pollers.contains(&index) && is_there, "the function has exited");
                return Ok(None);
            }
            filled += read;
            let bytes = &self.buffer[..filled];
            if let Some(head_end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..head_end]).to_ascii_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
                let is_whole = match length {
                    Some(length) => filled >= head_end + 4 + length,
                    None => !head.contains("transfer-encoding: chunked") || bytes.ends_with(b"0\r\n\r\n"),
                };
                if is_whole {
                    return Ok(Some((String::from_utf8_lossy(bytes).into_owned(), end)));
                }
            }
            if filled == self.buffer.len() {
                self.buffer.resize(2 * filled, 0);
            }
        }
    }

    /// Parses a request. A function that needs SIGTERM before shutdown also registers as an extension and waits for
    /// events, which are never sent.
    fn parse(&mut self, connection: usize, text: String, end: Instant) -> anyhow::Result<Option<Request>> {
        let path = text.lines().next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let words: Vec<&str> = path.rsplitn(3, '/').collect();
        match words[..] {
            ["next", "invocation", _] => {
                self.pollers.push_back(connection);
                Ok(Some(Request::Next))
            }
            ["response", id, _] => {
                let began = u64::from_str_radix(&id.replace('-', ""), 16).ok().and_then(|id| self.active.remove(&id));
                let took = end.duration_since(began.context("a response has an unknown invocation id")?);
                Ok(Some(Request::Response { connection, took, text }))
            }
            ["register", "extension", _] => {
                let function = r#"{"functionName":"bench","functionVersion":"$LATEST","handler":"bootstrap"}"#;
                let head = "HTTP/1.1 200 OK\r\nlambda-extension-identifier: bench\r\n";
                self.write(
                    connection,
                    format!("{head}content-length: {}\r\n\r\n{function}", function.len()).as_bytes(),
                )?;
                Ok(None)
            }
            ["next", "event", _] => Ok(None),
            _ => bail!("expected a request of the Runtime API, got {text}"),
        }
    }
}
