//! A report as a page to be read, printed and filed: one file, without scripts or anything from elsewhere.

use super::report::{Check, Outcome, Report};
use crate::base::messages::{Language, lookup, text};
use std::fmt::Write;

const STYLE: &str = "@page{size:A4;margin:18mm}body{font:11pt/1.45 system-ui,sans-serif;color:#111;max-width:178mm;\
margin:8mm auto;padding:0 6mm}h1{font-size:18pt;margin:0 0 2mm}h2{font-size:12.5pt;margin:7mm 0 2mm;break-after:avoid}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:1.2mm 3mm 1.2mm 0;\
border-bottom:.2mm solid #bbb}td.n{text-align:right;font-variant-numeric:tabular-nums}tr{break-inside:avoid}\
.verdict{font-size:14pt;font-weight:700;padding:3mm 4mm;border:.6mm solid;margin:4mm 0}.passed{color:#0a5c2b}\
.failed{color:#9b1111}.skipped{color:#6b5200}code{font-size:9pt;word-break:break-all}small{color:#444}\
@media print{body{margin:0;padding:0;max-width:none}}";

/// In a language; `signer`: whose key signed it.
pub fn page(report: &Report, signer: &str, language: Language) -> String {
    let say = |key: &'static str| text(language, key);
    let mut page = String::with_capacity(8 * 1024);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"{}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{} – {}</title><style>{STYLE}</style></head><body>",
        language.tag(),
        say("drills.page.title"),
        escape(&report.ended),
    );
    let _ = write!(page, "<h1>{}</h1>", say("drills.page.title"));
    let verdict = if report.outcome == Outcome::Passed { "drills.page.passed" } else { "drills.page.failed" };
    let _ = write!(page, "<p class=\"verdict {}\">{}</p>", report.outcome.name(), say(verdict));
    table(&mut page, &summary(report, language));

    let _ = write!(page, "<h2>{}</h2><p>{}</p>", say("drills.page.times"), say("drills.page.times_told"));
    table(&mut page, &times(report, language));

    let _ = write!(page, "<h2>{}</h2><table>", say("drills.page.checks"));
    for check in &report.checks {
        row(&mut page, check, language);
    }
    page.push_str("</table>");

    let _ = write!(page, "<h2>{}</h2><table>", say("drills.page.files"));
    for file in &report.files {
        let _ = write!(
            page,
            "<tr><td><code>{}</code><br><small><code>{}</code></small></td><td class=\"n\">{}</td></tr>",
            escape(&file.name),
            escape(&file.manifest),
            file.bytes
        );
    }
    page.push_str("</table>");
    let _ = write!(page, "<h2>{}</h2><table>", say("drills.page.collections"));
    for (name, count) in &report.collections {
        let _ = write!(page, "<tr><td>{}</td><td class=\"n\">{count}</td></tr>", escape(name));
    }
    page.push_str("</table>");
    let told = if signer.is_empty() { "drills.page.unsigned" } else { "drills.page.signed" };
    let _ = write!(
        page,
        "<h2>{}</h2><p>{}<br><code>{}</code></p>",
        say("drills.page.signature"),
        say(told),
        escape(signer)
    );
    let _ = writeln!(page, "<p>{}</p><p>&nbsp;</p></body></html>", say("drills.page.sign_here"));
    page
}

fn summary(report: &Report, language: Language) -> Vec<(String, String)> {
    let say = |key: &'static str| text(language, key);
    let mut rows = vec![
        (say("drills.page.instance"), report.instance.clone()),
        (say("drills.page.environment"), report.environment.clone()),
        (say("drills.page.started"), report.started.clone()),
        (say("drills.page.ended"), report.ended.clone()),
        (say("drills.page.place"), report.place.clone()),
        (say("drills.page.release"), report.release.clone()),
        (say("drills.page.report"), report.id.clone()),
    ];
    if let Some(point) = &report.point {
        rows.push((say("drills.page.point"), format!("{} ({} / {})", point.time, point.sequence, point.lineage)));
        rows.push((say("drills.page.documents"), report.documents.to_string()));
    }
    let vouched = if report.signer_vouched { "drills.page.vouched" } else { "drills.page.unvouched" };
    rows.push((say("drills.page.signer"), say(vouched)));
    rows
}

fn times(report: &Report, language: Language) -> Vec<(String, String)> {
    let say = |key: &'static str| text(language, key);
    let seconds = |millis: u64| format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    let mut rows = Vec::new();
    if let Some(rto) = &report.rto {
        rows.push((say("drills.page.rto"), seconds(rto.millis)));
        rows.push((say("drills.page.proving"), seconds(rto.proving)));
        rows.push((say("drills.page.loading"), seconds(rto.loading)));
        rows.push((say("drills.page.opening"), seconds(rto.opening)));
    }
    if let Some(rpo) = &report.rpo {
        rows.push((say("drills.page.rpo"), format!("{} s", rpo.seconds)));
        let changes = rpo.changes.map_or_else(|| "–".to_owned(), |changes| changes.to_string());
        rows.push((say("drills.page.lost"), changes));
        let against = if rpo.against == "live" { "drills.page.against_live" } else { "drills.page.against_clock" };
        rows.push((say("drills.page.against"), say(against)));
    }
    rows
}

fn row(page: &mut String, check: &Check, language: Language) {
    let word = |key: String, or: &str| lookup(language, &key).unwrap_or(or).to_owned();
    let name = word(format!("drills.check.{}", check.name), &check.name);
    let outcome = word(format!("drills.outcome.{}", check.outcome.name()), check.outcome.name());
    let _ = write!(page, "<tr><td>{}", escape(&name));
    for words in &check.words {
        let _ = write!(page, "<br><small>{}</small>", escape(words.text(language)));
    }
    let class = check.outcome.name();
    let _ = write!(page, "</td><td class=\"n\">{}</td><td class=\"{class}\">{outcome}</td></tr>", check.examined);
}

fn table(page: &mut String, rows: &[(String, String)]) {
    page.push_str("<table>");
    for (name, value) in rows {
        let _ = write!(page, "<tr><th>{name}</th><td>{}</td></tr>", escape(value));
    }
    page.push_str("</table>");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::drills::report::tests::report;

    #[test]
    fn a_page_says_the_verdict_in_both_languages_and_runs_nothing() {
        for (language, word) in [(Language::French, "RÉUSSI"), (Language::English, "PASSED")] {
            let page = page(&report("a", Outcome::Passed), "debrouille-signer-1-00", language);
            assert!(page.contains(word) && page.contains("61.5 s") && page.contains("300 s"), "{page}");
            assert!(page.contains("f&lt;1&gt;.backup") && !page.contains("f<1>"));
            assert!(!page.contains("<script") && !page.contains("http"), "{page}");
            assert!(!page.contains("drills."), "a word is missing: {page}");
            assert_eq!(page.matches("<table>").count(), page.matches("</table>").count());
        }
        assert!(super::page(&report("a", Outcome::Failed), "", Language::English).contains("FAILED"));
    }
}
