//! The reference: a real mongod, asked at run time.

use bson::{Document, RawDocument, RawDocumentBuf, doc};
use mongodb::{Client, Database, options::ClientOptions};

pub struct Reference(Database);

impl Reference {
    /// A fresh database of this name on the server `MONGODB_URL` names.
    pub async fn start(name: &str) -> Self {
        let url = std::env::var("MONGODB_URL")
            .expect("MONGODB_URL is not set: run ./scripts/test, which starts the mongod this suite compares with");
        let mut options = ClientOptions::parse(&url).await.expect("MONGODB_URL is a MongoDB address");
        options.server_selection_timeout = Some(std::time::Duration::from_secs(10));
        let client = Client::with_options(options).expect("a client");
        let database = client.database(&format!("conformance_{name}_{}", std::process::id()));
        database.drop().await.expect("mongod answers at MONGODB_URL: run ./scripts/test, which starts it");
        Self(database)
    }

    pub async fn end(self) {
        self.0.drop().await.expect("the database is dropped");
    }

    pub async fn insert(&self, collection: &str, documents: &[RawDocumentBuf]) {
        for some in documents.chunks(1_000) {
            self.0.collection::<RawDocumentBuf>(collection).insert_many(some).await.expect("inserted");
        }
    }

    /// Replaces what the collection holds.
    pub async fn load(&self, collection: &str, documents: &[RawDocumentBuf]) {
        self.0.collection::<Document>(collection).drop().await.expect("dropped");
        self.insert(collection, documents).await;
    }

    pub async fn index(&self, collection: &str, name: &str, key: Document) {
        let command = doc! { "createIndexes": collection, "indexes": [{ "key": key, "name": name }] };
        self.0.run_command(command).await.expect("an index");
    }

    /// Whole documents, in the order of the sort; the words of mongod's error if it refuses.
    pub async fn find(
        &self,
        collection: &str,
        filter: &RawDocument,
        sort: Option<&RawDocument>,
        projection: Option<&RawDocument>,
    ) -> Result<Vec<RawDocumentBuf>, String> {
        let mut command = bson::rawdoc! { "find": collection, "batchSize": 1_000_000 };
        command.append(bson::raw::cstr!("filter"), filter);
        if let Some(sort) = sort {
            command.append(bson::raw::cstr!("sort"), sort);
        }
        if let Some(projection) = projection {
            command.append(bson::raw::cstr!("projection"), projection);
        }
        let answer = self.0.run_raw_command(command).await.map_err(|error| refusal(&error))?;
        let answer = RawDocumentBuf::try_from(&answer).expect("bson");
        let cursor = answer.get_document("cursor").expect("a cursor");
        assert_eq!(cursor.get_i64("id").ok(), Some(0), "everything fits one batch");
        let batch = cursor.get_array("firstBatch").expect("a batch");
        Ok(batch.into_iter().map(|row| row.expect("bson").as_document().expect("a document").to_owned()).collect())
    }

    /// Updates documents by `_id`, each on its own; the words of mongod's error where it refuses.
    pub async fn update(&self, collection: &str, updates: &[(String, RawDocumentBuf)]) -> Vec<Option<String>> {
        let mut errors = vec![None; updates.len()];
        for (start, some) in updates.chunks(1_000).enumerate() {
            let mut statements = bson::RawArrayBuf::new();
            for (id, update) in some {
                let mut statement = bson::rawdoc! { "q": { "_id": id.as_str() } };
                statement.append(bson::raw::cstr!("u"), update);
                statements.push(&statement);
            }
            let mut command = bson::rawdoc! { "update": collection, "ordered": false };
            command.append(bson::raw::cstr!("updates"), &statements);
            let answer = self.0.run_raw_command(command).await.expect("mongod reads the updates");
            let Ok(failures) = answer.get_array("writeErrors") else { continue };
            for failure in failures {
                let failure = failure.as_document().expect("a failure");
                let place = usize::try_from(failure.get_i32("index").expect("a place")).expect("a place");
                errors[start * 1_000 + place] = Some(failure.get_str("errmsg").unwrap_or_default().to_owned());
            }
        }
        errors
    }
}

/// Only what the server itself says is an answer.
fn refusal(error: &mongodb::error::Error) -> String {
    match &*error.kind {
        mongodb::error::ErrorKind::Command(refused) => refused.message.clone(),
        other => panic!("mongod did not answer: {other}"),
    }
}
