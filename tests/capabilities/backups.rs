//! Backups made, listed and checked through the routes.

use crate::house::House;
use serde_json::{Value, json};

const BACKUPS: &str = "/api/v1/admin/backups";

#[tokio::test]
async fn a_backup_is_made_listed_and_checked() {
    let house = House::open().await;
    let path = house.collection(json!({ "name": "places" })).await;
    house.post(&path, json!({ "n": 1 })).await.ok(201);
    house.post(&format!("{BACKUPS}/verify"), json!({})).await.refused(404, "RESOURCE_NOT_FOUND", "backups.none");
    house.post(BACKUPS, json!({ "kind": "half" })).await.refused(422, "VALIDATION_ERROR", "backups.kind");
    let made = house.post(BACKUPS, json!({ "kind": "full" })).await.ok(201).data();
    assert!(made["documents"].as_u64().is_some_and(|documents| documents >= 2), "{made}");
    let listed = house.get(BACKUPS).await.ok(200).data();
    assert_eq!(
        (&listed[0]["id"], &listed[0]["name"], &listed[0]["kind"]),
        (&made["id"], &made["place"], &json!("full"))
    );
    assert_eq!(listed[0]["fault"], Value::Null);
    let sound = house.post(&format!("{BACKUPS}/verify"), json!({ "backup": null })).await.ok(200).data();
    assert_eq!((&sound["id"], &sound["documents"]), (&made["id"], &made["documents"]));

    let ask = json!({ "kind": "segment", "target": "local" });
    let segment = house.post(BACKUPS, ask.clone()).await.ok(201).data();
    assert_eq!((&segment["kind"], &segment["targets"][0]["target"]), (&json!("segment"), &json!("local")));
    let absent = house.post(BACKUPS, json!({ "target": "absent" })).await;
    absent.refused(404, "RESOURCE_NOT_FOUND", "backups.target");
    let plan = house.get(&format!("{BACKUPS}/plan?target=local")).await.ok(200).data();
    let target = &plan["targets"][0];
    assert_eq!((&plan["schedule"], &plan["keep"]["withinDays"]), (&json!("0 2 * * *"), &json!(7)));
    assert_eq!((&target["status"], target["kept"].as_array().unwrap().len()), (&json!("ok"), 2), "{plan}");
    assert_eq!(target["kept"][0]["reasons"], json!(["last", "daily", "weekly", "monthly", "yearly", "window"]));
    assert_eq!((&target["kept"][1]["kind"], &target["kept"][1]["reasons"]), (&json!("segment"), &json!(["window"])));
    assert_eq!((&target["dropped"], &target["failure"]), (&json!([]), &Value::Null));
    let gone = house.post(&format!("{BACKUPS}/prune"), json!({ "dryRun": true })).await.ok(200).data();
    assert_eq!(gone, json!([{ "target": "local", "dropped": [], "refused": [] }]));

    let file = house.folder.path().join("backups").join(made["place"].as_str().unwrap());
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let damaged = house.post(&format!("{BACKUPS}/verify"), json!({ "backup": made["id"] })).await;
    assert_eq!((damaged.status.as_u16(), &damaged.json()["error"]["details"]["kind"]), (409, &json!("integrity")));
}
