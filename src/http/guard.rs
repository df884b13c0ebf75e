//! Who may ask: the judgement of a request before any route sees it.
//!
//! A page of a browser can send requests to any address that the browser reaches. Two things keep it out: the `Host`
//! header must be an address, `localhost` or a name that this node was told to answer to, because a name that an attacker
//! points at this node (DNS rebinding) is none of these; and what changes something needs `application/json`, which a
//! page of another origin may not send. With a token, whatever changes something needs that too.

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use actix_web::http::{Method, Version};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, web};
use subtle::ConstantTimeEq;

use super::MAX_REQUEST_BODY;
use super::answer::Answer;
use super::problem::Problem;
use super::room::{Room, Rooms};
use crate::server::Length;
use crate::server::turnstile::Turnstile;

/// How long a request may take until its answer begins, its body included: a learner's slow line sends 2 MiB in that time,
/// and a trickle does not hold a connection for ever.
const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of all large bodies that are being read at once: thirty-two of the largest.
const MAX_BODIES: usize = 64 * 1024 * 1024;

/// A body of at most this many bytes always has room: a thousand of them take no more than the large ones.
const SMALL_BODY: usize = 64 * 1024;

/// Bytes of all large answers that wait to be taken: a block has one or two megabytes at the most.
const MAX_ANSWERS: usize = 32 * 1024 * 1024;

/// An answer of at most this many bytes always has room: a thousand of them take half as much as the large ones.
const SMALL_ANSWER: usize = 16 * 1024;

/// What requests are judged by.
#[derive(Clone, Debug)]
pub struct Guard {
    /// Names that this node answers to, in lower case, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What a request that changes something must show.
    pub token: Option<Arc<str>>,
    /// Room for large bodies of requests, of all workers together.
    bodies: Arc<Rooms>,
    /// Room for large answers, of all workers together.
    answers: Arc<Rooms>,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new(Vec::new(), None)
    }
}

/// A request as far as it is judged.
struct Asked<'a> {
    method: &'a Method,
    version: Version,
    host: Option<&'a str>,
    authorization: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
}

impl Guard {
    /// Judges by these names and this token.
    #[must_use]
    pub fn new(hosts: Vec<String>, token: Option<Arc<str>>) -> Self {
        let (bodies, answers) = (Rooms::new(MAX_BODIES, SMALL_BODY), Rooms::new(MAX_ANSWERS, SMALL_ANSWER));
        Self { hosts, token, bodies, answers }
    }

    /// Takes room for a body that says that it has so many bytes, or that does not say.
    fn room_for_body(&self, announced: Option<usize>) -> Result<Room, Problem> {
        let bytes = announced.unwrap_or(MAX_REQUEST_BODY).min(MAX_REQUEST_BODY);
        self.bodies.take(bytes, "too many large requests are being read")
    }

    /// Takes room for an answer. A stream has none: how many there may be is bounded where they begin.
    fn room_for_answer(&self, size: BodySize) -> Result<Room, Problem> {
        let bytes = match size {
            BodySize::Sized(bytes) => usize::try_from(bytes).unwrap_or(usize::MAX),
            BodySize::None | BodySize::Stream => 0,
        };
        self.answers.take(bytes, "too many large answers wait to be read")
    }

    fn judge(&self, asked: &Asked<'_>) -> Result<(), Problem> {
        self.host_is_ours(asked)?;
        self.change_is_allowed(asked)?;
        body_is_json(asked)
    }

    fn host_is_ours(&self, asked: &Asked<'_>) -> Result<(), Problem> {
        let Some(host) = asked.host else {
            // Only programs from before HTTP/1.1 leave it out, and no browser does.
            return if asked.version < Version::HTTP_11 {
                Ok(())
            } else {
                Err(Problem::bad_request("a request must have one Host header"))
            };
        };
        let name = name_of(host);
        let known = is_address(name)
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| name.eq_ignore_ascii_case(known));
        if known {
            return Ok(());
        }
        Err(Problem::new(
            421,
            "this node does not answer to that host name; use its address, or start it with --allowed-host NAME",
        ))
    }

    fn change_is_allowed(&self, asked: &Asked<'_>) -> Result<(), Problem> {
        let Some(token) = &self.token else { return Ok(()) };
        if matches!(*asked.method, Method::GET | Method::HEAD | Method::OPTIONS) {
            return Ok(());
        }
        let shown = asked.authorization.and_then(|value| value.strip_prefix(b"Bearer "));
        // The comparison takes the same time wherever the two differ, so that nobody can guess a token bit by bit.
        if shown.is_some_and(|shown| bool::from(shown.ct_eq(token.as_bytes()))) {
            return Ok(());
        }
        Err(Problem::unauthorized("this needs the node's token: add the header Authorization: Bearer TOKEN"))
    }
}

/// A form or a script of another origin cannot send this media type without asking first, and is never allowed to.
fn body_is_json(asked: &Asked<'_>) -> Result<(), Problem> {
    if *asked.method != Method::POST {
        return Ok(());
    }
    let value = asked.content_type.unwrap_or_default();
    let essence = value.split(|c| *c == b';').next().unwrap_or_default().trim_ascii();
    if essence.eq_ignore_ascii_case(b"application/json") {
        return Ok(());
    }
    Err(Problem::new(415, "the body must be sent as JSON: add the header Content-Type: application/json"))
}

/// The host without its port.
fn name_of(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_address(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok()
}

/// The middleware: lets the connection's next request wait, judges, and ends what takes too long.
///
/// # Errors
/// Whatever the route answers with.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<Answer>, Error> {
    let turnstile = request.conn_data::<Rc<Turnstile>>().cloned();
    let turn = turnstile.as_ref().map(|turnstile| turnstile.begin(length(&request)));
    let Some(guard) = request.app_data::<web::Data<Guard>>().cloned() else {
        return Err(Problem::new(500, "nobody judges requests here").into());
    };
    let response = match guard.judge(&asked(&request)) {
        Ok(()) => answer(&guard, request, next).await?,
        Err(problem) => request.into_response(problem.response()),
    };
    let size = response.response().body().size();
    if let (BodySize::Stream, Some(turnstile)) = (size, &turnstile) {
        turnstile.stream();
    }
    let (response, room) = match guard.room_for_answer(size) {
        Ok(room) => (response, room),
        Err(problem) => {
            let response = response.into_response(problem.response());
            (response, guard.room_for_answer(BodySize::None)?)
        }
    };
    Ok(response.map_body(|_, body| Answer::new(body, turn, room)))
}

async fn answer(
    guard: &Guard,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let _room = match *request.method() {
        Method::POST => match guard.room_for_body(announced(&request)) {
            Ok(room) => Some(room),
            Err(problem) => return Ok(request.into_response(problem.response())),
        },
        _ => None,
    };
    match tokio::time::timeout(DEADLINE, next.call(request)).await {
        Ok(response) => Ok(response?.map_into_boxed_body()),
        Err(_) => Err(Problem::new(408, "the request took too long; send it in one go").into()),
    }
}

/// How the request's body ends, as the HTTP library sees it.
pub fn length(request: &ServiceRequest) -> Length {
    match request.chunked() {
        Ok(true) => Length::Chunks,
        _ => Length::Bytes(announced(request).map_or(0, |bytes| bytes as u64)),
    }
}

/// How long a body says that it is.
fn announced(request: &ServiceRequest) -> Option<usize> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn asked(request: &ServiceRequest) -> Asked<'_> {
    let headers = request.headers();
    let mut hosts = headers.get_all(HOST);
    // Two Host headers are as bad as none.
    let host = hosts.next().filter(|_| hosts.next().is_none()).and_then(|value| value.to_str().ok());
    Asked {
        method: request.method(),
        version: request.version(),
        host,
        authorization: headers.get(AUTHORIZATION).map(|value| value.as_bytes()),
        content_type: headers.get(CONTENT_TYPE).map(|value| value.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(guard: &Guard, method: Method, host: Option<&str>, authorization: Option<&str>) -> u16 {
        let asked = Asked {
            method: &method,
            version: Version::HTTP_11,
            host,
            authorization: authorization.map(str::as_bytes),
            content_type: Some(b"application/json"),
        };
        match guard.judge(&asked) {
            Ok(()) => 200,
            Err(problem) => problem.response().status().as_u16(),
        }
    }

    #[test]
    fn addresses_localhost_and_known_names_are_answered_to() {
        let guard = Guard::new(vec!["node1".into()], None);
        for host in
            ["127.0.0.1", "127.0.0.1:3000", "[::1]:3000", "192.168.1.7:80", "localhost", "LOCALHOST:3000", "Node1:3000"]
        {
            assert_eq!(judge(&guard, Method::GET, Some(host), None), 200, "{host}");
        }
        for host in [
            "evil.example",
            "evil.example:3000",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "node1.evil",
            "",
            "[evil",
        ] {
            assert_eq!(judge(&guard, Method::GET, Some(host), None), 421, "{host:?}");
        }
        assert_eq!(judge(&guard, Method::GET, None, None), 400);
    }

    #[test]
    fn what_is_posted_must_be_json() {
        for (content_type, good) in [
            (Some("application/json"), true),
            (Some("Application/JSON ; charset=utf-8"), true),
            (Some("text/plain"), false),
            (Some("application/x-www-form-urlencoded"), false),
            (Some("application/jsonp"), false),
            (Some("text/plain; application/json"), false),
            (Some(""), false),
            (None, false),
        ] {
            let asked = Asked {
                method: &Method::POST,
                version: Version::HTTP_11,
                host: Some("localhost"),
                authorization: None,
                content_type: content_type.map(str::as_bytes),
            };
            assert_eq!(Guard::default().judge(&asked).is_ok(), good, "{content_type:?}");
        }
    }

    #[test]
    fn with_a_token_what_changes_something_needs_it() {
        let guard = Guard::new(Vec::new(), Some("secret".into()));
        let host = Some("localhost");
        assert_eq!(judge(&guard, Method::GET, host, None), 200);
        for method in [Method::POST, Method::DELETE, Method::PUT, Method::PATCH] {
            for shown in [
                None,
                Some("secret"),
                Some("Bearer "),
                Some("Bearer secre"),
                Some("Bearer secrets"),
                Some("Basic secret"),
            ] {
                assert_eq!(judge(&guard, method.clone(), host, shown), 401, "{method} {shown:?}");
            }
            assert_eq!(judge(&guard, method, host, Some("Bearer secret")), 200);
        }
    }
}
