//! From a document of operators to the tree of what happens to each field.

use super::{Action, Fields, Kind, Name, Node, Order, Pull, Push, SYSTEM_FIELDS, Update, WRAPPED};
use crate::{
    base::fault::Fault,
    domain::{
        filter::Filter,
        limits,
        path::{self, Path},
        sort::{Direction, Sort},
        value::{self, Class},
    },
};
use bson::{Bson, RawBsonRef, RawDocument, RawDocumentBuf};
use std::{cell::Cell, collections::btree_map::Entry};

/// Conditions of a `$pull`, at most: while it looks at every element of an array, nobody else writes.
const MAX_PULL: usize = 50;

impl Update {
    /// `{"$set": {…}, "$inc": {…}}`. The system's fields are refused, and so are two changes of one place.
    pub fn parse(document: &RawDocument) -> Result<Self, Fault> {
        limits::nesting(document)?;
        let (mut fields, mut sources) = (Fields::new(), Vec::new());
        let mut empty = true;
        let patterns = Cell::new(0);
        for (operator, value) in entries(document) {
            empty = false;
            if !OPERATORS.contains(&operator) {
                let key = if operator.starts_with('$') { "update.unknown_operator" } else { "update.mixed" };
                return Err(about(key, operator, ""));
            }
            let changes = value.as_document().ok_or_else(|| about("update.expects_document", operator, ""))?;
            for (name, operand) in entries(changes) {
                let path = target(name)?;
                if operator == "$rename" {
                    let RawBsonRef::String(to) = operand else { return Err(about("update.rename", operator, name)) };
                    let to = target(to)?;
                    // What it moves is taken before anything is applied.
                    add(&mut fields, &path, Action::Unset)?;
                    add(&mut fields, &to, Action::RenameTo(sources.len()))?;
                    sources.push(path);
                } else {
                    add(&mut fields, &path, action(operator, operand, name, &patterns)?)?;
                }
            }
        }
        if empty { Err(Fault::new("update.empty")) } else { Ok(Self(Kind::Operators { fields, sources })) }
    }
}

const OPERATORS: [&str; 12] = [
    "$set",
    "$unset",
    "$inc",
    "$mul",
    "$min",
    "$max",
    "$rename",
    "$push",
    "$pull",
    "$addToSet",
    "$pop",
    "$currentDate",
];

/// A place that may be changed.
fn target(name: &str) -> Result<Path, Fault> {
    let path = Path::parse(name)?;
    let positional = |part: &String| part == "$" || part.starts_with("$[");
    if name.starts_with('$') || path.parts().iter().any(positional) {
        return Err(Fault::new("update.positional").at(name));
    }
    match path.parts().first() {
        Some(first) if SYSTEM_FIELDS.contains(&first.as_str()) => Err(Fault::new("update.system_field").at(name)),
        _ => Ok(path),
    }
}

fn add(fields: &mut Fields, path: &Path, action: Action) -> Result<(), Fault> {
    let conflict = || Fault::new("update.conflict").at(path.to_string());
    let Some((last, way)) = path.parts().split_last() else { return Err(conflict()) };
    let mut fields = fields;
    for part in way {
        let node = fields.entry(Name(part.clone())).or_insert_with(|| Node::Inner(Fields::new()));
        let Node::Inner(inner) = node else { return Err(conflict()) };
        fields = inner;
    }
    match fields.entry(Name(last.clone())) {
        Entry::Occupied(_) => Err(conflict()),
        Entry::Vacant(place) => {
            place.insert(Node::Leaf(action));
            Ok(())
        }
    }
}

fn action(operator: &str, operand: RawBsonRef<'_>, at: &str, patterns: &Cell<usize>) -> Result<Action, Fault> {
    Ok(match operator {
        "$set" => Action::Set(owned(operand, at)?),
        "$unset" => Action::Unset,
        "$inc" => Action::Increment(number(operator, operand, at)?),
        "$mul" => Action::Multiply(number(operator, operand, at)?),
        "$min" => Action::Min(owned(operand, at)?),
        "$max" => Action::Max(owned(operand, at)?),
        "$push" => Action::Push(push(operand, at)?),
        "$addToSet" => Action::AddToSet(members(operand, at)?),
        "$pull" => Action::Pull(pull(operand, at, patterns)?),
        "$pop" => match value::whole(operand) {
            Some(1) => Action::PopLast,
            Some(-1) => Action::PopFirst,
            _ => return Err(about("update.pop", operator, at)),
        },
        _ => Action::CurrentDate { timestamp: current_date(operand, at)? },
    })
}

fn number(operator: &str, operand: RawBsonRef<'_>, at: &str) -> Result<Bson, Fault> {
    if Class::of(operand) == Class::Number {
        owned(operand, at)
    } else {
        Err(about("update.expects_number", operator, at))
    }
}

/// Not a date: `{$type: "timestamp"}`.
fn current_date(operand: RawBsonRef<'_>, at: &str) -> Result<bool, Fault> {
    let fault = || about("update.current_date", "$currentDate", at);
    match operand {
        RawBsonRef::Boolean(_) => Ok(false),
        RawBsonRef::Document(document) => {
            let mut given = entries(document);
            match (given.next(), given.next()) {
                (Some(("$type", RawBsonRef::String("date"))), None) => Ok(false),
                (Some(("$type", RawBsonRef::String("timestamp"))), None) => Ok(true),
                _ => Err(fault()),
            }
        }
        _ => Err(fault()),
    }
}

fn push(operand: RawBsonRef<'_>, at: &str) -> Result<Push, Fault> {
    let mut push = Push { values: Vec::new(), position: None, slice: None, order: None };
    let Some(modifiers) = operand.as_document().filter(|document| path::field(document, "$each").is_some()) else {
        push.values.push(owned(operand, at)?);
        return Ok(push);
    };
    for (name, value) in entries(modifiers) {
        let figure = || value::whole(value).ok_or_else(|| about("update.expects_whole", name, at));
        match name {
            "$each" => push.values = each(value, at)?,
            "$position" => push.position = Some(figure()?),
            "$slice" => push.slice = Some(figure()?),
            "$sort" => push.order = Some(order(value, at)?),
            _ => return Err(about("update.modifier", name, at)),
        }
    }
    Ok(push)
}

fn order(value: RawBsonRef<'_>, at: &str) -> Result<Order, Fault> {
    match value {
        RawBsonRef::Document(fields) => {
            let sort = Sort::parse(fields)?;
            if sort.0.is_empty() { Err(about("update.sort", "$sort", at)) } else { Ok(Order::Fields(sort.0)) }
        }
        direction => match value::whole(direction) {
            Some(1) => Ok(Order::Whole(Direction::Ascending)),
            Some(-1) => Ok(Order::Whole(Direction::Descending)),
            _ => Err(about("update.sort", "$sort", at)),
        },
    }
}

fn members(operand: RawBsonRef<'_>, at: &str) -> Result<Vec<Bson>, Fault> {
    let mut given = operand.as_document().into_iter().flat_map(entries);
    match (given.next(), given.next()) {
        (Some(("$each", members)), None) => each(members, at),
        (Some(("$each", _)), Some((name, _))) => Err(about("update.modifier", name, at)),
        _ => Ok(vec![owned(operand, at)?]),
    }
}

fn each(value: RawBsonRef<'_>, at: &str) -> Result<Vec<Bson>, Fault> {
    let array = value.as_array().ok_or_else(|| about("update.expects_array", "$each", at))?;
    path::elements(array).map(|element| owned(element, at)).collect()
}

/// A document of operators or a regular expression is a condition on each element, another document a filter of
/// the documents among them, and anything else a value to equal.
fn pull(operand: RawBsonRef<'_>, at: &str, patterns: &Cell<usize>) -> Result<Pull, Fault> {
    let wrapped = |condition: RawBsonRef<'_>| {
        let mut document = RawDocumentBuf::new();
        document.append(WRAPPED, condition);
        Filter::parse_beside(&document, patterns)
    };
    let pull = match operand {
        RawBsonRef::Document(condition) => match entries(condition).next() {
            Some((name, _)) if name.starts_with('$') && !matches!(name, "$and" | "$or" | "$nor" | "$not") => {
                Pull::Values(wrapped(operand)?)
            }
            _ => Pull::Documents(Filter::parse_beside(condition, patterns)?),
        },
        RawBsonRef::RegularExpression(_) => Pull::Values(wrapped(operand)?),
        value => Pull::Equal(value.into()),
    };
    if let Pull::Values(filter) | Pull::Documents(filter) = &pull
        && filter.size() > MAX_PULL
    {
        return Err(Fault::new("query.conditions").with("limit", MAX_PULL));
    }
    match &pull {
        Pull::Documents(filter) | Pull::Values(filter) if filter.near().is_some() => {
            Err(about("query.unknown_operator", "$near", at))
        }
        _ => Ok(pull),
    }
}

fn owned(value: RawBsonRef<'_>, at: &str) -> Result<Bson, Fault> {
    value.try_into().map_err(|error: bson::error::Error| Fault::new("documents.malformed").at(at).with("reason", error))
}

fn entries(document: &RawDocument) -> impl Iterator<Item = (&str, RawBsonRef<'_>)> {
    document.iter().map_while(Result::ok).map(|(name, value)| (name.as_str(), value))
}

fn about(key: &'static str, operator: &str, at: &str) -> Fault {
    Fault::new(key).at(at).with("operator", operator)
}
