//! The fields of an event and of the scope around it, in order, the last value of a name winning. Their texts share one
//! buffer: a line is made of them at once, and they are gone.

use std::{
    fmt::{self, Write},
    ops::Range,
};
use tracing::field::{Field, Visit};

/// Longer values are cut: a log is not a store.
const MAX_VALUE: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    /// A number or a truth, as JSON writes it.
    Plain(&'a str),
}

pub(super) struct Fields {
    texts: String,
    list: Vec<(&'static str, Range<usize>, bool)>,
}

impl Default for Fields {
    fn default() -> Self {
        Self { texts: String::with_capacity(512), list: Vec::with_capacity(16) }
    }
}

impl Fields {
    pub(super) fn get(&self, name: &str) -> Option<Value<'_>> {
        let (_, place, plain) = self.list.iter().find(|(known, ..)| *known == name)?;
        Some(self.value(place, *plain))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.list.iter().map(|(name, place, plain)| (*name, self.value(place, *plain)))
    }

    pub(super) fn text(&mut self, name: &'static str, text: impl fmt::Display) {
        self.set(name, false, format_args!("{text}"));
    }

    fn value(&self, place: &Range<usize>, plain: bool) -> Value<'_> {
        let text = self.texts.get(place.clone()).unwrap_or_default();
        if plain { Value::Plain(text) } else { Value::Text(text) }
    }

    fn set(&mut self, name: &'static str, plain: bool, value: fmt::Arguments<'_>) {
        let start = self.texts.len();
        // Writing to a string cannot fail; a value that cannot be shown is shown as far as it went.
        let _ = self.texts.write_fmt(value);
        if self.texts.len() - start > MAX_VALUE {
            self.texts.truncate(self.texts.floor_char_boundary(start + MAX_VALUE));
            self.texts.push('…');
        }
        let place = start..self.texts.len();
        match self.list.iter_mut().find(|(known, ..)| *known == name) {
            Some(known) => (known.1, known.2) = (place, plain),
            None => self.list.push((name, place, plain)),
        }
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), false, format_args!("{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), true, format_args!("{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), true, format_args!("{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON knows no infinity.
        self.set(field.name(), value.is_finite(), format_args!("{value}"));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), true, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), false, format_args!("{value:?}"));
    }
}
