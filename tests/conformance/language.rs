//! The filter and update language of `domain` against mongod: the same answers, the same refusals.

use crate::{
    corpus,
    generate::{Generator, raw},
    mongod::Reference,
};
use bson::{Document, RawDocument, RawDocumentBuf};
use debrouille_appliance::{
    base::{clock::Timestamp, fault::Fault},
    domain::{filter::Filter, projection::Projection, sort::Sort, update::Update},
};

const COLLECTION: &str = "documents";

fn corpus(generator: &mut Generator) -> Vec<RawDocumentBuf> {
    let mut documents = corpus::documents();
    documents.extend(generator.documents(Generator::rounds(300)));
    documents
}

pub fn id(document: &RawDocument) -> &str {
    document.get_str("_id").expect("a string id")
}

/// All that differs, so that one run shows every difference.
#[derive(Default)]
pub struct Differences {
    compared: usize,
    /// What was asked, and how the answers differ.
    found: Vec<(String, String)>,
}

impl Differences {
    pub fn compare<T: PartialEq>(
        &mut self,
        asked: impl std::fmt::Display,
        ours: &Result<T, Fault>,
        theirs: &Result<T, String>,
        tell: impl Fn(&T, &T) -> String,
    ) {
        self.compared += 1;
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) if ours == theirs => {}
            (Err(_), Err(_)) => {}
            (Ok(ours), Ok(theirs)) => self.found.push((asked.to_string(), tell(ours, theirs))),
            (Ok(_), Err(error)) => self.found.push((asked.to_string(), format!("accepted, but mongod says: {error}"))),
            (Err(fault), Ok(_)) => self.found.push((asked.to_string(), format!("mongod accepts, refused as: {fault}"))),
        }
    }

    /// One difference for each thing asked is told.
    pub fn finish(mut self, least: usize) {
        let count = self.found.len();
        self.found.dedup_by(|a, b| a.0 == b.0);
        let told: Vec<String> = self.found.iter().take(40).map(|(asked, how)| format!("{asked}: {how}")).collect();
        assert!(count == 0, "{count} of {} differ:\n{}", self.compared, told.join("\n"));
        assert!(self.compared >= least, "only {} comparisons", self.compared);
    }
}

#[tokio::test]
async fn filters_find_the_same_documents() {
    let mut generator = Generator::new();
    let documents = corpus(&mut generator);
    let mongod = Reference::start("filters").await;
    mongod.load(COLLECTION, &documents).await;
    let generated = Generator::rounds(2_000);
    let filters = corpus::filters().into_iter().chain((0..generated).map(|_| generator.filter(2)));
    let mut differences = Differences::default();
    for filter in filters.collect::<Vec<_>>() {
        let filter = raw(&filter);
        let ours = Filter::parse(&filter).map(|filter| {
            let mut ids: Vec<String> = documents
                .iter()
                .filter(|document| filter.matches(document))
                .map(|document| id(document).to_owned())
                .collect();
            ids.sort();
            ids
        });
        let theirs = mongod.find(COLLECTION, &filter, None, Some(&bson::rawdoc! { "_id": 1 })).await.map(|found| {
            let mut ids: Vec<String> = found.iter().map(|document| id(document).to_owned()).collect();
            ids.sort();
            ids
        });
        differences.compare(text(&filter), &ours, &theirs, |ours, theirs| {
            let extra = ours
                .iter()
                .find(|id| !theirs.contains(id))
                .map(|id| format!("wrongly finds {}", shown(&documents, id)));
            let lacking =
                theirs.iter().find(|id| !ours.contains(id)).map(|id| format!("misses {}", shown(&documents, id)));
            format!("{} {}", extra.unwrap_or_default(), lacking.unwrap_or_default())
        });
    }
    mongod.end().await;
    differences.finish(2_000);
}

fn shown(documents: &[RawDocumentBuf], wanted: &str) -> String {
    documents.iter().find(|document| id(document) == wanted).map(text).unwrap_or_default()
}

pub fn text(document: &RawDocumentBuf) -> String {
    Document::try_from(document).map_or_else(|error| error.to_string(), |document| document.to_string())
}

#[tokio::test]
async fn sorts_give_the_same_order() {
    let mut generator = Generator::new();
    let documents = corpus(&mut generator);
    let mongod = Reference::start("sorts").await;
    mongod.load(COLLECTION, &documents).await;
    // Two arrays under one sort are refused: enough documents are left out that most sorts have an answer.
    let generated: Vec<Document> = (0..Generator::rounds(300)).map(|_| generator.sort()).collect();
    let mut differences = Differences::default();
    for given in corpus::sorts().into_iter().chain(generated) {
        for few in [true, false] {
            let filter = if few {
                raw(&generator.filter(0))
            } else {
                bson::rawdoc! {}
            };
            let Ok(condition) = Filter::parse(&filter) else { continue };
            let ours = Sort::parse(&raw(&given)).and_then(|sort| {
                let found = documents.iter().filter(|document| condition.matches(document));
                let mut keyed = found
                    .map(|document| Ok((sort.key(document)?, id(document).to_owned())))
                    .collect::<Result<Vec<_>, Fault>>()?;
                keyed.sort_by(|(a, _), (b, _)| sort.order(a, b));
                Ok(keyed.into_iter().map(|(_, id)| id).collect::<Vec<_>>())
            });
            let mut full = given.clone();
            full.entry("_id").or_insert(bson::Bson::Int32(1));
            let theirs = mongod.find(COLLECTION, &filter, Some(&raw(&full)), Some(&bson::rawdoc! { "_id": 1 })).await;
            let theirs = theirs.map(|found| found.iter().map(|document| id(document).to_owned()).collect());
            differences.compare(&given, &ours, &theirs, |ours: &Vec<String>, theirs| {
                let place = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or_default();
                let at = |ids: &[String]| ids.get(place).map(|id| shown(&documents, id)).unwrap_or_default();
                format!("at {place} {} where mongod has {}", at(ours), at(theirs))
            });
        }
    }
    mongod.end().await;
    differences.finish(300);
}

#[tokio::test]
async fn projections_show_the_same_fields() {
    let mut generator = Generator::new();
    let documents = corpus(&mut generator);
    let mongod = Reference::start("projections").await;
    mongod.load(COLLECTION, &documents).await;
    let generated: Vec<Document> = (0..Generator::rounds(200)).map(|_| generator.projection()).collect();
    let mut differences = Differences::default();
    for given in corpus::projections().into_iter().chain(generated) {
        let projection = raw(&given);
        let sort = bson::rawdoc! { "_id": 1 };
        let mut in_order: Vec<&RawDocumentBuf> = documents.iter().collect();
        in_order.sort_by_key(|document| id(document));
        let ours = Projection::parse(&projection)
            .map(|projection| in_order.iter().map(|document| projection.apply(document)).collect::<Vec<_>>());
        let theirs = mongod.find(COLLECTION, &bson::rawdoc! {}, Some(&sort), Some(&projection)).await;
        differences.compare(&given, &ours, &theirs, |ours, theirs| {
            let place = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or_default();
            format!("of {}: {} where mongod has {}", text(in_order[place]), text(&ours[place]), text(&theirs[place]))
        });
    }
    mongod.end().await;
    differences.finish(200);
}

#[tokio::test]
async fn updates_leave_the_same_documents() {
    let mut generator = Generator::new();
    let documents = corpus::documents();
    let mut cases: Vec<(RawDocumentBuf, Document)> = Vec::new();
    for update in corpus::updates() {
        cases.extend(documents.iter().map(|document| (document.clone(), update.clone())));
    }
    for _ in 0..Generator::rounds(20_000) {
        let document = generator.document(String::new());
        cases.push((document, generator.update()));
    }
    let mongod = Reference::start("updates").await;
    // Each case has a document of its own.
    let befores: Vec<RawDocumentBuf> =
        cases.iter().enumerate().map(|(place, (document, _))| with_id(document, &case(place))).collect();
    mongod.load(COLLECTION, &befores).await;
    let updates: Vec<(String, RawDocumentBuf)> =
        cases.iter().enumerate().map(|(place, (_, update))| (case(place), raw(update))).collect();
    let errors = mongod.update(COLLECTION, &updates).await;
    let afters = mongod.find(COLLECTION, &bson::rawdoc! {}, Some(&bson::rawdoc! { "_id": 1 }), None).await;
    let afters = afters.expect("every document");
    assert_eq!(afters.len(), befores.len());
    let mut differences = Differences::default();
    for (place, (_, update)) in cases.iter().enumerate() {
        let ours = Update::parse(&raw(update)).and_then(|parsed| {
            let mut document = Document::try_from(&befores[place]).expect("bson");
            parsed.apply(&mut document, Timestamp(0))?;
            Ok(raw(&document))
        });
        let theirs = match &errors[place] {
            Some(error) => Err(error.clone()),
            None => Ok(afters[place].clone()),
        };
        differences.compare(update, &ours, &theirs, |ours, theirs| {
            format!("on {}: {} where mongod has {}", text(&befores[place]), text(ours), text(theirs))
        });
    }
    mongod.end().await;
    differences.finish(20_000);
}

pub fn case(place: usize) -> String {
    format!("c{place:07}")
}

pub fn with_id(document: &RawDocumentBuf, id: &str) -> RawDocumentBuf {
    let mut document = Document::try_from(document).expect("bson");
    document.insert("_id", id);
    raw(&document)
}
