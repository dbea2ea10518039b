//! A server as a caller may see it.

use mcp_protocol::{Implementation, Tool};

use super::built::Built;
use crate::{CallError, Principal};

/// A server as far as a caller may see it.
#[derive(Debug)]
pub struct ServerSummary<'a> {
    /// Name, title, version.
    pub info: &'a Implementation,
    /// How to use the server as a whole.
    pub instructions: Option<&'a str>,
    /// Every tool of the list, in its order.
    pub tools: Vec<ToolSummary<'a>>,
    /// Whether there is a prompt, a resource or a template that this caller may not use.
    pub refuses_others: bool,
}

/// A tool of the list, and what it takes to call it.
#[derive(Debug)]
pub struct ToolSummary<'a> {
    /// Its definition, as the list has it.
    pub definition: &'a Tool,
    /// Why this caller may not use it; `None` for one who may.
    pub refusal: Option<CallError>,
    /// One request of any client is enough: it asks nothing back, needs no capability, mirrors no parameter into a header.
    pub is_plain: bool,
}

impl<'a> ServerSummary<'a> {
    pub(crate) fn new(server: &'a Built, caller: Option<&Principal>) -> Result<Self, CallError> {
        let Built { info, instructions, policy, catalog, .. } = server;
        policy.permit_discovery(caller)?;
        let tools = catalog.tools.iter().map(|tool| ToolSummary {
            definition: &tool.definition,
            refusal: policy.permit(&tool.requirement, caller).err(),
            is_plain: tool.cipher.is_none() && tool.required_capabilities.is_empty() && tool.mirrored.is_empty(),
        });
        let others = catalog.prompts.iter().map(|prompt| &prompt.requirement);
        let others = others.chain(catalog.resources.iter().map(|resource| &resource.requirement));
        let mut others = others.chain(catalog.templates.iter().map(|template| &template.requirement));
        Ok(Self {
            info,
            instructions: instructions.as_deref(),
            tools: tools.collect(),
            refuses_others: others.any(|requirement| policy.permit(requirement, caller).is_err()),
        })
    }
}
