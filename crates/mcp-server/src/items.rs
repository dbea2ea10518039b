//! Items of a server: tools, prompts, resources, and completion of their arguments.

pub(crate) mod catalog;
pub(crate) mod completion;
pub(crate) mod output;
pub(crate) mod prompt;
pub(crate) mod registered;
pub(crate) mod registered_tool;
pub(crate) mod resource;
mod setters;
pub(crate) mod tool;
mod uri_template;
