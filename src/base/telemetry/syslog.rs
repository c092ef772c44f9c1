//! Lines to a central log: RFC 5424 messages, each with its length before it, over TLS (RFC 5425), or over plain TCP to this
//! very machine (RFC 6587, 3.4.1).
//!
//! It runs on the thread that writes them, which may wait. While the server is away the newest lines are held; what had to be let go of is
//! counted, and told when it is back.

use super::super::fault::Fault;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::ServerName};
use std::{
    collections::VecDeque,
    io::{self, Write},
    net::{IpAddr, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

/// To connect, and for each write.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines held while the server is away.
const HELD: usize = 10_000;
/// Attempts are as many lines apart at first, then ever more, up to so many seconds.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// `daemon` of RFC 5424, 6.2.1.
const FACILITY: u8 = 3;
const TLS_PORT: u16 = 6514;
const TCP_PORT: u16 = 601;

type Clock = fn() -> super::super::clock::Stopwatch;

/// Where lines go.
#[derive(Debug, Clone)]
pub struct Place {
    host: String,
    port: u16,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Place {
    /// `tls://HOST[:6514]`, or `tcp://HOST[:601]` where that is this very machine.
    pub fn new(url: &str, roots: impl FnOnce() -> Result<RootCertStore, Fault>) -> Result<Self, Fault> {
        let fault = || Fault::new("telemetry.syslog_place").at("log.syslog").with("url", url);
        let (scheme, rest) = url.split_once("://").ok_or_else(fault)?;
        let rest = rest.trim_end_matches('/');
        let (host, port) = match rest.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse::<u16>().map_err(|_| fault())?)),
            _ => (rest, None),
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let tls = match scheme {
            "tls" => {
                let name = ServerName::try_from(host.clone()).map_err(|_| fault())?;
                let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
                let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
                let config = config.map_err(|_| fault())?.with_root_certificates(roots()?).with_no_client_auth();
                Some((Arc::new(config), name))
            }
            "tcp" if here => None,
            _ => return Err(fault()),
        };
        let port = port.unwrap_or(if tls.is_some() { TLS_PORT } else { TCP_PORT });
        Ok(Self { host, port, tls })
    }

    fn connect(&self) -> io::Result<Box<dyn Write + Send>> {
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => return self.over(stream),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn over(&self, mut stream: TcpStream) -> io::Result<Box<dyn Write + Send>> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let Some((config, name)) = &self.tls else { return Ok(Box::new(stream)) };
        let mut session = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
        // Known before the first line is counted as sent.
        while session.is_handshaking() {
            session.complete_io(&mut stream)?;
        }
        Ok(Box::new(StreamOwned::new(session, stream)))
    }
}

/// Whose lines they are.
#[derive(Debug, Clone)]
pub struct Origin {
    pub host: String,
    pub process: u32,
}

pub struct Sender {
    place: Place,
    origin: Origin,
    stream: Option<Box<dyn Write + Send>>,
    held: VecDeque<Vec<u8>>,
    lost: u64,
    clock: Clock,
    /// When the next attempt is, by what began with the last.
    last: Option<super::super::clock::Stopwatch>,
    pause: Duration,
}

impl Sender {
    pub fn new(place: Place, origin: Origin) -> Self {
        let clock = super::super::clock::Stopwatch::start;
        let (stream, held, lost, last) = Default::default();
        Self { place, origin, stream, held, lost, clock, last, pause: FIRST_PAUSE }
    }

    fn hold(&mut self, message: Vec<u8>) {
        if self.held.len() >= HELD {
            self.held.pop_front();
            self.lost += 1;
        }
        self.held.push_back(message);
    }

    /// Sends what is held, in order; what a broken connection took along may arrive twice or not at all, as syslog has it.
    fn send(&mut self) {
        if self.stream.is_none() {
            if self.last.is_some_and(|last| last.elapsed() < self.pause) {
                return;
            }
            self.last = Some((self.clock)());
            match self.place.connect() {
                Ok(stream) => {
                    (self.stream, self.pause) = (Some(stream), FIRST_PAUSE);
                    if self.lost > 0 {
                        let words = format!("{} lines were lost while this server was away", self.lost);
                        self.held.push_front(framed(&message(4, &self.origin, "-", &words)));
                        self.lost = 0;
                    }
                }
                // Told in the other outputs it would be told by this one too, for ever.
                Err(_) => {
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    return;
                }
            }
        }
        while let (Some(stream), Some(message)) = (&mut self.stream, self.held.front()) {
            match stream.write_all(message).and_then(|()| stream.flush()) {
                Ok(()) => drop(self.held.pop_front()),
                Err(_) => self.stream = None,
            }
        }
    }
}

impl Write for Sender {
    /// One line, `<SEVERITY>TIME JSON`, as `Style::Syslog` writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some((severity, time, words)) = parts(line) {
            let message = framed(&message(severity, &self.origin, time, words));
            self.hold(message);
        }
        self.send();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn parts(line: &[u8]) -> Option<(u8, &str, &str)> {
    let line = std::str::from_utf8(line).ok()?.trim_end();
    let (severity, rest) = line.strip_prefix('<')?.split_once('>')?;
    let (time, words) = rest.split_once(' ')?;
    Some((severity.parse().ok()?, time, words))
}

/// RFC 5424, 6. The message is JSON: structured data would say the same again.
fn message(severity: u8, origin: &Origin, time: &str, words: &str) -> String {
    let priority = FACILITY * 8 + severity;
    format!("<{priority}>1 {time} {} debrouille-appliance {} - - {words}", origin.host, origin.process)
}

fn framed(message: &str) -> Vec<u8> {
    format!("{} {message}", message.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Read, net::TcpListener};

    fn nobody() -> Result<RootCertStore, Fault> {
        Ok(RootCertStore::empty())
    }

    #[test]
    fn nothing_leaves_this_machine_in_clear() {
        for good in [
            "tls://log.example.cd",
            "tls://log.example.cd:6514/",
            "tls://[2001:db8::1]:1",
            "tcp://127.0.0.1:601",
            "tcp://[::1]",
        ] {
            assert!(Place::new(good, nobody).is_ok(), "{good}");
        }
        for bad in [
            "tcp://log.example.cd",
            "udp://127.0.0.1",
            "log.example.cd:514",
            "tls://",
            "tls://a b",
            "tls://a:b",
            "tcp://localhost.evil.cd",
        ] {
            assert!(Place::new(bad, nobody).is_err(), "{bad}");
        }
        let place = Place::new("tls://log.example.cd", nobody).unwrap();
        assert_eq!((place.port, place.tls.is_some()), (6514, true));
    }

    #[test]
    fn what_was_said_while_it_was_away_comes_with_what_was_lost() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let place = Place::new(&format!("tcp://{address}"), nobody).unwrap();
        let mut sender = Sender::new(place, Origin { host: "h".to_owned(), process: 7 });
        for n in 0..HELD + 3 {
            sender.write_all(format!("<6>2026-11-22T10:15:00.123Z {{\"n\":{n}}}\n").as_bytes()).unwrap();
        }
        sender.write_all(b"no line of ours").unwrap();
        let listener = TcpListener::bind(address).unwrap();
        std::thread::sleep(sender.pause);
        sender.write_all("<3>2026-11-22T10:15:01.000Z {\"é\":1}\n".as_bytes()).unwrap();
        drop(sender);
        let mut text = String::new();
        listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
        let lost = "<28>1 - h debrouille-appliance 7 - - 4 lines were lost while this server was away";
        let first = "<30>1 2026-11-22T10:15:00.123Z h debrouille-appliance 7 - - {\"n\":4}";
        assert!(text.starts_with(&format!("{} {lost}{} {first}", lost.len(), first.len())), "{:.300}", text);
        assert!(
            text.ends_with("68 <27>1 2026-11-22T10:15:01.000Z h debrouille-appliance 7 - - {\"é\":1}"),
            "{}",
            &text[text.len() - 200..]
        );
        assert_eq!(text.matches("debrouille-appliance").count(), HELD + 1);
    }
}
