//! Who calls: JWTs of one pinned algorithm or by the keys of an issuer, and the extractors that every guarded handler takes.
//!
//! It knows users, roles, and whom each kind of request is for, not what it does. Times are compared with the wall clock,
//! since the ones in a token were written by somebody else's.

mod jwks;
mod keys;
pub(super) mod settings;

use std::collections::HashMap;
use std::fs;
use std::future::{Ready, ready};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::dev::{Payload, RequestHead};
use actix_web::http::header::{self, HeaderValue};
use actix_web::{FromRequest, HttpMessage, HttpRequest, web};
use futures_util::FutureExt as _;
use futures_util::future::{Either, LocalBoxFuture};
use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use self::jwks::{Complaint, Jwks};
pub use self::keys::Signature;
use self::keys::{Head, Refused, Rules};
use super::config::{Algorithm, SECRET_BYTES_MIN, Settings, ValueError};
use super::problem::{Code, Problem};
use super::seldom::Seldom;
use super::{App, live};
use crate::api::{Caller, Health};
use crate::domain::{TokenId, UserId};
use crate::store::disk::make_private_dirs;

/// The file in the data directory that holds the secret which the server made for itself.
const KEY_FILE: &str = "jwt.key";
/// Parts of the cache, each with a lock of its own.
const CACHE_SHARDS: usize = 16;
/// The longest token of our own that is looked at, in bytes: far more than these claims need. Longer ones are not remembered.
const TOKEN_BYTES_MAX: usize = 4_096;
/// The longest one by somebody else, who may have more to say.
const FOREIGN_TOKEN_BYTES_MAX: usize = 16_384;
/// A token that expires later than can be told is good for this long: ten years.
const FAR_AHEAD: Duration = Duration::from_secs(10 * 365 * 86_400);

/// Why tokens cannot be checked or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key file cannot be read or made.
    #[error("key file {}: {source}", path.display())]
    KeyFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file holds no key of the wanted kind.
    #[error("key file {}: must hold {expected}", path.display())]
    NoKey {
        /// Which.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// There is no secret to sign tokens with: the server would not accept them.
    #[error(
        "data directory {}: no server has made a key there; name the data directory or the secret of the server that the \
         token is for, or start it first",
        dir.display()
    )]
    NoServer {
        /// The data directory.
        dir: PathBuf,
    },
    /// Tokens are somebody else's to make.
    #[error("tokens are made by {issuer}; auth.local_tokens = true would have this server take its own too")]
    MadeElsewhere {
        /// Who makes them.
        issuer: String,
    },
    /// The settings of the key set cannot be used.
    #[error(transparent)]
    Settings(#[from] ValueError),
    /// Only whoever has the private key can make tokens.
    #[error("tokens signed with EdDSA are made by whoever has the private key; this server has the public one only")]
    NoPrivateKey,
    /// A token could not be signed.
    #[error("signing: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
}

/// What a caller may do. Who has none is a buyer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the sale: all that there is.
    Admin,
    /// Sells for others: holds, takes payments that are only reported, blocks seats, and reads lists.
    BoxOffice,
    /// Gives payments back, reads what is owed of them, and lists.
    Refunds,
    /// Reads lists and histories.
    Viewer,
    /// Reports what providers of payments did, and reads payments and what is owed of them.
    Payments,
}

impl Role {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Admin, Self::BoxOffice, Self::Refunds, Self::Viewer, Self::Payments];

    /// Its name in tokens.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::BoxOffice => "box_office",
            Self::Refunds => "refunds",
            Self::Viewer => "viewer",
            Self::Payments => "payments",
        }
    }
}

/// Several of them, which add up. Who has none is a buyer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `role` is among them.
    #[must_use]
    pub fn has(self, role: Role) -> bool {
        self.has_any(role.into())
    }

    fn has_any(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |bits, role| bits | 1 << role as u8))
    }
}

impl From<Role> for Roles {
    fn from(role: Role) -> Self {
        Self::from_iter([role])
    }
}

/// What is read of a token.
#[derive(Deserialize)]
struct Claims {
    sub: UserId,
    /// Seconds since 1970, which RFC 7519 lets be a fraction.
    exp: f64,
    #[serde(default, deserialize_with = "named_role")]
    role: Option<Role>,
}

/// What is written into a token.
#[derive(Serialize)]
struct NewClaims<'a> {
    sub: &'a UserId,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
}

/// A role that is there must be one that we know; `null` is none.
fn named_role<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Role>, D::Error> {
    Role::deserialize(deserializer).map(Some)
}

/// Whoever a valid token stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub user: UserId,
    /// None: a buyer.
    pub roles: Roles,
}

impl Identity {
    /// As the engine wants it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        // What else a role may not do is refused before.
        if self.roles.is_empty() { Caller::User(self.user.clone()) } else { Caller::Admin }
    }
}

impl Identity {
    /// As [`caller`](Self::caller), for what is to say in the journal who did it.
    #[must_use]
    pub fn doer(&self) -> Caller {
        if self.roles.is_empty() { self.caller() } else { Caller::Staff(self.user.clone()) }
    }
}

/// Checks tokens, and remembers those that it found valid until they expire.
pub struct Verifier {
    /// By a key of this server's own.
    own: Option<Own>,
    /// By those of somebody else.
    foreign: Option<(Jwks, Rules)>,
    leeway: Duration,
    cache: Cache,
}

struct Own {
    key: DecodingKey,
    validation: Validation,
}

/// Why a token stands for nobody, for now.
enum Unknown {
    /// It is not valid; the check that it failed, if that is to be told.
    Invalid(Option<&'static str>),
    /// By no key that is known. There may be one by now.
    Kid,
    /// There are no keys to check it with.
    NoKeys,
}

impl Verifier {
    /// As configured. Makes the secret in the data directory, durably, if there is none yet and it is needed.
    ///
    /// # Errors
    /// A key that cannot be read or made.
    pub fn new(settings: &Settings) -> Result<Self, Error> {
        let foreign = Jwks::new(&settings.auth)?.map(|keys| (keys, Rules::new(&settings.auth)));
        let own = if foreign.is_none() || settings.auth.local_tokens { Some(Own::new(settings)?) } else { None };
        let leeway = Duration::from_secs(settings.auth.leeway_seconds);
        let cache = Cache::new(usize::try_from(settings.auth.cached_tokens).unwrap_or(usize::MAX));
        Ok(Self { own, foreign, leeway, cache })
    }

    /// Begins to fetch the keys of who signs tokens elsewhere, if anybody does.
    pub(super) fn start(&self) -> Result<(), super::Error> {
        self.foreign.as_ref().map_or(Ok(()), |(keys, _)| keys.start())
    }

    /// Adds to what the engine says of itself whether tokens can be checked.
    pub(super) fn add_to(&self, health: &mut Health) {
        match self.foreign.as_ref().and_then(|(keys, _)| keys.complaint()) {
            None => {}
            Some(Complaint::Warning(warning)) => health.warnings.push(warning),
            Some(Complaint::Reason(reason)) => {
                health.ready = false;
                health.reasons.push(reason);
            }
        }
    }

    /// Whom `token` stands for at `now`; `None` unless it is valid.
    #[must_use]
    pub fn verify(&self, token: &str, now: SystemTime) -> Option<Identity> {
        self.verified(token, now).ok().map(|known| known.identity)
    }

    fn verified(&self, token: &str, now: SystemTime) -> Result<Known, Unknown> {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        if let Some(known) = self.cache.get(token) {
            if seconds >= known.expires {
                return Err(Unknown::Invalid(known.set.map(|_| keys::EXPIRED)));
            }
            // What it was signed with may be good no more.
            if known.set.is_none() || known.set == self.foreign.as_ref().and_then(|(keys, _)| keys.number()) {
                return Ok(known);
            }
        }
        let known = self.decode(token, now)?;
        if seconds >= known.expires {
            return Err(Unknown::Invalid(None));
        }
        if token.len() <= TOKEN_BYTES_MAX {
            self.cache.insert(token, known.clone());
        }
        Ok(known)
    }

    fn decode(&self, token: &str, now: SystemTime) -> Result<Known, Unknown> {
        let Some((keys, rules)) = &self.foreign else {
            let own = self.own.as_ref().and_then(|own| own.decode(token, self.leeway));
            return own.ok_or(Unknown::Invalid(None));
        };
        let head = if token.len() > FOREIGN_TOKEN_BYTES_MAX { None } else { Head::of(token) };
        let head = head.ok_or(Unknown::Invalid(Some("This is no JWT.")))?;
        if let Some(own) = self.own.as_ref().filter(|_| head.alg == "HS256") {
            return own.decode(token, self.leeway).ok_or(Unknown::Invalid(None));
        }
        let (set, number) = keys.set().ok_or(Unknown::NoKeys)?;
        match rules.check(&head, token, &set, now) {
            Ok((identity, expires)) => Ok(Known { identity, expires, set: Some(number) }),
            Err(Refused::UnknownKid) => Err(Unknown::Kid),
            Err(Refused::Because(why)) => Err(Unknown::Invalid(Some(why))),
        }
    }

    /// Waits until there may be a key that was not known; none if that was tried just now.
    fn ask_for_key(&self) -> Option<impl Future<Output = ()> + use<>> {
        self.foreign.as_ref().and_then(|(keys, _)| keys.ask())
    }

    /// As [`verified`](Self::verified), with one look for a key that is not known.
    async fn verified_in_time(&self, token: &str) -> Result<Known, Unknown> {
        match self.verified(token, SystemTime::now()) {
            Err(Unknown::Kid) => {}
            outcome => return outcome,
        }
        if let Some(asked) = self.ask_for_key() {
            asked.await;
        }
        self.verified(token, SystemTime::now())
    }

    /// The roles by a token, where one that does not count is as good as none.
    fn roles(&self, known: Result<Known, Unknown>) -> Result<Option<Roles>, Problem> {
        match known {
            Ok(known) => Ok(Some(known.identity.roles)),
            // They may have some, and would miss what is theirs to see.
            Err(unknown @ Unknown::NoKeys) => Err(self.problem(&unknown)),
            Err(Unknown::Invalid(_) | Unknown::Kid) => Ok(None),
        }
    }

    fn problem(&self, unknown: &Unknown) -> Problem {
        match unknown {
            Unknown::Invalid(why) => invalid(*why),
            Unknown::Kid => invalid(Some("kid: no key of the issuer has it.")),
            Unknown::NoKeys => {
                let wait = self.foreign.as_ref().map_or(1, |(keys, _)| keys.retry_seconds());
                Problem::new(Code::KeysUnavailable, "There are no keys of the issuer to check the token with.")
                    .retry_after(wait)
            }
        }
    }
}

impl Own {
    fn new(settings: &Settings) -> Result<Self, Error> {
        let (key, algorithm) = match settings.auth.algorithm {
            Algorithm::Hs256 => {
                make_key_file(settings)?;
                (DecodingKey::from_secret(&secret(settings)?), jsonwebtoken::Algorithm::HS256)
            }
            Algorithm::EdDsa => (public_key(&settings.auth.public_key_file)?, jsonwebtoken::Algorithm::EdDSA),
        };
        let mut validation = Validation::new(algorithm);
        // An audience may be there for others. The expiry is checked by the caller, to the moment.
        validation.validate_aud = false;
        validation.validate_exp = false;
        validation.validate_nbf = true;
        validation.leeway = settings.auth.leeway_seconds;
        Ok(Self { key, validation })
    }

    fn decode(&self, token: &str, leeway: Duration) -> Option<Known> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let data = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation).ok()?;
        // RFC 7515: extensions that must be understood are none of ours.
        if data.header.crit.is_some() {
            return None;
        }
        let Claims { sub, exp, role } = data.claims;
        let identity = Identity { user: sub, roles: role.into_iter().collect() };
        Some(Known { identity, expires: exp + leeway.as_secs_f64(), set: None })
    }
}

/// A token for `user`, valid for `ttl` from now, for a server with these settings that has been started before.
///
/// # Errors
/// No key to sign with.
pub fn issue(settings: &Settings, user: &UserId, role: Option<Role>, ttl: Duration) -> Result<String, Error> {
    if settings.auth.has_keys() && !settings.auth.local_tokens {
        return Err(Error::MadeElsewhere { issuer: settings.auth.issuer.clone() });
    }
    if settings.auth.algorithm == Algorithm::EdDsa {
        return Err(Error::NoPrivateKey);
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = NewClaims { sub: user, exp: now.saturating_add(ttl).as_secs(), role };
    let key = EncodingKey::from_secret(&secret(settings)?);
    Ok(jsonwebtoken::encode(&Header::default(), &claims, &key)?)
}

fn public_key(path: &Path) -> Result<DecodingKey, Error> {
    let pem = fs::read(path).map_err(|source| Error::KeyFile { path: path.into(), source })?;
    DecodingKey::from_ed_pem(&pem)
        .map_err(|_| Error::NoKey { path: path.into(), expected: "an Ed25519 public key in PEM form" })
}

/// The secret for HS256: from the configuration, from its file, or from the data directory, if it has been made there.
fn secret(settings: &Settings) -> Result<Vec<u8>, Error> {
    let given = settings.auth.secret.reveal();
    if !given.is_empty() {
        return Ok(given.as_bytes().to_vec());
    }
    let own = own_key_file(settings);
    let path = own.clone().unwrap_or_else(|| settings.auth.secret_file.clone());
    let text = fs::read(&path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if own.is_some() => Error::NoServer { dir: settings.data_dir.clone() },
        _ => Error::KeyFile { path: path.clone(), source },
    })?;
    let secret = text.trim_ascii_end().to_vec();
    if secret.len() < SECRET_BYTES_MIN {
        return Err(Error::NoKey { path, expected: "a secret of at least 32 bytes" });
    }
    Ok(secret)
}

/// Copies the secret that the server made for itself, if it made one, from a data directory to another one that has none.
///
/// # Errors
/// It cannot be read or written.
pub fn copy_key(from: &Path, to: &Path) -> Result<(), Error> {
    let path = from.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::KeyFile { path, source }),
        Ok(key) => write_key_file(to, &key).map_err(|source| Error::KeyFile { path: to.join(KEY_FILE), source }),
    }
}

/// The file of the secret that the server makes for itself, unless it was given one.
fn own_key_file(settings: &Settings) -> Option<PathBuf> {
    let given = !settings.auth.secret.reveal().is_empty() || !settings.auth.secret_file.as_os_str().is_empty();
    (!given).then(|| settings.data_dir.join(KEY_FILE))
}

/// Makes the key file in the data directory, with 256 random bits, if it is needed and there is none. Durable once it
/// returns. Two processes that do this at the same time end up with the same file.
fn make_key_file(settings: &Settings) -> Result<(), Error> {
    let Some(path) = own_key_file(settings) else { return Ok(()) };
    let failed = |source| Error::KeyFile { path: path.clone(), source };
    if path.try_exists().map_err(failed)? {
        return Ok(());
    }
    make_private_dirs(&settings.data_dir).map_err(failed)?;
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error.to_string())))?;
    write_key_file(&settings.data_dir, &(base16ct::lower::encode_string(&random) + "\n")).map_err(failed)
}

/// Writes a key file, unless there is one, for its owner's eyes only.
fn write_key_file(dir: &Path, key: &str) -> io::Result<()> {
    let draft = dir.join(format!("{KEY_FILE}.{}", std::process::id()));
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(key.as_bytes())?;
        file.sync_all()?;
        // A link, unlike a rename, does not replace what another process may have put there.
        match fs::hard_link(&draft, dir.join(KEY_FILE)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    })();
    // The draft is of no use either way; that it may stay behind does no harm.
    let _ = fs::remove_file(&draft);
    written.and_then(|()| fs::File::open(dir)?.sync_all())
}

/// What is remembered of a valid token.
#[derive(Clone)]
struct Known {
    identity: Identity,
    /// Seconds since 1970.
    expires: f64,
    /// By which set of somebody else's keys; none: by our own.
    set: Option<u64>,
}

/// Valid tokens. Each part keeps two generations: the young one becomes the old one once it is full, and what was in
/// the old one and not asked for since is gone. So it is bounded, and nothing ever has to search it.
struct Cache {
    shards: [Mutex<Generations>; CACHE_SHARDS],
    hasher: RandomState,
    generation_len_max: usize,
}

#[derive(Default)]
struct Generations {
    young: HashMap<Box<str>, Known>,
    old: HashMap<Box<str>, Known>,
}

impl Cache {
    fn new(tokens_max: usize) -> Self {
        let generation_len_max = tokens_max / (2 * CACHE_SHARDS);
        Self { shards: Default::default(), hasher: RandomState::new(), generation_len_max }
    }

    fn shard(&self, token: &str) -> &Mutex<Generations> {
        &self.shards[self.hasher.hash_one(token) as usize % CACHE_SHARDS]
    }

    fn get(&self, token: &str) -> Option<Known> {
        let mut shard = self.shard(token).lock();
        if let Some(known) = shard.young.get(token) {
            return Some(known.clone());
        }
        let (token, known) = shard.old.remove_entry(token)?;
        self.insert_into(&mut shard, token, known.clone());
        Some(known)
    }

    fn insert(&self, token: &str, known: Known) {
        self.insert_into(&mut self.shard(token).lock(), token.into(), known);
    }

    fn insert_into(&self, shard: &mut Generations, token: Box<str>, known: Known) {
        if self.generation_len_max == 0 {
            return;
        }
        if shard.young.len() >= self.generation_len_max {
            shard.old = std::mem::take(&mut shard.young);
        }
        shard.young.insert(token, known);
    }
}

/// Extractors, a kind of request each: whom it is for. Taking one in a handler refuses everybody else, 401 or 403, before anything
/// else is looked at, and a buyer who asks too often with 429.
macro_rules! callers {
    ($($(#[$doc:meta])* $name:ident($buyers:ident, [$($role:ident)*]) $refusal:literal)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $name(pub Identity);

        impl $name {
            fn admit(identity: Identity) -> Result<Self, Problem> {
                let is_allowed = match identity.roles.is_empty() {
                    true => Buyers::$buyers == Buyers::Too,
                    false => identity.roles.has_any([Role::Admin, $(Role::$role),*].into_iter().collect()),
                };
                if is_allowed { Ok(Self(identity)) } else { Err(Problem::new(Code::Forbidden, $refusal)) }
            }
        }

        impl FromRequest for $name {
            type Error = Problem;
            type Future = Identifying<Self>;

            fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
                identifying(request, Self::admit)
            }
        }
    )*};
}

/// Whether something is for who has no role, too.
#[derive(PartialEq, Eq)]
enum Buyers {
    Too,
    Not,
}

callers! {
    /// A buyer's own things: also an admin's.
    User(Too, []) "This role may not do this."
    /// What an admin only may do.
    Admin(Not, []) "Only an admin may do this."
    /// Payments, of one's own or of others.
    Payer(Too, [BoxOffice Refunds Viewer Payments]) "This role may not do this."
    /// Reservations, of one's own or of others.
    Reader(Too, [BoxOffice Refunds Viewer]) "This role may not do this."
    /// Buying, for oneself or for others.
    Holder(Too, [BoxOffice]) "This role may not do this."
    /// Giving payments back, one's own or those of others.
    Refunder(Too, [Refunds]) "This role may not do this."
    /// Which seats are on sale.
    Seller(Not, [BoxOffice]) "Only an admin or the role box_office may do this."
    /// What providers did.
    Cashier(Not, [Payments]) "Only an admin or the role payments may do this."
    /// Reservations of all.
    Lister(Not, [BoxOffice Refunds Viewer]) "Only an admin or the roles box_office, refunds and viewer may do this."
    /// What has happened, and who did it.
    Historian(Not, [Viewer]) "Only an admin or the role viewer may do this."
}

/// Who asks, which is known at once unless a key has to be fetched for it.
type Identifying<T> = Either<Ready<Result<T, Problem>>, LocalBoxFuture<'static, Result<T, Problem>>>;

fn identifying<T: 'static>(request: &HttpRequest, admit: fn(Identity) -> Result<T, Problem>) -> Identifying<T> {
    let now = || Ok((app(request)?, shown(request)?));
    let (app, token) = match now() {
        Ok(known) => known,
        Err(problem) => return Either::Left(ready(Err(problem))),
    };
    match app.verifier.verified(token, SystemTime::now()) {
        Err(Unknown::Kid) => {}
        outcome => {
            let outcome = outcome.map_err(|unknown| app.verifier.problem(&unknown));
            let admitted = outcome.and_then(|known| known.admitted(request, app));
            return Either::Left(ready(admitted.and_then(|(identity, _)| admit(identity))));
        }
    }
    let request = request.clone();
    let identified = async move { admit(identify_anybody(&request, shown(&request)?).await?.0) };
    Either::Right(identified.boxed_local())
}

/// Whether whoever asks shows that they have a role, where nobody need show anything; nobody waits for a key that is not known.
pub(super) fn runs_the_sale(request: &HttpRequest, app: &App) -> Result<bool, Problem> {
    let Ok(token) = shown(request) else { return Ok(false) };
    let roles = app.verifier.roles(app.verifier.verified(token, SystemTime::now()))?;
    Ok(roles.is_some_and(|roles| !roles.is_empty()))
}

/// The roles of whoever shows a token that counts, where nobody need show any; none otherwise.
pub(super) async fn roles_shown(request: &HttpRequest, app: &App) -> Result<Option<Roles>, Problem> {
    let Ok(token) = shown(request) else { return Ok(None) };
    app.verifier.roles(app.verifier.verified_in_time(token).await)
}

/// Who asks, by a token that was shown in some way, and until when that holds.
pub(super) async fn identify_by(request: &HttpRequest, token: &str) -> Result<(Identity, SystemTime), Problem> {
    let (identity, until) = identify_anybody(request, token).await?;
    Ok((User::admit(identity)?.0, until))
}

/// Who asks, also one who may only do what is to be done about payments.
async fn identify_anybody(request: &HttpRequest, token: &str) -> Result<(Identity, SystemTime), Problem> {
    let app = app(request)?;
    let known = app.verifier.verified_in_time(token).await;
    known.map_err(|unknown| app.verifier.problem(&unknown))?.admitted(request, app)
}

impl Known {
    /// Who it is and until when, unless they ask too often.
    fn admitted(self, request: &HttpRequest, app: &App) -> Result<(Identity, SystemTime), Problem> {
        let Self { identity, expires, .. } = self;
        // For the access log.
        request.extensions_mut().insert(identity.user.clone());
        // The tools of who runs the sale may ask as often as they have to.
        if identity.roles.is_empty() {
            app.limiter
                .check(&identity.user)
                .inspect_err(|_| note_sign_of_life(app, request.path(), &identity.user))?;
        }
        let expires = Duration::try_from_secs_f64(expires).ok().and_then(|expires| UNIX_EPOCH.checked_add(expires));
        Ok((identity, expires.unwrap_or(SystemTime::now() + FAR_AHEAD)))
    }
}

fn app(request: &HttpRequest) -> Result<&App, Problem> {
    let app = request.app_data::<web::Data<App>>();
    app.map(web::Data::get_ref).ok_or_else(|| Problem::new(Code::Internal, "The server is not set up."))
}

/// The token that a request shows.
pub(super) fn shown(request: &HttpRequest) -> Result<&str, Problem> {
    let header = request.headers().get(header::AUTHORIZATION).ok_or_else(|| unauthenticated("Bearer", None))?;
    header.to_str().ok().and_then(bearer).ok_or_else(|| invalid(None))
}

/// Whoever is turned away before anybody has looked at who it is may stand in a line, and is still there.
pub(super) fn note_turned_away(app: &App, request: &RequestHead) {
    let header = request.headers().get(header::AUTHORIZATION).and_then(|header| header.to_str().ok());
    let token = header.and_then(bearer).or_else(|| live::bearer_protocol(request.headers()));
    if let Some(identity) = token.and_then(|token| app.verifier.verify(token, SystemTime::now())) {
        note_sign_of_life(app, request.uri.path(), &identity.user);
    }
}

/// Whoever asks for their place in a line too often is still there.
fn note_sign_of_life(app: &App, path: &str, user: &UserId) {
    let mut segments = path.strip_prefix("/v1/").unwrap_or_default().split('/');
    let concert = match [(); 3].map(|()| segments.next()) {
        [Some("tokens"), Some(id), None | Some("live")] => id.parse().ok().map(|token: TokenId| token.concert),
        [Some("concerts"), Some(id), Some("tokens")] => id.parse().ok(),
        _ => None,
    };
    if let Some(Err(error)) = concert.map(|concert| app.engine.still_there(concert, user)) {
        static SELDOM: Seldom = Seldom::new();
        if let Some(left_out) = SELDOM.next() {
            tracing::error!(%error, left_out, "a sign of life is lost");
        }
    }
}

/// The token of an `Authorization` header; schemes know no case.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// A token was shown, and stands for nobody.
fn invalid(why: Option<&'static str>) -> Problem {
    unauthenticated("Bearer error=\"invalid_token\"", why)
}

fn unauthenticated(challenge: &'static str, why: Option<&'static str>) -> Problem {
    Problem::new(Code::Unauthenticated, why.unwrap_or("Send a valid token as Authorization: Bearer."))
        .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn settings(dir: &Path) -> Settings {
        Settings { data_dir: dir.into(), ..Settings::default() }
    }

    fn with_secret(secret: &str) -> Settings {
        let environment = [("BOXOFFICE_AUTH_SECRET".to_owned(), secret.to_owned())];
        Settings::load(None, environment, &[]).unwrap()
    }

    fn sign(header: &Header, claims: &Value, secret: &str) -> String {
        jsonwebtoken::encode(header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    #[test]
    fn only_valid_tokens_stand_for_somebody() {
        let verifier = Verifier::new(&with_secret(SECRET)).unwrap();
        let now = SystemTime::now();
        let seconds = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let good = json!({"sub": "anna", "exp": seconds + 60});
        let hs256 = Header::default();
        let hs512 = Header::new(jsonwebtoken::Algorithm::HS512);
        let critical = Header { crit: Some(vec!["b64".into()]), ..Header::default() };
        let identity =
            |role: Option<Role>| Some(Identity { user: "anna".parse().unwrap(), roles: role.into_iter().collect() });
        for (what, token, expected) in [
            ("good", sign(&hs256, &good, SECRET), identity(None)),
            (
                "admin",
                sign(&hs256, &json!({"sub": "anna", "exp": seconds + 60, "role": "admin"}), SECRET),
                identity(Some(Role::Admin)),
            ),
            ("fraction", sign(&hs256, &json!({"sub": "anna", "exp": seconds as f64 + 60.5}), SECRET), identity(None)),
            (
                "audience",
                sign(&hs256, &json!({"sub": "anna", "exp": seconds + 60, "aud": "x", "iss": "y"}), SECRET),
                identity(None),
            ),
            ("expired", sign(&hs256, &json!({"sub": "anna", "exp": seconds}), SECRET), None),
            ("not yet", sign(&hs256, &json!({"sub": "anna", "exp": seconds + 60, "nbf": seconds + 30}), SECRET), None),
            ("no expiry", sign(&hs256, &json!({"sub": "anna"}), SECRET), None),
            ("no subject", sign(&hs256, &json!({"exp": seconds + 60}), SECRET), None),
            ("empty subject", sign(&hs256, &json!({"sub": "", "exp": seconds + 60}), SECRET), None),
            ("other role", sign(&hs256, &json!({"sub": "anna", "exp": seconds + 60, "role": "root"}), SECRET), None),
            ("null role", sign(&hs256, &json!({"sub": "anna", "exp": seconds + 60, "role": null}), SECRET), None),
            ("forged", sign(&hs256, &good, "another secret that is long enough"), None),
            ("other algorithm", sign(&hs512, &good, SECRET), None),
            ("critical extension", sign(&critical, &good, SECRET), None),
            ("unsigned", format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(&good)), None),
            ("nonsense", "nonsense".into(), None),
            ("too long", "x".repeat(TOKEN_BYTES_MAX + 1), None),
        ] {
            assert_eq!(verifier.verify(&token, now), expected, "{what}");
            assert_eq!(verifier.verify(&token, now), expected, "{what}, the second time");
        }
    }

    fn encoded(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    #[test]
    fn a_remembered_token_still_expires() {
        let verifier = Verifier::new(&with_secret(SECRET)).unwrap();
        let user = "anna".parse().unwrap();
        let token = issue(&with_secret(SECRET), &user, None, Duration::from_secs(60)).unwrap();
        let now = SystemTime::now();
        assert!(verifier.verify(&token, now).is_some());
        assert!(verifier.verify(&token, now + Duration::from_secs(61)).is_none());
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_in_use() {
        let cache = Cache::new(2 * CACHE_SHARDS * 10);
        let known = Known {
            identity: Identity { user: "anna".parse().unwrap(), roles: Roles::default() },
            expires: 0.0,
            set: None,
        };
        cache.insert("in use", known.clone());
        for n in 0..10_000 {
            cache.insert(&n.to_string(), known.clone());
            assert!(cache.get("in use").is_some(), "{n}");
        }
        let len = |shard: &Mutex<Generations>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        let len: usize = cache.shards.iter().map(len).sum();
        assert!(len <= 2 * CACHE_SHARDS * 10, "{len}");
    }

    #[test]
    fn the_first_start_makes_a_secret_that_the_next_one_finds() {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(&dir.path().join("data"));
        let issue = || issue(&settings, &"anna".parse().unwrap(), None, Duration::from_secs(60));
        assert!(matches!(issue(), Err(Error::NoServer { dir }) if dir == settings.data_dir));
        assert!(!settings.data_dir.exists(), "a token is no reason to make one");
        Verifier::new(&settings).unwrap();
        let first = secret(&settings).unwrap();
        assert_eq!(first.len(), 64);
        let again = Verifier::new(&settings).unwrap();
        assert_eq!(secret(&settings).unwrap(), first);
        assert!(again.verify(&issue().unwrap(), SystemTime::now()).is_some());
        let mode = fs::metadata(settings.data_dir.join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&settings.data_dir).unwrap().count(), 1);
    }

    #[test]
    fn a_short_secret_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY_FILE), "short\n").unwrap();
        assert!(matches!(Verifier::new(&settings(dir.path())), Err(Error::NoKey { .. })));
    }

    /// A pair that protects nothing.
    const PRIVATE_KEY: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOPDRfP35emXG2lmbYDq5e26zJoAIoDItTIBcljJw/i8\n-----END PRIVATE KEY-----\n";
    const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA+GvwAEbgPkKjcl3Bj0600YFDnp/0TZmkUMhHTAp/QcI=\n-----END PUBLIC KEY-----\n";

    #[test]
    fn with_a_public_key_only_its_owner_makes_tokens() {
        let dir = tempfile::tempdir().unwrap();
        let pem = dir.path().join("public.pem");
        fs::write(&pem, PUBLIC_KEY).unwrap();
        let mut settings = settings(dir.path());
        settings.auth.algorithm = Algorithm::EdDsa;
        settings.auth.public_key_file = pem;
        let verifier = Verifier::new(&settings).unwrap();
        let claims = json!({"sub": "anna", "exp": 99_999_999_999_u64});
        let header = Header::new(jsonwebtoken::Algorithm::EdDSA);
        let key = EncodingKey::from_ed_pem(PRIVATE_KEY.as_bytes()).unwrap();
        let token = jsonwebtoken::encode(&header, &claims, &key).unwrap();
        let now = SystemTime::now();
        assert_eq!(
            verifier.verify(&token, now),
            Some(Identity { user: "anna".parse().unwrap(), roles: Roles::default() })
        );
        // What a public key verifies must not double as a secret for HS256.
        assert_eq!(verifier.verify(&sign(&Header::default(), &claims, PUBLIC_KEY), now), None);
        let user = "anna".parse().unwrap();
        assert!(matches!(issue(&settings, &user, None, Duration::from_secs(1)), Err(Error::NoPrivateKey)));
        fs::write(&settings.auth.public_key_file, "nothing").unwrap();
        assert!(matches!(Verifier::new(&settings), Err(Error::NoKey { .. })));
    }
}
