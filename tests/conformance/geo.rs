//! `$near` and `$geoWithin` against mongod: the same points, the nearest first.

use crate::{
    generate::{Generator, raw},
    language::{Differences, id},
    mongod::Reference,
};
use bson::{Bson, Document, RawDocumentBuf, bson, doc};
use debrouille_appliance::domain::filter::Filter;

const COLLECTION: &str = "places";

/// Longitude and latitude, mostly around the Congo, else anywhere.
pub fn position(generator: &mut Generator) -> (f64, f64) {
    let within = |generator: &mut Generator, low: f64, high: f64| {
        low + (high - low) * generator.below(1_000_000) as f64 / 1_000_000.0
    };
    if generator.one_in(4) {
        (within(generator, -180.0, 180.0), within(generator, -90.0, 90.0))
    } else {
        (within(generator, 12.0, 31.0), within(generator, -13.0, 5.0))
    }
}

pub fn point((longitude, latitude): (f64, f64)) -> Bson {
    bson!({ "type": "Point", "coordinates": [longitude, latitude] })
}

/// Points in the forms a document may hold them; several of them in `stops`.
pub fn places(generator: &mut Generator, count: usize) -> Vec<RawDocumentBuf> {
    let place = |number: usize| {
        let here = position(generator);
        let at = match generator.below(6) {
            0 => bson!([here.0, here.1]),
            1 => bson!({ "longitude": here.0, "latitude": here.1 }),
            _ => point(here),
        };
        let stops: Vec<Bson> = (0..generator.below(4)).map(|_| bson!({ "at": point(position(generator)) })).collect();
        raw(&doc! { "_id": format!("p{number:05}"), "at": at, "stops": stops })
    };
    (0..count).map(place).collect()
}

/// What is hardly a point, or none.
fn odd() -> Vec<RawDocumentBuf> {
    let values = [
        Bson::Null,
        bson!(5),
        bson!("here"),
        bson!([]),
        bson!([15.0]),
        bson!({}),
        bson!({ "x": 15.0 }),
        bson!({ "x": 15.0, "y": "north" }),
        bson!({ "type": "Point" }),
        bson!({ "type": "Point", "coordinates": [15.0] }),
        bson!({ "type": "Point", "coordinates": [15.0, 95.0] }),
        bson!({ "type": "Point", "coordinates": [200.0, 5.0] }),
        bson!({ "type": "Nonsense", "coordinates": [15.0, 5.0] }),
        bson!({ "type": "Point", "coordinates": [15, Bson::Int64(-4)] }),
        bson!({ "type": "Point", "coordinates": [15.0, -4.0, 300.0] }),
        bson!([15.0, -4.0, 300.0]),
        Bson::Array(vec![point((15.0, -4.0)), point((16.0, -5.0))]),
        bson!([[15.0, -4.0], [16.0, -5.0]]),
    ];
    let document = |(place, value): (usize, &Bson)| raw(&doc! { "_id": format!("o{place:03}"), "at": value.clone() });
    values.iter().enumerate().map(document).chain([raw(&doc! { "_id": "o900" })]).collect()
}

fn ring(generator: &mut Generator, centre: (f64, f64), radius: f64) -> Vec<Bson> {
    let corners = 3 + generator.below(6);
    let corner = |place: usize| {
        let turn = std::f64::consts::TAU * (place % corners) as f64 / corners as f64;
        bson!([centre.0 + radius * turn.cos(), centre.1 + radius * turn.sin()])
    };
    (0..=corners).map(corner).collect()
}

pub fn shape(generator: &mut Generator) -> Document {
    let centre = position(generator);
    // Away from the poles and the date line, where a ring drawn in degrees would cross itself.
    let centre = (centre.0.clamp(-140.0, 140.0), centre.1.clamp(-50.0, 50.0));
    let radius = 0.5 + generator.below(300) as f64 / 10.0;
    match generator.below(5) {
        0 => doc! { "$centerSphere": [[centre.0, centre.1], radius / 60.0] },
        1 => doc! { "$box": [[centre.0 - radius, centre.1 - radius], [centre.0 + radius, centre.1 + radius]] },
        2 => {
            let rings = vec![ring(generator, centre, radius), ring(generator, centre, radius / 3.0)];
            doc! { "$geometry": { "type": "Polygon", "coordinates": rings } }
        }
        3 => {
            let far = (-centre.0, centre.1);
            let polygons = vec![vec![ring(generator, centre, radius)], vec![ring(generator, far, 0.4)]];
            doc! { "$geometry": { "type": "MultiPolygon", "coordinates": polygons } }
        }
        _ => doc! { "$geometry": { "type": "Polygon", "coordinates": [ring(generator, centre, radius)] } },
    }
}

#[tokio::test]
async fn shapes_hold_the_same_points() {
    let mut generator = Generator::new();
    let mut documents = places(&mut generator, 600);
    documents.extend(odd());
    let mongod = Reference::start("shapes").await;
    mongod.load(COLLECTION, &documents).await;
    let triangle = bson!([[[10.0, -10.0], [30.0, -10.0], [20.0, 8.0], [10.0, -10.0]]]);
    let fixed = vec![
        doc! { "$geometry": { "type": "Polygon", "coordinates": triangle } },
        doc! { "$geometry": { "type": "Polygon", "coordinates": [[[10.0, 0.0], [30.0, 0.0], [20.0, 8.0]]] } },
        doc! { "$geometry": { "type": "Polygon", "coordinates": [[[10.0, 0.0], [30.0, 0.0], [10.0, 0.0]]] } },
        doc! { "$geometry": { "type": "Polygon", "coordinates": [] } },
        doc! { "$geometry": { "type": "Point", "coordinates": [10.0, 0.0] } },
        doc! { "$geometry": { "type": "Polygon" } },
        doc! { "$geometry": 1 },
        doc! { "$centerSphere": [[15.0, -4.0], -1] },
        doc! { "$centerSphere": [[15.0, -4.0]] },
        doc! { "$centerSphere": [[15.0, -4.0], 0] },
        doc! { "$box": [[10, -10], [30, 5]] },
        doc! { "$box": [[30, 5], [10, -10]] },
        doc! { "$box": [[10, -10]] },
        doc! { "$nonsense": [[10, -10]] },
        doc! {},
    ];
    let generated: Vec<Document> = (0..Generator::rounds(200)).map(|_| shape(&mut generator)).collect();
    let mut differences = Differences::default();
    for shape in fixed.into_iter().chain(generated) {
        for filter in
            [doc! { "at": { "$geoWithin": shape.clone() } }, doc! { "at": { "$not": { "$geoWithin": shape.clone() } } }]
        {
            let filter = raw(&filter);
            let ours = Filter::parse(&filter).map(|filter| {
                let found = documents.iter().filter(|document| filter.matches(document));
                let mut ids: Vec<String> = found.map(|document| id(document).to_owned()).collect();
                ids.sort();
                ids
            });
            let theirs = mongod.find(COLLECTION, &filter, None, None).await.map(|found| {
                let mut ids: Vec<String> = found.iter().map(|document| id(document).to_owned()).collect();
                ids.sort();
                ids
            });
            differences.compare(format!("{filter:?} {shape}"), &ours, &theirs, |ours, theirs| {
                let only = |a: &[String], b: &[String]| {
                    let odd: Vec<String> = documents
                        .iter()
                        .filter(|document| {
                            a.iter().any(|found| found == id(document)) && !b.iter().any(|found| found == id(document))
                        })
                        .map(|document| {
                            Document::try_from(document).map(|document| document.to_string()).unwrap_or_default()
                        })
                        .collect();
                    odd.join(" ")
                };
                format!("wrongly {} misses {}", only(ours, theirs), only(theirs, ours))
            });
        }
    }
    mongod.end().await;
    differences.finish(400);
}

#[tokio::test]
async fn the_nearest_come_first() {
    let mut generator = Generator::new();
    let documents = places(&mut generator, 600);
    let mongod = Reference::start("near").await;
    mongod.load(COLLECTION, &documents).await;
    for path in ["at", "stops.at"] {
        mongod.index(COLLECTION, path, doc! { path: "2dsphere" }).await;
    }
    let mut differences = Differences::default();
    let centre = point((15.3, -4.3));
    let mut wanted = vec![
        doc! { "$near": { "$geometry": centre.clone(), "$maxDistance": -1 } },
        doc! { "$near": { "$geometry": centre.clone(), "$maxDistance": "far" } },
        doc! { "$near": { "$geometry": { "type": "Polygon", "coordinates": [] } } },
        doc! { "$near": {} },
        doc! { "$near": 1 },
        doc! { "$not": { "$near": { "$geometry": centre.clone() } } },
        doc! { "$near": { "$geometry": centre.clone(), "$minDistance": 0, "$maxDistance": 0 } },
    ];
    for _ in 0..Generator::rounds(100) {
        let mut near = doc! { "$geometry": point(position(&mut generator)) };
        if generator.one_in(2) {
            near.insert("$maxDistance", generator.below(9_000_000) as f64);
        }
        if generator.one_in(3) {
            near.insert("$minDistance", generator.below(2_000_000) as i32);
        }
        wanted.push(doc! { "$near": near });
    }
    for near in wanted {
        let filter = raw(&doc! { *generator.pick(&["at", "stops.at"]): near.clone() });
        let ours = Filter::parse(&filter).map(|filter| {
            let (path, near) = filter.near().expect("a point");
            let found = documents.iter().filter(|document| filter.matches(document));
            let mut far: Vec<(f64, &str)> =
                found.map(|document| (near.distance(document, path).expect("a distance"), id(document))).collect();
            far.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
            far.into_iter().map(|(_, id)| id.to_owned()).collect::<Vec<_>>()
        });
        let theirs = mongod.find(COLLECTION, &filter, None, None).await;
        let theirs = theirs.map(|found| found.iter().map(|document| id(document).to_owned()).collect());
        differences.compare(near, &ours, &theirs, |ours: &Vec<String>, theirs| {
            let place = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or_default();
            format!("{} for {}, from {place}: {:?} {:?}", ours.len(), theirs.len(), ours.get(place), theirs.get(place))
        });
    }
    for filter in [
        doc! { "$or": [{ "at": { "$near": { "$geometry": centre.clone() } } }, { "n": 1 }] },
        doc! { "at": { "$near": { "$geometry": centre.clone() } }, "$and": [{ "at": { "$near": { "$geometry": centre.clone() } } }] },
        doc! { "at": { "$elemMatch": { "$near": { "$geometry": centre.clone() } } } },
    ] {
        let ours = Filter::parse(&raw(&filter)).map(|_| ());
        let theirs = mongod.find(COLLECTION, &raw(&filter), None, None).await.map(|_| ());
        differences.compare(filter, &ours, &theirs, |_, _| String::new());
    }
    mongod.end().await;
    differences.finish(100);
}
