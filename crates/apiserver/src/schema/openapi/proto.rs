//! The OpenAPI v2 document as protobuf: gnostic's `openapi.v2.Document`, which kubectl reads up to 1.26.
//!
//! Only the messages that our documents use are here; the field numbers are those of gnostic's `OpenAPIv2.proto`.

mod messages;

use prost::Message;
use serde_json::{Map, Value};

use messages::*;

/// The document's bytes.
pub(super) fn encode(document: &Value) -> Vec<u8> {
    Document {
        swagger: text(document, "swagger"),
        info: document.get("info").map(|info| Info { title: text(info, "title"), version: text(info, "version") }),
        paths: Some(Paths {
            path: named(document.get("paths"), |name, value| NamedPathItem { name, value: Some(path_item(value)) }),
        }),
        definitions: Some(Definitions { additional_properties: schemas(document.get("definitions")) }),
        security: items(document.get("security")).iter().map(security_requirement).collect(),
        security_definitions: document.get("securityDefinitions").map(security_definitions),
    }
    .encode_to_vec()
}

fn path_item(item: &Value) -> PathItem {
    let operation = |method: &str| item.get(method).map(operation);
    PathItem {
        get: operation("get"),
        put: operation("put"),
        post: operation("post"),
        delete: operation("delete"),
        patch: operation("patch"),
        parameters: items(item.get("parameters")).iter().map(parameter).collect(),
    }
}

fn operation(operation: &Value) -> Operation {
    let responses = named(operation.get("responses"), |name, value| NamedResponseValue {
        name,
        value: Some(ResponseValue { kind: Some(response_value::Kind::Response(response(value))) }),
    });
    Operation {
        operation_id: text(operation, "operationId"),
        produces: strings(operation.get("produces")),
        consumes: strings(operation.get("consumes")),
        parameters: items(operation.get("parameters")).iter().map(parameter).collect(),
        responses: Some(Responses { response_code: responses }),
        schemes: strings(operation.get("schemes")),
        vendor_extension: extensions(operation),
    }
}

fn parameter(parameter: &Value) -> ParametersItem {
    let (name, place, description) = (text(parameter, "name"), text(parameter, "in"), text(parameter, "description"));
    let required = flag(parameter, "required");
    let kind = if place == "body" {
        let schema = parameter.get("schema").map(schema);
        parameter::Kind::Body(Box::new(BodyParameter { description, name, r#in: place, required, schema }))
    } else {
        let simple =
            SimpleParameter { required, r#in: place.clone(), description, name, r#type: text(parameter, "type") };
        let kind = if place == "path" {
            non_body_parameter::Kind::Path(simple.path(flag(parameter, "uniqueItems")))
        } else {
            non_body_parameter::Kind::Query(simple.query(flag(parameter, "uniqueItems")))
        };
        parameter::Kind::NonBody(NonBodyParameter { kind: Some(kind) })
    };
    ParametersItem { kind: Some(parameters_item::Kind::Parameter(Parameter { kind: Some(kind) })) }
}

/// What path and query parameters have in common.
struct SimpleParameter {
    required: bool,
    r#in: String,
    description: String,
    name: String,
    r#type: String,
}

impl SimpleParameter {
    fn path(self, unique_items: bool) -> PathParameter {
        let SimpleParameter { required, r#in, description, name, r#type } = self;
        PathParameter { required, r#in, description, name, r#type, unique_items }
    }

    fn query(self, unique_items: bool) -> QueryParameter {
        let SimpleParameter { required, r#in, description, name, r#type } = self;
        QueryParameter { required, r#in, description, name, r#type, unique_items }
    }
}

fn response(response: &Value) -> Response {
    let schema = response.get("schema").map(|s| SchemaItem { kind: Some(schema_item::Kind::Schema(schema(s))) });
    Response { description: text(response, "description"), schema }
}

fn schema(schema: &Value) -> Schema {
    let number = |name: &str| schema.get(name).and_then(Value::as_f64).unwrap_or(0.0);
    let count = |name: &str| schema.get(name).and_then(Value::as_i64).unwrap_or(0);
    Schema {
        r#ref: text(schema, "$ref"),
        format: text(schema, "format"),
        title: text(schema, "title"),
        description: text(schema, "description"),
        default: schema.get("default").map(any),
        multiple_of: number("multipleOf"),
        maximum: number("maximum"),
        exclusive_maximum: flag(schema, "exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag(schema, "exclusiveMinimum"),
        max_length: count("maxLength"),
        min_length: count("minLength"),
        pattern: text(schema, "pattern"),
        max_items: count("maxItems"),
        min_items: count("minItems"),
        unique_items: flag(schema, "uniqueItems"),
        max_properties: count("maxProperties"),
        min_properties: count("minProperties"),
        required: strings(schema.get("required")),
        r#enum: items(schema.get("enum")).iter().map(any).collect(),
        additional_properties: schema.get("additionalProperties").map(|entries| {
            let kind = match entries {
                Value::Bool(allowed) => additional_properties_item::Kind::Boolean(*allowed),
                entries => additional_properties_item::Kind::Schema(Box::new(self::schema(entries))),
            };
            Box::new(AdditionalPropertiesItem { kind: Some(kind) })
        }),
        r#type: schema.get("type").and_then(Value::as_str).map(|name| TypeItem { value: vec![name.to_owned()] }),
        items: schema.get("items").map(|items| ItemsItem { schema: vec![self::schema(items)] }),
        properties: schema.get("properties").map(|fields| Properties { additional_properties: schemas(Some(fields)) }),
        vendor_extension: extensions(schema),
    }
}

fn schemas(map: Option<&Value>) -> Vec<NamedSchema> {
    named(map, |name, value| NamedSchema { name, value: Some(schema(value)) })
}

fn security_definitions(definitions: &Value) -> SecurityDefinitions {
    let definition = |name: String, value: &Value| {
        let key = ApiKeySecurity {
            r#type: text(value, "type"),
            name: text(value, "name"),
            r#in: text(value, "in"),
            description: text(value, "description"),
        };
        let kind = Some(security_definitions_item::Kind::ApiKey(key));
        NamedSecurityDefinitionsItem { name, value: Some(SecurityDefinitionsItem { kind }) }
    };
    SecurityDefinitions { additional_properties: named(Some(definitions), definition) }
}

fn security_requirement(requirement: &Value) -> SecurityRequirement {
    let array = |name: String, value: &Value| NamedStringArray {
        name,
        value: Some(StringArray { value: strings(Some(value)) }),
    };
    SecurityRequirement { additional_properties: named(Some(requirement), array) }
}

/// Extensions carry YAML, and JSON is YAML.
fn extensions(object: &Value) -> Vec<NamedAny> {
    let fields = object.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
    fields.map(|(name, value)| NamedAny { name: name.clone(), value: Some(any(value)) }).collect()
}

fn any(value: &Value) -> Any {
    Any { yaml: format!("{value}\n") }
}

fn named<T>(map: Option<&Value>, make: impl Fn(String, &Value) -> T) -> Vec<T> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let map = map.and_then(Value::as_object).unwrap_or(&EMPTY);
    map.iter().map(|(name, value)| make(name.clone(), value)).collect()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or("").to_owned()
}

fn flag(value: &Value, name: &str) -> bool {
    value.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn items(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    items(value).iter().filter_map(Value::as_str).map(str::to_owned).collect()
}
