//! Errors as `application/problem+json` (RFC 9457), with a sentence that says what to do.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, ResponseError};
use serde_json::json;

use crate::ledger::keeper::{MineError, OperatorError};
use crate::ledger::rules::RuleError;
use crate::ledger::storage::StorageError;

/// Why a request failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    status: u16,
    detail: String,
    /// The acceptance rule that was broken, if one was.
    rule: Option<&'static str>,
    /// What was found and what was wanted, by that rule.
    got_and_wanted: Option<(String, String)>,
    /// Seconds after which it may go better.
    retry_after: Option<u32>,
    /// How to show who one is, for a 401.
    challenge: Option<&'static str>,
}

impl Problem {
    /// A problem with an HTTP status and a plain sentence.
    pub fn new(status: u16, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), rule: None, got_and_wanted: None, retry_after: None, challenge: None }
    }

    /// 400: the request cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(400, detail)
    }

    /// 404: there is no such thing.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(404, detail)
    }

    /// 401: the caller has not shown the node's token.
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self { challenge: Some("Bearer"), ..Self::new(401, detail) }
    }

    /// 503: too many do this at once; it may go better after some seconds.
    pub fn busy(detail: impl Into<String>, seconds: u32) -> Self {
        Self { retry_after: Some(seconds), ..Self::new(503, detail) }
    }

    /// 503: the node is on its way down.
    #[must_use]
    pub fn stopping() -> Self {
        Self::busy("the node is stopping; try again when it is back", 5)
    }

    /// 503: there is too much to do at once.
    #[must_use]
    pub fn overloaded(detail: impl Into<String>) -> Self {
        Self { retry_after: Some(1), ..Self::new(503, detail) }
    }

    /// The answer.
    #[must_use]
    pub fn response(&self) -> HttpResponse {
        let status = self.status_code();
        let mut body = json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or("Error"),
            "status": self.status,
            "detail": self.detail,
        });
        if let Some(rule) = self.rule {
            body["rule"] = rule.into();
        }
        if let Some((got, wanted)) = &self.got_and_wanted {
            body["got"] = got.as_str().into();
            body["wanted"] = wanted.as_str().into();
        }
        let mut response = HttpResponse::build(status);
        if let Some(seconds) = self.retry_after {
            response.insert_header(("Retry-After", seconds.to_string()));
        }
        if let Some(challenge) = self.challenge {
            response.insert_header(("WWW-Authenticate", challenge));
        }
        response.content_type("application/problem+json").body(body.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.status, self.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        // Only statuses that exist are written in this crate.
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        self.response()
    }
}

impl From<actix::MailboxError> for Problem {
    fn from(_: actix::MailboxError) -> Self {
        Self::stopping()
    }
}

impl From<actix_web::error::BlockingError> for Problem {
    fn from(_: actix_web::error::BlockingError) -> Self {
        Self::stopping()
    }
}

impl From<StorageError> for Problem {
    fn from(error: StorageError) -> Self {
        match &error {
            StorageError::Full(_) | StorageError::Failed(_) => Self::new(507, error.to_string()),
            StorageError::Damaged(_) => Self::new(500, format!("{error}; it is fetched again from a peer")),
        }
    }
}

impl From<RuleError> for Problem {
    fn from(error: RuleError) -> Self {
        let status = match error {
            RuleError::BodyEntries { .. } | RuleError::EntryBytes { .. } | RuleError::BodyBytes { .. } => 413,
            _ => 422,
        };
        let got_and_wanted = error.got_and_wanted();
        Self { rule: Some(error.name()), got_and_wanted, ..Self::new(status, error.to_string()) }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        match error {
            OperatorError::NoSideBlock { .. } => Self::not_found(error.to_string()),
            OperatorError::NotBetter { .. } => Self::new(409, error.to_string()),
            OperatorError::Mine(error) => error.into(),
            OperatorError::Storage(error) => error.into(),
        }
    }
}

impl From<MineError> for Problem {
    fn from(error: MineError) -> Self {
        match error {
            MineError::Rule(error) => error.into(),
            MineError::Storage(error) => error.into(),
            MineError::KeyReused => Self::new(422, error.to_string()),
            MineError::ChainFull => Self::new(507, error.to_string()),
        }
    }
}
