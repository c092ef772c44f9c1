//! Nobody is asked for what could not be kept, nor twice for what was not at once.

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

#[tokio::test]
async fn what_was_issued_while_the_root_key_went_away_is_kept_when_it_is_back() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    let (certificates, stage) = house.start(&[&public]).await;
    // For the attempt's proof, the account's, and the keyring with the account in it; not for the one with the certificate's key.
    house.root.leave(2 + house.keyring.keys().len() + 1);
    assert!(certificates.tend().await.is_err());
    assert_eq!(public.counts(), (1, 1));
    assert!(stage.public.lock().unwrap().is_none(), "shown before it was on disk");
    house.bench.wait(400);
    assert!(certificates.tend().await.is_err(), "still away");
    house.root.leave(usize::MAX);
    certificates.tend().await.unwrap();
    assert_eq!((public.counts(), certificates.served().unwrap().failures), ((1, 1), 0), "ordered again");
    let (again, _) = house.start(&[&public]).await;
    again.tend().await.unwrap();
    assert_eq!((public.counts(), again.served().unwrap().fallback), ((1, 1), false), "not on disk");
}
