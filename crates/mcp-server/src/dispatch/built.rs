//! The parts of a finished server.

use std::{any::Any, sync::Arc};

use mcp_protocol::Implementation;

use super::{hooks::Hooks, lists::Lists, render::Renderer};
use crate::{interaction::request_state::StateCipher, items::catalog::Catalog, policy::Policy};

/// A finished server. It has no type parameter: handlers find the state by its type.
pub(crate) struct Built {
    /// Shared by all calls; each handler finds it by its type.
    pub(crate) state: Arc<dyn Any + Send + Sync>,
    pub(crate) info: Implementation,
    pub(crate) instructions: Option<String>,
    pub(crate) renderer: Renderer,
    /// `None` for a server that never asks.
    pub(crate) cipher: Option<Box<dyn StateCipher>>,
    pub(crate) policy: Arc<Policy>,
    pub(crate) catalog: Catalog,
    pub(crate) lists: Lists,
    pub(crate) hooks: Hooks,
}
