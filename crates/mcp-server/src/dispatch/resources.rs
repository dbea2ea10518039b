//! `resources/read`, `resources/list`, and subscriptions of the legacy revisions.

use std::sync::Arc;

use mcp_protocol::{ListResourcesResult, ReadResourceResult, RequestParams, ResultType, method};
use tracing::Span;

use super::{
    call::{CallResponse, Rendered},
    pages::ListPosition,
    render::outcome_of,
    run::{ItemKind, Run, invalid},
};
use crate::{
    Caching, CallError, ResourceOutput,
    handler::error::HandlerFuture,
    items::{catalog::MatchedResource, registered::Registered, resource::ResourceTemplate},
};

/// Reads the resource that `uri` matches. The URI is used as sent: template values in its host keep their case, so that equivalent
/// URIs may have different values.
pub(crate) fn read(
    run: Run<'_>,
    item: MatchedResource<'_>,
    uri: &str,
    params: &RequestParams<'_>,
) -> Result<CallResponse, CallError> {
    let (requirement, cipher, caching, mime_type) = match &item {
        MatchedResource::Resource(own) => (&own.requirement, own.cipher, own.caching, &own.definition.mime_type),
        MatchedResource::Template(own, _) => (&own.requirement, own.cipher, own.caching, &own.definition.mime_type),
    };
    let bound = RequestParams { arguments: None, ..*params };
    let round = run.round(cipher, method::RESOURCES_READ, uri, &bound)?;
    // A result that depends on the client's answers differs between requests for the same URI: it must not be cached.
    let is_retry = params.input_responses.is_some() || params.request_state.is_some();
    let caching = if is_retry { Caching::NONE } else { run.built.policy.narrow(caching, requirement) };
    let (revision, own_uri, mime_type) = (run.revision, uri.to_owned(), mime_type.clone());
    let begin = |call| {
        Ok(match item {
            MatchedResource::Resource(resource) => (resource.handler)(call),
            MatchedResource::Template(template, values) => (template.handler)(call, values),
        })
    };
    let kind = ItemKind::Resource { uri: uri.to_owned() };
    Ok(run.start(kind, round, Span::none(), begin, move |renderer, output: ResourceOutput| {
        let result = ReadResourceResult {
            result_type: Some(ResultType::Complete),
            contents: output.into_contents(&own_uri, mime_type.as_deref()),
            ttl_ms: Some(caching.ttl_ms()),
            cache_scope: Some(caching.scope),
            meta: renderer.meta_for(revision),
        };
        outcome_of(&result.for_revision(revision))
    }))
}

/// Returns registered resources, then those that handlers list. A page is filled from as many handlers as needed,
/// since many clients request only the first page.
pub(crate) fn list(run: Run<'_>, params: &RequestParams<'_>) -> Result<CallResponse, CallError> {
    let (built, revision) = (run.built, run.revision);
    let (catalog, lists) = (&built.catalog, &built.lists);
    let cursor = params.cursor().map_err(invalid)?;
    if !catalog.has_listers() {
        let page = lists.resources(&catalog.resources, revision).get(cursor.as_deref()).cloned();
        return page.map(|page| CallResponse::ready(Ok(page))).ok_or(CallError::InvalidCursor);
    }
    let position = ListPosition::decode(cursor.as_deref()).ok_or(CallError::InvalidCursor)?;
    let caller = run.invocation.principal.as_deref();
    let may_read =
        |template: &&ResourceTemplate<Registered>| built.policy.permit(&template.requirement, caller).is_ok();
    // A template that the caller may not read keeps its index, so that a cursor is valid for all callers.
    let listing = catalog.templates.iter().filter(|template| template.lister.is_some());
    let listers: Vec<_> = listing.map(|template| template.lister.clone().filter(|_| may_read(&template))).collect();
    let page_size = lists.page_size.unwrap_or(usize::MAX);
    let (mut resources, position) = match position {
        ListPosition::Registered(from) => {
            let is_start = from == 0 || (from.is_multiple_of(page_size) && from < catalog.resources.len());
            if !is_start {
                return Err(CallError::InvalidCursor);
            }
            let rest = catalog.resources[from..].iter().take(page_size);
            let rest: Vec<_> = rest.map(|resource| resource.definition.clone()).collect();
            let next = from + rest.len();
            (
                rest,
                if next < catalog.resources.len() { ListPosition::Registered(next) } else { ListPosition::handler(0) },
            )
        }
        ListPosition::Handler { lister, .. } if lister >= listers.len() => return Err(CallError::InvalidCursor),
        position => (Vec::new(), position),
    };
    let begin = |call| {
        let work: HandlerFuture<_> = Box::pin(async move {
            let mut next = Some(position);
            while let Some(ListPosition::Handler { lister, skip, cursor }) = next.clone() {
                let room = page_size.saturating_sub(resources.len());
                if room == 0 {
                    break;
                }
                let Some(list) = &listers[lister] else {
                    next = Some(ListPosition::handler(lister + 1)).filter(|_| lister + 1 < listers.len());
                    continue;
                };
                let page = list(Arc::clone(&call), cursor.clone()).await?;
                let rest = page.resources.len().saturating_sub(skip);
                resources.extend(page.resources.into_iter().skip(skip).take(room));
                if rest > room {
                    // The handler's own page is longer: it is requested again, and continued after the items that
                    // were returned.
                    next = Some(ListPosition::Handler { lister, skip: skip.saturating_add(room), cursor });
                    break;
                }
                if page.next_cursor.is_some() {
                    next = Some(ListPosition::Handler { lister, skip: 0, cursor: page.next_cursor });
                    break;
                }
                next = Some(ListPosition::handler(lister + 1)).filter(|_| lister + 1 < listers.len());
            }
            Ok((resources, next))
        });
        Ok(work)
    };
    let caching = lists.resources_caching;
    Ok(run.start(ItemKind::Other, None, Span::none(), begin, move |renderer, (resources, next)| {
        let is_modern = revision.is_modern();
        outcome_of(&ListResourcesResult {
            result_type: is_modern.then_some(ResultType::Complete),
            resources: resources.iter().map(|resource| resource.for_revision(revision)).collect(),
            next_cursor: next.map(|place| place.encode()),
            ttl_ms: is_modern.then(|| caching.ttl_ms()),
            cache_scope: is_modern.then_some(caching.scope),
            meta: renderer.meta_for(revision),
        })
    }))
}

/// Accepts a subscription without effect: no connection is held on which a change could be sent.
pub(crate) fn subscribe(item: &MatchedResource<'_>) -> Result<Rendered, CallError> {
    match item {
        MatchedResource::Resource(resource) if resource.is_subscribable => Ok(Rendered::empty()),
        _ => Err(CallError::InvalidInput("this resource does not support subscriptions".to_owned())),
    }
}
