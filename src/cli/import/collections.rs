//! Which collections of an archive are imported, under which names, and the indexes they bring.

use crate::{
    base::fault::Fault,
    cli::{
        client::{Client, segment},
        context::Context,
        failure::{Code, Failure},
    },
    domain::collection::check_name,
    services::archive::{Beyond, Collection, Index, Metadata, Namespace},
};
use hyper::Method;
use serde_json::{Map, Value, json};

/// One that is imported.
#[derive(Debug)]
pub struct Chosen {
    pub namespace: Namespace,
    /// Here.
    pub name: String,
    pub metadata: Metadata,
}

/// Those asked for, `[DB.]C[=NAME]`, or all that are not MongoDB's own. Nothing is chosen by halves: every name that
/// cannot be one here is told.
pub fn choose(all: &[Collection], wanted: &[String]) -> Result<Vec<Chosen>, Vec<Fault>> {
    let (mut chosen, mut faults): (Vec<Chosen>, Vec<Fault>) = (Vec::new(), Vec::new());
    let asked: Vec<(&str, Option<&str>)> = wanted
        .iter()
        .map(|wanted| wanted.split_once('=').map_or((wanted.as_str(), None), |(from, name)| (from, Some(name))))
        .collect();
    for (from, _) in &asked {
        if !all.iter().any(|collection| is(collection, from)) {
            faults.push(Fault::new("cli.import.not_inside").with("collection", from));
        }
    }
    for collection in all {
        let name = match asked.iter().find(|(from, _)| is(collection, from)) {
            Some((_, name)) => name.unwrap_or(&collection.namespace.collection),
            None if asked.is_empty() && is_users(collection) => &collection.namespace.collection,
            None => continue,
        };
        let from = &collection.namespace;
        if check_name(name).is_err() {
            faults.push(Fault::new("cli.import.name").with("collection", from).with("name", name));
        } else if let Some(other) = chosen.iter().find(|other| other.name == name) {
            let fault = Fault::new("cli.import.name_twice").with("one", &other.namespace);
            faults.push(fault.with("two", from).with("name", name));
        }
        match Metadata::read(&collection.metadata) {
            Some(metadata) => chosen.push(Chosen { namespace: from.clone(), name: name.to_owned(), metadata }),
            None => faults.push(Fault::new("archive.metadata").with("collection", from)),
        }
    }
    if faults.is_empty() { Ok(chosen) } else { Err(faults) }
}

fn is(collection: &Collection, from: &str) -> bool {
    collection.namespace.collection == from || collection.namespace.to_string() == from
}

/// Views and time series have their documents elsewhere; the databases of MongoDB itself are no data of anyone's.
pub fn is_users(collection: &Collection) -> bool {
    let Namespace { database, collection: name } = &collection.namespace;
    matches!(collection.kind.as_str(), "" | "collection")
        && !matches!(database.as_str(), "" | "admin" | "config" | "local" | "$admin")
        && !name.starts_with("system.")
}

/// Makes the collection, or gives the one that is there the indexes it lacks. What it cannot have is said.
pub async fn furnish(context: &Context, client: &mut Client, chosen: &Chosen) -> Result<(), Failure> {
    for beyond in &chosen.metadata.beyond {
        let fault = match beyond {
            Beyond::Index { name, because } => {
                Fault::new("cli.import.beyond_index").with("name", name).with("because", because)
            }
            Beyond::Option(name) => Fault::new("cli.import.beyond_option").with("name", name),
        };
        context.say(&fault.with("collection", &chosen.name));
    }
    let path = format!("/collections/{}", segment(&chosen.name));
    let there = match client.get(&path).await {
        Ok(answer) => answer.data,
        Err(failure) if failure.code == Code::NotFound => {
            let indexes: Vec<Value> = chosen.metadata.indexes.iter().map(definition).collect();
            client.post("/collections", json!({ "name": chosen.name, "indexes": indexes })).await?;
            context.say(&Fault::new("cli.collection.created").with("name", &chosen.name));
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    let mut indexes: Vec<Value> = there["indexes"].as_array().into_iter().flatten().map(kept).collect();
    let before = indexes.len();
    for index in chosen.metadata.indexes.iter().map(definition) {
        if !indexes.iter().any(|other| other["keys"] == index["keys"] && other["unique"] == index["unique"]) {
            indexes.push(index);
        }
    }
    if indexes.len() > before {
        client.call(Method::PATCH, &path, Some(json!({ "indexes": indexes }))).await?;
    }
    Ok(())
}

fn definition(index: &Index) -> Value {
    let keys: Map<_, _> = index.keys.iter().map(|(path, way)| (path.clone(), (*way).into())).collect();
    json!({ "name": index.name, "keys": keys, "unique": index.unique })
}

/// As it is described, less how far it is built.
fn kept(index: &Value) -> Value {
    let unique = index["unique"].as_bool().unwrap_or_default();
    json!({ "name": index["name"], "keys": index["keys"], "unique": unique })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(database: &str, name: &str, kind: &str) -> Collection {
        let namespace = Namespace { database: database.to_owned(), collection: name.to_owned() };
        Collection { namespace, kind: kind.to_owned(), metadata: String::new() }
    }

    fn chosen(all: &[Collection], wanted: &[&str]) -> Result<Vec<String>, Vec<&'static str>> {
        let wanted: Vec<_> = wanted.iter().map(|&wanted| wanted.to_owned()).collect();
        match choose(all, &wanted) {
            Ok(chosen) => Ok(chosen.iter().map(|one| format!("{} {}", one.namespace, one.name)).collect()),
            Err(faults) => Err(faults.iter().map(|fault| fault.key).collect()),
        }
    }

    #[test]
    fn mongodbs_own_stay_and_names_fit() {
        let all = [
            collection("shop", "orders", "collection"),
            collection("shop", "userProfiles", ""),
            collection("shop", "latest", "view"),
            collection("shop", "system.views", "collection"),
            collection("admin", "system.version", ""),
            collection("", "oplog", ""),
            collection("old", "orders", "collection"),
        ];
        assert_eq!(chosen(&all, &[]), Err(vec!["cli.import.name", "cli.import.name_twice"]));
        assert_eq!(chosen(&all, &["orders"]), Err(vec!["cli.import.name_twice"]));
        assert_eq!(chosen(&all, &["shop.orders"]), Ok(vec!["shop.orders orders".to_owned()]));
        let renamed = ["shop.orders", "old.orders=old_orders", "userProfiles=profiles"];
        let wanted = ["shop.orders orders", "shop.userProfiles profiles", "old.orders old_orders"];
        assert_eq!(chosen(&all, &renamed), Ok(wanted.map(str::to_owned).to_vec()));
        assert_eq!(chosen(&all, &["absent"]), Err(vec!["cli.import.not_inside"]));
        assert_eq!(chosen(&all[..1], &[]), Ok(vec!["shop.orders orders".to_owned()]));
    }
}
