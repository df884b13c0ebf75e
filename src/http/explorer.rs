//! `GET /`: the explorer, a few files without a build step that are part of the program.

use actix_web::http::header::{ETAG, IF_NONE_MATCH};
use actix_web::{HttpRequest, HttpResponse, web};
use sha2::{Digest, Sha256};

use super::problem::Problem;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";

/// The page itself.
const PAGE: Part = Part { name: "index.html", kind: HTML, text: include_str!("explorer/index.html") };

/// The description of the API for people, made of the same parts.
const DOCS: Part = Part { name: "docs.html", kind: HTML, text: include_str!("explorer/docs.html") };

/// What the pages load, each under `/explorer/`.
const PARTS: &[Part] = &[
    Part { name: "style.css", kind: STYLE, text: include_str!("explorer/style.css") },
    Part { name: "main.js", kind: SCRIPT, text: include_str!("explorer/main.js") },
    Part { name: "words.js", kind: SCRIPT, text: include_str!("explorer/words.js") },
    Part { name: "why.js", kind: SCRIPT, text: include_str!("explorer/why.js") },
    Part { name: "dom.js", kind: SCRIPT, text: include_str!("explorer/dom.js") },
    Part { name: "node.js", kind: SCRIPT, text: include_str!("explorer/node.js") },
    Part { name: "chain.js", kind: SCRIPT, text: include_str!("explorer/chain.js") },
    Part { name: "block.js", kind: SCRIPT, text: include_str!("explorer/block.js") },
    Part { name: "hashes.js", kind: SCRIPT, text: include_str!("explorer/hashes.js") },
    Part { name: "drawings.js", kind: SCRIPT, text: include_str!("explorer/drawings.js") },
    Part { name: "network.js", kind: SCRIPT, text: include_str!("explorer/network.js") },
    Part { name: "forks.js", kind: SCRIPT, text: include_str!("explorer/forks.js") },
    Part { name: "docs.css", kind: STYLE, text: include_str!("explorer/docs.css") },
    Part { name: "docs.js", kind: SCRIPT, text: include_str!("explorer/docs.js") },
];

/// What the page may do: show its own parts, talk to this node, and nothing else. No style or script stands in the page.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A file of the explorer.
struct Part {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
}

impl Part {
    fn answer(&self, request: &HttpRequest) -> HttpResponse {
        let digest = hex::encode(&Sha256::digest(self.text)[..16]);
        let tag = format!("\"{digest}\"");
        let known = request.headers().get(IF_NONE_MATCH).is_some_and(|value| value.as_bytes() == tag.as_bytes());
        let mut response = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
        response
            .insert_header((ETAG, tag))
            // Asked for each time, sent only when another version of the program runs.
            .insert_header(("Cache-Control", "no-cache"))
            .insert_header(("Content-Security-Policy", POLICY))
            .insert_header(("X-Content-Type-Options", "nosniff"))
            .insert_header(("Referrer-Policy", "no-referrer"));
        if known { response.finish() } else { response.content_type(self.kind).body(self.text) }
    }
}

/// The page.
pub async fn page(request: HttpRequest) -> HttpResponse {
    PAGE.answer(&request)
}

/// The page of the API.
pub async fn docs(request: HttpRequest) -> HttpResponse {
    DOCS.answer(&request)
}

/// A part of a page.
pub async fn part(request: HttpRequest, name: web::Path<String>) -> Result<HttpResponse, Problem> {
    let part = PARTS.iter().find(|part| *part.name == **name);
    let part = part.ok_or_else(|| Problem::not_found("the explorer has no such part"))?;
    Ok(part.answer(&request))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_explorer_is_small_and_every_part_it_names_is_there() {
        let bytes: usize = PARTS.iter().chain([&PAGE, &DOCS]).map(|part| part.text.len()).sum();
        assert!(bytes < 300_000, "{bytes} bytes");
        let names = |text: &'static str, before: &'static str| {
            text.split(before).skip(1).filter_map(|rest| rest.split(['"', '\'']).next()).collect::<Vec<_>>()
        };
        let mut named = names(PAGE.text, "/explorer/");
        named.extend(names(DOCS.text, "/explorer/"));
        for part in PARTS.iter().filter(|part| part.kind == SCRIPT) {
            named.extend(names(part.text, "from \"./"));
        }
        named.sort_unstable();
        named.dedup();
        let mut known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        known.sort_unstable();
        assert_eq!(named, known);
    }
}
