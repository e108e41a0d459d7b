//! Chunked bodies that are answered before they have come.
//!
//! Actix reads on to the end of a chunked body that nobody wants any more, in order to keep the connection, and for that
//! it has no time limit: whoever never ends the body would hold the connection for ever. It closes the connection, in
//! time, if there is still somebody who might want the body, so that is what there is until the answer is on its way.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::HttpMessage as _;
use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header;
use actix_web::web::Bytes;
use futures_util::{Stream, StreamExt as _};

/// The body of a request, whether or not a handler has taken it, read it, or dropped it.
#[derive(Clone)]
pub struct Unread(Rc<RefCell<Payload>>);

impl Unread {
    /// That of `request`, if it is chunked.
    #[must_use]
    pub fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(header::TRANSFER_ENCODING) {
            return None;
        }
        let unread = Self(Rc::new(RefCell::new(request.take_payload())));
        let stream: Pin<Box<dyn Stream<Item = _>>> = Box::pin(unread.clone());
        request.set_payload(Payload::from(stream));
        Some(unread)
    }

    /// `answer`, which keeps this until it is sent.
    #[must_use]
    pub fn held_by(self, answer: BoxBody) -> BoxBody {
        BoxBody::new(Answer { body: answer, _unread: self })
    }
}

impl Stream for Unread {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.borrow_mut().poll_next_unpin(context)
    }
}

struct Answer {
    body: BoxBody,
    _unread: Unread,
}

impl MessageBody for Answer {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
