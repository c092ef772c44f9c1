//! How mail leaves: to a server by SMTP, or into a folder while developing.

pub mod folder;
pub mod smtp;

use crate::{
    base::{clock::SharedClock, fault::Fault, random},
    ports::{self, mail::Letter},
};
use lettre::{Message, message::Mailbox, message::header::ContentType};
use std::time::{Duration, UNIX_EPOCH};

/// Who letters are from.
pub fn sender(text: &str) -> Result<Mailbox, Fault> {
    text.parse().map_err(|_| Fault::new("mail.from").at("mail.from").with("from", text))
}

fn compose(from: &Mailbox, letter: &Letter, clock: &SharedClock) -> ports::Result<Message> {
    let refused = |why: String| ports::Error::Rejected(Fault::new("mail.letter").with("why", why));
    let to = letter.to.parse().map_err(|error: lettre::address::AddressError| refused(error.to_string()))?;
    let now = clock.now();
    let date = UNIX_EPOCH + Duration::from_secs(u64::try_from(now.seconds()).unwrap_or_default());
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, to))
        .subject(&letter.subject)
        .date(date)
        .message_id(Some(format!("<{}@{}>", random::id(now), from.email.domain())))
        .header(ContentType::TEXT_PLAIN)
        .body(letter.text.clone())
        .map_err(|error| refused(error.to_string()))
}
