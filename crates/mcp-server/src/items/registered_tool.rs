//! A tool of a built server, with compiled schemas.

use std::{ops::Deref, sync::Arc};

use serde_json::{Value, value::RawValue};

use super::{
    output::ToolOutput,
    registered::Registered,
    tool::{Tool, ToolHandler},
};
use crate::{
    arguments::{self, raw::Check},
    handler::{context::CallContext, error::HandlerFuture},
    schema::{ResultValidator, Violation},
};

/// A tool of a built server.
pub(crate) struct RegisteredTool {
    pub(crate) tool: Tool<Registered>,
    check: Option<Check>,
    pub(crate) result_validator: ResultValidation,
}

impl RegisteredTool {
    #[track_caller]
    pub(crate) fn new<S>(tool: Tool<S>) -> Self {
        let name = &tool.definition.name;
        let check = tool.compile_check().unwrap_or_else(|error| panic!("tool `{name}`: its schema: {error}"));
        let result_validator = tool.new_result_validator.zip(tool.definition.output_schema.as_ref());
        let result_validator = ResultValidation(result_validator.map(|(new, schema)| new(schema).into()));
        Self { tool: tool.registered(), check, result_validator }
    }

    /// Parses the arguments and starts the handler.
    ///
    /// # Errors
    ///
    /// The message about invalid arguments, for the model.
    pub(crate) fn start(
        &self,
        call: Arc<CallContext>,
        arguments: Option<&RawValue>,
    ) -> Result<HandlerFuture<ToolOutput>, String> {
        let schema = &self.definition.input_schema;
        match &self.handler {
            ToolHandler::Typed(handler) => handler(call, arguments, schema),
            ToolHandler::Raw(handler) => {
                let bytes = arguments.map_or(0, |raw| raw.get().len());
                let arguments = Value::Object(arguments::parse_object(arguments, schema)?);
                if let Some(check) = &self.check {
                    check(&arguments, bytes)?;
                }
                // The handler receives the validated value.
                let Value::Object(arguments) = arguments else { unreachable!("it was created as an object above") };
                Ok(handler(call, arguments))
            }
        }
    }
}

impl Deref for RegisteredTool {
    type Target = Tool<Registered>;

    fn deref(&self) -> &Tool<Registered> {
        &self.tool
    }
}

/// Validates a tool's results against its output schema, if it has one.
#[derive(Clone)]
pub(crate) struct ResultValidation(Option<Arc<dyn ResultValidator>>);

impl ResultValidation {
    /// Validates a result. A failed call has no structured content.
    pub(crate) fn check(&self, output: &ToolOutput) -> Result<(), Violation> {
        match (&self.0, &output.structured_content) {
            (Some(check), Some(result)) if !output.is_error => check.check(result.get()),
            (Some(_), None) if !output.is_error => Err(Violation::missing_result()),
            _ => Ok(()),
        }
    }
}
