//! What a server does when its process ends, and around a snapshot of it.

use std::{
    future::ready,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

/// A running hook.
pub(crate) type HookFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(crate) type Hook = Box<dyn Fn() -> HookFuture + Send + Sync>;
pub(crate) type CloseHook = Box<dyn FnOnce() -> HookFuture + Send + Sync>;

/// The hooks of one server.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) close: Mutex<Option<CloseHook>>,
    pub(crate) before_snapshot: Option<Hook>,
    pub(crate) after_restore: Option<Hook>,
}

impl Hooks {
    pub(crate) fn has_close(&self) -> bool {
        self.close.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Runs the close hook, the first time.
    pub(crate) fn close(&self) -> HookFuture {
        let hook = self.close.lock().unwrap_or_else(PoisonError::into_inner).take();
        hook.map_or_else(nothing, |hook| hook())
    }

    pub(crate) fn before_snapshot(&self) -> HookFuture {
        self.before_snapshot.as_ref().map_or_else(nothing, |hook| hook())
    }

    pub(crate) fn after_restore(&self) -> HookFuture {
        self.after_restore.as_ref().map_or_else(nothing, |hook| hook())
    }
}

fn nothing() -> HookFuture {
    Box::pin(ready(()))
}
