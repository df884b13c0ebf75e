//! A small reader of Prometheus' text format (OpenMetrics 1.0), strict where a scraper is.

use std::collections::BTreeMap;

/// A family of samples.
#[derive(Debug, Default)]
pub struct Metric {
    pub kind: String,
    pub help: String,
    pub unit: Option<String>,
}

/// Labels of a sample.
pub type Labels = BTreeMap<String, String>;

/// A whole answer.
#[derive(Debug, Default)]
pub struct Page {
    pub metrics: BTreeMap<String, Metric>,
    pub samples: Vec<(String, Labels, f64)>,
}

impl Page {
    /// Reads a page; panics with the line that no scraper would take.
    pub fn parse(text: &str) -> Self {
        let mut page = Self::default();
        let body = text.strip_suffix("# EOF\n").expect("the end mark");
        for line in body.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                let (word, rest) = comment.split_once(' ').expect(line);
                let (name, value) = rest.split_once(' ').expect(line);
                let metric = page.metrics.entry(name.to_owned()).or_default();
                match word {
                    "HELP" => metric.help = value.to_owned(),
                    "TYPE" => metric.kind = value.to_owned(),
                    "UNIT" => metric.unit = Some(value.to_owned()),
                    other => panic!("{other} is no comment of the format: {line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').expect(line);
            let (name, labels) = match series.split_once('{') {
                None => (series, Labels::new()),
                Some((name, labels)) => (name, read_labels(labels.strip_suffix('}').expect(line))),
            };
            assert!(page.family_name(name).is_some(), "no family was announced for {line}");
            page.samples.push((name.to_owned(), labels, value.parse().unwrap_or_else(|_| panic!("no number: {line}"))));
        }
        page
    }

    /// The family that a sample belongs to.
    pub fn family_name<'a>(&self, sample: &'a str) -> Option<&'a str> {
        let of = |suffix: &str, kind: &str| {
            let name = sample.strip_suffix(suffix)?;
            (self.metrics.get(name)?.kind == kind).then_some(name)
        };
        of("_total", "counter")
            .or_else(|| ["_bucket", "_sum", "_count"].iter().find_map(|suffix| of(suffix, "histogram")))
            .or_else(|| of("", "gauge"))
    }

    /// The sum over all samples of this name with these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits =
            |found: &Labels| labels.iter().all(|(key, value)| found.get(*key).is_some_and(|found| found == value));
        let found: Vec<f64> =
            self.samples.iter().filter(|(of, found, _)| of == name && fits(found)).map(|(.., value)| *value).collect();
        assert!(!found.is_empty(), "no sample {name} {labels:?}");
        found.iter().sum()
    }
}

fn read_labels(mut text: &str) -> Labels {
    let mut labels = Labels::new();
    while !text.is_empty() {
        let (name, rest) = text.split_once("=\"").expect("a label");
        let (value, rest) = rest.split_once('"').expect("a label's end");
        assert!(labels.insert(name.to_owned(), value.to_owned()).is_none(), "label {name} stands twice");
        text = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}
