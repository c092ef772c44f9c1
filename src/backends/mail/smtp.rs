//! Letters handed to a mail server (RFC 5321), over TLS unless it is this very machine.

use super::compose;
use crate::{
    base::{clock::SharedClock, config::Secret, fault::Fault, telemetry::scope},
    ports::{
        self, Result,
        mail::{Letter, Mailer},
    },
};
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Tokio1Executor,
    message::Mailbox,
    transport::smtp::{
        authentication::Credentials,
        client::{Certificate, CertificateStore, Tls, TlsParameters},
    },
};
use std::time::Duration;

/// For each step of the conversation.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Smtp {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    clock: SharedClock,
}

impl Smtp {
    /// `smtps://USER@HOST:PORT`, or `smtp://` for STARTTLS. `roots` are the authorities trusted, as DER.
    pub fn new(
        url: &str,
        password: Option<&Secret>,
        from: Mailbox,
        roots: impl IntoIterator<Item = Vec<u8>>,
        clock: SharedClock,
    ) -> std::result::Result<Self, Fault> {
        let fault = |why: &str| Fault::new("mail.server").at("mail.server").with("why", why);
        let (scheme, rest) = url.split_once("://").ok_or_else(|| fault("smtp://, smtps://"))?;
        let rest = rest.trim_end_matches('/');
        let (user, place) = rest.rsplit_once('@').map_or((None, rest), |(user, place)| (Some(user), place));
        let (host, given) = match place.rsplit_once(':') {
            // The colons of an IPv6 address stand within its brackets.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port.parse().map_err(|_| fault("PORT"))?)),
            _ => (place, None),
        };
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(fault("HOST"));
        }
        if user.is_some_and(|user| user.contains(':')) {
            return Err(fault("USER:PASSWORD"));
        }
        let mut store = TlsParameters::builder(host.to_owned()).certificate_store(CertificateStore::None);
        for root in roots {
            store = store.add_root_certificate(Certificate::from_der(root).map_err(|error| fault(&error.to_string()))?);
        }
        let parameters = store.build_rustls().map_err(|error| fault(&error.to_string()))?;
        let (port, tls) = match scheme {
            "smtps" => (465, Tls::Wrapper(parameters)),
            "smtp" if is_here(host) => (25, Tls::None),
            "smtp" => (587, Tls::Required(parameters)),
            _ => return Err(fault("smtp://, smtps://")),
        };
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(host);
        let mut builder = builder.port(given.unwrap_or(port)).tls(tls).timeout(Some(PATIENCE));
        if let (Some(user), Some(password)) = (user, password) {
            builder = builder.credentials(Credentials::new(user.replace("%40", "@"), password.expose().to_owned()));
        }
        Ok(Self { transport: builder.build(), from, clock })
    }
}

#[async_trait::async_trait]
impl Mailer for Smtp {
    async fn send(&self, letter: &Letter) -> Result<()> {
        let message = compose(&self.from, letter, &self.clock)?;
        match scope::call("mail").run(self.transport.send(message)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_permanent() => {
                Err(ports::Error::Rejected(Fault::new("mail.letter").with("why", error)))
            }
            Err(error) => Err(ports::Error::Unavailable(format!("mail server: {error}"))),
        }
    }
}

/// A relay on this machine, by which nothing crosses a wire.
fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SystemClock;
    use std::sync::Arc;
    use tokio::{
        io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    fn smtp(url: &str) -> std::result::Result<Smtp, Fault> {
        let from = super::super::sender("Appliance <noreply@example.cd>").unwrap();
        Smtp::new(url, None, from, [], Arc::new(SystemClock))
    }

    fn letter() -> Letter {
        Letter {
            to: "ana@example.cd".to_owned(),
            subject: "Récupération".to_owned(),
            text: "Bonjour,\n.\nfin\n".to_owned(),
        }
    }

    /// A server that answers `rcpt` to the recipient and returns what it was told.
    async fn server(rcpt: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", listener.local_addr().unwrap());
        let told = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (read, mut write) = stream.into_split();
            let (mut lines, mut told, mut data) = (BufReader::new(read).lines(), String::new(), false);
            write.write_all(b"220 here\r\n").await.unwrap();
            while let Ok(Some(line)) = lines.next_line().await {
                told.push_str(&line);
                told.push('\n');
                let answer = match line.split([' ', ':']).next().unwrap_or_default() {
                    _ if data && line != "." => continue,
                    "." => {
                        data = false;
                        "250 taken"
                    }
                    "DATA" => {
                        data = true;
                        "354 go on"
                    }
                    "RCPT" => rcpt,
                    "QUIT" => break,
                    _ => "250 fine",
                };
                write.write_all(format!("{answer}\r\n").as_bytes()).await.unwrap();
            }
            told
        });
        (url, told)
    }

    #[tokio::test]
    async fn a_letter_reaches_the_server() {
        let (url, told) = server("250 fine").await;
        smtp(&url).unwrap().send(&letter()).await.unwrap();
        let told = told.await.unwrap();
        for part in ["MAIL FROM:<noreply@example.cd>", "RCPT TO:<ana@example.cd>", "Subject: =?utf-8?", "Bonjour"] {
            assert!(told.contains(part), "{part} is not in {told}");
        }
    }

    #[tokio::test]
    async fn what_may_pass_later_is_told_from_what_never_will() {
        let (url, _told) = server("550 nobody here").await;
        assert!(matches!(smtp(&url).unwrap().send(&letter()).await, Err(ports::Error::Rejected(_))));
        let (url, _told) = server("451 later").await;
        assert!(matches!(smtp(&url).unwrap().send(&letter()).await, Err(ports::Error::Unavailable(_))));
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("smtp://{}", closed.local_addr().unwrap());
        drop(closed);
        assert!(matches!(smtp(&url).unwrap().send(&letter()).await, Err(ports::Error::Unavailable(_))));
    }

    #[test]
    fn only_this_machine_is_spoken_to_in_clear() {
        assert!(!is_here("mail.example.cd") && !is_here("10.0.0.1") && is_here("127.0.0.1") && is_here("::1"));
    }

    #[test]
    fn an_address_that_says_too_little_or_too_much_is_refused() {
        for bad in [
            "",
            "mail.example.cd",
            "http://mail.example.cd",
            "smtp://",
            "smtp://host:many",
            "smtps://user:secret@mail.example.cd",
        ] {
            assert!(smtp(bad).is_err(), "{bad}");
        }
        assert!(smtp("smtp://[::1]:25").is_ok() && smtp("smtps://10.0.0.1/").is_ok());
        assert!(smtp("smtps://user%40example.cd@mail.example.cd:465").is_ok());
    }
}
