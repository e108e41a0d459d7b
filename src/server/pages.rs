//! The pages for buyers, at `/`, and for operators, at `/ops`, and the map for other sites, at `/embed/v1.js`: the files of
//! `web/`, embedded.
//!
//! They are clients of the API like any other. Their policy lets a browser load from this server only and run nothing
//! that is not a file of it, so that a text that somebody else wrote can do no harm. Their scripts are the same for
//! everybody and say nothing of anybody, so that any site may load them.

use std::sync::OnceLock;

use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};

use super::App;
use super::bodies::Piece;
use super::problem::Problem;
use super::ready::Ready;
use super::respond::Cache;
use super::site;

/// What a page may do. Connections to the server itself include WebSockets.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'";

/// A file of `web/`.
struct File {
    /// Below `web/`.
    path: &'static str,
    body: &'static [u8],
    /// Once it was asked for.
    ready: OnceLock<Ready>,
}

macro_rules! files {
    ($($path:literal,)*) => {
        /// All of them.
        static FILES: [File; [$($path),*].len()] = [$(File {
            path: $path,
            body: include_bytes!(concat!("../../web/", $path)),
            ready: OnceLock::new(),
        },)*];
    };
}

files![
    "api.js",
    "app.js",
    "buyer.css",
    "call.js",
    "cancel.js",
    "changes.js",
    "chart.js",
    "choice.js",
    "dates.js",
    "dom.js",
    "draw.js",
    "embed.v1.js",
    "hall.css.js",
    "hall.js",
    "i18n.js",
    "i18n/en.changes.js",
    "i18n/en.js",
    "i18n/en.ops.js",
    "i18n/en.tickets.js",
    "i18n/ko.changes.js",
    "i18n/ko.js",
    "i18n/ko.ops.js",
    "i18n/ko.tickets.js",
    "icon.svg",
    "index.html",
    "legend.js",
    "list.js",
    "live.js",
    "map.js",
    "names.js",
    "neighbours.js",
    "old.js",
    "ops.css",
    "ops.html",
    "ops.js",
    "orders.js",
    "parts.js",
    "plan.js",
    "queue.js",
    "revenue.js",
    "roles.js",
    "rows.js",
    "sale.js",
    "seats.css.js",
    "seats.js",
    "style.css",
    "swap.js",
    "texts.js",
    "tickets.js",
];

/// `GET /`: the page for buyers.
///
/// # Errors
/// None.
pub(super) async fn buyer(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let mut response = send(&request, "index.html")?;
    if let Some(policy) = site::policy(POLICY, &app.settings.embed) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// `GET /ops`: the page for operators.
///
/// # Errors
/// None.
pub async fn operator(request: HttpRequest) -> Result<HttpResponse, Problem> {
    send(&request, "ops.html")
}

/// `GET /web/{file}`: what the pages are made of.
///
/// # Errors
/// 404 if there is no such file.
pub async fn file(request: HttpRequest, path: web::Path<String>) -> Result<HttpResponse, Problem> {
    send(&request, &path)
}

/// `GET /embed/v1.js`: `<boxoffice-seats>`, for pages of other sites.
///
/// # Errors
/// None.
pub async fn embed(request: HttpRequest) -> Result<HttpResponse, Problem> {
    send(&request, "embed.v1.js")
}

fn send(request: &HttpRequest, path: &str) -> Result<HttpResponse, Problem> {
    let file = FILES.iter().find(|file| file.path == path).ok_or_else(Problem::not_found)?;
    let ready = file.ready.get_or_init(|| Ready::new(Piece::new(file.body)));
    let mut response = ready.answer(request, media_type(path), Cache::Revalidate);
    // With a 304 too: browsers take its headers for those of what they have kept.
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::CROSS_ORIGIN_OPENER_POLICY, HeaderValue::from_static("same-origin"));
    if path.ends_with(".js") {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(header::CROSS_ORIGIN_RESOURCE_POLICY, HeaderValue::from_static("cross-origin"));
    }
    Ok(response)
}

fn media_type(path: &str) -> &'static str {
    match path.rsplit_once('.') {
        Some((_, "html")) => "text/html; charset=utf-8",
        Some((_, "css")) => "text/css; charset=utf-8",
        Some((_, "svg")) => "image/svg+xml",
        _ => "text/javascript; charset=utf-8",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// What the first visit of a buyer may load, uncompressed, counted with all languages: the page, and what is imported before
    /// anything is shown. A file that is imported later, by `import("./...")` or `loadTexts("...")`, is not in it.
    /// 152 KiB until the sheet, the filters, the signs on the map and what is kept for later came.
    const FIRST_MAX: usize = 174 * 1024;
    /// What all of it may weigh: also the operator's page, the map for other sites, and what is loaded once it is needed.
    const BYTES_MAX: usize = 312 * 1024;

    /// Problems that only a page meets which is wrong or out of date: all told in the words of `invalid_request`.
    const AS_INVALID: &[&str] = &[
        "method_not_allowed",
        "unsupported_media_type",
        "payload_too_large",
        "request_header_fields_too_large",
        "unknown_seats",
        "idempotency_key_reused",
    ];

    fn files_in(dir: &Path, prefix: &str, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            if entry.file_type().unwrap().is_dir() {
                files_in(&entry.path(), &format!("{name}/"), found);
            } else {
                found.insert(name);
            }
        }
    }

    #[test]
    fn every_file_is_embedded() {
        let mut there = BTreeSet::new();
        files_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("web"), "", &mut there);
        let embedded: BTreeSet<_> = FILES.iter().map(|file| file.path.to_owned()).collect();
        assert_eq!(embedded, there);
    }

    /// The files that one refers to: those that it loads at once, and those that it loads once they are needed.
    fn loaded_by(path: &str) -> [Vec<&'static str>; 2] {
        let text = text(path);
        let is_named =
            |name: &str| ["/web/", "../web/", "./"].iter().any(|from| text.contains(&format!("\"{from}{name}\"")));
        let is_later = |name: &str| match name.strip_prefix("i18n/").and_then(|file| file.split('.').nth(1)) {
            Some(part) if part != "js" => text.contains(&format!("loadTexts(\"{part}\")")),
            _ => text.contains(&format!("import(\"./{name}\")")) && !text.contains(&format!("from \"./{name}\"")),
        };
        let is_language = |name: &str| {
            name.starts_with("i18n/") && name.matches('.').count() == 1 && text.contains("/web/i18n/${language}.js")
        };
        let all = || FILES.iter().map(|file| file.path);
        let later: Vec<_> = all().filter(|name| is_later(name)).collect();
        [all().filter(|name| (is_named(name) && !later.contains(name)) || is_language(name)).collect(), later]
    }

    /// What comes with these files: all of it, or only what is loaded at once.
    fn loaded(from: &[&'static str], at_once: bool) -> BTreeSet<&'static str> {
        let (mut loaded, mut next) = (BTreeSet::new(), from.to_vec());
        while let Some(path) = next.pop() {
            if loaded.insert(path) {
                let [first, later] = loaded_by(path);
                next.extend(first.into_iter().chain(later.into_iter().filter(|_| !at_once)));
            }
        }
        loaded
    }

    #[test]
    fn all_of_it_is_loaded_and_light() {
        let all: BTreeSet<_> = FILES.iter().map(|file| file.path).collect();
        assert_eq!(loaded(&["index.html", "ops.html", "embed.v1.js"], false), all);
        let bytes = |files: &BTreeSet<&str>| files.iter().map(|file| text(file).len()).sum::<usize>();
        let first = loaded(&["index.html"], true);
        for (file, is_first) in [
            ("sale.js", true),
            ("hall.js", true),
            ("i18n/ko.js", true),
            ("changes.js", false),
            ("i18n/ko.changes.js", false),
            ("i18n/ko.ops.js", false),
            ("i18n/ko.tickets.js", false),
            ("swap.js", false),
            ("tickets.js", false),
            ("ops.js", false),
            ("seats.js", false),
        ] {
            assert_eq!(first.contains(file), is_first, "{file}");
        }
        assert!(bytes(&first) < FIRST_MAX, "{} bytes at first", bytes(&first));
        assert!(bytes(&all) < BYTES_MAX, "{} bytes", bytes(&all));
    }

    /// The keys of a language.
    fn keys(text: &str) -> BTreeSet<&str> {
        text.lines().filter_map(|line| line.trim_start().split_once(": \"")).map(|(key, _)| key).collect()
    }

    fn text(path: &str) -> &'static str {
        std::str::from_utf8(FILES.iter().find(|file| file.path == path).unwrap().body).unwrap()
    }

    #[test]
    fn every_text_is_there_in_every_language() {
        let mut korean = BTreeSet::new();
        for part in ["", ".changes", ".ops", ".tickets"] {
            let [english, own] = ["en", "ko"].map(|language| keys(text(&format!("i18n/{language}{part}.js"))));
            // Korean has no plural.
            let single: BTreeSet<_> = english.iter().copied().filter(|key| !key.ends_with("_one")).collect();
            assert_eq!(single, own, "{part}");
            korean.extend(own);
        }
        for code in super::super::problem::Code::ALL {
            let has_words = korean.contains(format!("problem_{}", code.name()).as_str());
            assert!(has_words != AS_INVALID.contains(&code.name()), "{}", code.name());
        }
        let mut used = 0;
        for file in FILES.iter().filter(|file| file.path.ends_with(".js") && !file.path.starts_with("i18n/")) {
            let script = text(file.path);
            for (at, _) in script.match_indices("t(\"") {
                let is_call = !script[..at].ends_with(|before: char| before.is_alphanumeric());
                let key = script[at + 3..].split('"').next().unwrap();
                assert!(!is_call || korean.contains(key), "{}: {key}", file.path);
                used += usize::from(is_call);
            }
        }
        assert!(used > 100, "{used}");
    }

    #[test]
    fn nothing_in_them_leads_elsewhere_or_runs_inline() {
        for file in &FILES {
            let text = std::str::from_utf8(file.body).unwrap();
            for word in ["https:", " style=\"", "<style", "javascript:", " onclick=", "innerHTML", "eval("] {
                assert!(!text.contains(word), "{}: {word}", file.path);
            }
            for (at, _) in text.match_indices("http:") {
                // The name of a namespace, which is never fetched.
                assert!(text[at..].starts_with("http://www.w3.org/"), "{}", file.path);
            }
            for (at, _) in text.match_indices("<script") {
                let is_ours = |kind: &str| text[at..].starts_with(&format!("<script {kind} src=\"/web/"));
                assert!(is_ours("type=\"module\"") || is_ours("defer"), "{}", file.path);
            }
        }
    }
}
