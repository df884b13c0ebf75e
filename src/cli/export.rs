//! `dolmen export`: a chain as JSON, to stdout or a file: of a running node over HTTP, or of the data folder of one that is
//! stopped. Every block is judged on its way.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use indicatif::ProgressBar;

use super::chain::{self, Part};
use super::elements::{Elements, ElementsError};
use super::output::{Out, OutputArgs, count};
use super::progress::{self, Unit};
use super::{ClientArgs, blocks, talk};
use crate::exit::{FAILURE, Failure, USAGE, in_system};
use crate::ledger::{CheckedBlock, Height, Tip, json};
use crate::store::{Options, RealDisk, Store};

/// Blocks read from a folder at once, and their bytes.
const READ_BLOCKS: usize = 1_000;
const READ_BYTES: usize = 1024 * 1024;

/// Bytes of a file that are read at once.
const PIECE: usize = 64 * 1024;

/// How the blocks stand in the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Form {
    /// One block a line
    Lines,
    /// One array, as GET /blocks and the tutorial write it
    Array,
}

#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The file to write; stdout without
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    /// Go on at the end of a file that an earlier export of lines began
    #[arg(long, requires = "to")]
    resume: bool,
    /// How the blocks stand in the text
    #[arg(long, value_enum, default_value_t = Form::Lines)]
    form: Form,
    /// First index
    #[arg(long, default_value_t = 0, conflicts_with = "resume")]
    from: u64,
    /// Number of blocks
    #[arg(long)]
    limit: Option<u64>,
    /// Read the data folder of a stopped node instead of asking a running one
    #[arg(long, value_name = "DIR", conflicts_with_all = ["url", "api_token_file"])]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    client: ClientArgs,
}

impl ExportArgs {
    pub fn run(&self) -> Result<(), Failure> {
        if self.resume && self.form == Form::Array {
            return Err(Failure::new(USAGE, "--resume goes on with lines; an array has ended"));
        }
        let (sink, after) = self.sink()?;
        let quiet = self.to.is_none() && OutputArgs::open(&self.client.output).terminal;
        let part = Part {
            from: after.map_or(self.from, |tip| tip.height.0 + 1),
            limit: self.limit.unwrap_or(u64::MAX),
            after,
        };
        let mut writer =
            Writer { sink, form: self.form, written: 0, bar: progress::bar("exporting", Unit::Blocks, Some(0), quiet) };
        writer.begin()?;
        let done = match &self.data_dir {
            Some(dir) => folder(dir, part, &mut writer),
            None => self.node(part, &mut writer),
        };
        // What was written before a failure is whole, and an export can go on there.
        let last = match done {
            Ok(last) => last.or(after),
            Err(failure) => {
                writer.sink.flush()?;
                return Err(failure);
            }
        };
        writer.end()?;
        if let Some(path) = &self.to {
            let end = last.map_or("none".to_owned(), |tip| tip.to_string());
            let written = count(writer.written, "block was", "blocks were");
            talk(&format!("dolmen: {written} written to {}; the last is {end}", path.display()));
        }
        Ok(())
    }

    fn node(&self, part: Part, writer: &mut Writer) -> Result<Option<Tip>, Failure> {
        let client = self.client.at.client()?;
        in_system(async {
            let length = chain::length(&client, part).await?;
            writer.bar.set_length(length);
            // What comes while it is read belongs to the next export.
            let part = Part { limit: length, ..part };
            chain::read(&client, part, |_, text| writer.block(text)).await
        })
    }

    /// Where the blocks go, and the last one that is there already.
    fn sink(&self) -> Result<(Sink, Option<Tip>), Failure> {
        let Some(path) = &self.to else { return Ok((Sink::Stdout(self.client.output.open()), None)) };
        let failed = |error: std::io::Error| Failure::new(FAILURE, format!("{}: {error}", path.display()));
        if !self.resume {
            let file =
                OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error.kind() {
                    std::io::ErrorKind::AlreadyExists => Failure::new(
                        FAILURE,
                        format!("{} is there already: remove it, or go on with --resume", path.display()),
                    ),
                    _ => failed(error),
                })?;
            return Ok((Sink::File(BufWriter::new(file), path.clone()), None));
        }
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        let (end, last) = whole_lines(&mut file, path)?;
        file.set_len(end).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok((Sink::File(BufWriter::new(file), path.clone()), last))
    }
}

/// Where the last whole line ends, and the block in it: a line that was cut off is written again.
fn whole_lines(file: &mut File, path: &Path) -> Result<(u64, Option<Tip>), Failure> {
    let failed = |error: std::io::Error| Failure::new(FAILURE, format!("{}: {error}", path.display()));
    let bad = |why: String| Failure::new(FAILURE, format!("{} is no export to go on with: {why}", path.display()));
    let mut elements = Elements::default();
    let mut reader = BufReader::with_capacity(PIECE, file);
    let (mut read, mut end, mut last, mut piece) = (0u64, 0u64, None, vec![0; PIECE]);
    loop {
        let got = reader.read(&mut piece).map_err(failed)?;
        if got == 0 {
            break;
        }
        if let Some(line_end) = piece[..got].iter().rposition(|byte| *byte == b'\n') {
            end = read + line_end as u64 + 1;
        }
        read += got as u64;
        elements.push(&piece[..got]);
        let cut = |error: ElementsError| bad(error.to_string());
        while let Some(text) = elements.next().map_err(cut)? {
            last = Some(text.to_vec());
        }
        if elements.is_array() == Some(true) {
            return Err(bad("it is an array".to_owned()));
        }
    }
    let Some(last) = last else { return Ok((end, None)) };
    let text = String::from_utf8(last).map_err(|error| bad(error.to_string()))?;
    let block = blocks::parse(&text).map_err(|failure| bad(failure.message))?;
    Ok((end, Some(block.tip())))
}

/// Reads the chain of a stopped node.
fn folder(dir: &Path, part: Part, writer: &mut Writer) -> Result<Option<Tip>, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure::new(FAILURE, error.to_string());
    if !dir.join("FORMAT").exists() {
        return Err(Failure::new(FAILURE, format!("{} is no data folder of dolmen", dir.display())));
    }
    let (store, _) =
        Store::open(dir, std::sync::Arc::new(RealDisk), Options::default()).map_err(|error| failed(&error))?;
    let snapshot = store.snapshot();
    if let Some(after) = part.after
        && snapshot.hash_at(after.height).map_err(|error| failed(&error))? != Some(after.hash)
    {
        return Err(Failure::new(FAILURE, format!("block {after}, the file's last, is not on the folder's chain")));
    }
    let end = part.from.saturating_add(part.limit).min(snapshot.tip().height.0 + 1);
    writer.bar.set_length(end.saturating_sub(part.from));
    let (mut next, mut last, mut text) = (part.from, None, Vec::new());
    while next < end {
        let wanted = usize::try_from(end - next).unwrap_or(usize::MAX).min(READ_BLOCKS);
        let run = snapshot.blocks(Height(next), wanted, READ_BYTES).map_err(|error| failed(&error))?;
        if run.is_empty() {
            return Err(Failure::new(FAILURE, format!("block {next} cannot be read")));
        }
        for block in &run {
            text.clear();
            json::write(block.block(), &mut text);
            writer.block(&text)?;
            last = Some(CheckedBlock::tip(block));
            next += 1;
        }
    }
    store.close().map_err(|error| failed(&error))?;
    Ok(last)
}

enum Sink {
    Stdout(Out),
    File(BufWriter<File>, PathBuf),
}

impl Sink {
    fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => out.bytes(bytes),
            Self::File(file, path) => file.write_all(bytes).map_err(|error| not_written(path, &error)),
        }
    }

    fn flush(&mut self) -> Result<(), Failure> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file, path) => {
                file.flush().and_then(|()| file.get_ref().sync_all()).map_err(|error| not_written(path, &error))
            }
        }
    }
}

fn not_written(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(FAILURE, format!("{}: {error}", path.display()))
}

/// Writes blocks in one of the forms.
struct Writer {
    sink: Sink,
    form: Form,
    written: u64,
    bar: ProgressBar,
}

impl Writer {
    fn begin(&mut self) -> Result<(), Failure> {
        if self.form == Form::Array { self.sink.bytes(b"[") } else { Ok(()) }
    }

    fn block(&mut self, text: &[u8]) -> Result<(), Failure> {
        if self.form == Form::Array && self.written > 0 {
            self.sink.bytes(b",")?;
        }
        self.sink.bytes(text)?;
        if self.form == Form::Lines {
            self.sink.bytes(b"\n")?;
        }
        self.written += 1;
        self.bar.inc(1);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        if self.form == Form::Array {
            self.sink.bytes(b"]\n")?;
        }
        self.bar.finish_and_clear();
        self.sink.flush()
    }
}
