//! `resources/list`, `resources/read`, and subscriptions of the legacy revisions.

use std::collections::BTreeMap;

use mcp_protocol::{
    ListResourcesResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResult, ResultType, method,
    uri::NormalUri,
};
use tracing::Span;

use crate::{
    Answer, Caching, Call, CallError, Rendered, RequestContext, Resource, ResourceOutput, ResourceTemplate,
    dispatch::pages::Place,
    dispatch::routes::{Inner, Routes, optional_params, outcome_of, page, required_params},
    dispatch::run::{Item, start},
    handler::error::HandlerFuture,
    interaction::request_state::{Binding, NewCipher},
    policy::Requirement,
};

impl<S: Send + Sync + 'static> Routes<S> {
    pub(crate) fn read_resource(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let params: ReadResourceRequestParams<'_> = required_params(call.params)?;
        let uri = params.uri.as_ref();
        let readable = self.inner.readable(uri).ok_or_else(|| CallError::ResourceNotFound { uri: uri.to_owned() })?;
        self.inner.policy.permit(readable.requirement, call.invocation.principal.as_deref())?;
        // In the caller's own spelling: a template's variables get the letters of a host as they were written, so that
        // another spelling may have other values.
        let binding = || Binding::new(method::RESOURCES_READ, uri, None, call.invocation.principal.as_deref());
        let rounds = self.inner.rounds(&call, readable.cipher, params.retry(), binding)?;
        // What depends on answers is not what another request for the same URI would get.
        let is_retry = params.input_responses.is_some() || params.request_state.is_some();
        let caching =
            if is_retry { Caching::NONE } else { self.inner.policy.narrow(readable.caching, readable.requirement) };
        let revision = call.revision;
        let (own_uri, mime_type) = (uri.to_owned(), readable.mime_type.map(str::to_owned));
        let item = Item::Resource { uri: uri.to_owned() };
        let begin = |context| Ok((readable.start)(context));
        Ok(start(&self.inner, call, item, rounds, Span::none(), begin, move |inner, output: ResourceOutput| {
            let result = ReadResourceResult {
                result_type: Some(ResultType::Complete),
                contents: output.into_contents(&own_uri, mime_type.as_deref()),
                ttl_ms: Some(caching.ttl_ms()),
                cache_scope: Some(caching.scope),
                meta: inner.meta_for(revision),
            };
            outcome_of(&result.for_revision(revision))
        }))
    }

    /// What is registered comes first, then what handlers list. A page is filled from as many of them as it takes, since
    /// many clients never ask for a second one.
    pub(crate) fn list_resources(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let inner = &self.inner;
        if inner.templates.iter().all(|template| template.lister.is_none()) {
            let pages = inner.lists.resources(&inner.resources, call.revision);
            return page(&call, |cursor| pages.get(cursor).cloned()).map(|result| Answer::ready(Ok(result)));
        }
        let params: PaginatedRequestParams = optional_params(call.params)?;
        let place = Place::decode(params.cursor.as_deref()).ok_or(CallError::InvalidCursor)?;
        let caller = call.invocation.principal.clone();
        let may_read =
            |template: &&ResourceTemplate<S>| inner.policy.permit(&template.requirement, caller.as_deref()).is_ok();
        // One that may not be read keeps its number, so that a cursor means the same to everyone.
        let listing = inner.templates.iter().filter(|template| template.lister.is_some());
        let listers: Vec<_> = listing.map(|template| template.lister.clone().filter(|_| may_read(&template))).collect();
        let page_size = inner.lists.page_size.unwrap_or(usize::MAX);
        let (mut resources, place) = match place {
            Place::Registered(from) => {
                let is_start = from == 0 || (from.is_multiple_of(page_size) && from < inner.resources.len());
                if !is_start {
                    return Err(CallError::InvalidCursor);
                }
                let rest = inner.resources[from..].iter().take(page_size);
                let rest: Vec<_> = rest.map(|resource| resource.definition.clone()).collect();
                let next = from + rest.len();
                (rest, if next < inner.resources.len() { Place::Registered(next) } else { Place::handler(0) })
            }
            Place::Handler { lister, .. } if lister >= listers.len() => return Err(CallError::InvalidCursor),
            place => (Vec::new(), place),
        };
        let revision = call.revision;
        let begin = |context: RequestContext<S>| {
            let work: HandlerFuture<_> = Box::pin(async move {
                let mut next = Some(place);
                while let Some(Place::Handler { lister, skip, cursor }) = next.clone() {
                    let room = page_size.saturating_sub(resources.len());
                    if room == 0 {
                        break;
                    }
                    let Some(list) = &listers[lister] else {
                        next = Some(Place::handler(lister + 1)).filter(|_| lister + 1 < listers.len());
                        continue;
                    };
                    let page = list(context.clone(), cursor.clone()).await?;
                    let rest = page.resources.len().saturating_sub(skip);
                    resources.extend(page.resources.into_iter().skip(skip).take(room));
                    if rest > room {
                        // The handler's own page is longer: it is asked for again, and begun in its middle.
                        next = Some(Place::Handler { lister, skip: skip.saturating_add(room), cursor });
                        break;
                    }
                    if page.next_cursor.is_some() {
                        next = Some(Place::Handler { lister, skip: 0, cursor: page.next_cursor });
                        break;
                    }
                    next = Some(Place::handler(lister + 1)).filter(|_| lister + 1 < listers.len());
                }
                Ok((resources, next))
            });
            Ok(work)
        };
        Ok(start(&self.inner, call, Item::Other, None, Span::none(), begin, move |inner, (resources, next)| {
            let is_modern = revision.is_modern();
            let caching = inner.lists.resources_caching;
            outcome_of(&ListResourcesResult {
                result_type: is_modern.then_some(ResultType::Complete),
                resources: resources.iter().map(|resource| resource.for_revision(revision)).collect(),
                next_cursor: next.map(|place| place.encode()),
                ttl_ms: is_modern.then(|| caching.ttl_ms()),
                cache_scope: is_modern.then_some(caching.scope),
                meta: inner.meta_for(revision),
            })
        }))
    }

    /// No connection is held that a change could be told on, so that there is nothing to remember.
    pub(crate) fn subscribe(&self, call: &Call<'_>) -> Result<Rendered, CallError> {
        let params: ReadResourceRequestParams<'_> = required_params(call.params)?;
        let item = self.inner.item_at(&params.uri);
        let caller = call.invocation.principal.as_deref();
        match &item {
            Some(item) => self.inner.policy.permit(item.requirement(), caller)?,
            None => self.inner.policy.permit_discovery(caller)?,
        }
        match item {
            Some(ItemAt::Resource(resource)) if resource.is_subscribable => Ok(Rendered::empty()),
            Some(_) => Err(CallError::InvalidInput("this resource cannot be subscribed to".to_owned())),
            None => Err(CallError::ResourceNotFound { uri: params.uri.into_owned() }),
        }
    }
}

/// What is registered for a URI.
pub(crate) enum ItemAt<'a, S> {
    Resource(&'a Resource<S>),
    /// A template, and the values of its variables.
    Template(&'a ResourceTemplate<S>, BTreeMap<String, String>),
}

impl<'a, S> ItemAt<'a, S> {
    pub(crate) fn requirement(&self) -> &'a Requirement {
        match self {
            Self::Resource(resource) => &resource.requirement,
            Self::Template(template, _) => &template.requirement,
        }
    }
}

/// A resource, or one of a template's, that can be read at a URI.
struct Readable<'a, S> {
    start: Box<dyn FnOnce(RequestContext<S>) -> HandlerFuture<ResourceOutput> + 'a>,
    mime_type: Option<&'a str>,
    caching: Caching,
    cipher: Option<NewCipher>,
    requirement: &'a Requirement,
}

impl<S> Inner<S> {
    /// What is registered for a URI, in any spelling: a resource goes before each template. Every caller's URI is
    /// looked up here, so that no way to an item has a policy of its own.
    pub(crate) fn item_at(&self, uri: &str) -> Option<ItemAt<'_, S>> {
        let uri = NormalUri::new(uri);
        let resource = self.resources.iter().find(|resource| resource.uri == uri);
        let template =
            || self.templates.iter().find_map(|own| Some(ItemAt::Template(own, own.pattern.values_in(&uri)?)));
        resource.map(ItemAt::Resource).or_else(template)
    }

    /// The name of the resource or template that can be read at a URI.
    pub(crate) fn resource_name(&self, uri: &str) -> Option<&str> {
        Some(match self.item_at(uri)? {
            ItemAt::Resource(resource) => &resource.definition.name,
            ItemAt::Template(template, _) => &template.definition.name,
        })
    }

    fn readable(&self, uri: &str) -> Option<Readable<'_, S>> {
        Some(match self.item_at(uri)? {
            ItemAt::Resource(resource) => Readable {
                start: Box::new(|context| (resource.handler)(context)),
                mime_type: resource.definition.mime_type.as_deref(),
                caching: resource.caching,
                cipher: resource.cipher,
                requirement: &resource.requirement,
            },
            ItemAt::Template(template, values) => Readable {
                start: Box::new(|context| (template.handler)(context, values)),
                mime_type: template.definition.mime_type.as_deref(),
                caching: template.caching,
                cipher: template.cipher,
                requirement: &template.requirement,
            },
        })
    }
}
