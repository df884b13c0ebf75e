//! `dolmen config`: every setting of a node, and where its value came from. Shows names of files with secrets, never the
//! secrets.

use clap::Args;
use serde_json::{Map, Value, json};

use super::node::{NodeArgs, Sources};
use super::output::{OutputArgs, visible};
use crate::config::{Layer, Source};
use crate::exit::{FAILURE, Failure};

/// Columns of a value in a table.
const CELL: usize = 60;

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// One setting.
struct Row {
    key: String,
    value: Value,
    source: &'static str,
    /// The flag, the variable, or the file and its line.
    place: String,
}

impl ConfigArgs {
    pub fn run(self) -> Result<(), Failure> {
        let sources = self.node.sources()?;
        // A setting that cannot be used is an error here as it is for the node.
        sources.config()?;
        let rows = rows(&sources)?;
        let mut out = self.output.open();
        if out.is_table() {
            let cells = |row: &Row| vec![row.key.clone(), visible(&shown(&row.value), CELL), row.source_text()];
            out.table(&["SETTING", "VALUE", "FROM"], &rows.iter().map(cells).collect::<Vec<_>>())?;
        } else {
            let object = |row: &Row| {
                let value = json!({ "value": row.value, "source": row.source, "place": row.place });
                (row.key.clone(), value)
            };
            out.line(&format!("{:#}", Value::Object(rows.iter().map(object).collect())))?;
        }
        out.flush()
    }
}

impl Row {
    fn source_text(&self) -> String {
        if self.place.is_empty() { self.source.to_owned() } else { format!("{} {}", self.source, self.place) }
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn rows(sources: &Sources) -> Result<Vec<Row>, Failure> {
    let said = |layer: &Layer| match serde_json::to_value(layer) {
        Ok(Value::Object(fields)) => Ok(fields),
        _ => Err(Failure::new(FAILURE, "a setting is not text")),
    };
    let layers = [
        (Source::Flag, said(&sources.flags)?),
        (Source::Environment, said(&sources.environment)?),
        (Source::File, said(&sources.file)?),
    ];
    let defaults: Map<String, Value> = said(&Layer::defaults())?;
    let row = |(key, default): (String, Value)| {
        let found = layers.iter().find_map(|(source, fields)| {
            fields.get(&key).filter(|value| !value.is_null()).map(|value| (*source, value.clone()))
        });
        match found {
            None => Row { key, value: default, source: "default", place: String::new() },
            Some((source, value)) => {
                Row { value, source: source_name(source), place: place(source, &key, sources), key }
            }
        }
    };
    Ok(defaults.into_iter().map(row).collect())
}

fn source_name(source: Source) -> &'static str {
    match source {
        Source::Flag => "flag",
        Source::Environment => "environment",
        Source::File => "file",
    }
}

fn place(source: Source, key: &str, sources: &Sources) -> String {
    let name = source.name(key);
    match source {
        Source::Flag => name,
        Source::Environment if sources.variables.get(&name).is_some_and(|value| !value.is_empty()) => name,
        Source::Environment => match key {
            "http" => "PORT".to_owned(),
            "p2p" => "WS_PORT".to_owned(),
            _ => name,
        },
        Source::File => {
            let path = sources.file_path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            match line_of(key, &sources.file_text) {
                Some(line) => format!("{path}:{line}"),
                None => path,
            }
        }
    }
}

/// The line, from 1, that begins with a key. Settings are all of the file's first level.
fn line_of(key: &str, text: &str) -> Option<usize> {
    let named = |line: &str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        name.trim_matches(['"', '\'']) == key
    };
    text.lines().position(|line| line.contains('=') && named(line)).map(|place| place + 1)
}
