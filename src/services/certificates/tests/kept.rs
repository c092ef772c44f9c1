//! Nobody is asked for what could not be kept.

use super::*;

#[tokio::test]
async fn nothing_is_ordered_while_the_root_key_is_away() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    let (certificates, _) = house.start(&[&public]).await;
    house.root.leave(0);
    for _ in 0..2 {
        let told = certificates.tend().await.unwrap_err();
        assert!(matches!(&told, crate::services::Error::OutOfReach(fault) if fault.key == "vault.sealed"), "{told}");
        assert_eq!((public.counts(), certificates.served().unwrap().failures), ((0, 0), 0));
    }
    // Gone between the first proof and the account.
    house.root.leave(1);
    assert!(certificates.tend().await.is_err());
    assert_eq!((public.counts(), certificates.served().unwrap().failures), ((0, 0), 1));
    house.root.leave(usize::MAX);
    house.bench.wait(400);
    certificates.tend().await.unwrap();
    assert_eq!((public.counts(), certificates.served().unwrap().fallback), ((1, 1), false));
}
