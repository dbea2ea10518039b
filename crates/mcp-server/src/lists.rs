//! What clients are told about a server, rendered once for each revision.

use mcp_protocol::{
    DiscoverResult, InitializeResult, JsonObject, ListPromptsResult, ListResourceTemplatesResult, ListResourcesResult,
    ListToolsResult, ProtocolVersion, ResourcesCapability, ResultType, ServerCapabilities,
};

use crate::{
    Caching, List, Rendered, Server,
    pages::{Pages, PerRevision},
    policy::Policy,
    routes::{result_meta, shared, to_value},
};

pub(crate) struct Lists {
    pub(crate) initialize: PerRevision<Rendered>,
    pub(crate) discover: Rendered,
    pub(crate) tools: PerRevision<Pages<Rendered>>,
    pub(crate) prompts: PerRevision<Pages<Rendered>>,
    pub(crate) templates: PerRevision<Pages<Rendered>>,
    /// What is registered; unused where handlers list more.
    pub(crate) resources: PerRevision<Pages<Rendered>>,
    pub(crate) resources_caching: Caching,
    pub(crate) page_size: Option<usize>,
}

impl Lists {
    pub(crate) fn render<S: Send + Sync + 'static>(server: &Server<S>, policy: &Policy) -> Self {
        let meta = result_meta(&to_value(&server.info));
        let page_size = server.page_size.map(Into::into);
        let caching_of = |list: List| policy.narrow_list(server.caching_of(list));
        let frame = |list: List, revision: ProtocolVersion| Frame::new(revision, caching_of(list), &meta);
        let capabilities = |revision: ProtocolVersion| capabilities(server, revision);

        let initialize = PerRevision::new(|revision| {
            shared(&InitializeResult {
                protocol_version: revision.as_str().to_owned(),
                capabilities: capabilities(revision),
                server_info: server.info.for_revision(revision),
                instructions: server.instructions.clone(),
            })
        });
        let caching = caching_of(List::Discover);
        let discover = shared(&DiscoverResult {
            result_type: ResultType::Complete,
            supported_versions: ProtocolVersion::ALL.map(|version| version.as_str().to_owned()).to_vec(),
            capabilities: capabilities(ProtocolVersion::LATEST),
            instructions: server.instructions.clone(),
            ttl_ms: caching.ttl_ms(),
            cache_scope: caching.scope,
            meta: Some(meta.clone()),
        });
        let tools = PerRevision::new(|revision| {
            let Frame { result_type, ttl_ms, cache_scope, meta } = frame(List::Tools, revision);
            Pages::new(&server.tools, page_size, |tools, next_cursor| {
                let tools = tools.iter().map(|tool| tool.definition.for_revision(revision)).collect();
                shared(&ListToolsResult { result_type, tools, next_cursor, ttl_ms, cache_scope, meta: meta.clone() })
            })
        });
        let prompts = PerRevision::new(|revision| {
            let Frame { result_type, ttl_ms, cache_scope, meta } = frame(List::Prompts, revision);
            Pages::new(&server.prompts, page_size, |prompts, next_cursor| {
                let prompts = prompts.iter().map(|prompt| prompt.definition.for_revision(revision)).collect();
                shared(&ListPromptsResult {
                    result_type,
                    prompts,
                    next_cursor,
                    ttl_ms,
                    cache_scope,
                    meta: meta.clone(),
                })
            })
        });
        let resources = PerRevision::new(|revision| {
            let Frame { result_type, ttl_ms, cache_scope, meta } = frame(List::Resources, revision);
            Pages::new(&server.resources, page_size, |resources, next_cursor| {
                let resources = resources.iter().map(|resource| resource.definition.for_revision(revision)).collect();
                let meta = meta.clone();
                shared(&ListResourcesResult { result_type, resources, next_cursor, ttl_ms, cache_scope, meta })
            })
        });
        let templates = PerRevision::new(|revision| {
            let Frame { result_type, ttl_ms, cache_scope, meta } = frame(List::ResourceTemplates, revision);
            Pages::new(&server.templates, page_size, |templates, next_cursor| {
                let resource_templates =
                    templates.iter().map(|template| template.definition.for_revision(revision)).collect();
                let meta = meta.clone();
                shared(&ListResourceTemplatesResult {
                    result_type,
                    resource_templates,
                    next_cursor,
                    ttl_ms,
                    cache_scope,
                    meta,
                })
            })
        });
        // What a handler lists, it lists to those who may read it.
        let listing = server.templates.iter().filter(|template| template.lister.is_some());
        let resources_caching = listing
            .fold(caching_of(List::Resources), |caching, template| policy.narrow(caching, &template.requirement));
        Self { initialize, discover, tools, prompts, templates, resources, resources_caching, page_size }
    }
}

/// What a modern list result has besides its items.
struct Frame {
    result_type: Option<ResultType>,
    ttl_ms: Option<u64>,
    cache_scope: Option<mcp_protocol::CacheScope>,
    meta: Option<JsonObject>,
}

impl Frame {
    fn new(revision: ProtocolVersion, caching: Caching, meta: &JsonObject) -> Self {
        let is_modern = revision.is_modern();
        Self {
            result_type: is_modern.then_some(ResultType::Complete),
            ttl_ms: is_modern.then(|| caching.ttl_ms()),
            cache_scope: is_modern.then_some(caching.scope),
            meta: is_modern.then(|| meta.clone()),
        }
    }
}

fn capabilities<S: Send + Sync + 'static>(server: &Server<S>, revision: ProtocolVersion) -> ServerCapabilities {
    let there = |is_there: bool| is_there.then(JsonObject::new);
    let has_resources = !server.resources.is_empty() || !server.templates.is_empty();
    // Subscribing is another method since 2026-07-28, which needs a connection that stays.
    let subscribe = !revision.is_modern() && server.resources.iter().any(|resource| resource.is_subscribable);
    let has_completers = server.prompts.iter().any(|prompt| !prompt.completers.is_empty())
        || server.templates.iter().any(|template| !template.completers.is_empty());
    let capabilities = ServerCapabilities {
        logging: there(true),
        tools: there(!server.tools.is_empty()),
        prompts: there(!server.prompts.is_empty()),
        resources: has_resources
            .then(|| ResourcesCapability { subscribe: subscribe.then_some(true), list_changed: None }),
        completions: there(has_completers),
        ..ServerCapabilities::default()
    };
    capabilities.for_revision(revision)
}
