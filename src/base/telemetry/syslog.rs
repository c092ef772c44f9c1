//! Lines to a central log: RFC 5424 messages, each with its length before it, over TLS (RFC 5425), or over plain TCP to this
//! very machine (RFC 6587, 3.4.1).
//!
//! It runs on the thread that writes them, which may wait. While the server is away the newest lines are held; what had to be let go of is
//! counted, and told when it is back. What a connection that breaks had taken may arrive twice or not at all, as syslog has it.

use super::super::{clock::Stopwatch, fault::Fault};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream, pki_types::ServerName};
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{IpAddr, Shutdown, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

/// To connect, to shake hands, and for each write.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of lines held while the server is away.
const HELD: usize = 8 << 20;
/// Bytes sent at once.
const TOGETHER: usize = 64 << 10;
/// Between two attempts at first, twice as long after each that failed, and at most.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// `daemon` and `warning` of RFC 5424, 6.2.1.
const FACILITY: u8 = 3;
const WARNING: u8 = 4;
const TLS_PORT: u16 = 6514;
const TCP_PORT: u16 = 601;

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

    fn connect(&self) -> io::Result<Link> {
        let mut failed = io::Error::from(io::ErrorKind::NotFound);
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(tcp) => return self.over(tcp),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn over(&self, mut tcp: TcpStream) -> io::Result<Link> {
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        let Some((config, name)) = &self.tls else { return Ok(Link { tcp, tls: None }) };
        let mut tls = ClientConnection::new(config.clone(), name.clone()).map_err(io::Error::other)?;
        let began = Stopwatch::start();
        // Known before the first line is counted as sent.
        while tls.is_handshaking() {
            if began.elapsed() > PATIENCE {
                return Err(io::ErrorKind::TimedOut.into());
            }
            tls.complete_io(&mut tcp)?;
        }
        Ok(Link { tcp, tls: Some(tls) })
    }
}

struct Link {
    tcp: TcpStream,
    tls: Option<ClientConnection>,
}

impl Link {
    fn write(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) => {
                let mut stream = Stream::new(tls, &mut self.tcp);
                stream.write_all(message)?;
                stream.flush()
            }
            None => self.tcp.write_all(message),
        }
    }

    /// Reads what the other side says, which is nothing but that it goes.
    fn is_open(&mut self) -> bool {
        let looked = self.tcp.set_nonblocking(true).and_then(|()| self.look());
        let again = self.tcp.set_nonblocking(false);
        matches!((looked, again), (Ok(true), Ok(())))
    }

    fn look(&mut self) -> io::Result<bool> {
        let mut scrap = [0; 512];
        loop {
            let read = match &mut self.tls {
                Some(tls) => {
                    let read = tls.read_tls(&mut self.tcp);
                    if tls.process_new_packets().map_err(io::Error::other)?.peer_has_closed() {
                        return Ok(false);
                    }
                    read
                }
                None => self.tcp.read(&mut scrap),
            };
            match read {
                Ok(0) => return Ok(false),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}

/// So that the last lines arrive, and the other side knows that they were the last (RFC 5425, 4.4).
impl Drop for Link {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.complete_io(&mut self.tcp);
        }
        let _ = self.tcp.shutdown(Shutdown::Write);
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
    link: Option<Link>,
    held: VecDeque<Vec<u8>>,
    bytes: usize,
    lost: u64,
    /// Since the last attempt that failed.
    failed: Option<Stopwatch>,
    pause: Duration,
}

impl Sender {
    pub fn new(place: Place, origin: Origin) -> Self {
        let (link, held, bytes, lost, failed) = Default::default();
        Self { place, origin, link, held, bytes, lost, failed, pause: FIRST_PAUSE }
    }

    fn hold(&mut self, message: Vec<u8>) {
        self.bytes += message.len();
        self.held.push_back(message);
        while self.bytes > HELD {
            self.let_go();
            self.lost += 1;
        }
    }

    fn let_go(&mut self) {
        self.bytes -= self.held.pop_front().map_or(0, |message| message.len());
    }

    /// Told in the other outputs a failure would be told by this one too, for ever.
    fn send(&mut self) {
        if self.failed.is_some_and(|failed| failed.elapsed() < self.pause) {
            return;
        }
        if self.link.as_mut().is_some_and(|link| !link.is_open()) {
            self.link = None;
        }
        match self.send_held() {
            Ok(()) => (self.failed, self.pause) = (None, FIRST_PAUSE),
            Err(_) => {
                self.link = None;
                self.pause = if self.failed.is_some() { (self.pause * 2).min(LONGEST_PAUSE) } else { FIRST_PAUSE };
                self.failed = Some(Stopwatch::start());
            }
        }
    }

    fn send_held(&mut self) -> io::Result<()> {
        if self.link.is_none() {
            self.link = Some(self.place.connect()?);
        }
        let Some(link) = &mut self.link else { return Ok(()) };
        if self.lost > 0 {
            let words = format!("{} lines were lost while this server was away", self.lost);
            link.write(&framed(&message(WARNING, &self.origin, "-", &words)))?;
            self.lost = 0;
        }
        while !self.held.is_empty() {
            let (mut together, mut count) = (Vec::with_capacity(TOGETHER), 0);
            for message in &self.held {
                if count > 0 && together.len() + message.len() > TOGETHER {
                    break;
                }
                together.extend_from_slice(message);
                count += 1;
            }
            link.write(&together)?;
            self.bytes -= together.len();
            self.held.drain(..count);
        }
        Ok(())
    }
}

impl Write for Sender {
    /// One line, `<SEVERITY>TIME JSON`, as `Style::Syslog` writes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some((severity, time, words)) = parts(line) {
            let message = framed(&message(severity, &self.origin, time, words));
            self.hold(message);
        }
        if self.bytes > TOGETHER {
            self.send();
        }
        Ok(line.len())
    }

    /// Once no other line waits.
    fn flush(&mut self) -> io::Result<()> {
        if !self.held.is_empty() {
            self.send();
        }
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
        let long = "x".repeat(1 << 20);
        for n in 0..10 {
            sender.write_all(format!("<6>2026-11-22T10:15:00.123Z {{\"n\":{n}}}{long}\n").as_bytes()).unwrap();
        }
        sender.write_all(b"no line of ours").unwrap();
        let listener = TcpListener::bind(address).unwrap();
        let taken = std::thread::spawn(move || {
            let mut text = String::new();
            listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
            text
        });
        std::thread::sleep(sender.pause);
        sender.write_all("<3>2026-11-22T10:15:01.000Z {\"é\":1}\n".as_bytes()).unwrap();
        sender.flush().unwrap();
        drop(sender);
        let text = taken.join().unwrap();
        let lost = "<28>1 - h debrouille-appliance 7 - - 3 lines were lost while this server was away";
        assert!(text.starts_with(&format!("{} {lost}", lost.len())), "{:.300}", text);
        let held = (3..10).map(|n| format!("{{\"n\":{n}}}")).filter(|line| text.contains(line)).count();
        assert_eq!((held, text.contains("{\"n\":2}")), (7, false));
        assert!(text.ends_with("68 <27>1 2026-11-22T10:15:01.000Z h debrouille-appliance 7 - - {\"é\":1}"));
    }

    #[test]
    fn one_that_goes_away_between_two_lines_is_noticed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = Place::new(&format!("tcp://{}", listener.local_addr().unwrap()), nobody).unwrap();
        let mut sender = Sender::new(place, Origin { host: "h".to_owned(), process: 7 });
        let mut say = |words: &str| {
            sender.write_all(format!("<6>2026-11-22T10:15:00.123Z {words}\n").as_bytes()).unwrap();
            sender.flush().unwrap();
        };
        let taken = |listener: &TcpListener| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = [0; 200];
            let read = stream.read(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..read]).into_owned()
        };
        say("first");
        assert!(taken(&listener).ends_with("first"));
        std::thread::sleep(Duration::from_millis(200));
        say("second");
        assert!(taken(&listener).ends_with("second"), "it went to who is gone");
    }
}
