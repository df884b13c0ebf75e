//! Parse, run one command, exit code.

fn main() -> std::process::ExitCode {
    dolmen::cli::run()
}
