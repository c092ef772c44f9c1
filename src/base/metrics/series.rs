//! The figures read back from their own text, as a Prometheus would have them: what is watched here and there is the same.

/// One value of one series.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    pub name: String,
    pub labels: Vec<(String, String)>,
    pub value: f64,
}

impl Point {
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Its labels in one line: `target=usb kind=full`.
    pub fn place(&self) -> String {
        let label = |(name, value): &(String, String)| format!("{name}={value}");
        self.labels.iter().map(label).collect::<Vec<_>>().join(" ")
    }
}

/// From OpenMetrics as this program writes it; lines that are no values are passed over.
pub fn read(text: &str) -> Vec<Point> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(point).collect()
}

fn point(line: &str) -> Option<Point> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at_checked(end)?;
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split_ascii_whitespace().next()?.parse().ok()?;
    Some(Point { name: name.to_owned(), labels, value })
}

type Labels = Vec<(String, String)>;

/// Up to the closing brace, and what comes after it.
fn labels(mut inside: &str) -> Option<(Labels, &str)> {
    let mut labels = Vec::new();
    loop {
        if let Some(rest) = inside.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = inside.trim_start_matches(',').split_once("=\"")?;
        let (mut value, mut letters) = (String::new(), quoted.char_indices());
        let end = loop {
            match letters.next()? {
                (_, '\\') => match letters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (at, '"') => break at + 1,
                (_, letter) => value.push(letter),
            }
        };
        labels.push((name.to_owned(), value));
        inside = quoted.get(end..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_written() {
        let text = "# TYPE a counter\na_total{x=\"1 {\\\"\\\\\\n}\",y=\"é\"} 3.5 # {trace=\"t\"} 0.5\nb 4\nbroken{x=\"1\nc{} +Inf\n# EOF\n";
        let points = read(text);
        assert_eq!(points.len(), 3, "{points:?}");
        assert_eq!((points[0].label("x"), points[0].label("y")), (Some("1 {\"\\\n}"), Some("é")));
        assert_eq!(points[0].place(), "x=1 {\"\\\n} y=é");
        assert_eq!(points.iter().map(|point| point.value).collect::<Vec<_>>(), [3.5, 4.0, f64::INFINITY]);
    }
}
