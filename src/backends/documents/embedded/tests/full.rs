//! The engine on a disk that is really full, a small tmpfs: writes stop in good order, and what only lets go still
//! goes through.

use super::*;
use crate::ports::documents::{Retention, Sequence};

#[test]
fn a_full_disk_bars_writes_and_not_the_way_out() {
    crate::testing::on_small_disk("backends::documents::embedded::tests::full::within");
}

#[tokio::test]
#[ignore = "run by a_full_disk_bars_writes_and_not_the_way_out, on a small disk as working directory"]
async fn within() {
    let folder = std::env::current_dir().unwrap();
    let store = on_disk(&folder);
    define(&store, "c", rawdoc! {}).await;
    let large = rawdoc! { "text": "x".repeat(200_000) };
    let mut count = 0;
    let refused = loop {
        match store.commit(batch(vec![put("c", &format!("{count:04}"), large.clone())])).await {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
        assert!(count < 1000, "the disk never filled");
    };
    assert!(matches!(refused, Error::Full(_)) && count > 20, "{count}: {refused}");
    let mut small = 0;
    while store
        .commit(batch(vec![put("c", &format!("s{small}"), rawdoc! { "text": "x".repeat(20_000) })]))
        .await
        .is_ok()
    {
        small += 1;
        assert!(small < 1000, "the disk never filled");
    }
    count += small;
    assert_eq!(store.statistics().await.expect("figures").read_only, None);
    assert!(store.get("c", "0000").await.expect("read").is_some());
    // Another program takes the very last byte.
    let mut filler = std::fs::File::create(folder.join("filler")).expect("a file");
    while std::io::Write::write(&mut filler, &[1; 65_536]).is_ok_and(|written| written > 0) {}
    assert_eq!(store.statistics().await.expect("figures").free_bytes, 0);
    store.commit(batch(vec![delete("c", "0000")])).await.expect("a deletion goes through");
    let (keep_from, keep_after) = (Timestamp(i64::MAX), Sequence::END);
    let all = Retention { older_than: Timestamp(i64::MAX), most_bytes: 0, keep_from, keep_after };
    assert_eq!(store.trim(all).await.expect("the journal lets go"), count + 2);
    store.commit(batch(vec![delete(COLLECTIONS, "c")])).await.expect("dropped");
    let again = store.commit(batch(vec![put(COLLECTIONS, "d", rawdoc! {})])).await;
    assert!(matches!(again, Err(Error::Full(_))), "what is free within the file is not the disk's: {again:?}");
    store.close().await.expect("closed in good order");
    // What is removed and still held takes its room.
    drop(filler);
    std::fs::remove_file(folder.join("filler")).expect("removed");
    // Closing gives the free end of the file back; what was dropped with its collection is let go in the background.
    for start in 1.. {
        let store = on_disk(&folder);
        let again = store.commit(batch(vec![put(COLLECTIONS, "d", rawdoc! {})])).await;
        store.close().await.expect("closed in good order");
        match again {
            Ok(_) => break,
            Err(full) => assert!(start < 5, "no room after {start} starts: {full}"),
        }
    }
}
