//! What a page about a server may tell somebody.

use mcp_protocol::{Implementation, Tool};

use crate::{
    CallError, Principal,
    dispatch::routes::{Inner, RegisteredTool},
};

/// A server as far as somebody may see it.
#[derive(Debug)]
pub struct Introduction<'a> {
    /// Name, title, version.
    pub info: &'a Implementation,
    /// How to use the server as a whole.
    pub instructions: Option<&'a str>,
    /// Every tool of the list, in its order.
    pub tools: Vec<IntroducedTool<'a>>,
    /// Whether there is a prompt, a resource or a template that this caller may not use.
    pub refuses_others: bool,
}

/// A tool of the list, and what it takes to call it.
#[derive(Debug)]
pub struct IntroducedTool<'a> {
    /// What the list says of it.
    pub definition: &'a Tool,
    /// Why this caller may not use it; `None` for one who may.
    pub refusal: Option<CallError>,
    /// One request of any client is enough: it asks nothing back, needs no capability, mirrors no parameter into a header.
    pub is_plain: bool,
}

impl<S> Inner<S> {
    pub(crate) fn introduce(&self, caller: Option<&Principal>) -> Result<Introduction<'_>, CallError> {
        let Inner { info, instructions, policy, tools, prompts, resources, templates, .. } = self;
        policy.permit_discovery(caller)?;
        let tools = tools.iter().map(|RegisteredTool { tool, .. }| IntroducedTool {
            definition: &tool.definition,
            refusal: policy.permit(&tool.requirement, caller).err(),
            is_plain: tool.cipher.is_none() && tool.required_capabilities.is_empty() && tool.mirrored.is_empty(),
        });
        let others = prompts.iter().map(|prompt| &prompt.requirement);
        let others = others.chain(resources.iter().map(|resource| &resource.requirement));
        let mut others = others.chain(templates.iter().map(|template| &template.requirement));
        Ok(Introduction {
            info,
            instructions: instructions.as_deref(),
            tools: tools.collect(),
            refuses_others: others.any(|requirement| policy.permit(requirement, caller).is_err()),
        })
    }
}
