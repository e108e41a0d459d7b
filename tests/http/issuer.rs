//! The other side of a login: an issuer with keys, which answers as it is told, and signs what it is told.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use boxoffice::server::config::Settings;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::sync::watch;

/// For whom the tokens of these tests are.
pub const AUDIENCE: &str = "https://tickets.example";

/// A key. Those of these tests protect nothing.
#[derive(Clone)]
pub struct Key {
    pub kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Key {
    fn rsa(kid: &'static str, pem: &str) -> Self {
        Self { kid, algorithm: Algorithm::RS256, key: EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap() }
    }

    pub fn first() -> Self {
        Self::rsa("first", include_str!("keys/rsa1.pem"))
    }

    pub fn second() -> Self {
        Self::rsa("second", include_str!("keys/rsa2.pem"))
    }

    pub fn weak() -> Self {
        Self::rsa("weak", include_str!("keys/weak.pem"))
    }

    pub fn ec() -> Self {
        let key = EncodingKey::from_ec_pem(include_bytes!("keys/ec.pem")).unwrap();
        Self { kid: "ec", algorithm: Algorithm::ES256, key }
    }

    pub fn p384() -> Self {
        let key = EncodingKey::from_ec_pem(include_bytes!("keys/p384.pem")).unwrap();
        Self { kid: "p384", algorithm: Algorithm::ES384, key }
    }

    pub fn ed() -> Self {
        let key = EncodingKey::from_ed_pem(include_bytes!("keys/ed.pem")).unwrap();
        Self { kid: "ed", algorithm: Algorithm::EdDSA, key }
    }

    /// As a set has it, without anything that it need not have but the `kid`.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!(Jwk::from_encoding_key(&self.key, self.algorithm).unwrap());
        jwk["kid"] = json!(self.kid);
        jwk.as_object_mut().unwrap().remove("alg");
        jwk
    }

    /// With members of its head changed, or taken out by null.
    pub fn sign_with(&self, claims: &Value, head: Value) -> String {
        let usual = Header { kid: Some(self.kid.into()), ..Header::new(self.algorithm) };
        let mut whole = json!(usual);
        for (name, value) in head.as_object().unwrap() {
            match value {
                Value::Null => drop(whole.as_object_mut().unwrap().remove(name)),
                value => whole[name] = value.clone(),
            }
        }
        let signed = format!("{}.{}", encode(&whole), encode(claims));
        let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{signed}.{signature}")
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(claims, json!({}))
    }
}

pub fn encode(value: &Value) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A set of these.
pub fn set(keys: &[Key]) -> Say {
    Say::Json(json!({"keys": keys.iter().map(Key::jwk).collect::<Vec<_>>()}))
}

/// What it answers who asks for the keys.
#[derive(Debug, Clone)]
pub enum Say {
    Json(Value),
    Status(u16),
    Text(&'static str),
    /// To another place, which has what is wanted.
    Elsewhere,
    /// Nothing, ever.
    Nothing,
    /// Of which there is no end.
    Endless,
}

struct State {
    keys: watch::Sender<Say>,
    description: watch::Sender<Value>,
    fetches: watch::Sender<u64>,
}

/// It ends with the process.
pub struct Issuer {
    pub url: String,
    state: Arc<State>,
}

impl Issuer {
    pub fn start(keys: Say) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let description = json!({"issuer": url, "jwks_uri": format!("{url}/keys")});
        let state = Arc::new(State {
            keys: watch::Sender::new(keys),
            description: watch::Sender::new(description),
            fetches: watch::Sender::new(0),
        });
        let served = web::Data::from(state.clone());
        std::thread::spawn(move || {
            let app = move || App::new().app_data(served.clone()).default_service(web::to(answer));
            let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run();
            actix_web::rt::System::new().block_on(server).unwrap();
        });
        Self { url, state }
    }

    /// Answers in another way from now on.
    pub fn say(&self, keys: Say) {
        self.state.keys.send_replace(keys);
    }

    pub fn describe(&self, description: Value) {
        self.state.description.send_replace(description);
    }

    /// How often the keys were asked for.
    pub fn fetches(&self) -> u64 {
        *self.state.fetches.borrow()
    }

    /// Waits until they have been asked for so many times more.
    pub async fn wait_for(&self, more: u64) {
        let wanted = self.fetches() + more;
        let mut fetches = self.state.fetches.subscribe();
        let waiting = fetches.wait_for(|fetches| *fetches >= wanted);
        tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap().unwrap();
    }

    /// The settings of a server that takes its tokens.
    pub fn configure(&self, settings: &mut Settings) {
        settings.auth.issuer.clone_from(&self.url);
        settings.auth.audiences = vec!["another".into(), AUDIENCE.into()];
        settings.auth.jwks_url = format!("{}/keys", self.url);
    }

    /// What the claims of a good token are, and others with them; null takes one out.
    pub fn claims(&self, others: Value) -> Value {
        let mut claims = json!({"iss": self.url, "aud": AUDIENCE, "sub": "anna", "exp": now() + 600});
        let all = claims.as_object_mut().unwrap();
        all.extend(others.as_object().unwrap().clone());
        all.retain(|_, value| !value.is_null());
        claims
    }
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn answer(request: HttpRequest, state: web::Data<State>) -> HttpResponse {
    match request.path() {
        "/.well-known/openid-configuration" => HttpResponse::Ok().json(state.description.borrow().clone()),
        "/elsewhere" => HttpResponse::Ok().json(json!({"keys": [Key::second().jwk()]})),
        "/keys" => {
            let say = state.keys.borrow().clone();
            state.fetches.send_modify(|fetches| *fetches += 1);
            match say {
                Say::Json(keys) => HttpResponse::Ok().json(keys),
                Say::Status(status) => {
                    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
                    response.json(json!({"keys": [Key::second().jwk()]}))
                }
                Say::Text(text) => HttpResponse::Ok().body(text),
                Say::Elsewhere => HttpResponse::Found().insert_header(("location", "/elsewhere")).finish(),
                Say::Nothing => std::future::pending().await,
                Say::Endless => {
                    let chunk = web::Bytes::from_static(&[b' '; 1 << 16]);
                    let chunks = futures_util::stream::repeat_with(move || Ok::<_, std::io::Error>(chunk.clone()));
                    HttpResponse::Ok().streaming(chunks)
                }
            }
        }
        path => panic!("nobody asks for {path}"),
    }
}

/// Members of a claim, as `auth.roles` has them.
pub fn roles(pairs: &[(&str, boxoffice::server::auth::Role)]) -> BTreeMap<String, boxoffice::server::auth::Role> {
    pairs.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect()
}
