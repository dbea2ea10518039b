//! Hooks that run before the process ends and around a snapshot of it.

use std::{
    future::ready,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
};

/// A resource with its own connections or secrets, closed when the execution environment ends and around a
/// snapshot. See [`Server::manages`](crate::Server::manages).
pub trait ManagedResource: Send + Sync + 'static {
    /// Closes the resource before the environment ends. The platform grants about 300 ms.
    fn close(&self) -> impl Future<Output = ()> + Send;

    /// Closes connections and discards secrets, which a snapshot must not contain. By default it [closes](Self::close) the resource.
    fn before_snapshot(&self) -> impl Future<Output = ()> + Send {
        self.close()
    }

    /// Opens connections in each process that is restored from the snapshot. By default it does no_op.
    fn after_restore(&self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

#[cfg(feature = "store")]
impl ManagedResource for crate::store::MemoryStore {
    async fn close(&self) {}
}

type BorrowedHookFuture<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// [`ManagedResource`] as a trait object.
pub(crate) trait DynManagedResource: Send + Sync {
    fn close(&self) -> BorrowedHookFuture<'_>;
    fn before_snapshot(&self) -> BorrowedHookFuture<'_>;
    fn after_restore(&self) -> BorrowedHookFuture<'_>;
}

impl<R: ManagedResource> DynManagedResource for R {
    fn close(&self) -> BorrowedHookFuture<'_> {
        Box::pin(ManagedResource::close(self))
    }

    fn before_snapshot(&self) -> BorrowedHookFuture<'_> {
        Box::pin(ManagedResource::before_snapshot(self))
    }

    fn after_restore(&self) -> BorrowedHookFuture<'_> {
        Box::pin(ManagedResource::after_restore(self))
    }
}

/// A running hook.
pub(crate) type HookFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
pub(crate) type Hook = Arc<dyn Fn() -> HookFuture + Send + Sync>;
pub(crate) type CloseHook = Box<dyn FnOnce() -> HookFuture + Send + Sync>;

/// The hooks of one server.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) close: Mutex<Option<CloseHook>>,
    pub(crate) before_snapshot: Option<Hook>,
    pub(crate) after_restore: Option<Hook>,
    pub(crate) managed: Vec<Arc<dyn DynManagedResource>>,
}

impl Hooks {
    pub(crate) fn has_close(&self) -> bool {
        self.close.lock().unwrap_or_else(PoisonError::into_inner).is_some() || !self.managed.is_empty()
    }

    /// Runs the close hook on the first call, and closes managed resources.
    pub(crate) fn close(&self) -> HookFuture {
        let hook = self.close.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (own, managed) = (hook.map_or_else(no_op, |hook| hook()), self.managed.clone());
        Box::pin(async move {
            own.await;
            for resource in &managed {
                resource.close().await;
            }
        })
    }

    pub(crate) fn before_snapshot(&self) -> HookFuture {
        let own = self.before_snapshot.as_ref().map_or_else(no_op, |hook| hook());
        let managed = self.managed.clone();
        Box::pin(async move {
            own.await;
            for resource in &managed {
                resource.before_snapshot().await;
            }
        })
    }

    pub(crate) fn after_restore(&self) -> HookFuture {
        let (own, managed) = (self.after_restore.clone(), self.managed.clone());
        Box::pin(async move {
            for resource in &managed {
                resource.after_restore().await;
            }
            // Runs after the resources are open.
            own.map_or_else(no_op, |hook| hook()).await;
        })
    }
}

fn no_op() -> HookFuture {
    Box::pin(ready(()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failure here is a failed test")]

    use std::sync::Mutex;

    use super::*;
    use crate::{BuiltServer, Server, Settings};

    type Log = Arc<Mutex<Vec<&'static str>>>;

    struct Pool(Log);

    impl ManagedResource for Pool {
        async fn close(&self) {
            self.0.lock().unwrap().push("pool closed");
        }

        async fn after_restore(&self) {
            self.0.lock().unwrap().push("pool opened");
        }
    }

    fn write(word: &'static str) -> impl Fn(Arc<Log>) -> std::future::Ready<()> + Send + Sync + 'static {
        move |log| {
            log.lock().unwrap().push(word);
            ready(())
        }
    }

    async fn hooks_of(server: Server<Log>, log: &Log) -> Vec<&'static str> {
        let server: BuiltServer = server.build(Settings::default()).unwrap();
        assert!(server.has_close_hook());
        server.before_snapshot().await;
        server.after_restore().await;
        server.close().await;
        std::mem::take(&mut *log.lock().unwrap())
    }

    #[tokio::test]
    async fn a_managed_resource_outlives_the_hooks_of_the_server() {
        let log = Log::default();
        let server = || Server::new("test", "0.0.0", Arc::clone(&log));

        let alone = hooks_of(server().manages(Pool(Arc::clone(&log))), &log).await;
        let managed = server().manages(Pool(Arc::clone(&log))).on_close(write("state closed"));
        let both = hooks_of(managed.around_snapshot(write("state frozen"), write("state thawed")), &log).await;

        assert_eq!(alone, ["pool closed", "pool opened", "pool closed"]);
        let expected = ["state frozen", "pool closed", "pool opened", "state thawed", "state closed", "pool closed"];
        assert_eq!(both, expected);
    }

    #[test]
    fn a_server_without_managed_resources_has_no_close_hook() {
        let server = Server::new("test", "0.0.0", ()).build(Settings::default()).unwrap();

        assert!(!server.has_close_hook());
    }
}
