//! Rows of sign-ins in the store.

use mcp_server::{
    json::{self, Budget},
    store::{Content, Kind, SealedStore, StoreId, StoredValue},
};
use serde::{Deserialize, Serialize};

use super::{LIFETIME, SignedIn, is_equal};
use crate::{
    AuthorizationRequest, ClientSummary, RequestContext, Sealer, Upstream,
    cookies::Browser,
    limits::{RowLimit, RowLimits},
    page_error::{PageError, Step, page_of_internal, page_of_store},
};

const SIGN_IN: Kind = Kind::new("sign-in");
const PERSON: Kind = Kind::new("sign-in-person");
/// Maximum number of sign-ins that can be open at once.
const LIMIT: RowLimit = RowLimit { kind: SIGN_IN, per_network: 120, in_all: 20_000, window: LIFETIME };

/// What sign-ins need.
#[derive(Debug)]
pub(crate) struct SignIns {
    pub(crate) store: SealedStore,
    pub(crate) sealer: Sealer,
    pub(crate) upstream: Upstream,
    pub(crate) limits: RowLimits,
}

/// The row of a sign-in at the identity provider.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SignIn {
    pub(super) browser: String,
    pub(super) target: Target,
    pub(super) nonce: String,
    pub(super) code_verifier: String,
    pub(super) is_used: bool,
}

/// Where a sign-in leads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Target {
    /// To a client.
    Client(ClientTarget),
    /// To the page of the person's grants.
    Grants,
}

/// A request of a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ClientTarget {
    pub(super) request: AuthorizationRequest,
    pub(super) client: ClientSummary,
    /// Whether the consent page was shown.
    pub(super) consented: bool,
}

impl SignIns {
    /// Counts a sign-in that begins.
    pub(super) async fn count(&self, context: &RequestContext<'_>) -> Step<()> {
        let counted = self.limits.count(&LIMIT, context.address, context.now).await.map_err(page_of_store)?;
        if counted { Ok(()) } else { Err(PageError::Limited) }
    }

    pub(super) async fn put(&self, state: &str, sign_in: &SignIn) -> Step<()> {
        let value = serde_json::to_vec(sign_in).map_err(|error| page_of_internal(&error))?;
        let content = Content { value: &value, expires_in: LIFETIME, due_in: None };
        self.store.put_if_absent(&row(SIGN_IN, state), content).await.map_err(page_of_store)?;
        Ok(())
    }

    /// Returns the sign-in of a state, and marks it as used. It stays usable in its own browser, if another one tries.
    pub(super) async fn take(&self, state: &str, browser: &Browser) -> Step<SignIn> {
        let id = row(SIGN_IN, state);
        let stored = self.store.get(&id).await.map_err(page_of_store)?;
        let StoredValue { value, version } = stored.ok_or(PageError::Expired)?;
        let sign_in: SignIn =
            json::read_bytes(&value, Budget::memory(1024 * 1024)).map_err(|error| page_of_internal(&error))?;
        if !is_equal(&sign_in.browser, &browser.id) {
            return Err(PageError::Cookies);
        }
        if sign_in.is_used {
            return Err(PageError::Expired);
        }
        let used = serde_json::to_vec(&SignIn { is_used: true, ..sign_in.clone() });
        let used = used.map_err(|error| page_of_internal(&error))?;
        let content = Content { value: &used, expires_in: LIFETIME, due_in: None };
        let taken = self.store.compare_and_set(&id, version, content).await.map_err(page_of_store)?;
        taken.map(|_| sign_in).ok_or(PageError::Expired)
    }

    /// Stores a person who has signed in, and still has to approve the client.
    pub(super) async fn put_person(&self, form: &str, person: &SignedIn) -> Step<()> {
        let value = serde_json::to_vec(person).map_err(|error| page_of_internal(&error))?;
        let content = Content { value: &value, expires_in: LIFETIME, due_in: None };
        self.store.put_if_absent(&row(PERSON, form), content).await.map_err(page_of_store)?;
        Ok(())
    }

    /// Returns the person of a form once.
    pub(super) async fn take_person(&self, form: &str) -> Step<SignedIn> {
        let id = row(PERSON, form);
        let stored = self.store.get(&id).await.map_err(page_of_store)?;
        let StoredValue { value, version } = stored.filter(|own| !own.value.is_empty()).ok_or(PageError::Expired)?;
        let person = json::read_bytes(&value, Budget::memory(1024 * 1024));
        let person = person.map_err(|error| page_of_internal(&error))?;
        let used = Content { value: b"", expires_in: LIFETIME, due_in: None };
        let taken = self.store.compare_and_set(&id, version, used).await.map_err(page_of_store)?;
        taken.map(|_| person).ok_or(PageError::Expired)
    }
}

fn row(kind: Kind, id: &str) -> StoreId<'_> {
    StoreId { kind, caller: None, id: id.as_bytes() }
}
