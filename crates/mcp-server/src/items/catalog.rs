//! The items of a server in the order of registration, and their lookup.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use mcp_protocol::{CompletionReference, uri::NormalUri};

use super::{
    completion::Completer,
    prompt::Prompt,
    registered::Registered,
    registered_tool::RegisteredTool,
    resource::{Resource, ResourceTemplate},
};
use crate::{
    CallError,
    interaction::request_state::NewCipher,
    policy::{Policy, requirement::Requirement},
};

/// The items of a server.
#[derive(Default)]
pub(crate) struct Catalog {
    pub(crate) tools: Vec<RegisteredTool>,
    /// Indexes of `tools`.
    tools_by_name: HashMap<String, usize>,
    pub(crate) prompts: Vec<Prompt<Registered>>,
    pub(crate) resources: Vec<Resource<Registered>>,
    pub(crate) templates: Vec<ResourceTemplate<Registered>>,
}

impl Catalog {
    #[track_caller]
    pub(crate) fn add_tool(&mut self, tool: RegisteredTool) {
        let same = self.tools_by_name.insert(tool.definition.name.clone(), self.tools.len());
        assert!(same.is_none(), "there are two tools named `{}`", tool.definition.name);
        self.tools.push(tool);
    }

    #[track_caller]
    pub(crate) fn add_prompt(&mut self, prompt: Prompt<Registered>) {
        let name = &prompt.definition.name;
        assert!(self.prompt(name).is_none(), "there are two prompts named `{name}`");
        self.prompts.push(prompt);
    }

    #[track_caller]
    pub(crate) fn add_resource(&mut self, resource: Resource<Registered>) {
        let uri = &resource.definition.uri;
        assert!(self.resources.iter().all(|other| other.uri != resource.uri), "there are two resources at `{uri}`");
        self.resources.push(resource);
    }

    #[track_caller]
    pub(crate) fn add_template(&mut self, template: ResourceTemplate<Registered>) {
        let own = &template.definition.uri_template;
        let is_new = self.templates.iter().all(|other| other.definition.uri_template != *own);
        assert!(is_new, "there are two resource templates `{own}`");
        self.templates.push(template);
    }

    /// Returns the first tool whose calls may become tasks.
    #[cfg(feature = "tasks")]
    pub(crate) fn task_tool(&self) -> Option<&RegisteredTool> {
        self.tools.iter().find(|tool| tool.task.is_some())
    }

    pub(crate) fn has_resources(&self) -> bool {
        !self.resources.is_empty() || !self.templates.is_empty()
    }

    pub(crate) fn has_subscribable(&self) -> bool {
        self.resources.iter().any(|resource| resource.is_subscribable)
    }

    pub(crate) fn has_completers(&self) -> bool {
        self.prompts.iter().any(|prompt| !prompt.completers.is_empty())
            || self.templates.iter().any(|template| !template.completers.is_empty())
    }

    /// Reports whether handlers list resources, besides the registered ones.
    pub(crate) fn has_listers(&self) -> bool {
        self.templates.iter().any(|template| template.lister.is_some())
    }

    pub(crate) fn tool(&self, name: &str) -> Option<&RegisteredTool> {
        self.tools_by_name.get(name).map(|index| &self.tools[*index])
    }

    pub(crate) fn prompt(&self, name: &str) -> Option<&Prompt<Registered>> {
        self.prompts.iter().find(|prompt| prompt.definition.name == name)
    }

    /// Looks up the item of a URI; equivalent URIs match. Resources have precedence over templates. All URIs of callers are looked up
    /// here, so that the same access rules apply to each method.
    pub(crate) fn match_resource(&self, uri: &str) -> Option<MatchedResource<'_>> {
        let uri = NormalUri::new(uri);
        let resource = self.resources.iter().find(|resource| resource.uri == uri);
        let template =
            || self.templates.iter().find_map(|own| Some(MatchedResource::Template(own, own.pattern.values_in(&uri)?)));
        resource.map(MatchedResource::Resource).or_else(template)
    }

    /// Looks up the item whose argument is completed.
    pub(crate) fn completion_target(&self, reference: &CompletionReference) -> Result<CompletionTarget<'_>, CallError> {
        match reference {
            CompletionReference::Prompt { name, .. } => {
                self.prompt(name).map(CompletionTarget::Prompt).ok_or_else(|| CallError::UnknownPrompt(name.clone()))
            }
            CompletionReference::Resource { uri } => {
                if let Some(named) = self.templates.iter().find(|template| template.definition.uri_template == *uri) {
                    return Ok(CompletionTarget::Template(named));
                }
                match self.match_resource(uri) {
                    Some(MatchedResource::Resource(resource)) => Ok(CompletionTarget::Resource(resource)),
                    Some(MatchedResource::Template(template, _)) => Ok(CompletionTarget::Template(template)),
                    None => Err(CallError::ResourceNotFound { uri: uri.clone() }),
                }
            }
        }
    }

    /// Returns the access rules of interactive items.
    #[cfg(all(feature = "interactive", feature = "store"))]
    pub(crate) fn interactive_requirements(&self) -> impl Iterator<Item = &Requirement> {
        let tools = self.tools.iter().map(|tool| (tool.cipher, &tool.requirement));
        let prompts = self.prompts.iter().map(|prompt| (prompt.cipher, &prompt.requirement));
        let resources = self.resources.iter().map(|resource| (resource.cipher, &resource.requirement));
        let templates = self.templates.iter().map(|template| (template.cipher, &template.requirement));
        let items = tools.chain(prompts).chain(resources).chain(templates);
        items.filter_map(|(cipher, requirement)| cipher.map(|_| requirement))
    }

    /// Returns the first interactive item: its name in messages, and its cipher.
    pub(crate) fn interactive_item(&self) -> Option<(String, NewCipher)> {
        let tools = self.tools.iter().map(|tool| tool.cipher);
        let prompts = self.prompts.iter().map(|prompt| prompt.cipher);
        let resources = self.resources.iter().map(|resource| resource.cipher);
        let templates = self.templates.iter().map(|template| template.cipher);
        let ciphers = tools.chain(prompts).chain(resources).chain(templates);
        let (position, cipher) = ciphers.enumerate().find_map(|(position, cipher)| Some((position, cipher?)))?;
        Some((self.names().nth(position)?, cipher))
    }

    /// Returns the first item with access rules, as named in messages.
    pub(crate) fn restricted_item(&self) -> Option<String> {
        self.names().nth(self.requirements().position(Requirement::is_some)?)
    }

    /// Returns a template that requires less than an item that it matches, and that item's name: a resource, or a later
    /// template by an example of its URIs. Since the lookup prefers resources, the check is a second defense for them; of two
    /// templates, the earlier is read.
    pub(crate) fn weaker_template(&self, policy: &Policy) -> Option<(String, String)> {
        self.templates.iter().enumerate().find_map(|(index, template)| {
            let is_weaker = |other: &Requirement| !policy.is_as_strong(&template.requirement, other);
            let fits = |uri: &NormalUri| template.pattern.values_in(uri).is_some();
            let resource = self.resources.iter().find(|own| is_weaker(&own.requirement) && fits(&own.uri));
            let later = || {
                let mut later = self.templates[index + 1..].iter();
                later.find(|own| is_weaker(&own.requirement) && fits(&own.pattern.example()))
            };
            let other = match resource {
                Some(own) => format!("resource `{}`", own.definition.uri),
                None => format!("later resource template `{}`", later()?.definition.uri_template),
            };
            Some((template.definition.uri_template.clone(), other))
        })
    }

    /// Returns the names of all items in messages: tools, prompts, resources, templates.
    fn names(&self) -> impl Iterator<Item = String> {
        let tools = self.tools.iter().map(|tool| format!("tool `{}`", tool.definition.name));
        let prompts = self.prompts.iter().map(|own| format!("prompt `{}`", own.definition.name));
        let resources = self.resources.iter().map(|own| format!("resource `{}`", own.definition.uri));
        let templates = self.templates.iter().map(|own| format!("resource template `{}`", own.definition.uri_template));
        tools.chain(prompts).chain(resources).chain(templates)
    }

    /// Returns the requirements of all items, in the same order.
    fn requirements(&self) -> impl Iterator<Item = &Requirement> {
        let tools = self.tools.iter().map(|tool| &tool.requirement);
        let prompts = self.prompts.iter().map(|prompt| &prompt.requirement);
        let resources = self.resources.iter().map(|resource| &resource.requirement);
        let templates = self.templates.iter().map(|template| &template.requirement);
        tools.chain(prompts).chain(resources).chain(templates)
    }

    pub(crate) fn requirements_mut(&mut self) -> impl Iterator<Item = &mut Requirement> {
        let tools = self.tools.iter_mut().map(|own| &mut own.tool.requirement);
        let prompts = self.prompts.iter_mut().map(|prompt| &mut prompt.requirement);
        let resources = self.resources.iter_mut().map(|resource| &mut resource.requirement);
        let templates = self.templates.iter_mut().map(|template| &mut template.requirement);
        tools.chain(prompts).chain(resources).chain(templates)
    }
}

/// The registered item of a URI.
pub(crate) enum MatchedResource<'a> {
    Resource(&'a Resource<Registered>),
    /// A template, and the values of its variables.
    Template(&'a ResourceTemplate<Registered>, BTreeMap<String, String>),
}

impl<'a> MatchedResource<'a> {
    /// Returns the registered name of the resource or the template.
    pub(crate) fn name(&self) -> &'a str {
        match self {
            Self::Resource(resource) => &resource.definition.name,
            Self::Template(template, _) => &template.definition.name,
        }
    }

    pub(crate) fn requirement(&self) -> &'a Requirement {
        match self {
            Self::Resource(resource) => &resource.requirement,
            Self::Template(template, _) => &template.requirement,
        }
    }
}

/// The item whose argument is completed.
pub(crate) enum CompletionTarget<'a> {
    Prompt(&'a Prompt<Registered>),
    /// A resource has no arguments.
    Resource(&'a Resource<Registered>),
    Template(&'a ResourceTemplate<Registered>),
}

impl<'a> CompletionTarget<'a> {
    pub(crate) fn requirement(&self) -> &'a Requirement {
        match self {
            Self::Prompt(prompt) => &prompt.requirement,
            Self::Resource(resource) => &resource.requirement,
            Self::Template(template) => &template.requirement,
        }
    }

    /// Returns the completer of an argument; the outer `None` if the item has no such argument.
    pub(crate) fn argument(&self, name: &str) -> Option<Option<&'a Completer>> {
        match self {
            Self::Prompt(prompt) => {
                let is_known = prompt.definition.arguments.iter().any(|own| own.name == name);
                is_known.then(|| prompt.completers.get(name))
            }
            Self::Resource(_) => None,
            Self::Template(template) => {
                let is_known = template.pattern.variables().any(|own| own == name);
                is_known.then(|| template.completers.get(name))
            }
        }
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
