//! The parts of a built server.

use std::{any::Any, sync::Arc};

use mcp_protocol::Implementation;

use super::{hooks::Hooks, lists::Lists, render::Renderer};
use crate::{interaction::request_state::StateCipher, items::catalog::Catalog, policy::Policy};

/// A built server. It has no type parameter: handlers downcast the state.
pub(crate) struct Built {
    /// Shared by all calls; handlers downcast it.
    pub(crate) state: Arc<dyn Any + Send + Sync>,
    pub(crate) info: Implementation,
    pub(crate) instructions: Option<String>,
    pub(crate) renderer: Renderer,
    /// `None` for a server without interactive handlers.
    pub(crate) cipher: Option<Box<dyn StateCipher>>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) catalog: Catalog,
    pub(crate) lists: Lists,
    pub(crate) hooks: Hooks,
    #[cfg(feature = "limits")]
    pub(crate) limits: Option<crate::limits::limiter::Limits>,
    #[cfg(feature = "store")]
    pub(crate) store: Option<crate::store::SealedStore>,
    #[cfg(any(feature = "interactive", feature = "store"))]
    pub(crate) key_loader: Arc<crate::state_key::rotation::KeyLoader>,
    #[cfg(feature = "tasks")]
    pub(crate) waker: std::sync::RwLock<Option<Arc<dyn crate::tasks::wake::WakeTask>>>,
    /// `None` for a server without a store, or without interactive handlers.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub(crate) questions: Option<crate::interaction::legacy::LegacyQuestions>,
}
