//! The traits that authors derive, under names of this crate, so that the compiler reports the missing derive.
//!
//! An error about the foreign trait lists types that implement it instead. Each trait here is implemented for every type that has the
//! trait of its name. They are not exported.

use garde::Validate;
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};

#[diagnostic::on_unimplemented(message = "`{Self}` lacks `#[derive(Deserialize)]`, of serde")]
pub trait DerivesDeserialize: DeserializeOwned {}

#[diagnostic::on_unimplemented(message = "`{Self}` lacks `#[derive(Validate)]`, of garde")]
pub trait DerivesValidate: Validate<Context = ()> {}

#[diagnostic::on_unimplemented(
    message = "`{Self}` lacks `#[derive(JsonSchema)]`, of schemars",
    label = "its handler returns `Json` of this type",
    note = "what is in `Json` has `#[derive(Serialize, JsonSchema)]`, and so have the types of its fields and elements"
)]
pub trait DerivesJsonSchema: JsonSchema {}

#[diagnostic::on_unimplemented(
    message = "`{Self}` lacks `#[derive(Serialize)]`, of serde",
    label = "its handler returns `Json` of this type",
    note = "what is in `Json` has `#[derive(Serialize, JsonSchema)]`, and so have the types of its fields and elements"
)]
pub trait DerivesSerialize: Serialize {}

// Without these attributes, the compiler reports the foreign trait.
#[diagnostic::do_not_recommend]
impl<T: DeserializeOwned> DerivesDeserialize for T {}

#[diagnostic::do_not_recommend]
impl<T: Validate<Context = ()>> DerivesValidate for T {}

#[diagnostic::do_not_recommend]
impl<T: JsonSchema> DerivesJsonSchema for T {}

#[diagnostic::do_not_recommend]
impl<T: Serialize> DerivesSerialize for T {}
