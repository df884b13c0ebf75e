//! `GET /openapi.json` and `/docs`: the API described, from what stands at the routes themselves.

use std::sync::LazyLock;

use actix_web::HttpResponse;
use utoipa::openapi::path::{HttpMethod, Operation};
use utoipa::openapi::{Content, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{Modify, OpenApi};

use super::{bans, blocks, events, forks, metrics, mine, peers, schema, search, status};

/// All routes that programs use.
#[derive(OpenApi)]
#[openapi(
    info(title = "dolmen", description = "A shared, durable, tamper-evident log of text entries."),
    paths(
        blocks::list, blocks::one, mine::mine, mine::receipt, peers::add, peers::list, peers::remove, peers::refused, bans::list,
        bans::ban, bans::unban, status::version, status::status, forks::list, forks::adopt, forks::requeue, forks::reorgs,
        status::live, status::ready, metrics::metrics, document, events::follow, search::search,
    ),
    components(schemas(schema::Problem)),
    modifiers(&Everywhere),
)]
struct Api;

/// What any route may answer.
struct Everywhere;

/// Statuses of problems that come from before or behind the routes, and whom they concern.
const PROBLEMS: &[(u16, &[HttpMethod], &str)] = &[
    (400, &[HttpMethod::Get, HttpMethod::Post, HttpMethod::Delete], "The request cannot be understood."),
    (401, &[HttpMethod::Post, HttpMethod::Delete], "The node wants its token."),
    (408, &[HttpMethod::Get, HttpMethod::Post, HttpMethod::Delete], "The request took too long."),
    (413, &[HttpMethod::Post], "The request is larger than anything the node takes."),
    (415, &[HttpMethod::Post], "The body was not sent as application/json."),
    (421, &[HttpMethod::Get, HttpMethod::Post, HttpMethod::Delete], "The node does not answer to that host name."),
    (500, &[HttpMethod::Get, HttpMethod::Post], "The store is damaged; what is missing is fetched from a peer."),
    (
        503,
        &[HttpMethod::Get, HttpMethod::Post, HttpMethod::Delete],
        "The node is stopping, or has no room for more just now.",
    ),
    (507, &[HttpMethod::Get, HttpMethod::Post], "The disk is full or failed; reading goes on."),
];

impl Modify for Everywhere {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        for (path, item) in &mut api.paths.paths {
            let operations = [
                (HttpMethod::Get, &mut item.get),
                (HttpMethod::Post, &mut item.post),
                (HttpMethod::Delete, &mut item.delete),
            ];
            for (method, operation) in operations {
                let Some(operation) = operation else { continue };
                operation.operation_id = Some(operation_id(&method, path));
                let concern = PROBLEMS.iter().filter(|(_, methods, _)| methods.contains(&method));
                concern.for_each(|(status, _, sentence)| add(operation, *status, sentence));
            }
        }
    }
}

/// A name for programs that are generated: `GET /blocks/{name}` is `getBlocksName`.
fn operation_id(method: &HttpMethod, path: &str) -> String {
    let verb = match method {
        HttpMethod::Post => "post",
        HttpMethod::Delete => "delete",
        _ => "get",
    };
    let mut id = verb.to_owned();
    for word in path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
        id.push_str(&word[..1].to_ascii_uppercase());
        id.push_str(&word[1..]);
    }
    id
}

fn add(operation: &mut Operation, status: u16, sentence: &str) {
    let described = || RefOr::T(problem(sentence));
    operation.responses.responses.entry(status.to_string()).or_insert_with(described);
}

fn problem(sentence: &str) -> Response {
    let content = Content::new(Some(Ref::from_schema_name("Problem")));
    ResponseBuilder::new().description(sentence).content("application/problem+json", content).build()
}

static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
    // Plain data always serialises; the fallback is never taken.
    Api::openapi().to_json().unwrap_or_default()
});

/// This description, as OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "node", responses((status = 200, description = "The description", content_type = "application/json")))]
pub async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(DOCUMENT.as_str())
}
