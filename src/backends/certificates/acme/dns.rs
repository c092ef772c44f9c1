//! Proofs as TXT records (RFC 8555, 8.4), by signed updates of a zone (RFC 2136, RFC 8945) at its primary server.

use super::hook::{record, settled};
use crate::{
    base::{clock::SharedClock, fault::Fault},
    ports::{
        Error, Result,
        certificates::{Proof, Proofs},
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hickory_proto::{
    op::{Message, Query, ResponseCode, update_message},
    rr::{
        Name, RData, Record, RecordSet, RecordType, TSigner,
        rdata::{TXT, tsig::TsigAlgorithm},
    },
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const PATIENCE: Duration = Duration::from_secs(10);
const TTL: u32 = 60;
/// Seconds by which clocks may differ (RFC 8945, 10).
const FUDGE: u16 = 300;

pub struct Updates {
    /// The zone's primary.
    pub server: SocketAddr,
    /// Absent: the server is asked in which zone a name lies.
    pub zone: Option<Name>,
    pub signer: TSigner,
    /// For the zone's other servers to have what the primary has.
    pub wait: Duration,
    pub clock: SharedClock,
}

/// A key as nsupdate(1) takes it: `ALGORITHM:NAME:SECRET`, the secret in base64.
pub fn signer(words: &str) -> std::result::Result<TSigner, Fault> {
    let unreadable = || Fault::new("certificates.dns_key");
    let [algorithm, name, secret] = words.splitn(3, ':').collect::<Vec<_>>()[..] else { return Err(unreadable()) };
    let algorithm = Name::from_ascii(algorithm).map(TsigAlgorithm::from_name).map_err(|_| unreadable())?;
    let name = Name::from_ascii(name).map_err(|_| unreadable())?;
    let secret = STANDARD.decode(secret.trim()).map_err(|_| unreadable())?;
    TSigner::new(secret, algorithm, name, FUDGE).map_err(|_| unreadable())
}

/// A zone as the configuration names it.
pub fn zone(name: &str) -> std::result::Result<Name, Fault> {
    let mut zone = Name::from_ascii(name).map_err(|_| Fault::new("certificates.dns_zone").with("zone", name))?;
    zone.set_fqdn(true);
    Ok(zone)
}

#[async_trait::async_trait]
impl Proofs for Updates {
    async fn show(&self, proofs: &[Proof]) -> Result<()> {
        for proof in proofs {
            self.change(proof, true).await?;
        }
        settled(self.wait).await;
        Ok(())
    }

    async fn withdraw(&self, proofs: &[Proof]) -> Result<()> {
        let mut outcome = Ok(());
        for proof in proofs {
            outcome = outcome.and(self.change(proof, false).await);
        }
        outcome
    }
}

impl Updates {
    /// Adds one record beside those of other proofs, or takes that one away.
    async fn change(&self, proof: &Proof, add: bool) -> Result<()> {
        let (name, value) = record(proof);
        let mut name = Name::from_ascii(&name).map_err(|error| self.refused(&name, &error))?;
        name.set_fqdn(true);
        let zone = match &self.zone {
            Some(zone) => zone.clone(),
            None => self.find_zone(&name).await?,
        };
        if !zone.zone_of(&name) {
            return Err(self.refused(&name, &format!("not in the zone {zone}")));
        }
        let record = Record::from_rdata(name.clone(), TTL, RData::TXT(TXT::new(vec![value])));
        let set = RecordSet::from(record);
        let mut message = match add {
            true => update_message::append(set, zone, false, false),
            false => update_message::delete_by_rdata(set, zone, false),
        };
        let now = u64::try_from(self.clock.now().seconds()).unwrap_or_default();
        let verifier = message.finalize(&self.signer, now).map_err(|error| self.refused(&name, &error))?;
        let bytes = self.exchange(&message).await.map_err(|error| self.away(&error))?;
        let answer = Message::from_vec(&bytes).map_err(|error| self.away(&error))?;
        match answer.metadata.response_code {
            ResponseCode::NoError => {}
            code => return Err(self.refused(&name, &code)),
        }
        if let Some(mut verifier) = verifier {
            // Only the server's own word counts that it was done.
            verifier.verify(&bytes).map_err(|error| self.away(&error))?;
        }
        Ok(())
    }

    /// The nearest name above that has a zone of its own at this server.
    async fn find_zone(&self, name: &Name) -> Result<Name> {
        let mut above = name.clone();
        for _ in 0..name.num_labels() {
            let mut message = Message::query();
            message.add_query(Query::query(above.clone(), RecordType::SOA));
            let bytes = self.exchange(&message).await.map_err(|error| self.away(&error))?;
            let answer = Message::from_vec(&bytes).map_err(|error| self.away(&error))?;
            let owns = |record: &&Record| record.record_type() == RecordType::SOA && record.name == above;
            if answer.answers.iter().any(|record| owns(&record)) {
                return Ok(above);
            }
            above = above.base_name();
        }
        Err(self.refused(name, &"the server has no zone for it"))
    }

    /// One message each way over TCP (RFC 1035, 4.2.2).
    async fn exchange(
        &self,
        message: &Message,
    ) -> std::result::Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.server).await?;
            let bytes = message.to_vec()?;
            stream.write_u16(u16::try_from(bytes.len())?).await?;
            stream.write_all(&bytes).await?;
            let mut answer = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut answer).await?;
            Ok(answer)
        };
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_| "no answer in time")?
    }

    fn away(&self, cause: &dyn std::fmt::Display) -> Error {
        Error::OutOfReach(Fault::new("certificates.dns_away").with("server", self.server).with("cause", cause))
    }

    fn refused(&self, name: &dyn std::fmt::Display, cause: &dyn std::fmt::Display) -> Error {
        let fault = Fault::new("certificates.dns_refused").with("server", self.server).with("name", name);
        Error::Rejected(fault.with("cause", cause))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_nsupdate_takes_them() {
        let secret = STANDARD.encode([7; 32]);
        let key = signer(&format!("hmac-sha256:appliance.example.cd:{secret}")).unwrap();
        assert_eq!((key.key(), key.signer_name().to_string().as_str()), (&[7; 32][..], "appliance.example.cd."));
        for bad in ["", "hmac-sha256:name", "hmac-sha256:name:***", &format!("hmac-md5x:name:{secret}")] {
            assert!(signer(bad).is_err(), "{bad}");
        }
        assert_eq!(zone("example.cd").unwrap().to_string(), "example.cd.");
        assert!(zone("a..b").is_err());
    }
}
