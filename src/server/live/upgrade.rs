//! The one way from HTTP to a bare connection.
//!
//! actix hands a request that asks for a WebSocket to a service of its own, together with the connection. This one asks the
//! application all the same, as if it were any other request, so that routes, checks, problems, the log and figures are the
//! same for all. An answer that [accepts](Accepted) takes the connection over; any other is written, and that is the end.
//!
//! A response with a stream for a body would not need this. But what is written to it goes through 32 KiB of buffer a
//! connection before anybody can tell that the other end does not read (see `docs/adr/0012-live.md`).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;

use actix_codec::Framed;
use actix_http::{HttpMessage as _, Request, h1};
use actix_service::{Service, ServiceFactory};
use actix_web::Error;
use actix_web::body::MessageBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::Method;
use actix_web::web::BytesMut;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::server::wire::{self, Wire};

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
    F: ServiceFactory<Request, Config = (), Response = ServiceResponse<B>, Error = Error>,
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
        let application = self.0.new_service(());
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
            let (mut io, held) = parts.io.into_parts()?;
            let read = BytesMut::from(&[&parts.read_buf[..], &held].concat()[..]);
            let has_body = request.method() != Method::HEAD;
            request.extensions_mut().insert(Upgradable);
            let mut out = parts.write_buf.to_vec();
            let mut response = match application.call(request).await {
                Ok(response) => response.into_parts().1.map_into_boxed_body(),
                Err(error) => error.error_response(),
            };
            let accepted = response.extensions_mut().remove::<Accepted>();
            let Some(Accepted(serve)) = accepted else {
                wire::answer(&mut io, out, response, has_body).await;
                return Ok(());
            };
            out.extend(wire::head(&response, None));
            let served = io.write_all(&out).await.and_then(|()| serve(io, read));
            // actix would write a line of ERROR, as often as somebody likes to be gone by now.
            served.unwrap_or_else(|error| tracing::debug!(%error, "a socket cannot be served"));
            Ok(())
        })
    }
}
