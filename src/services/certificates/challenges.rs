//! Proofs that our own listeners show: over plain HTTP (RFC 8555, 8.3), and in a handshake (RFC 8737).

use crate::ports::{
    Result,
    certificates::{Proof, Proofs},
};
use std::{
    net::IpAddr,
    sync::{PoisonError, RwLock},
};

/// What is shown now: nothing, but for the minutes of an order.
#[derive(Debug, Default)]
pub struct Challenges(RwLock<Vec<Proof>>);

impl Challenges {
    /// What is answered for a token over plain HTTP.
    pub fn authorization(&self, token: &str) -> Option<String> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(all.iter().find(|proof| proof.token == token)?.authorization.clone())
    }

    /// The name, and the digest to show for it, of a handshake that names this server.
    pub fn digest(&self, server_name: &str) -> Option<(String, [u8; 32])> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let proof = all.iter().find(|proof| asked_as(&proof.name).eq_ignore_ascii_case(server_name))?;
        Some((proof.name.clone(), proof.digest))
    }
}

/// An address is asked for by the name it has in reverse (RFC 8738, 6).
fn asked_as(name: &str) -> String {
    match name.parse() {
        Ok(IpAddr::V4(address)) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        Ok(IpAddr::V6(address)) => {
            let digits = hex::encode(address.octets());
            let mut reversed: String = digits.chars().rev().flat_map(|digit| [digit, '.']).collect();
            reversed.push_str("ip6.arpa");
            reversed
        }
        Err(_) => name.to_owned(),
    }
}

#[async_trait::async_trait]
impl Proofs for Challenges {
    async fn show(&self, proofs: &[Proof]) -> Result<()> {
        let mut shown = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Of a name the last counts, whatever became of an order before.
        shown.retain(|before| proofs.iter().all(|proof| proof.name != before.name));
        shown.extend(proofs.iter().cloned());
        Ok(())
    }

    async fn withdraw(&self, proofs: &[Proof]) -> Result<()> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).retain(|shown| !proofs.contains(shown));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof(name: &str, token: &str) -> Proof {
        let authorization = format!("{token}.thumb");
        Proof { name: name.to_owned(), token: token.to_owned(), authorization, digest: [token.len() as u8; 32] }
    }

    #[tokio::test]
    async fn shows_what_it_was_given_until_it_is_withdrawn() {
        let challenges = Challenges::default();
        let proofs = [proof("api.example.cd", "a"), proof("192.0.2.7", "bb"), proof("2001:db8::1", "ccc")];
        challenges.show(&proofs).await.unwrap();
        assert_eq!(challenges.authorization("a").as_deref(), Some("a.thumb"));
        assert_eq!(challenges.authorization("x"), None);
        assert_eq!(challenges.digest("API.example.cd"), Some(("api.example.cd".to_owned(), [1; 32])));
        assert_eq!(challenges.digest("7.2.0.192.in-addr.arpa"), Some(("192.0.2.7".to_owned(), [2; 32])));
        let reversed = format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23));
        assert_eq!(challenges.digest(&reversed), Some(("2001:db8::1".to_owned(), [3; 32])));
        assert_eq!(challenges.digest("192.0.2.7"), None);
        // One left behind by an order that ended badly does not stand before its successor.
        challenges.show(&[proof("2001:db8::1", "dddd")]).await.unwrap();
        assert_eq!(challenges.digest(&reversed), Some(("2001:db8::1".to_owned(), [4; 32])));
        challenges.withdraw(&proofs[..1]).await.unwrap();
        assert_eq!((challenges.authorization("a"), challenges.digest("api.example.cd")), (None, None));
        assert!(challenges.authorization("bb").is_some());
    }
}
