//! `backup keys split` and `combine`: a private key on several sheets of paper, in words and as a code to scan.

use super::{identity_file, keys::keep};
use crate::{
    base::{fault::Fault, files},
    cli::{
        context::Context,
        failure::{Failure, uncreated, unreadable, unwritable},
        serve::failure,
    },
    services::{
        self,
        backups::{self, Identity, Paper, Share, Signer},
    },
};
use fast_qr::{ECL, Mode, QRBuilder};
use serde_json::json;
use std::{
    io::{BufRead, IsTerminal, Read},
    path::PathBuf,
};
use zeroize::Zeroizing;

/// Of words on a sheet.
const COLUMNS: usize = 4;
/// Light modules around a code.
const MARGIN: isize = 4;

#[derive(clap::Args)]
pub struct Split {
    #[arg(value_name = "FILE")]
    identity: PathBuf,
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(2..))]
    shares: u8,
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(2..))]
    threshold: u8,
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct Combine {
    #[arg(value_name = "FILE")]
    shares: Vec<PathBuf>,
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn split(context: &Context, arguments: &Split) -> Result<(), Failure> {
    let identity = identity_file(&arguments.identity, &[])?;
    if let Some(folder) = &arguments.output {
        files::private_folder(folder).map_err(|error| unwritable(folder.display(), error))?;
    }
    let shares = backups::split(&identity, arguments.shares, arguments.threshold).map_err(refused)?;
    let count = shares.len();
    let mut sheets = Vec::new();
    for share in &shares {
        let sheet = sheet(context, &identity, share, count);
        let name = format!("share-{}-{}-{count}.txt", share.set(), share.number());
        sheets.push((arguments.output.as_ref().map(|folder| folder.join(name)), share, sheet));
    }
    for (path, _, sheet) in &sheets {
        if let Some(path) = path {
            files::create(path, sheet.as_bytes(), 0o600).map_err(|error| uncreated(path.display(), &error))?;
        }
    }
    let described = sheets.iter().map(|(path, share, _)| match path {
        Some(path) => json!({ "number": share.number(), "file": path.display().to_string() }),
        None => json!({
            "number": share.number(),
            "share": share.to_string(),
            "words": share.words(context.language),
        }),
    });
    let document = json!({
        "set": shares.first().map(Share::set),
        "recipient": identity.recipient().to_string(),
        "threshold": arguments.threshold,
        "shares": described.collect::<Vec<_>>(),
        "signers": identity.signers().iter().map(Signer::to_string).collect::<Vec<_>>(),
    });
    context.answer(&document, || {
        let paper = |(path, _, sheet): &(Option<PathBuf>, &Share, Zeroizing<String>)| match path {
            Some(path) => format!("{}\n", path.display()),
            None => coloured(context, sheet),
        };
        sheets.iter().map(paper).collect()
    })?;
    context.say(&Fault::new("cli.backup.split").with("shares", count).with("threshold", arguments.threshold));
    if identity.signers().is_empty() {
        context.say(&Fault::new("cli.backup.no_signers"));
    }
    Ok(())
}

/// For paper and for `combine` alike: what is for people stands after `#`.
fn sheet(context: &Context, identity: &Identity, share: &Share, count: usize) -> Zeroizing<String> {
    let about = Fault::new("cli.backup.sheet")
        .with("number", share.number())
        .with("shares", count)
        .with("threshold", share.threshold())
        .with("recipient", identity.recipient())
        .with("set", share.set());
    let text = share.to_string();
    // Where the sheet grows beyond this its old bytes would stay behind.
    let mut sheet = Zeroizing::new(String::with_capacity(16 * 1024));
    for line in context.words(&about).lines() {
        sheet.push_str(&format!("# {line}\n"));
    }
    sheet.push('\n');
    sheet.push_str(&table(&share.words(context.language)));
    sheet.push('\n');
    sheet.push_str(&code(&text.to_ascii_uppercase()));
    sheet.push_str(&format!("\n{text}\n"));
    for signer in identity.signers() {
        sheet.push_str(&format!("{signer}\n"));
    }
    sheet
}

/// Numbered, and read as they stand: line by line.
fn table(words: &[String]) -> String {
    let mut text = String::new();
    for (row, words) in words.chunks(COLUMNS).enumerate() {
        let mut line = String::new();
        for (column, word) in words.iter().enumerate() {
            let gap = " ".repeat(12_usize.saturating_sub(word.chars().count()));
            line.push_str(&format!("{:>3} {word}{gap}", row * COLUMNS + column + 1));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A QR code of half blocks, dark where paper is printed on.
fn code(text: &str) -> String {
    let code = QRBuilder::new(text).mode(Mode::Alphanumeric).ecl(ECL::M).build();
    let code = code.expect("a share is far shorter than a code can hold");
    let size = isize::try_from(code.size).expect("a code is at most 177 modules wide");
    let dark = |row: isize, column: isize| {
        let at = |place: isize| usize::try_from(place).ok().filter(|place| *place < code.size);
        at(row).zip(at(column)).is_some_and(|(row, column)| code[row][column].value())
    };
    let mut drawn = String::new();
    for row in (-MARGIN..size + MARGIN).step_by(2) {
        for column in -MARGIN..size + MARGIN {
            drawn.push(match (dark(row, column), dark(row + 1, column)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawn.push('\n');
    }
    drawn
}

/// A dark terminal would show the code inverted, which many scanners do not read: there it is black on white.
fn coloured(context: &Context, sheet: &str) -> String {
    let is_code = |line: &str| !line.is_empty() && line.chars().all(|letter| " █▀▄".contains(letter));
    let paint = |line: &str| match is_code(line) && context.colours() {
        true => format!("\x1b[30;107m{line}\x1b[0m\n"),
        false => format!("{line}\n"),
    };
    sheet.lines().map(paint).chain(["\n".to_owned()]).collect()
}

pub fn combine(context: &Context, arguments: &Combine) -> Result<(), Failure> {
    let mut papers = match arguments.shares.as_slice() {
        [] if std::io::stdin().is_terminal() => typed(context)?,
        [] => {
            let mut text = Zeroizing::new(String::new());
            std::io::stdin().read_to_string(&mut text).map_err(|error| unreadable("stdin", error))?;
            vec![Paper::read(&text).map_err(refused)?]
        }
        paths => {
            let read = |path: &PathBuf| {
                let text = std::fs::read_to_string(path).map(Zeroizing::new);
                let text = text.map_err(|error| unreadable(path.display(), error))?;
                Paper::read(&text).map_err(|error| refused_in(context, path, error))
            };
            paths.iter().map(read).collect::<Result<_, _>>()?
        }
    };
    let shares: Vec<Share> = papers.iter().flat_map(|paper| paper.shares.clone()).collect();
    let identity = backups::combine(&shares).map_err(refused)?;
    for signer in unplaced(&mut papers) {
        context.say(&Fault::new("cli.backup.signer_unplaced").with("signer", signer));
    }
    let (signers, doubtful) = backups::agreed(&papers);
    for signer in doubtful {
        context.say(&Fault::new("cli.backup.signer_doubtful").with("signer", signer));
    }
    if signers.is_empty() {
        context.say(&Fault::new("cli.backup.no_signers"));
    }
    keep(context, &identity.believing(signers), arguments.output.as_deref(), "cli.backup.combined")
}

/// Taken out: signers of a text with several shares. Nobody can tell on which sheets they stand, and one holder, who may
/// repeat a line, would speak for all.
fn unplaced(papers: &mut [Paper]) -> Vec<Signer> {
    let mut all: Vec<Signer> = Vec::new();
    for paper in papers {
        let several = paper.shares.iter().any(|share| Some(share) != paper.shares.first());
        for signer in paper.signers.extract_if(.., |_| several) {
            if !all.contains(&signer) {
                all.push(signer);
            }
        }
    }
    all
}

/// Asks for one share after the other until there are enough; a wrong one is asked for again.
fn typed(context: &Context) -> Result<Vec<Paper>, Failure> {
    let mut papers: Vec<Paper> = Vec::new();
    let mut lines = std::io::stdin().lock().lines();
    loop {
        let mut numbers: Vec<u8> = papers.iter().flat_map(|paper| &paper.shares).map(Share::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let wanted = papers.iter().flat_map(|paper| &paper.shares).next().map(|share| usize::from(share.threshold()));
        if wanted.is_some_and(|wanted| numbers.len() >= wanted) {
            return Ok(papers);
        }
        let of = wanted.map_or_else(|| "?".to_owned(), |wanted| wanted.to_string());
        let ask = Fault::new("cli.backup.type_share").with("number", numbers.len() + 1).with("threshold", of);
        eprintln!("{}", context.words(&ask.with("words", backups::WORDS)));
        let mut text = Zeroizing::new(String::new());
        let paper = loop {
            let line = lines.next().transpose().map_err(|error| unreadable("stdin", error))?;
            let ended = line.is_none();
            let line = Zeroizing::new(line.unwrap_or_default());
            text.push_str(&line);
            text.push('\n');
            match Paper::read(&text) {
                Ok(paper) if !paper.shares.is_empty() => break Some(paper),
                _ if ended => return Ok(papers),
                // Words are still to come.
                Err(services::Error::Invalid(fault)) if fault.key == "backups.share_words" && !line.is_empty() => {}
                Ok(_) => {}
                Err(error) => {
                    context.complain(&refused(error));
                    break None;
                }
            }
        };
        papers.extend(paper);
    }
}

fn refused(error: services::Error) -> Failure {
    failure(error.into())
}

/// Which of several sheets it is.
fn refused_in(context: &Context, path: &std::path::Path, error: services::Error) -> Failure {
    let failure = refused(error);
    let why = failure.messages(context.language).join(" ");
    Failure::new(failure.code, Fault::new("cli.backup.sheet_wrong").at(path.display().to_string()).with("why", why))
}
