//! Certificates and clocks that are not of their time.

use super::*;

#[tokio::test]
async fn a_clock_that_was_months_ahead_leaves_nothing_behind() {
    let house = House::open().await;
    let public = Public::new("https://ca.example.cd/directory", house.bench.clock.now());
    let (certificates, stage) = house.start(&[&public]).await;
    certificates.tend().await.unwrap();
    let shown = || stage.public.lock().unwrap().clone();
    let good = shown();
    house.bench.wait(100 * DAY);
    public.tell(Does::Bar(3 * DAY));
    assert!(certificates.tend().await.is_err());
    assert_eq!(shown(), None);
    house.bench.wait(-100 * DAY);
    let own = stage.own.load(Ordering::Relaxed);
    certificates.tend().await.unwrap();
    assert_eq!(shown(), good, "what is good again is not shown again");
    assert_eq!(stage.own.load(Ordering::Relaxed), own + 1, "our own is of months to come");
    public.tell(Does::Issue);
    house.bench.wait(61 * DAY);
    certificates.tend().await.unwrap();
    assert_eq!(public.counts().0, 3, "a pause of months to come is kept");
}

#[tokio::test]
async fn one_that_is_old_as_it_comes_is_not_ordered_without_end() {
    let house = House::open().await;
    // An hour old, and at its end.
    let public = Public::for_days(0, "https://ca.example.cd/directory", house.bench.clock.now());
    let (certificates, _) = house.start(&[&public]).await;
    for _ in 0..4 {
        certificates.tend().await.unwrap();
    }
    assert_eq!(public.counts().0, 1);
    house.bench.wait(DAY / 2 + 1);
    certificates.tend().await.unwrap();
    assert_eq!(public.counts().0, 2);
}
