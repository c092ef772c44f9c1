//! JSON Schema (2020-12) over documents: compiled once, then asked of each state a write would leave.

use super::{document::malformed, json::write_value_canonical};
use crate::base::fault::Fault;
use bson::{RawArray, RawArrayBuf, RawBson, RawBsonRef, RawDocument, RawDocumentBuf};
use jsonschema::{
    Draft, PatternOptions, Validator,
    error::{TypeKind, ValidationErrorKind},
};
use serde_json::{Map, Number, Value, json};
use std::collections::HashMap;

/// Bytes a compiled pattern may take.
const PATTERN_SIZE: usize = 1 << 20;
/// How deep `properties` and `items` are followed for dates; a document is no deeper.
const DEEPEST: usize = 100;

/// A compiled schema. Top level fields starting with `_` are the server's and outside of it.
pub struct Schema {
    validator: Validator,
    dates: Dates,
}

impl Schema {
    /// References stay within the schema; patterns run without backtracking.
    pub fn compile(schema: &RawDocument) -> Result<Self, Fault> {
        let value = document_to_json(schema, false);
        let validator = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .with_pattern_options(PatternOptions::regex().size_limit(PATTERN_SIZE))
            .should_validate_formats(true)
            .offline()
            .build(&value)
            .map_err(|error| {
                let place = dotted(error.instance_path().as_str());
                let path = if place.is_empty() { "schema".to_owned() } else { format!("schema.{place}") };
                Fault::new("collections.schema").at(path).with("reason", error)
            })?;
        Ok(Self { validator, dates: Dates::of(&value, 0) })
    }

    /// Whether a document may stand. The first broken rule is the fault.
    pub fn check(&self, document: &RawDocument) -> Result<(), Fault> {
        let value = document_to_json(document, true);
        self.validator.validate(&value).map_err(|error| fault(&error))
    }

    /// RFC 3339 strings become dates where `properties` and `items` of the schema say `date-time`. Also for a merge
    /// patch, whose shape is the document's.
    pub fn dates(&self, document: RawDocumentBuf) -> Result<RawDocumentBuf, Fault> {
        if self.dates.is_empty() {
            return Ok(document);
        }
        self.dates.document(&document, "")
    }

    /// As [`Schema::dates`], of one value standing at a dotted path.
    pub fn dates_at(&self, path: &str, value: RawBsonRef<'_>) -> Result<RawBson, Fault> {
        match self.dates.below(path) {
            Some(dates) if !dates.is_empty() => dates.value(value, path),
            _ => Ok(RawBson::from(value)),
        }
    }
}

/// Where a schema says `date-time`.
#[derive(Debug, Default)]
struct Dates {
    here: bool,
    fields: HashMap<String, Dates>,
    items: Option<Box<Dates>>,
}

impl Dates {
    fn of(schema: &Value, depth: usize) -> Self {
        if depth == DEEPEST {
            return Self::default();
        }
        let fields = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        let items = schema.get("items").map(|items| Self::of(items, depth + 1)).filter(|items| !items.is_empty());
        Self {
            here: schema.get("format").and_then(Value::as_str) == Some("date-time"),
            fields: fields
                .map(|(name, field)| (name.clone(), Self::of(field, depth + 1)))
                .filter(|(_, field)| !field.is_empty())
                .collect(),
            items: items.map(Box::new),
        }
    }

    fn is_empty(&self) -> bool {
        !self.here && self.fields.is_empty() && self.items.is_none()
    }

    fn below(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |dates, part| {
            let item = || dates.items.as_deref().filter(|_| part.starts_with('$') || part.parse::<u32>().is_ok());
            dates.fields.get(part).or_else(item)
        })
    }

    fn value(&self, value: RawBsonRef<'_>, path: &str) -> Result<RawBson, Fault> {
        Ok(match value {
            RawBsonRef::String(text) if self.here => {
                let date = bson::DateTime::parse_rfc3339_str(text)
                    .map_err(|_| Fault::new("base.unreadable_time").at(path).with("value", text))?;
                RawBson::DateTime(date)
            }
            RawBsonRef::Document(document) if !self.fields.is_empty() => {
                RawBson::Document(self.document(document, path)?)
            }
            RawBsonRef::Array(array) => match &self.items {
                Some(items) => RawBson::Array(items.array(array, path)?),
                None => RawBson::from(value),
            },
            other => RawBson::from(other),
        })
    }

    fn document(&self, document: &RawDocument, path: &str) -> Result<RawDocumentBuf, Fault> {
        let mut converted = RawDocumentBuf::new();
        for entry in document {
            let (name, value) = entry.map_err(malformed)?;
            match self.fields.get(name.as_str()) {
                Some(dates) => {
                    let place = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
                    converted.append(name, dates.value(value, &place)?);
                }
                None => converted.append(name, value),
            }
        }
        Ok(converted)
    }

    fn array(&self, array: &RawArray, path: &str) -> Result<RawArrayBuf, Fault> {
        let mut converted = RawArrayBuf::new();
        for (place, value) in array.into_iter().enumerate() {
            let value = value.map_err(malformed)?;
            converted.push(self.value(value, &format!("{path}.{place}"))?);
        }
        Ok(converted)
    }
}

/// A document as a schema sees it: dates are RFC 3339 strings, numbers are numbers, ids are text; what JSON has no
/// form for stays Extended JSON.
fn document_to_json(document: &RawDocument, skip_system: bool) -> Value {
    let mut map = Map::new();
    for (name, value) in document.into_iter().flatten() {
        if !(skip_system && name.as_str().starts_with('_')) {
            map.insert(name.to_string(), to_json(value));
        }
    }
    Value::Object(map)
}

fn to_json(value: RawBsonRef<'_>) -> Value {
    match value {
        RawBsonRef::Null => Value::Null,
        RawBsonRef::Boolean(value) => Value::Bool(value),
        RawBsonRef::String(text) => Value::String(text.to_owned()),
        RawBsonRef::Int32(number) => Value::from(number),
        RawBsonRef::Int64(number) => Value::from(number),
        RawBsonRef::Double(number) => {
            Number::from_f64(number).map_or_else(|| json!({ "$numberDouble": number.to_string() }), Value::Number)
        }
        RawBsonRef::Decimal128(decimal) => {
            let text = decimal.to_string();
            text.parse::<i64>()
                .map(Value::from)
                .ok()
                .or_else(|| text.parse().ok().and_then(Number::from_f64).map(Value::Number))
                .unwrap_or_else(|| json!({ "$numberDecimal": text }))
        }
        RawBsonRef::DateTime(date) => date
            .try_to_rfc3339_string()
            .map_or_else(|_| json!({ "$date": { "$numberLong": date.timestamp_millis().to_string() } }), Value::String),
        RawBsonRef::ObjectId(id) => Value::String(id.to_hex()),
        RawBsonRef::Array(array) => Value::Array(array.into_iter().flatten().map(to_json).collect()),
        RawBsonRef::Document(document) => document_to_json(document, false),
        other => extended(other),
    }
}

fn extended(value: RawBsonRef<'_>) -> Value {
    let mut text = Vec::new();
    let written = write_value_canonical(value, &mut text);
    written.ok().and_then(|()| serde_json::from_slice(&text).ok()).unwrap_or(Value::Null)
}

fn fault(error: &jsonschema::ValidationError<'_>) -> Fault {
    use ValidationErrorKind as Kind;
    let path = dotted(error.instance_path().as_str());
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    let rule = |key| Fault::new(key).at(path.clone()).with("keyword", error.kind().keyword());
    match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            Fault::new("schema.required").at(below(name)).with("keyword", "required")
        }
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            let name = unexpected.first().map_or("", String::as_str);
            Fault::new("schema.unexpected").at(below(name)).with("keyword", error.kind().keyword())
        }
        Kind::Type { kind } => rule("schema.type").with("expected", types(kind)),
        Kind::Enum { options } => rule("schema.options").with("expected", options),
        Kind::Constant { expected_value } => rule("schema.options").with("expected", expected_value),
        Kind::Format { format } => rule("schema.format").with("expected", format),
        Kind::Pattern { pattern } => rule("schema.pattern").with("expected", pattern),
        Kind::Minimum { limit } => rule("schema.limit").with("expected", format!("≥ {limit}")),
        Kind::ExclusiveMinimum { limit } => rule("schema.limit").with("expected", format!("> {limit}")),
        Kind::Maximum { limit } => rule("schema.limit").with("expected", format!("≤ {limit}")),
        Kind::ExclusiveMaximum { limit } => rule("schema.limit").with("expected", format!("< {limit}")),
        Kind::MinLength { limit } | Kind::MinItems { limit } | Kind::MinProperties { limit } => {
            rule("schema.length").with("expected", format!("≥ {limit}"))
        }
        Kind::MaxLength { limit } | Kind::MaxItems { limit } | Kind::MaxProperties { limit } => {
            rule("schema.length").with("expected", format!("≤ {limit}"))
        }
        _ => rule("schema.rule"),
    }
}

fn types(kind: &TypeKind) -> String {
    match kind {
        TypeKind::Single(one) => one.to_string(),
        TypeKind::Multiple(several) => several.iter().map(|one| one.to_string()).collect::<Vec<_>>().join(" | "),
    }
}

/// A JSON Pointer (RFC 6901) as a dotted path.
fn dotted(pointer: &str) -> String {
    let parts = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::rawdoc;

    fn schema() -> Schema {
        let schema = rawdoc! {
            "type": "object",
            "required": ["name"],
            "additionalProperties": false,
            "properties": {
                "name": { "type": "string", "minLength": 1, "pattern": "^[A-Z]" },
                "population": { "type": "integer", "minimum": 0 },
                "founded": { "type": "string", "format": "date-time" },
                "visits": { "type": "array", "items": { "properties": { "at": { "format": "date-time" } } } },
                "price": { "type": "number" },
            },
        };
        Schema::compile(&schema).unwrap()
    }

    #[test]
    fn a_fault_names_rule_and_place() {
        let schema = schema();
        let fault = |document: RawDocumentBuf| {
            let fault = schema.check(&document).unwrap_err();
            (fault.key, fault.path)
        };
        assert!(schema.check(&rawdoc! { "_id": "x", "_rev": 1_i64, "name": "Kinshasa", "population": 5_i64 }).is_ok());
        assert_eq!(fault(rawdoc! {}), ("schema.required", "name".to_owned()));
        assert_eq!(fault(rawdoc! { "name": "A", "x": 1 }), ("schema.unexpected", "x".to_owned()));
        assert_eq!(fault(rawdoc! { "name": 3 }), ("schema.type", "name".to_owned()));
        assert_eq!(fault(rawdoc! { "name": "a" }), ("schema.pattern", "name".to_owned()));
        assert_eq!(fault(rawdoc! { "name": "A", "population": -1 }), ("schema.limit", "population".to_owned()));
        let visits = rawdoc! { "name": "A", "visits": [{ "at": "x" }] };
        assert_eq!(fault(visits), ("schema.format", "visits.0.at".to_owned()));
    }

    #[test]
    fn every_fault_has_words() {
        let schema = schema();
        for document in [rawdoc! {}, rawdoc! { "name": 3 }, rawdoc! { "name": "a" }, rawdoc! { "name": "A", "x": 1 }] {
            let fault = schema.check(&document).unwrap_err();
            let words = fault.to_string();
            assert!(words != fault.key && !words.contains('{'), "{words}");
        }
    }

    #[test]
    fn decimals_and_dates_fit_the_schema() {
        let price: bson::Decimal128 = "12.50".parse().unwrap();
        let date = bson::DateTime::from_millis(0);
        assert!(schema().check(&rawdoc! { "name": "A", "price": price, "founded": date }).is_ok());
    }

    #[test]
    fn strings_become_dates_where_the_schema_says_so() {
        let schema = schema();
        let at = "1960-06-30T00:00:00Z";
        let date = bson::DateTime::parse_rfc3339_str(at).unwrap();
        let given = rawdoc! { "name": at, "founded": at, "visits": [{ "at": at, "by": at }] };
        let converted = rawdoc! { "name": at, "founded": date, "visits": [{ "at": date, "by": at }] };
        assert_eq!(schema.dates(given).unwrap(), converted);
        assert_eq!(schema.dates_at("visits.3.at", RawBsonRef::String(at)).unwrap(), RawBson::DateTime(date));
        assert_eq!(schema.dates_at("name", RawBsonRef::String(at)).unwrap(), RawBson::String(at.to_owned()));
        let fault = schema.dates(rawdoc! { "visits": [{ "at": "hier" }] }).unwrap_err();
        assert_eq!((fault.key, fault.path.as_str()), ("base.unreadable_time", "visits.0.at"));
    }

    #[test]
    fn an_unusable_schema_is_refused() {
        for bad in [
            rawdoc! { "type": "objet" },
            rawdoc! { "properties": { "a": { "pattern": "(" } } },
            rawdoc! { "$ref": "https://example.org/schema.json" },
            rawdoc! { "properties": { "a": { "pattern": "(?=a)b" } } },
        ] {
            assert_eq!(Schema::compile(&bad).err().map(|fault| fault.key), Some("collections.schema"), "{bad:?}");
        }
    }
}
