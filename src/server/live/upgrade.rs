//! The one way from HTTP to a bare connection.
//!
//! actix hands a request that asks for a WebSocket to a service of its own, together with the connection. This one asks the
//! application all the same, as if it were any other request, so that routes, checks, problems, the log and figures are the
//! same for all. An answer that [accepts](Accepted) takes the connection over; any other is written, and that is the end.
//!
//! A response with a stream for a body would not need this. But what is written to it goes through 32 KiB of buffer a
//! connection before anybody can tell that the other end does not read (see `docs/adr/0012-live.md`).

use std::fmt::Write as _;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use actix_codec::Framed;
use actix_http::{HttpMessage as _, Request, h1};
use actix_service::{Service, ServiceFactory};
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::Method;
use actix_web::web::BytesMut;
use actix_web::{Error, HttpResponse};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::wire::Wire;

/// How long somebody may take to read why they were refused.
const PATIENCE: Duration = Duration::from_secs(2);

/// That the connection of a request can be taken over.
#[derive(Clone, Copy)]
pub(super) struct Upgradable;

type Serve = Box<dyn FnOnce(TcpStream, BytesMut) -> io::Result<()>>;

/// What takes the connection over once the answer is out, with what has been read already.
pub(super) struct Accepted(Serve);

impl Accepted {
    pub(super) fn new(serve: impl FnOnce(TcpStream, BytesMut) -> io::Result<()> + 'static) -> Self {
        Self(Box::new(serve))
    }
}

/// A request that asks for another protocol, and its connection.
type Asked = (Request, Framed<Wire, h1::Codec>);

/// Makes services from applications.
pub(in crate::server) struct Upgrades<F>(pub(in crate::server) F);

impl<F, B> ServiceFactory<Asked> for Upgrades<F>
where
    F: ServiceFactory<Request, Config = AppConfig, Response = ServiceResponse<B>, Error = Error>,
    F::Service: 'static,
    F::Future: 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = Error;
    type Config = ();
    type Service = Upgrade<F::Service>;
    type InitError = F::InitError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Service, Self::InitError>>>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let application = self.0.new_service(AppConfig::default());
        Box::pin(async move { Ok(Upgrade(Rc::new(application.await?))) })
    }
}

/// Asks an application.
pub(in crate::server) struct Upgrade<S>(Rc<S>);

impl<S, B> Service<Asked> for Upgrade<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error> + 'static,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<(), Error>>>>;

    actix_service::always_ready!();

    fn call(&self, (request, framed): Asked) -> Self::Future {
        let application = self.0.clone();
        Box::pin(async move {
            let parts = framed.into_parts();
            let (mut io, held) = parts.io.into_parts();
            let read = BytesMut::from(&[&parts.read_buf[..], &held].concat()[..]);
            let has_body = request.method() != Method::HEAD;
            request.extensions_mut().insert(Upgradable);
            let mut out = parts.write_buf.to_vec();
            let mut response = match application.call(request).await {
                Ok(response) => response.into_parts().1.map_into_boxed_body(),
                Err(error) => error.error_response(),
            };
            let accepted = response.extensions_mut().remove::<Accepted>();
            if let Some(Accepted(serve)) = accepted {
                out.extend(head(&response, None));
                io.write_all(&out).await?;
                return Ok(serve(io, read)?);
            }
            // Whoever does not read it is nobody's loss.
            let _ = tokio::time::timeout(PATIENCE, refuse(&mut io, out, response, has_body)).await;
            Ok(())
        })
    }
}

/// Writes an answer, and waits until the other end has it.
async fn refuse(
    io: &mut TcpStream,
    mut out: Vec<u8>,
    response: HttpResponse<BoxBody>,
    has_body: bool,
) -> io::Result<()> {
    let (response, mut body) = response.into_parts();
    let bytes = if let BodySize::Sized(bytes) = body.size() { bytes } else { 0 };
    out.extend(head(&response, Some(bytes)));
    // A slice at a time: whoever does not read it has no copy of the whole.
    while let Some(Ok(slice)) = poll_fn(|context| Pin::new(&mut body).poll_next(context)).await {
        if has_body {
            out.extend(&slice);
            io.write_all(&out).await?;
            out.clear();
        }
    }
    io.write_all(&out).await?;
    io.shutdown().await?;
    // To close at once could take the answer back, if there is something left to be read.
    let mut rest = [0; 1024];
    while io.read(&mut rest).await? > 0 {}
    Ok(())
}

/// The head of an answer, with a body of so many bytes if it is not one that switches protocols.
fn head<B>(response: &HttpResponse<B>, body: Option<u64>) -> Vec<u8> {
    let status = response.status();
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    // Writing to a string cannot fail.
    let _ = match body {
        Some(bytes) => write!(text, "content-length: {bytes}\r\nconnection: close\r\n"),
        None => write!(text, "connection: upgrade\r\nupgrade: websocket\r\n"),
    };
    let mut head = text.into_bytes();
    for (name, value) in response.headers() {
        head.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    head.extend(b"\r\n");
    head
}
