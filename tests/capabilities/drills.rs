//! Drills through the routes: a copy held against the instance, a report kept.

use crate::house::House;
use serde_json::json;

const DRILLS: &str = "/api/v1/admin/backups/drills";

#[tokio::test]
async fn a_copy_is_compared_and_a_failure_is_kept() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    house.post(&path, json!({ "n": 1 })).await.ok(201);
    let compare = format!("{DRILLS}/compare");
    let none = house.post(&compare, json!({ "lineage": 0, "sequence": 0 })).await.ok(200).data();
    assert_eq!(none["held"], serde_json::Value::Null, "another lineage: {none}");
    let here = json!({ "lineage": 1, "sequence": none["sequence"] });
    let same = house.post(&compare, here).await.ok(200).data();
    assert_eq!(same["held"]["counts"]["places"], 1, "{same}");
    let sample = json!({ "collection": "places", "id": "x", "digest": "00" });
    let wrong = json!({ "lineage": 1, "sequence": same["sequence"], "samples": [sample] });
    let differs = house.post(&compare, wrong).await.ok(200).data();
    assert_eq!(differs["held"]["different"][0]["id"], "x", "{differs}");

    assert_eq!(house.get(DRILLS).await.ok(200).data(), json!([]));
    house.post(DRILLS, json!({ "report": {}, "signature": null })).await.refused(409, "CONFLICT", "drills.unsound");
    let report = json!({
        "format": 1, "id": "d", "instance": house.keys.0.id, "environment": "development", "release": "0.1.0",
        "started": "2026-01-01T00:00:00Z", "ended": "2026-01-01T00:01:00Z", "place": "p", "outcome": "failed",
        "point": null, "files": [], "documents": 0, "collections": {}, "checks": [], "rto": null, "rpo": null,
        "signerVouched": true,
    });
    let kept = house.post(DRILLS, json!({ "report": report, "signature": null })).await.ok(201).data();
    assert_eq!((&kept["id"], &kept["passed"]), (&json!("d"), &json!(false)));
    let listed = house.get(DRILLS).await.ok(200).data();
    assert_eq!(
        (&listed[0]["ended"], &listed[0]["report"]["report"]["id"]),
        (&json!("2026-01-01T00:01:00Z"), &json!("d"))
    );
    // Nobody claims a success without a signature.
    let mut claimed = report.clone();
    (claimed["outcome"], claimed["id"]) = (json!("passed"), json!("e"));
    house.post(DRILLS, json!({ "report": claimed, "signature": null })).await.refused(
        409,
        "CONFLICT",
        "drills.unsound",
    );
}
