//! Who may come in: so many in all, so many from one address.

use crate::base::metrics::OpenConnection;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

#[derive(Clone)]
pub(super) struct Admission {
    places: Arc<Semaphore>,
    per_address: usize,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A connection's place, given back when dropped; it travels with the socket.
pub(super) struct Ticket {
    address: Option<IpAddr>,
    addresses: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _place: OwnedSemaphorePermit,
    _open: OpenConnection,
}

impl Admission {
    pub(super) fn new(connections: usize, per_address: usize) -> Self {
        let places = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { places, per_address, addresses: Arc::default() }
    }

    pub(super) fn full(&self) -> bool {
        self.places.available_permits() == 0
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        self.places.clone().acquire_owned().await.expect("this semaphore is never closed")
    }

    /// `None` when the address already holds all it may.
    pub(super) fn admit(&self, address: IpAddr, place: OwnedSemaphorePermit, open: OpenConnection) -> Option<Ticket> {
        let address = origin(address);
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let held = addresses.entry(address).or_insert(0);
        if *held >= self.per_address {
            return None;
        }
        *held += 1;
        Some(Ticket { address: Some(address), addresses: self.addresses.clone(), _place: place, _open: open })
    }

    /// A place that counts for no address.
    pub(super) fn admit_local(&self, place: OwnedSemaphorePermit, open: OpenConnection) -> Ticket {
        Ticket { address: None, addresses: self.addresses.clone(), _place: place, _open: open }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = addresses.get_mut(&address) {
            *held -= 1;
            if *held == 0 {
                addresses.remove(&address);
            }
        }
    }
}

/// One subscriber: an IPv4 address, or an IPv6 /64.
fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{clock::SystemClock, metrics::Metrics};

    #[tokio::test]
    async fn bounds_all_and_each_and_gives_back() {
        let metrics = Metrics::new(Arc::new(SystemClock));
        let admission = Admission::new(3, 2);
        let enter = async |address: &str| {
            let place = admission.place().await;
            admission.admit(address.parse().unwrap(), place, metrics.connection_opened("https"))
        };
        let first = enter("2001:db8::1").await.unwrap();
        let _second = enter("2001:db8::2").await.unwrap();
        assert!(enter("2001:db8::3").await.is_none(), "a third from one /64");
        assert!(!admission.full(), "a refused connection kept its place");
        let _other = enter("::ffff:192.0.2.1").await.unwrap();
        assert!(admission.full());
        drop(first);
        assert!(!admission.full());
        let _again = enter("2001:db8::3").await.unwrap();
        assert!(metrics.render().contains(r#"connections_open{listener="https"} 3"#));
    }
}
