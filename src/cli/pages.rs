//! `dolmen completions` and `dolmen man`: what shells and manuals know of the commands, from their own description.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;
use crate::exit::{FAILURE, Failure, USAGE};

#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

impl CompletionsArgs {
    pub fn run(&self) -> Result<(), Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "dolmen", &mut script);
        print(&script)
    }
}

#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command; dolmen itself without
    #[arg(conflicts_with = "dir")]
    command: Option<String>,
    /// Write the pages of all commands into this folder instead
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl ManArgs {
    pub fn run(&self) -> Result<(), Failure> {
        let mut dolmen = Cli::command();
        dolmen.build();
        if let Some(dir) = &self.dir {
            let failed = |error| Failure::new(FAILURE, format!("{}: {error}", dir.display()));
            std::fs::create_dir_all(dir).map_err(failed)?;
            return clap_mangen::generate_to(dolmen, dir).map_err(failed);
        }
        let command = match &self.command {
            None => dolmen,
            Some(name) => match dolmen.find_subcommand(name) {
                Some(command) => command.clone(),
                None => return Err(Failure::new(USAGE, format!("there is no command {name:?}; see dolmen --help"))),
            },
        };
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page).map_err(|error| Failure::new(FAILURE, error))?;
        print(&page)
    }
}

fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|error| Failure::of_stdout(&error))
}
