//! Signals that end a command.

use std::fmt;

/// The command was interrupted by a signal.
#[derive(Debug)]
pub(crate) struct Interruption {
    pub(crate) code: u8,
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interruption {}

/// Waits for Ctrl-C, or on Unix for a request to end.
pub(crate) async fn interrupted() -> Interruption {
    #[cfg(unix)]
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    #[cfg(not(unix))]
    let terminated = std::future::pending::<Option<()>>();
    tokio::select! {
        pressed = tokio::signal::ctrl_c() => match pressed {
            Ok(()) => Interruption { code: 130 },
            Err(_) => std::future::pending().await,
        },
        _ = terminated => Interruption { code: 143 },
    }
}
