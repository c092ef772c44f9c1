//! The same figures in Prometheus' text format 0.0.4, for tools that read no OpenMetrics: counters and facts carry their
//! suffix in their names, and there are neither units nor exemplars.

use std::collections::HashMap;

pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// From OpenMetrics as this program writes it.
pub fn plain(text: &str) -> String {
    let kinds: HashMap<&str, &str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => describe(&mut plain, comment, &kinds),
            None => {
                plain.push_str(line.split(" # {").next().unwrap_or_default());
                plain.push('\n');
            }
        }
    }
    plain
}

fn describe(plain: &mut String, comment: &str, kinds: &HashMap<&str, &str>) {
    let mut words = comment.splitn(3, ' ');
    let (Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    let (suffix, kind) = match kinds.get(name) {
        Some(&"counter") => ("_total", "counter"),
        Some(&"info") => ("_info", "gauge"),
        Some(kind) => ("", *kind),
        None => ("", rest),
    };
    let rest = if what == "TYPE" { kind } else { rest };
    plain.push_str(&format!("# {what} {name}{suffix} {rest}\n"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_suffix_and_nothing_newer_is_left() {
        let open = "# HELP a Things.\n# TYPE a counter\n# UNIT a seconds\na_total{x=\"1 # 2\"} 3\n\
                    # HELP b Build.\n# TYPE b info\nb_info{v=\"1\"} 1\n# TYPE c gauge\nc 4\n\
                    # TYPE d histogram\nd_bucket{le=\"1.0\"} 5 # {trace=\"t\"} 0.5\n# EOF\n";
        let plain = plain(open);
        let lines: Vec<_> = plain.lines().collect();
        assert_eq!(lines[..3], ["# HELP a_total Things.", "# TYPE a_total counter", "a_total{x=\"1 # 2\"} 3"]);
        assert_eq!(lines[3..6], ["# HELP b_info Build.", "# TYPE b_info gauge", "b_info{v=\"1\"} 1"]);
        assert_eq!(lines[6..], ["# TYPE c gauge", "c 4", "# TYPE d histogram", "d_bucket{le=\"1.0\"} 5"]);
    }
}
