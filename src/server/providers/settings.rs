//! The settings of a provider of payments, a table `[[payments.providers]]` each.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use toml::Value;

use super::super::config::{PROVIDERS, Secret, Span, ValueError, millis, seconds, value_error, variable};
use crate::domain::concert_option::Late;
use crate::domain::{Currency, Points};
use crate::payment::Method;

/// So many secrets are tried on each webhook of a provider.
const WEBHOOK_SECRETS_MAX: usize = 8;

/// What tells the server what a provider reports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Facts come over the API only.
    #[default]
    Reported,
    /// The server asks Stripe.
    Stripe,
    /// The server asks Toss Payments.
    Toss,
}

/// A provider of payments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// The name by which options list it among their `payment_methods`.
    pub name: String,
    /// How the server learns what it did.
    pub kind: Kind,
    /// How long seats stay pinned while the buyer pays.
    pub pay_within: Span,
    /// How long they stay pinned after the verdict to capture.
    pub capture_within: Span,
    /// What becomes of money that comes when its seats are free: `reacquire` or `refund`.
    pub late: Late,
    /// The least amount that it takes, if not nothing.
    pub minimum: Points,
    /// The currencies that it takes; none: any, where it is known to take but one, that.
    pub currencies: Vec<Currency>,
    /// Whether payments may begin.
    pub enabled: bool,
    /// What the server shows to be let in.
    pub secret_key: Secret,
    /// A file that holds it; empty: none.
    pub secret_key_file: PathBuf,
    /// What the buyer's page shows, which is no secret.
    pub publishable_key: String,
    /// What its webhooks are signed with; several while one takes the place of another.
    pub webhook_secrets: Vec<Secret>,
    /// Files that hold such secrets.
    pub webhook_secret_files: Vec<PathBuf>,
    /// By how much the time in a signature may differ from this server's.
    pub webhook_tolerance: Span,
    /// How long one request to it may take, and wait for its turn.
    pub timeout: Span,
    /// Requests to it at a time.
    pub requests: u64,
    /// Where its API is, if not where it always is.
    pub url: String,
}

impl Default for Provider {
    fn default() -> Self {
        let Method { name, pay_within_ms, capture_within_ms, late, minimum, enabled, .. } = Method::default();
        let [pay_within, capture_within] =
            [pay_within_ms, capture_within_ms].map(|millis| Span(Duration::from_millis(millis)));
        Self {
            name,
            kind: Kind::default(),
            pay_within,
            capture_within,
            late,
            minimum,
            currencies: Vec::new(),
            enabled,
            secret_key: Secret::default(),
            secret_key_file: PathBuf::new(),
            publishable_key: String::new(),
            webhook_secrets: Vec::new(),
            webhook_secret_files: Vec::new(),
            webhook_tolerance: seconds(300),
            timeout: seconds(20),
            requests: 32,
            url: String::new(),
        }
    }
}

impl Provider {
    /// The engine's part.
    pub fn engine(&self) -> Method {
        Method {
            name: self.name.clone(),
            pay_within_ms: millis(self.pay_within),
            capture_within_ms: millis(self.capture_within),
            late: self.late,
            minimum: self.minimum,
            currencies: if self.kind == Kind::Toss { vec![Currency::KRW] } else { self.currencies.clone() },
            enabled: self.enabled,
            ..Method::default()
        }
    }

    /// Checks what the server needs to ask it; `key` is the name of a member in messages.
    pub fn validate(&self, key: impl Fn(&str) -> String) -> Result<(), ValueError> {
        for (name, span, min, max) in [
            ("webhook_tolerance", self.webhook_tolerance, seconds(1), seconds(3_600)),
            ("timeout", self.timeout, Span(Duration::from_millis(100)), seconds(600)),
        ] {
            if !(min..=max).contains(&span) {
                return Err(value_error(&key(name), span, format!("from {min} to {max}")));
            }
        }
        if !(1..=1_024).contains(&self.requests) {
            return Err(value_error(&key("requests"), self.requests, "a whole number from 1 to 1024"));
        }
        let foreign = self.currencies.iter().find(|one| self.kind == Kind::Toss && **one != Currency::KRW);
        if let Some(foreign) = foreign {
            return Err(value_error(&key("currencies"), foreign, "KRW, which is all that this kind takes"));
        }
        let keys = usize::from(!self.secret_key.reveal().is_empty())
            + usize::from(!self.secret_key_file.as_os_str().is_empty());
        let secrets = self.webhook_secrets.len() + self.webhook_secret_files.len();
        let signs = self.kind == Kind::Stripe;
        let wrong = if self.kind == Kind::Reported {
            let strange = (keys > 0, "secret_key", "set only where the server asks the provider, by its kind");
            [strange, (secrets > 0, "webhook_secrets", strange.2)]
        } else {
            let (secrets_wrong, allowed) = if signs {
                let wrong = !(1..=WEBHOOK_SECRETS_MAX).contains(&secrets);
                (wrong, "1 to 8 secrets, with those in webhook_secret_files")
            } else {
                (secrets > 0, "set only where webhooks are signed, and these are not")
            };
            [
                (keys != 1, "secret_key", "set, or secret_key_file, and not both"),
                (secrets_wrong, "webhook_secrets", allowed),
            ]
        };
        for (is_wrong, name, allowed) in wrong {
            if is_wrong {
                return Err(value_error(&key(name), "***", allowed));
            }
        }
        if !self.url.is_empty() && !is_safe_url(&self.url) {
            return Err(value_error(&key("url"), &self.url, "an https:// URL, or an http:// one on this machine"));
        }
        Ok(())
    }
}

/// Whether what is sent there is for nobody else to read.
fn is_safe_url(text: &str) -> bool {
    let Ok(url) = reqwest::Url::parse(text) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    let is_bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    is_bare && url.fragment().is_none() && (url.scheme() == "https" || (url.scheme() == "http" && is_here))
}

/// Sets a secret of one of `providers`, if that is what the environment variable `name` is for.
pub fn set_secret(providers: &mut [Value], name: &str, text: &str) -> bool {
    for provider in providers.iter_mut().filter_map(Value::as_table_mut) {
        let own = provider.get("name").and_then(Value::as_str).unwrap_or_default().replace('-', "_");
        let is_of = |key: &str| variable(&format!("{PROVIDERS}.{own}.{key}")) == name;
        if is_of("secret_key") {
            provider.insert("secret_key".into(), Value::String(text.into()));
            return true;
        }
        if is_of("webhook_secrets") {
            let secrets = text.split(',').map(|secret| Value::String(secret.trim().into()));
            provider.insert("webhook_secrets".into(), Value::Array(secrets.collect()));
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::super::config::{Error, Settings};
    use super::*;

    fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boxoffice.toml");
        std::fs::write(&path, file).unwrap();
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Settings::load(Some(&path), environment, &[])
    }

    #[test]
    fn secrets_of_providers_come_from_file_or_environment_and_are_not_shown() {
        let card = "[[payments.providers]]\nname = \"card-eu\"\nkind = \"stripe\"\n";
        let file = format!("{card}secret_key_file = \"key\"\nwebhook_secrets = [\"whsec_hunter2\"]");
        let settings = load(&file, &[]).unwrap();
        let printed = settings.to_toml().unwrap();
        assert!(printed.contains("webhook_secrets = [\"***\"]") && !printed.contains("hunter2"), "{printed}");
        let environment = [
            ("BOXOFFICE_PAYMENTS_PROVIDERS_CARD_EU_SECRET_KEY", "sk_test_hunter2"),
            ("BOXOFFICE_PAYMENTS_PROVIDERS_CARD_EU_WEBHOOK_SECRETS", "whsec_hunter2, whsec_hunter3"),
        ];
        let settings = load(card, &environment).unwrap();
        let provider = &settings.payments.providers[0];
        assert_eq!(provider.secret_key.reveal(), "sk_test_hunter2");
        let secrets: Vec<_> = provider.webhook_secrets.iter().map(Secret::reveal).collect();
        assert_eq!(secrets, ["whsec_hunter2", "whsec_hunter3"]);
        assert!(!format!("{settings:?}{}", settings.to_toml().unwrap()).contains("hunter"));
        for (file, environment, message) in [
            (card.to_owned(), &environment[..1], "payments.providers[0].webhook_secrets = ***: must be 1 to 8"),
            (card.to_owned(), &environment[1..], "payments.providers[0].secret_key = ***: must be set"),
            (format!("{card}secret_key_file = \"a\""), &environment[..], "secret_key = ***: must be set, or"),
            (format!("{card}url = \"http://a.example\""), &environment[..], "[0].url = http://a.example: must be"),
            (format!("{card}timeout = \"0s\""), &environment[..], "[0].timeout = 0s: must be from 100ms to 10m"),
            (format!("{card}requests = 0"), &environment[..], "[0].requests = 0: must be a whole number from 1 to"),
            (format!("{card}hunter = 1"), &environment[..], "[0].hunter = : must be one of `name`"),
            (card.replace("stripe", "toss"), &environment[..], "webhook_secrets = ***: must be set only"),
            (
                card.replace("stripe", "toss") + "currencies = [\"EUR\"]",
                &environment[..1],
                "[0].currencies = EUR: must be KRW",
            ),
            (format!("{card}currencies = [\"eur\"]"), &environment[..], "must be three capital letters"),
            (card.replace("stripe", "reported"), &environment[..], "secret_key = ***: must be set only where"),
            (String::new(), &environment[..], "unknown key BOXOFFICE_PAYMENTS_PROVIDERS_CARD_EU_SECRET_KEY"),
            ("payments.providers = [\"hunter2\"]".to_owned(), &[][..], "payments.providers = ***: must be a table"),
            (format!("{card}secret_key = [\"hunter2\"]"), &[][..], "secret_key"),
        ] {
            let error = load(&file, environment).unwrap_err().to_string();
            assert!(error.contains(message) && !error.contains("hunter2"), "{file}: {error}");
        }
    }
}
