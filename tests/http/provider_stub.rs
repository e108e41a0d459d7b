//! The other side of an adapter: a provider with a state of its own, which can be told to kill who asks; and what all tests with one need.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use boxoffice::server::config::{Provider, ProviderKind, Secret};
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::harness::{Server, option_body};
use crate::process::{run, text};
use crate::provider_kill::Kill;

/// What a provider knows, and how it answers.
pub trait State: Default + Send + 'static {
    /// Which process is killed, and at which of the next requests.
    fn kills(&mut self) -> &mut Option<Kill>;
    /// The answer, and whether it was given before.
    fn answer(&mut self, request: &HttpRequest, body: &[u8]) -> (u16, Value, bool);
}

/// A running stub. It ends with the process.
pub struct Stub<S> {
    address: SocketAddr,
    state: Arc<Mutex<S>>,
}

impl<S: State> Stub<S> {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Mutex<S>>::default();
        let served = web::Data::new(state.clone());
        std::thread::spawn(move || {
            let app = move || App::new().app_data(served.clone()).default_service(web::to(answer::<S>));
            let server = HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run();
            actix_web::rt::System::new().block_on(server).unwrap();
        });
        Self { address, state }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does or reads something there, as whoever runs it.
    pub fn with<T>(&self, act: impl FnOnce(&mut S) -> T) -> T {
        act(&mut self.state.lock())
    }
}

async fn answer<S: State>(request: HttpRequest, body: web::Bytes, state: web::Data<Arc<Mutex<S>>>) -> HttpResponse {
    let (status, answer, replayed) = answer_or_kill(&mut *state.lock(), &request, &body);
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap());
    if replayed {
        response.insert_header(("idempotent-replayed", "true"));
    }
    response.json(answer)
}

fn answer_or_kill(state: &mut impl State, request: &HttpRequest, body: &[u8]) -> (u16, Value, bool) {
    let kill = match state.kills() {
        Some(kill) if kill.after > 0 => {
            kill.after -= 1;
            None
        }
        kills => kills.take(),
    };
    if let Some(kill) = kill.as_ref().filter(|kill| !kill.done_first) {
        kill.strike();
        return (503, Value::Null, false);
    }
    let answer = state.answer(request, body);
    if let Some(kill) = kill {
        kill.strike();
    }
    answer
}

/// A provider called `card`, with a stub at `url`.
pub fn card(kind: ProviderKind, secret_key: &str, publishable_key: &str, url: String) -> Provider {
    let secret_key = Secret::new(secret_key);
    Provider {
        name: "card".into(),
        kind,
        secret_key,
        publishable_key: publishable_key.into(),
        url,
        ..Provider::default()
    }
}

/// An option of nine seats that takes cards only.
pub async fn option(server: &Server, currency: &str) -> String {
    let concert = server.concert().await;
    let mut body = option_body(9);
    (body["payment_methods"], body["currency"]) = (json!(["card"]), json!(currency));
    body["refundable_until"] = json!("2099-11-01T00:00:00.000Z");
    server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created()
}

/// What is different between what was heard of a day and what the provider lists, each as `kind amount reference`: here, and there.
/// The command says the same as the server.
pub async fn different(server: &Server, settings: &str, day: &str) -> [Vec<String>; 2] {
    let path = format!("/v1/payments/reconciliation/differences?provider=card&day={day}");
    let answer = server.get(&path, &server.admin).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let found = ["unknown_here", "unknown_to_provider"].map(|member| {
        let all = answer.body[member].as_array().unwrap().iter().map(|one| {
            let text = |member: &str| one[member].as_str().unwrap().to_owned();
            format!("{} {} {} of {:?}", text("kind"), one["amount"], text("currency"), text("reference"))
        });
        all.collect::<Vec<_>>()
    });
    let dir = tempfile::tempdir().unwrap();
    let (ok, told, complaint) = command(dir.path(), server.data_dir(), settings, day);
    let lines =
        |prefix: &str| told.lines().filter_map(|line| line.strip_prefix(prefix)).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!([lines("unknown here: "), lines("unknown to the provider: ")], found, "{told} {complaint}");
    assert_eq!(ok, found.iter().all(Vec::is_empty), "{told}");
    found
}

/// `boxoffice-server reconcile`: whether nothing was different, and what it said.
pub fn command(dir: &Path, data: &Path, settings: &str, day: &str) -> (bool, String, String) {
    std::fs::write(dir.join("cards.toml"), format!("[[payments.providers]]\nname = \"card\"\n{settings}")).unwrap();
    let data = data.to_str().unwrap();
    let arguments = ["reconcile", "--config", "cards.toml", "--data", data, "--provider", "card", "--day", day];
    let output = run(dir, &arguments);
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}
