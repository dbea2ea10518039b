//! Summary of a server for one caller.

use mcp_protocol::{Implementation, Tool};

use super::built::Built;
use crate::{CallError, Principal};

/// A summary of the server for one caller.
#[derive(Debug)]
pub struct ServerSummary<'a> {
    /// Name, title, version.
    pub info: &'a Implementation,
    /// Instructions for the server as a whole.
    pub instructions: Option<&'a str>,
    /// All listed tools, in order.
    pub tools: Vec<ToolSummary<'a>>,
    /// Whether the caller is not authorized for some prompt, resource or template.
    pub denies_other_items: bool,
}

/// A listed tool, and the requirements of a call.
#[derive(Debug)]
pub struct ToolSummary<'a> {
    /// The definition, as in the list.
    pub definition: &'a Tool,
    /// The authentication or authorization error of a call; `None` for an authorized caller.
    pub authorization_error: Option<CallError>,
    /// Whether any client can call the tool with a single request: the tool is not interactive, requires no client capability, and has
    /// no mirrored parameters.
    pub is_plain: bool,
}

impl<'a> ServerSummary<'a> {
    pub(crate) fn new(server: &'a Built, caller: Option<&Principal>) -> Result<Self, CallError> {
        let Built { info, instructions, policy, catalog, .. } = server;
        policy.permit_discovery(caller)?;
        let tools = catalog.tools.iter().map(|tool| ToolSummary {
            definition: &tool.definition,
            authorization_error: policy.permit(&tool.requirement, caller).err(),
            is_plain: tool.cipher.is_none() && tool.required_capabilities.is_empty() && tool.mirrored.is_empty(),
        });
        let others = catalog.prompts.iter().map(|prompt| &prompt.requirement);
        let others = others.chain(catalog.resources.iter().map(|resource| &resource.requirement));
        let mut others = others.chain(catalog.templates.iter().map(|template| &template.requirement));
        Ok(Self {
            info,
            instructions: instructions.as_deref(),
            tools: tools.collect(),
            denies_other_items: others.any(|requirement| policy.permit(requirement, caller).is_err()),
        })
    }
}
