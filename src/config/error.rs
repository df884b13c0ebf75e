//! What is wrong with a setting, in one sentence that names it.

use thiserror::Error;

/// A setting that cannot be used, in one sentence.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ConfigError {
    /// A value that is not of its type.
    #[error("{name}: {why}")]
    Value {
        /// The flag, variable or key.
        name: String,
        /// What is wrong with its value.
        why: String,
    },
    /// A variable that begins with `DOLMEN_` and means nothing.
    #[error("the environment variable {name} is not a setting of dolmen; the settings are {known}")]
    UnknownVariable {
        /// The variable.
        name: String,
        /// All there are.
        known: String,
    },
    /// The file is not TOML, or has an unknown key.
    #[error("the configuration file {path}: {why}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The token's file cannot be read, or holds no token.
    #[error("the token file {path}: {why}")]
    Token {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The cluster key's file cannot be read, may be read by too many, or holds no key.
    #[error("the cluster key file {path}: {why}")]
    ClusterKey {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A setting that is worth nothing without another.
    #[error("{one} needs {other} as well")]
    Half {
        /// The setting.
        one: &'static str,
        /// The one that is missing.
        other: &'static str,
    },
    /// Two settings that cannot both hold.
    #[error("{one} and {other} contradict each other: {why}")]
    Contradiction {
        /// One setting.
        one: String,
        /// The other.
        other: String,
        /// Why they cannot both hold.
        why: String,
    },
}
