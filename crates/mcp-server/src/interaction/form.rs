//! Elicitation forms that are derived from a type: a flat object of simple fields (2026-07-28, `client/elicitation`, "Requested
//! Schema").

use mcp_protocol::{
    BooleanSchema, JsonObject, NumberSchema, PrimitiveSchemaDefinition, RequestedSchema, StringSchema, TitledItems,
    TitledMultiSelectEnumSchema, TitledOption, TitledSingleSelectEnumSchema, UntitledMultiSelectEnumSchema,
    UntitledSingleSelectEnumSchema,
};
use serde::de::DeserializeOwned;
use serde_json::{Number, Value};

use crate::{
    arguments::string_args::{field_order, is_required, options, properties_of},
    schema::primitive_type,
};

/// String formats that clients support.
const FORMATS: [&str; 4] = ["date", "date-time", "email", "uri"];

/// Returns the form of a type, with its fields in the order of declaration.
///
/// # Errors
///
/// When a field is not a string, a number, a boolean, an enum or a list of enums.
pub(crate) fn form_for<T: DeserializeOwned>(schema: &Value) -> Result<RequestedSchema, String> {
    form(schema, field_order::<T>())
}

fn form(schema: &Value, order: &[&str]) -> Result<RequestedSchema, String> {
    let mut form = RequestedSchema::new();
    for (name, property) in properties_of(schema, order) {
        let field = field(property).ok_or_else(|| {
            format!(
                "the field `{name}` is not supported in a form: use text, numbers, booleans, enums or lists of enums"
            )
        })?;
        form = if is_required(schema, name) { form.required(name, field) } else { form.optional(name, field) };
    }
    if form.properties.0.is_empty() {
        return Err("a form needs fields: its type must be a struct with at least one".to_owned());
    }
    Ok(form)
}

fn field(property: &Value) -> Option<PrimitiveSchemaDefinition> {
    let text = |name: &str| property.get(name).and_then(Value::as_str).map(str::to_owned);
    let (title, description) = (text("title"), text("description"));
    if let Some(options) = options(property) {
        let default = text("default");
        return Some(match titled(&options) {
            Some(one_of) => TitledSingleSelectEnumSchema { title, description, one_of, default }.into(),
            None => UntitledSingleSelectEnumSchema { title, description, options: texts(options), default }.into(),
        });
    }
    let count = |name: &str| property.get(name).and_then(Value::as_u64);
    match primitive_type(property)? {
        "string" => {
            let format = text("format").filter(|format| FORMATS.contains(&format.as_str()));
            let (min_length, max_length) = (count("minLength"), count("maxLength"));
            Some(StringSchema { title, description, min_length, max_length, format, default: text("default") }.into())
        }
        kind @ ("integer" | "number") => {
            let number = |name: &str| property.get(name).and_then(Value::as_number).map(integer_if_whole);
            let (minimum, maximum, default) = (number("minimum"), number("maximum"), number("default"));
            let field = NumberSchema { title, description, minimum, maximum, default };
            Some(match kind {
                "integer" => PrimitiveSchemaDefinition::Integer(field),
                _ => PrimitiveSchemaDefinition::Number(field),
            })
        }
        "boolean" => {
            let default = property.get("default").and_then(Value::as_bool);
            Some(BooleanSchema { title, description, default }.into())
        }
        "array" => {
            let options = options(property.get("items")?)?;
            let (min_items, max_items) = (count("minItems"), count("maxItems"));
            let default = property.get("default").and_then(Value::as_array);
            let default =
                default.map(|values| values.iter().filter_map(|value| Some(value.as_str()?.to_owned())).collect());
            Some(match titled(&options) {
                Some(any_of) => {
                    let items = TitledItems { any_of };
                    TitledMultiSelectEnumSchema { title, description, min_items, max_items, items, default }.into()
                }
                None => {
                    let own = UntitledMultiSelectEnumSchema::new(texts(options));
                    UntitledMultiSelectEnumSchema { title, description, min_items, max_items, default, ..own }.into()
                }
            })
        }
        _ => None,
    }
}

/// Converts a number without a fraction to an integer: garde's bounds are `1.0` in a schema, and some clients send all numbers as
/// floating point.
fn integer_if_whole(number: &Number) -> Number {
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() < 1e15 => {
            // Exact, because of the condition above.
            #[expect(clippy::cast_possible_truncation, reason = "a whole number below 1e15")]
            let whole = value as i64;
            whole.into()
        }
        _ => number.clone(),
    }
}

/// Validates the content of a form: required fields and types of values. Whole numbers are converted to integers where the
/// form has integers: `3.0` is an integer in JSON Schema.
pub(crate) fn validate_content(form: &RequestedSchema, mut content: JsonObject) -> Result<JsonObject, String> {
    if let Some(missing) = form.required.iter().find(|name| !content.contains_key(*name)) {
        return Err(format!("`{missing}` is missing"));
    }
    for (name, field) in &form.properties.0 {
        if let (Some(Value::Number(number)), PrimitiveSchemaDefinition::Integer(_)) = (content.get_mut(name), field) {
            *number = integer_if_whole(number);
        }
        let fits = match (content.get(name), field) {
            (None, _)
            | (Some(Value::Bool(_)), PrimitiveSchemaDefinition::Boolean(_))
            | (Some(Value::Number(_)), PrimitiveSchemaDefinition::Number(_)) => true,
            (Some(Value::Number(number)), PrimitiveSchemaDefinition::Integer(_)) => !number.is_f64(),
            (Some(Value::String(text)), PrimitiveSchemaDefinition::String(field)) => {
                field.options().is_none_or(|options| options.contains(&text.as_str()))
            }
            (Some(Value::Array(chosen)), PrimitiveSchemaDefinition::Array(field)) => {
                let options = field.options();
                chosen.iter().all(|text| text.as_str().is_some_and(|text| options.contains(&text)))
            }
            _ => false,
        };
        if !fits {
            return Err(format!("`{name}` does not match the type of its field"));
        }
    }
    Ok(content)
}

/// Returns the options with their titles, if any has one.
fn titled(options: &[(String, Option<String>)]) -> Option<Vec<TitledOption>> {
    let has_titles = options.iter().any(|(_, title)| title.is_some());
    let with_title =
        |(value, title): &(String, Option<String>)| TitledOption::new(value, title.as_ref().unwrap_or(value));
    has_titles.then(|| options.iter().map(with_title).collect())
}

fn texts(options: Vec<(String, Option<String>)>) -> Vec<String> {
    options.into_iter().map(|(value, _)| value).collect()
}

#[cfg(test)]
mod tests {
    use garde::Validate;
    use schemars::JsonSchema;
    use serde::Deserialize;
    use serde_json::json;

    use super::*;
    use crate::schema::input_schema_of;

    #[derive(Debug, Default, Deserialize, serde::Serialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Size {
        #[default]
        Small,
        Large,
    }

    #[derive(Deserialize, JsonSchema)]
    enum Topping {
        /// With basil
        Basil,
        /// With olives
        Olives,
    }

    #[derive(Deserialize, JsonSchema, Validate)]
    #[expect(dead_code, reason = "only its schema matters")]
    struct Order {
        /// Who orders.
        #[garde(length(chars, min = 1, max = 50))]
        name: String,
        #[schemars(email)]
        #[garde(skip)]
        email: Option<String>,
        #[garde(range(min = 1, max = 9))]
        count: u8,
        #[serde(default)]
        #[garde(skip)]
        size: Size,
        #[garde(skip)]
        topping: Option<Topping>,
        #[garde(skip)]
        #[serde(default)]
        extras: Vec<Topping>,
        #[garde(range(min = 0.0, max = 1.5))]
        tip: Option<f64>,
        #[garde(skip)]
        #[serde(default)]
        hurry: bool,
    }

    #[test]
    fn a_struct_becomes_a_form_in_the_order_of_its_fields() {
        let form = serde_json::to_string(&form_for::<Order>(&input_schema_of::<Order>()).unwrap()).unwrap();

        let toppings = r#"[{"const":"Basil","title":"With basil"},{"const":"Olives","title":"With olives"}]"#;
        assert_eq!(
            form,
            [
                r#"{"type":"object","properties":{"#,
                r#""name":{"type":"string","description":"Who orders.","minLength":1,"maxLength":50},"#,
                r#""email":{"type":"string","format":"email"},"#,
                r#""count":{"type":"integer","minimum":1,"maximum":9},"#,
                r#""size":{"type":"string","enum":["small","large"],"default":"small"},"#,
                &format!(r#""topping":{{"type":"string","oneOf":{toppings}}},"#),
                &format!(r#""extras":{{"type":"array","items":{{"anyOf":{toppings}}}}},"#),
                r#""tip":{"type":"number","minimum":0,"maximum":1.5},"#,
                r#""hurry":{"type":"boolean","default":false}},"#,
                r#""required":["name","count"]}"#,
            ]
            .concat()
        );
    }

    /// Answers of clients with a single number type.
    #[test]
    fn a_whole_number_in_an_answer_is_an_integer() {
        let field = |schema| RequestedSchema::new().required("count", schema);
        let read = |form, count: &str| {
            let content = serde_json::from_str(&format!(r#"{{"count":{count}}}"#)).unwrap();
            validate_content(&form, content).map(|content| content["count"].to_string())
        };
        let integer = || field(PrimitiveSchemaDefinition::Integer(NumberSchema::default()));

        assert_eq!(read(integer(), "3.0").as_deref(), Ok("3"));
        assert_eq!(read(integer(), "1e3").as_deref(), Ok("1000"));
        assert!(read(integer(), "1.5").unwrap_err().contains("`count`"));
        assert_eq!(
            read(field(PrimitiveSchemaDefinition::Number(NumberSchema::default())), "3.0").as_deref(),
            Ok("3.0")
        );
    }

    #[test]
    fn an_unsupported_field_is_reported_by_name() {
        let nested = json!({ "properties": { "where": { "type": "object", "properties": {} } } });

        assert!(form(&nested, &[]).unwrap_err().contains("`where`"));
        assert!(form(&json!({ "type": "string" }), &[]).unwrap_err().contains("needs fields"));
    }
}
