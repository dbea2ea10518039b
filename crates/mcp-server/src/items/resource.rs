//! Resources and resource templates.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    marker::PhantomData,
    sync::Arc,
};

use garde::Validate;
use mcp_protocol::{
    Completion, ResourceContents,
    uri::{NormalUri, is_scheme, is_uri_text},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Arguments, Caching, HandlerContext, HandlerError, PartialArgument, RequestContext, arguments,
    arguments::string_args::{as_json, is_required, not_from_string, properties_of},
    handler::{context::CallContext, error::HandlerFuture},
    interaction::request_state::NewCipher,
    items::completion::{Completer, choices, completer},
    items::registered::Registered,
    items::setters::{item_setters, resource_setters, title_setter},
    items::uri_template::UriTemplate,
    policy::requirement::Requirement,
    schema,
};

/// A resource of a server with state `S`, read at one URI.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use mcp_lambda::{HandlerError, RequestContext, Resource};
///
/// async fn terms(_: RequestContext<()>) -> Result<&'static str, HandlerError> {
///     Ok("Use it well.")
/// }
///
/// let resource = Resource::new("docs://terms", "terms", terms).mime_type("text/plain");
/// # let _ = resource;
/// ```
pub struct Resource<S> {
    pub(crate) definition: mcp_protocol::Resource,
    pub(crate) uri: NormalUri,
    pub(crate) handler: ResourceHandler,
    pub(crate) caching: Caching,
    pub(crate) is_subscribable: bool,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
    state: PhantomData<fn(S)>,
}

pub(crate) type ResourceHandler = Box<dyn Fn(Arc<CallContext>) -> HandlerFuture<ResourceOutput> + Send + Sync>;

impl<S: Send + Sync + 'static> Resource<S> {
    /// Creates a resource at `uri`, named `name`, that `handler` reads. Equivalent URIs
    /// ([RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2)) match: `DOCS://%74erms/` is `docs://terms`.
    ///
    /// # Panics
    ///
    /// When the URI has no scheme, or the name is empty.
    #[track_caller]
    pub fn new<C, T, F, Fut>(uri: impl Into<String>, name: impl Into<String>, handler: F) -> Self
    where
        C: HandlerContext<State = S>,
        T: Into<ResourceOutput>,
        F: Fn(C) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let definition = mcp_protocol::Resource::new(uri, name);
        let uri = definition.uri.clone();
        assert!(
            uri.split_once(':').is_some_and(|(scheme, _)| is_scheme(scheme)),
            "resource `{uri}`: the URI needs a scheme"
        );
        assert!(is_uri_text(&uri), "resource `{uri}`: the URI has invalid characters: percent-encode them");
        assert!(!definition.name.is_empty(), "resource `{uri}` needs a name");
        let handler = Arc::new(handler);
        let handler: ResourceHandler = Box::new(move |call| {
            let (handler, context) = (Arc::clone(&handler), C::from_context(RequestContext::of(call)));
            Box::pin(async move { Ok(handler(context).await?.into()) })
        });
        let (caching, cipher, requirement) = (Caching::NONE, C::cipher(), Requirement::default());
        let uri = NormalUri::new(&uri);
        Self { definition, uri, handler, caching, is_subscribable: false, cipher, requirement, state: PhantomData }
    }

    item_setters!("Sets the description.", "Sets the icons.");
    title_setter!();
    resource_setters!(
        "Sets the media type, such as `text/markdown`. It applies to the contents too, unless the handler returns another.",
        "Sets audience and priority."
    );

    /// Sets the size in bytes, before any encoding.
    #[must_use]
    pub fn size(mut self, bytes: u64) -> Self {
        self.definition.size = Some(bytes);
        self
    }

    /// Accepts `resources/subscribe` and `resources/unsubscribe` of clients of revisions up to 2025-11-25, which send them
    /// without checking the capability. No change is ever sent, since no connection is held for it, and the server does not
    /// declare the capability.
    #[must_use]
    pub fn subscribable(mut self) -> Self {
        self.is_subscribable = true;
        self
    }
}

impl<S> Resource<S> {
    /// Erases the type of the state, which the handler downcasts when it runs.
    pub(crate) fn registered(self) -> Resource<Registered> {
        let Self { definition, uri, handler, caching, is_subscribable, cipher, requirement, state: _ } = self;
        Resource { definition, uri, handler, caching, is_subscribable, cipher, requirement, state: PhantomData }
    }
}

impl<S> fmt::Debug for Resource<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resource").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// A resource template of a server with state `S`: resources whose URIs match a pattern.
///
/// ```
/// # use mcp_server as mcp_lambda;
/// use garde::Validate;
/// use mcp_lambda::{HandlerError, RequestContext, ResourceTemplate};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema, Validate)]
/// struct EventUri {
///     /// The event's number.
///     #[garde(range(min = 1))]
///     id: u64,
/// }
///
/// async fn event(_: RequestContext<()>, uri: EventUri) -> Result<String, HandlerError> {
///     if uri.id > 3 {
///         return Err(HandlerError::not_found());
///     }
///     Ok(format!("Event number {}", uri.id))
/// }
///
/// let template = ResourceTemplate::new("events://{id}", "event", event).mime_type("text/plain");
/// # let _ = template;
/// ```
pub struct ResourceTemplate<S> {
    pub(crate) definition: mcp_protocol::ResourceTemplate,
    pub(crate) pattern: UriTemplate,
    pub(crate) handler: TemplateHandler,
    pub(crate) lister: Option<Lister>,
    pub(crate) completers: HashMap<String, Completer>,
    pub(crate) caching: Caching,
    pub(crate) cipher: Option<NewCipher>,
    pub(crate) requirement: Requirement,
    state: PhantomData<fn(S)>,
}

/// Parses the values of the variables. If they do not match their type, the resource is not found.
pub(crate) type TemplateHandler =
    Box<dyn Fn(Arc<CallContext>, BTreeMap<String, String>) -> HandlerFuture<ResourceOutput> + Send + Sync>;

/// Shared with requests of `resources/list`.
pub(crate) type Lister = Arc<dyn Fn(Arc<CallContext>, Option<String>) -> HandlerFuture<ResourcePage> + Send + Sync>;

impl<S: Send + Sync + 'static> ResourceTemplate<S> {
    /// Creates a template named `name` for the URIs of `uri_template`, which `handler` reads.
    ///
    /// The pattern supports `{name}`, and `{+name}` for a value that may contain slashes
    /// ([RFC 6570](https://www.rfc-editor.org/rfc/rfc6570), level 1 and `+` of level 2). Its variables are the fields of
    /// the parameter type: numbers and booleans are parsed, and bounds are checked. A URI with invalid values is not found. URIs are
    /// matched in their normal form ([RFC 3986](https://www.rfc-editor.org/rfc/rfc3986#section-6.2.2)), so that equivalent URIs match.
    ///
    /// The caller chooses the values, which are percent-decoded once. A value never contains a segment `.` or `..` between slashes or
    /// backslashes: a URI with such a segment, encoded or not, is normalized or not found. `{name}` may still contain slashes (`a%2Fb`
    /// is `a/b`), and a value may begin with one: do not pass it to `Path::join`, which would then leave the directory.
    ///
    /// # Panics
    ///
    /// When the pattern is invalid, or its variables are not the fields of the parameter type.
    #[track_caller]
    pub fn new<C, P, T, F, Fut>(uri_template: impl Into<String>, name: impl Into<String>, handler: F) -> Self
    where
        C: HandlerContext<State = S>,
        P: Arguments,
        T: Into<ResourceOutput>,
        F: Fn(C, P) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let definition = mcp_protocol::ResourceTemplate::new(uri_template, name);
        let own = &definition.uri_template;
        let pattern = UriTemplate::parse(own).unwrap_or_else(|error| panic!("resource template `{own}`: {error}"));
        let schema = schema::input_schema_of::<P>();
        let properties = properties_of(&schema, &[]);
        if let Some(name) = not_from_string(&properties) {
            panic!("resource template `{own}`: the field `{name}` cannot be parsed from a string");
        }
        for variable in pattern.variables() {
            let is_known = properties.iter().any(|(name, _)| *name == variable);
            assert!(is_known, "resource template `{own}`: its parameter type has no field `{variable}`");
        }
        for (name, _) in &properties {
            let has_variable = !is_required(&schema, name) || pattern.variables().any(|variable| variable == *name);
            assert!(has_variable, "resource template `{own}`: it has no variable for the field `{name}`");
        }
        let completers =
            properties.iter().filter_map(|(name, property)| Some(((*name).to_owned(), choices(property)?)));
        let completers = completers.collect();

        let handler = Arc::new(handler);
        let handler: TemplateHandler = Box::new(move |call, values| {
            let Some(parameters) = read::<P>(values, &schema) else {
                return Box::pin(async { Err(HandlerError::not_found()) });
            };
            let (handler, context) = (Arc::clone(&handler), C::from_context(RequestContext::of(call)));
            Box::pin(async move { Ok(handler(context, parameters).await?.into()) })
        });
        let (lister, caching, cipher, requirement) = (None, Caching::NONE, C::cipher(), Requirement::default());
        Self { definition, pattern, handler, lister, completers, caching, cipher, requirement, state: PhantomData }
    }

    item_setters!("Sets the description.", "Sets the icons.");
    title_setter!();
    resource_setters!(
        "Sets the media type of all resources. It applies to the contents too, unless the handler returns another.",
        "Sets audience and priority."
    );

    /// Sets a handler that lists existing resources in `resources/list`, after the registered ones. The handler receives
    /// the cursor that it returned with the previous page, and `None` for the first; validate it, since a caller may send any
    /// text. It runs only for callers who may read the resources. The whole list is then private and immediately stale unless
    /// [`Server::caching`](crate::Server::caching) is set.
    #[must_use]
    pub fn list<T, F, Fut>(mut self, handler: F) -> Self
    where
        T: Into<ResourcePage>,
        F: Fn(RequestContext<S>, Option<String>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.lister = Some(Arc::new(move |call, cursor| {
            let (handler, context) = (Arc::clone(&handler), RequestContext::of(call));
            Box::pin(async move { Ok(handler(context, cursor).await?.into()) })
        }));
        self
    }

    /// Completes a partial variable with up to 100 values, most relevant first.
    ///
    /// # Panics
    ///
    /// When the pattern has no variable with this name.
    #[must_use]
    #[track_caller]
    pub fn complete<T, F, Fut>(mut self, variable: &str, handler: F) -> Self
    where
        T: Into<Completion>,
        F: Fn(RequestContext<S>, PartialArgument) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, HandlerError>> + Send + 'static,
    {
        let pattern = &self.definition.uri_template;
        let is_known = self.pattern.variables().any(|own| own == variable);
        assert!(is_known, "resource template `{pattern}` has no variable `{variable}` to complete");
        self.completers.insert(variable.to_owned(), completer(handler));
        self
    }
}

impl<S> ResourceTemplate<S> {
    /// Erases the type of the state, which the handler downcasts when it runs.
    pub(crate) fn registered(self) -> ResourceTemplate<Registered> {
        let Self { definition, pattern, handler, lister, completers, caching, cipher, requirement, state: _ } = self;
        let state = PhantomData;
        ResourceTemplate { definition, pattern, handler, lister, completers, caching, cipher, requirement, state }
    }
}

fn read<P: DeserializeOwned + Validate<Context = ()>>(values: BTreeMap<String, String>, schema: &Value) -> Option<P> {
    // `events://5.0` is not equivalent to `events://5`.
    arguments::parse_exact(&as_json(values, schema))
}

impl<S> fmt::Debug for ResourceTemplate<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResourceTemplate").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// A page of a list of resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ResourcePage {
    /// The resources.
    pub resources: Vec<mcp_protocol::Resource>,
    /// The author's cursor of the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

impl From<Vec<mcp_protocol::Resource>> for ResourcePage {
    /// A single page.
    fn from(resources: Vec<mcp_protocol::Resource>) -> Self {
        Self { resources, next_cursor: None }
    }
}

/// Contents of a resource. Text and bytes are converted to it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ResourceOutput {
    /// Text, of the resource's media type (`text/plain` if it has none).
    Text(String),
    /// Bytes, of the resource's media type (`application/octet-stream` if it has none).
    Bytes(Vec<u8>),
    /// Several contents, each with its own URI and media type.
    Contents(Vec<ResourceContents>),
}

impl ResourceOutput {
    pub(crate) fn into_contents(self, uri: &str, mime_type: Option<&str>) -> Vec<ResourceContents> {
        match self {
            Self::Text(text) => vec![ResourceContents::text(uri, mime_type.unwrap_or("text/plain"), text)],
            Self::Bytes(bytes) => {
                vec![ResourceContents::blob(uri, mime_type.unwrap_or("application/octet-stream"), bytes)]
            }
            Self::Contents(contents) => contents,
        }
    }
}

impl From<String> for ResourceOutput {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for ResourceOutput {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for ResourceOutput {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&'static [u8]> for ResourceOutput {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<ResourceContents>> for ResourceOutput {
    fn from(contents: Vec<ResourceContents>) -> Self {
        Self::Contents(contents)
    }
}
