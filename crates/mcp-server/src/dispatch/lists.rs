//! Lists and discovery, rendered once for each revision.

use std::sync::OnceLock;

use mcp_protocol::{
    DiscoverResult, Implementation, InitializeResult, JsonObject, ListPromptsResult, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, ProtocolVersion, ResourcesCapability, ResultType, ServerCapabilities,
};

use super::{
    call::Rendered,
    pages::{Pages, PerRevision},
    render::shared,
};
use crate::{
    Caching, List,
    items::{
        catalog::Catalog,
        prompt::Prompt,
        registered::Registered,
        registered_tool::RegisteredTool,
        resource::{Resource, ResourceTemplate},
    },
    policy::Policy,
};

/// The sources of lists and discovery.
pub(crate) struct ListSources<'a, C> {
    pub(crate) info: &'a Implementation,
    pub(crate) instructions: Option<&'a str>,
    pub(crate) catalog: &'a Catalog,
    pub(crate) policy: &'a Policy,
    pub(crate) page_size: Option<usize>,
    /// The author's setting, which access rules narrow.
    pub(crate) caching_of: C,
    /// `_meta` of a modern result.
    pub(crate) meta: JsonObject,
}

pub(crate) struct Lists {
    pub(crate) initialize: PerRevision<Rendered>,
    pub(crate) discover: Rendered,
    tools: Paged,
    prompts: Paged,
    templates: Paged,
    resources: Paged,
    /// Resources that handlers list are not cached.
    pub(crate) resources_caching: Caching,
    pub(crate) page_size: Option<usize>,
    meta: JsonObject,
}

/// A list that is rendered on first use of each revision: with many tools, each revision adds to the cold start.
struct Paged {
    caching: Caching,
    pages: PerRevision<OnceLock<Pages<Rendered>>>,
}

impl Lists {
    pub(crate) fn new(contents: ListSources<'_, impl Fn(List) -> Caching>) -> Self {
        let ListSources { info, instructions, catalog, policy, page_size, caching_of, meta } = contents;
        let caching_of = |list: List| policy.narrow_list(caching_of(list));
        let paged = |list: List| Paged { caching: caching_of(list), pages: PerRevision::new(|_| OnceLock::new()) };
        let capabilities = |revision: ProtocolVersion| capabilities(catalog, revision);
        let instructions = instructions.map(str::to_owned);

        let initialize = PerRevision::new(|revision| {
            shared(&InitializeResult {
                protocol_version: revision.as_str().to_owned(),
                capabilities: capabilities(revision),
                server_info: info.for_revision(revision),
                instructions: instructions.clone(),
            })
        });
        let caching = caching_of(List::Discover);
        let discover = shared(&DiscoverResult {
            result_type: ResultType::Complete,
            supported_versions: ProtocolVersion::ALL.map(|version| version.as_str().to_owned()).to_vec(),
            capabilities: capabilities(ProtocolVersion::LATEST),
            instructions,
            ttl_ms: caching.ttl_ms(),
            cache_scope: caching.scope,
            meta: Some(meta.clone()),
        });
        // Resources that a handler lists are shown only to callers who may read them.
        let listing = catalog.templates.iter().filter(|template| template.lister.is_some());
        let resources_caching = listing
            .fold(caching_of(List::Resources), |caching, template| policy.narrow(caching, &template.requirement));
        Self {
            initialize,
            discover,
            tools: paged(List::Tools),
            prompts: paged(List::Prompts),
            templates: paged(List::ResourceTemplates),
            resources: paged(List::Resources),
            resources_caching,
            page_size,
            meta,
        }
    }

    pub(crate) fn tools(&self, tools: &[RegisteredTool], revision: ProtocolVersion) -> &Pages<Rendered> {
        self.pages(&self.tools, tools, revision, |tools, envelope, next_cursor| {
            let ListEnvelope { result_type, ttl_ms, cache_scope, meta } = envelope;
            let tools = tools.iter().map(|tool| tool.definition.for_revision(revision)).collect();
            shared(&ListToolsResult { result_type, tools, next_cursor, ttl_ms, cache_scope, meta })
        })
    }

    pub(crate) fn prompts(&self, prompts: &[Prompt<Registered>], revision: ProtocolVersion) -> &Pages<Rendered> {
        self.pages(&self.prompts, prompts, revision, |prompts, envelope, next_cursor| {
            let ListEnvelope { result_type, ttl_ms, cache_scope, meta } = envelope;
            let prompts = prompts.iter().map(|prompt| prompt.definition.for_revision(revision)).collect();
            shared(&ListPromptsResult { result_type, prompts, next_cursor, ttl_ms, cache_scope, meta })
        })
    }

    /// Returns registered resources, for servers whose handlers list no others.
    pub(crate) fn resources(&self, resources: &[Resource<Registered>], revision: ProtocolVersion) -> &Pages<Rendered> {
        self.pages(&self.resources, resources, revision, |resources, envelope, next_cursor| {
            let ListEnvelope { result_type, ttl_ms, cache_scope, meta } = envelope;
            let resources = resources.iter().map(|resource| resource.definition.for_revision(revision)).collect();
            shared(&ListResourcesResult { result_type, resources, next_cursor, ttl_ms, cache_scope, meta })
        })
    }

    pub(crate) fn templates(
        &self,
        templates: &[ResourceTemplate<Registered>],
        revision: ProtocolVersion,
    ) -> &Pages<Rendered> {
        self.pages(&self.templates, templates, revision, |templates, envelope, next_cursor| {
            let ListEnvelope { result_type, ttl_ms, cache_scope, meta } = envelope;
            let resource_templates = templates.iter().map(|own| own.definition.for_revision(revision)).collect();
            shared(&ListResourceTemplatesResult {
                result_type,
                resource_templates,
                next_cursor,
                ttl_ms,
                cache_scope,
                meta,
            })
        })
    }

    fn pages<'a, I>(
        &self,
        list: &'a Paged,
        items: &[I],
        revision: ProtocolVersion,
        render: impl Fn(&[I], ListEnvelope, Option<String>) -> Rendered,
    ) -> &'a Pages<Rendered> {
        list.pages.get(revision).get_or_init(|| {
            Pages::new(items, self.page_size, |items, next_cursor| {
                render(items, ListEnvelope::new(revision, list.caching, &self.meta), next_cursor)
            })
        })
    }
}

/// Members of a modern list result in addition to its items.
struct ListEnvelope {
    result_type: Option<ResultType>,
    ttl_ms: Option<u64>,
    cache_scope: Option<mcp_protocol::CacheScope>,
    meta: Option<JsonObject>,
}

impl ListEnvelope {
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

fn capabilities(catalog: &Catalog, revision: ProtocolVersion) -> ServerCapabilities {
    let declared = |is_declared: bool| is_declared.then(JsonObject::new);
    let capabilities = ServerCapabilities {
        logging: declared(true),
        tools: declared(!catalog.tools.is_empty()),
        prompts: declared(!catalog.prompts.is_empty()),
        resources: catalog.has_resources().then(ResourcesCapability::default),
        completions: declared(catalog.has_completers()),
        #[cfg(feature = "tasks")]
        extensions: catalog
            .task_tool()
            .map(|_| JsonObject::from_iter([(mcp_protocol::tasks::EXTENSION.to_owned(), JsonObject::new().into())])),
        ..ServerCapabilities::default()
    };
    capabilities.for_revision(revision)
}
