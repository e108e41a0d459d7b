//! What the pages need to know of whoever sells, and where they may be shown.

use actix_web::http::header::HeaderValue;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::auth::{self, Role};
use super::config::{Embed, ValueError, is_origin, value_error};
use super::problem::Problem;
use super::respond::{self, Cache};

/// The site that this server is a part of.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Site {
    /// Where to send who needs a token, with `return_to=<page without fragment>` in its query; null: nowhere.
    #[schema(required)]
    login_url: Option<String>,
    /// The roles here (`admin`, `box_office`, ...) of whoever shows a token that counts, none of a buyer; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    roles: Option<Vec<&'static str>>,
}

/// Tells where to log in, and whoever shows a token which roles it has.
#[utoipa::path(get, path = "/v1/site", tag = "operations", operation_id = "get_site",
    responses((status = 200, description = "The site", body = Site)))]
pub(super) async fn read(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let login_url = Some(app.settings.auth.login_url.clone()).filter(|url| !url.is_empty());
    let roles = auth::roles_shown(&request, &app).await?;
    let cache = if roles.is_some() { Cache::Private } else { Cache::Revalidate };
    let roles = roles.map(|roles| Role::ALL.into_iter().filter(|&role| roles.has(role)).map(Role::as_str).collect());
    respond::ok(&Site { login_url, roles }, cache)
}

impl Embed {
    /// Who may have the pages of buyers in a frame, as a policy says it.
    pub(super) fn ancestors(&self) -> String {
        let all = self.frame_ancestors.iter().map(|origin| if origin == "self" { "'self'" } else { origin });
        let all: Vec<_> = all.collect();
        if all.is_empty() { "'none'".into() } else { all.join(" ") }
    }

    /// Checks that they are origins.
    pub(super) fn check(&self) -> Result<(), ValueError> {
        const ALLOWED: &str =
            "a list of origins such as https://shop.example or https://*.shop.example, with no path, and self";
        let is_right = |text: &str| {
            let below = text.split_once("://*.").map(|(scheme, host)| (format!("{scheme}://{host}"), host));
            match below {
                Some((origin, host)) => is_origin(&origin) && host.starts_with(|c: char| c.is_ascii_alphanumeric()),
                None => text == "self" || is_origin(text),
            }
        };
        match self.frame_ancestors.iter().find(|origin| !is_right(origin)) {
            Some(origin) => Err(value_error("embed.frame_ancestors", origin, ALLOWED)),
            None => Ok(()),
        }
    }
}

/// The policy of the pages of buyers.
pub(super) fn policy(policy: &str, embed: &Embed) -> Option<HeaderValue> {
    let own = policy.replace("frame-ancestors 'none'", &format!("frame-ancestors {}", embed.ancestors()));
    HeaderValue::try_from(own).ok()
}
