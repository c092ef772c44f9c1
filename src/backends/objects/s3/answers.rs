//! The XML that servers answer with, read for the little that is wanted. Entities of a document's own are refused by the
//! parser, bodies are short.

use roxmltree::{Document, Node};

/// What a server says when it refuses.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: String,
    pub message: String,
    /// Where the bucket really is.
    pub region: Option<String>,
}

/// A page of a list, and where the next begins.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page<T> {
    pub found: Vec<T>,
    pub next: Option<String>,
}

/// An upload that was begun and neither completed nor aborted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    pub key: String,
    pub id: String,
    /// RFC 3339.
    pub begun: String,
}

pub fn refused(text: &str) -> Option<Refused> {
    let document = Document::parse(text).ok()?;
    let root = document.root_element();
    let error = if named(&root, "Error") { root } else { root.children().find(|child| named(child, "Error"))? };
    let text = |name| field(error, name).unwrap_or_default();
    Some(Refused { code: text("Code"), message: text("Message"), region: field(error, "Region") })
}

/// Keys and sizes.
pub fn objects(text: &str) -> Option<Page<(String, u64)>> {
    let document = Document::parse(text).ok()?;
    let root = document.root_element();
    let url = field(root, "EncodingType").is_some_and(|kind| kind == "url");
    let found = root.children().filter(|child| named(child, "Contents"));
    let found = found.map(|object| {
        let key = field(object, "Key")?;
        Some((if url { decoded(&key)? } else { key }, field(object, "Size")?.parse().ok()?))
    });
    let found = found.collect::<Option<_>>().filter(|_| named(&root, "ListBucketResult"))?;
    let more = field(root, "IsTruncated").is_some_and(|more| more == "true");
    // A list that goes on without saying where would be taken for whole.
    let next = if more { Some(field(root, "NextContinuationToken")?) } else { None };
    Some(Page { found, next })
}

/// The first page of them.
pub fn unfinished(text: &str) -> Option<Vec<Unfinished>> {
    let document = Document::parse(text).ok()?;
    let root = document.root_element();
    let found = root.children().filter(|child| named(child, "Upload"));
    let found = found.map(|upload| {
        Some(Unfinished {
            key: field(upload, "Key")?,
            id: field(upload, "UploadId")?,
            begun: field(upload, "Initiated")?,
        })
    });
    found.collect::<Option<_>>().filter(|_| named(&root, "ListMultipartUploadsResult"))
}

/// One element of an answer of this name.
pub fn single(text: &str, answer: &str, name: &str) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let root = document.root_element();
    named(&root, answer).then(|| field(root, name)).flatten()
}

fn named(node: &Node<'_, '_>, name: &str) -> bool {
    node.is_element() && node.tag_name().name() == name
}

fn field(node: Node<'_, '_>, name: &str) -> Option<String> {
    node.children().find(|child| named(child, name)).map(|child| child.text().unwrap_or_default().to_owned())
}

/// As forms write it: a plus is a space.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_go_on_where_they_say() {
        let page = |tail: &str| {
            objects(&format!(
                "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
                 <EncodingType>url</EncodingType><Contents><Key>a%2Fb+c</Key><Size>5</Size></Contents>\
                 <CommonPrefixes><Prefix>a/s/</Prefix></CommonPrefixes>{tail}</ListBucketResult>"
            ))
        };
        let found = vec![("a/b c".to_owned(), 5)];
        assert_eq!(page(""), Some(Page { found: found.clone(), next: None }));
        let next = Some("t".to_owned());
        let more = "<IsTruncated>true</IsTruncated>";
        assert_eq!(
            page(&format!("{more}<NextContinuationToken>t</NextContinuationToken>")),
            Some(Page { found, next })
        );
        assert_eq!(page(more), None, "where does it go on?");
        assert_eq!(objects("<html/>"), None);
        assert_eq!(objects("<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>"), None, "no size");
    }

    #[test]
    fn refusals_are_read_and_bombs_are_not() {
        let text = "<Error><Code>NoSuchBucket</Code><Message>m</Message></Error>";
        assert_eq!(refused(text).map(|refused| refused.code), Some("NoSuchBucket".to_owned()));
        assert_eq!(refused("<Done/>"), None);
        let bomb = "<!DOCTYPE a [<!ENTITY b \"c\">]><Error><Code>&b;</Code></Error>";
        assert_eq!(refused(bomb), None);
    }
}
