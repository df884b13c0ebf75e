//! Who may ask: the judgement of a request before any route sees it.
//!
//! A page of a browser can send requests to any address that the browser reaches. Two things keep it out: the `Host`
//! header must be an address, `localhost` or a name that this node was told to answer to, because a name that an attacker
//! points at this node (DNS rebinding) is none of these; and what changes something needs `application/json`, which a
//! page of another origin may not send. With a token, whatever changes something needs that too.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST};
use actix_web::http::{Method, Version};
use actix_web::middleware::Next;
use actix_web::{Error, web};
use subtle::ConstantTimeEq;

use super::MAX_REQUEST_BODY;
use super::problem::Problem;

/// How long a request may take until its answer begins, its body included: a learner's slow line sends 2 MiB in that time,
/// and a trickle does not hold a connection for ever.
const DEADLINE: Duration = Duration::from_secs(30);

/// Bytes of all large bodies that are being read at once: thirty-two of the largest.
const MAX_BODIES: usize = 64 * 1024 * 1024;

/// A body of at most this many bytes always has room: a thousand of them take no more than the large ones.
const SMALL_BODY: usize = 64 * 1024;

/// Room for large bodies. Whoever announces one has it until its answer begins.
#[derive(Debug, Default)]
pub struct Bodies(AtomicUsize);

/// Room for one body, given back when it is dropped.
#[derive(Debug)]
struct Room<'a> {
    bodies: &'a Bodies,
    bytes: usize,
}

impl Bodies {
    /// Takes room for a body that says that it has so many bytes, or that does not say.
    fn take(&self, announced: Option<usize>) -> Result<Room<'_>, Problem> {
        let bytes = announced.unwrap_or(MAX_REQUEST_BODY).min(MAX_REQUEST_BODY);
        let bytes = if bytes > SMALL_BODY { bytes } else { 0 };
        let more = |taken: usize| Some(taken + bytes).filter(|sum| bytes == 0 || *sum <= MAX_BODIES);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Room { bodies: self, bytes }),
            Err(_) => Err(Problem::overloaded("too many large requests are being read; try again in a moment")),
        }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.bodies.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What requests are judged by.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Names that this node answers to, in lower case, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// What a request that changes something must show.
    pub token: Option<Arc<str>>,
    /// Room for large bodies, of all workers together.
    pub bodies: Arc<Bodies>,
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

/// The middleware: judges, and ends what takes too long.
///
/// # Errors
/// Whatever the route answers with.
pub async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let verdict = match request.app_data::<web::Data<Guard>>() {
        Some(guard) => guard.judge(&asked(&request)),
        None => Ok(()),
    };
    if let Err(problem) = verdict {
        return Ok(request.into_response(problem.response()).map_into_right_body());
    }
    let guard = request.app_data::<web::Data<Guard>>().cloned();
    let room = match &guard {
        Some(guard) if *request.method() == Method::POST => guard.bodies.take(announced(&request)).map(Some),
        _ => Ok(None),
    };
    let _room = match room {
        Ok(room) => room,
        Err(problem) => return Ok(request.into_response(problem.response()).map_into_right_body()),
    };
    match tokio::time::timeout(DEADLINE, next.call(request)).await {
        Ok(response) => Ok(response?.map_into_left_body()),
        Err(_) => Err(Problem::new(408, "the request took too long; send it in one go").into()),
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
        let guard = Guard { hosts: vec!["node1".into()], ..Guard::default() };
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
    fn large_bodies_have_their_room_and_small_ones_always_fit() {
        let bodies = Bodies::default();
        let mut large: Vec<Room> = (0..32).map(|_| bodies.take(Some(usize::MAX)).expect("room")).collect();
        for announced in [None, Some(MAX_REQUEST_BODY), Some(SMALL_BODY + 1)] {
            let refused = bodies.take(announced).expect_err("full").response();
            assert_eq!(refused.status(), 503, "{announced:?}");
            assert_eq!(refused.headers().get("Retry-After").expect("a time"), "1", "{announced:?}");
        }
        assert!((0..1_000).all(|_| bodies.take(Some(SMALL_BODY)).is_ok()));
        large.pop();
        let unsaid = bodies.take(None).expect("room again");
        assert!(bodies.take(None).is_err(), "who does not say is counted as the longest");
        drop((unsaid, large));
        assert_eq!(bodies.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn with_a_token_what_changes_something_needs_it() {
        let guard = Guard { token: Some("secret".into()), ..Guard::default() };
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
