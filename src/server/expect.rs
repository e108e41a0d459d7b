//! `Expect: 100-continue`: a body is asked for by whoever reads it, and not before.
//!
//! actix asks a service whether to send `100 Continue`, and the application only then, which comes too late for all that
//! is checked beforehand. So that service asks the application at once. As soon as the application wants the body, 100 is
//! sent, and the application goes on where it was; if it answers before that, its answer is sent instead.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_http::{HttpMessage as _, Payload, Request, Response};
use actix_service::{Service, ServiceFactory};
use actix_web::Error;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::ServiceResponse;
use actix_web::error::PayloadError;
use actix_web::web::Bytes;
use futures_util::future::{Either, LocalBoxFuture, poll_fn};
use futures_util::{FutureExt as _, Stream, StreamExt as _};

/// An answer of the application that is on its way.
type Answering<B> = LocalBoxFuture<'static, Result<ServiceResponse<B>, Error>>;

/// Makes services that ask an application whether it wants the body.
pub(super) struct Expectations<F>(pub(super) F);

impl<F, B> ServiceFactory<Request> for Expectations<F>
where
    F: ServiceFactory<Request, Config = (), Response = ServiceResponse<B>, Error = Error, Future: 'static>,
    F::Service: Service<Request, Future: 'static>,
    B: MessageBody + 'static,
{
    type Response = Request;
    type Error = Response<BoxBody>;
    type Config = ();
    type Service = Expectation<F::Service>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        self.0.new_service(()).map(|made| made.map(Expectation)).boxed_local()
    }
}

pub(super) struct Expectation<S>(S);

impl<S, B> Service<Request> for Expectation<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error, Future: 'static>,
    B: MessageBody + 'static,
{
    type Response = Request;
    type Error = Response<BoxBody>;
    type Future = LocalBoxFuture<'static, Result<Request, Self::Error>>;

    actix_service::always_ready!();

    fn call(&self, mut request: Request) -> Self::Future {
        let is_wanted = Rc::new(Cell::new(false));
        let payload = request.take_payload();
        if !matches!(payload, Payload::None) {
            let expected: Pin<Box<dyn Stream<Item = _>>> = Box::pin(Expected { payload, is_wanted: is_wanted.clone() });
            *request.payload() = Payload::from(expected);
        }
        let mut answering: Option<Answering<B>> = Some(self.0.call(request).boxed_local());
        poll_fn(move |context| match answering.as_mut().map(|answering| answering.poll_unpin(context)) {
            Some(Poll::Ready(Ok(answer))) => Poll::Ready(Err(answer.map_into_boxed_body().into())),
            Some(Poll::Ready(Err(error))) => Poll::Ready(Err(error.error_response().into())),
            Some(Poll::Pending) if is_wanted.get() => {
                // Stands for the request, which the application has.
                let request = Request::new();
                request.extensions_mut().insert(answering.take());
                Poll::Ready(Ok(request))
            }
            _ => Poll::Pending,
        })
        .boxed_local()
    }
}

/// A body that is sent only if it is asked for.
struct Expected {
    payload: Payload,
    is_wanted: Rc<Cell<bool>>,
}

impl Stream for Expected {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.is_wanted.set(true);
        self.payload.poll_next_unpin(context)
    }
}

/// Makes services that go on with what an application has begun, and hand it all other requests.
pub(super) struct Resuming<F>(pub(super) F);

impl<F, B> ServiceFactory<Request> for Resuming<F>
where
    F: ServiceFactory<Request, Config = (), Response = ServiceResponse<B>, Error = Error, Future: 'static>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Config = ();
    type Service = Resumed<F::Service>;
    type InitError = F::InitError;
    type Future = LocalBoxFuture<'static, Result<Self::Service, Self::InitError>>;

    fn new_service(&self, (): ()) -> Self::Future {
        self.0.new_service(()).map(|made| made.map(Resumed)).boxed_local()
    }
}

pub(super) struct Resumed<S>(S);

impl<S, B> Service<Request> for Resumed<S>
where
    S: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: MessageBody + 'static,
{
    type Response = ServiceResponse<B>;
    type Error = Error;
    type Future = Either<S::Future, Answering<B>>;

    actix_service::always_ready!();

    fn call(&self, request: Request) -> Self::Future {
        let begun = request.extensions_mut().remove::<Option<Answering<B>>>().flatten();
        begun.map_or_else(|| Either::Left(self.0.call(request)), Either::Right)
    }
}
