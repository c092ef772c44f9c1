//! `backup keys add` and `retire`: `backup.recipients` in the configuration file, its comments kept.

use crate::{
    base::{
        config::{Config, Origin},
        environment::Environment,
        fault::Fault,
        files,
    },
    cli::{
        context::Context,
        failure::{Code, Failure, unreadable, unwritable},
        serve::failure,
    },
    services::{
        backups::{Recipient, fewest},
        instance::Stamp,
    },
};
use serde_json::json;
use toml_edit::{Array, DocumentMut, Item, Value};

/// Public keys, each once.
pub struct Recipients(pub Vec<Recipient>);

impl Recipients {
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let mut all: Vec<Recipient> = Vec::new();
        for word in words {
            let recipient = parse(word)?;
            if !all.contains(&recipient) {
                all.push(recipient);
            }
        }
        Ok(Self(all))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn parse(word: &str) -> Result<Recipient, Failure> {
    word.parse().map_err(|error: crate::services::Error| failure(error.into()))
}

pub fn add(context: &Context, word: &str) -> Result<(), Failure> {
    let new = parse(word)?;
    let config = context.config(Vec::new())?;
    let mut recipients = Recipients::parse(&config.backup.recipients)?.0;
    if recipients.contains(&new) {
        return tell(context, &config, &recipients, "cli.backup.recipient_there", &new);
    }
    let text = new.to_string();
    write(context, &config, |array| push(array, &text))?;
    recipients.push(new.clone());
    tell(context, &config, &recipients, "cli.backup.recipient_added", &new)?;
    let (found, wanted) = (recipients.len(), fewest(environment(&config)));
    if found < wanted {
        context.say(&Fault::new("cli.backup.recipient_wanted").with("found", found).with("wanted", wanted));
    }
    Ok(())
}

/// By its key or its id.
pub fn retire(context: &Context, word: &str, dry: bool) -> Result<(), Failure> {
    let config = context.config(Vec::new())?;
    let mut recipients = Recipients::parse(&config.backup.recipients)?.0;
    let is = |recipient: &&Recipient| recipient.to_string() == word || hex::encode(recipient.id()) == word;
    let Some(old) = recipients.iter().find(is).cloned() else {
        return Err(Failure::new(Code::NotFound, Fault::new("cli.backup.recipient_unknown").with("recipient", word)));
    };
    recipients.retain(|recipient| *recipient != old);
    let environment = environment(&config);
    let (left, wanted) = (recipients.len(), fewest(environment));
    if left < wanted {
        let few = Fault::new("cli.backup.recipient_last").with("left", left).with("wanted", wanted);
        return Err(Failure::new(Code::Refused, few.with("environment", environment)));
    }
    if dry {
        return tell(context, &config, &recipients, "cli.backup.recipient_would_retire", &old);
    }
    let is_old = |item: &Value| item.as_str().is_some_and(|text| is_text_of(text, &old));
    write(context, &config, |array| {
        let places: Vec<_> =
            array.iter().enumerate().filter(|(_, item)| is_old(item)).map(|(place, _)| place).collect();
        for place in places.into_iter().rev() {
            remove(array, place);
        }
    })?;
    tell(context, &config, &recipients, "cli.backup.recipient_retired", &old)
}

fn is_text_of(text: &str, recipient: &Recipient) -> bool {
    text.parse::<Recipient>().is_ok_and(|other| other == *recipient)
}

/// The directory's own stamp decides; without one, as for an instance that matters.
fn environment(config: &Config) -> Environment {
    let stamped = Stamp::read(&config.instance.data_dir, config.instance.environment).ok();
    stamped.map(|stamp| stamp.environment).or(config.instance.environment).unwrap_or(Environment::Production)
}

fn tell(
    context: &Context,
    config: &Config,
    recipients: &[Recipient],
    said: &'static str,
    which: &Recipient,
) -> Result<(), Failure> {
    let texts: Vec<_> = recipients.iter().map(Recipient::to_string).collect();
    let document = json!({
        "recipient": which.to_string(),
        "id": hex::encode(which.id()),
        "recipients": texts,
        "environment": environment(config),
        "file": context.file.display().to_string(),
    });
    let done = Fault::new(said).at(context.file.display().to_string()).with("recipient", which);
    context.done(&document, &done.with("found", recipients.len()))
}

/// Changes the list in the file, in one step. One that is set elsewhere would not be changed by it.
fn write(context: &Context, config: &Config, change: impl FnOnce(&mut Array)) -> Result<(), Failure> {
    let entry = config.entries.iter().find(|entry| entry.setting.key == "backup.recipients");
    if let Some(origin @ (Origin::DotEnv { .. } | Origin::Environment { .. } | Origin::Flag { .. })) =
        entry.map(|entry| &entry.origin)
    {
        return Err(Failure::new(Code::Refused, Fault::new("cli.backup.recipients_elsewhere").at(origin.to_string())));
    }
    let path = &context.file;
    let failed = |error: std::io::Error| unwritable(path.display(), error);
    if !path.exists() {
        let text = edit("", change).map_err(|why| unreadable(path.display(), why))?;
        return files::create(path, text.as_bytes(), 0o640).map_err(failed);
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(path.display(), error))?;
    let text = edit(&text, change).map_err(|why| unreadable(path.display(), why))?;
    files::rewrite(path, text.as_bytes()).map_err(failed)
}

fn edit(text: &str, change: impl FnOnce(&mut Array)) -> Result<String, toml_edit::TomlError> {
    let mut document: DocumentMut = text.parse()?;
    let section = document.entry("backup").or_insert_with(toml_edit::table);
    let item = &mut section["recipients"];
    if !item.is_array() {
        *item = Item::Value(Value::Array(Array::new()));
    }
    if let Some(array) = item.as_array_mut() {
        change(array);
    }
    Ok(document.to_string())
}

/// What stands before an item, or after the last: the rest of the line above it, and the lines of its own.
fn before(array: &Array, place: usize) -> String {
    let raw = match array.get(place) {
        Some(item) => item.decor().prefix(),
        None => Some(array.trailing()),
    };
    raw.and_then(|raw| raw.as_str()).unwrap_or_default().to_owned()
}

fn set_before(array: &mut Array, place: usize, text: String) {
    match array.get_mut(place) {
        Some(item) => item.decor_mut().set_prefix(text),
        None => array.set_trailing(text),
    }
}

/// Another item at the end, on a line of its own where the others are.
fn push(array: &mut Array, text: &str) {
    let end = array.len();
    let trailing = before(array, end);
    let lines = end > 0 && before(array, end - 1).contains('\n');
    if !lines {
        array.push(text);
        return;
    }
    let indent = before(array, end - 1).rsplit('\n').next().unwrap_or_default().to_owned();
    // A comment behind the last stays behind it; those on lines of their own stay above the new one.
    let above = trailing.trim_end().to_owned();
    array.push(text);
    set_before(array, end, format!("{above}\n{indent}"));
    set_before(array, end + 1, "\n".to_owned());
    array.set_trailing_comma(true);
}

/// An item taken out with its own comments: those above it, and the one behind it.
fn remove(array: &mut Array, place: usize) {
    let (above, below) = (before(array, place), before(array, place + 1));
    let last = place + 1 == array.len();
    array.remove(place);
    let kept = match (above.split_once('\n'), below.split_once('\n')) {
        (Some((line, _)), Some((_, rest))) => format!("{line}\n{rest}"),
        _ if last => below,
        _ => above,
    };
    set_before(array, place, kept);
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# ours\n[backup]\ntarget = \"/b\" # a disk\nrecipients = [\n  # operations\n  \"a\", # the safe\n  # escrow\n  \"b\", # the notary\n]\n[log]\n";

    fn taken(text: &str, place: usize) -> String {
        edit(text, |array| remove(array, place)).unwrap()
    }

    #[test]
    fn comments_stay_with_whom_they_are_about() {
        let more = edit(TEXT, |array| push(array, "c")).unwrap();
        assert_eq!(more, TEXT.replace("# the notary\n]", "# the notary\n  \"c\",\n]"));
        assert_eq!(taken(&more, 2), TEXT);
        assert_eq!(taken(TEXT, 0), TEXT.replace("  # operations\n  \"a\", # the safe\n", ""));
        assert_eq!(taken(TEXT, 1), TEXT.replace("  # escrow\n  \"b\", # the notary\n", ""));
    }

    #[test]
    fn a_list_is_written_however_it_stood() {
        let with = |text: &str| edit(text, |array| push(array, "c")).unwrap();
        assert_eq!(with(""), "[backup]\nrecipients = [\"c\"]\n");
        assert_eq!(with("[backup]\nrecipients = [\"a\"]\n"), "[backup]\nrecipients = [\"a\", \"c\"]\n");
        assert_eq!(with("backup.recipients = [\"a\"] # x\n"), "backup.recipients = [\"a\", \"c\"] # x\n");
        assert_eq!(with("[backup]\nrecipients = \"\"\n"), "[backup]\nrecipients = [\"c\"]\n");
        let line = "[backup]\nrecipients = [\"a\", \"b\", \"c\"]\n";
        for (place, left) in [(0, "\"b\", \"c\""), (1, "\"a\", \"c\""), (2, "\"a\", \"b\"")] {
            assert_eq!(taken(line, place), format!("[backup]\nrecipients = [{left}]\n"));
        }
        assert_eq!(taken("[backup]\nrecipients = [\"a\"]\n", 0), "[backup]\nrecipients = []\n");
    }
}
