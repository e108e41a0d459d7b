//! Lists as CSV, for spreadsheets: who wants them, what goes into a cell, and lines that are made while they are read.

use std::future::ready;

use actix_web::http::Method;
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, web};
use futures_util::StreamExt as _;
use futures_util::stream::{once, try_unfold};

use super::App;
use super::bodies::Growing;
use super::problem::Problem;
use super::query::Query;
use super::respond::{Accepted, Cache};
use crate::api::{Caller, PageRequest, Payment, Reservation};
use crate::domain::UserId;
use crate::domain::concert_option::POINTS;
use crate::engine::{PaymentWalk, ReservationWalk};
use crate::error::Error;

/// What begins a cell that a spreadsheet would run.
const RUNS: [char; 6] = ['=', '+', '-', '@', '\t', '\r'];

/// The columns of a reservation.
const RESERVATION: [&str; 9] =
    ["reservation_id", "option_id", "user_id", "status", "payment_id", "reference", "data", "created_at", "expires_at"];
/// The columns of a payment.
const PAYMENT: [&str; 7] = ["payment_id", "reservation_id", "user_id", "status", "method", "amount", "paid_at"];
/// The columns of a place, behind those of what it belongs to.
const PLACE: [&str; 8] = ["seat", "zone", "row", "number", "area", "category", "price", "currency"];

/// Whether CSV is asked for, and JSON is not wanted more.
pub(super) fn wants_csv(headers: &HeaderMap) -> bool {
    let accepted = Accepted::of(headers);
    accepted
        .weight("text/csv")
        .is_some_and(|q| q > 0 && accepted.weight("application/json").is_none_or(|json| q >= json))
}

/// Refuses to cut into pages what has none.
///
/// # Errors
/// 400.
pub(super) fn refuse_pages(query: &Query) -> Result<(), Problem> {
    let asked = Query::PAGE.iter().find(|name| query.get(name).is_some());
    asked.map_or(Ok(()), |name| Err(Problem::invalid_field(*name, "is for pages, and there are none in CSV")))
}

/// What no spreadsheet runs.
pub(super) fn cell(text: &str) -> String {
    if text.starts_with(RUNS) { format!("'{text}") } else { text.to_owned() }
}

/// An answer that is JSON, and could be CSV.
pub(super) fn or_csv(mut answer: HttpResponse) -> HttpResponse {
    answer.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    answer
}

/// `200` with CSV, of which all is there.
pub(super) fn as_csv(text: Vec<u8>) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header(Cache::Private.header()).content_type("text/csv; charset=utf-8");
    or_csv(answer.body(text))
}

/// What is made into lines, some at a time.
pub(super) enum Walk {
    /// Reservations.
    Reservations(ReservationWalk),
    /// Payments on an option.
    Payments(PaymentWalk),
    /// Payments of a user, from a page on; `None`: there are no more.
    PaymentsOf(UserId, Option<PageRequest>),
}

impl Walk {
    /// The payments of a user.
    pub(super) fn of_user(user: UserId) -> Self {
        // As lines, a place each, they are some 200 KiB at the most.
        Self::PaymentsOf(user, Some(PageRequest { limit: 16, cursor: None }))
    }

    /// The first line.
    fn heading(&self) -> Result<Vec<u8>, Error> {
        let of: &[&str] = match self {
            Self::Reservations(_) => &RESERVATION,
            Self::Payments(_) | Self::PaymentsOf(..) => &PAYMENT,
        };
        let mut sheet = Sheet::default();
        sheet.line(of.iter().chain(&PLACE))?;
        sheet.done()
    }

    /// The next lines, maybe none, and others after them; `None` at the end.
    async fn lines(&mut self, app: &App) -> Result<Option<Vec<u8>>, Error> {
        let mut sheet = Sheet::default();
        match self {
            Self::Reservations(walk) => {
                let Some(some) = walk.next().await? else { return Ok(None) };
                for reservation in &some {
                    sheet.add(&of_reservation(reservation), reservation)?;
                }
            }
            Self::Payments(walk) => {
                let Some(some) = walk.next().await? else { return Ok(None) };
                for payment in &some {
                    let reservation = walk.reservation(payment).await?;
                    sheet.add(&of_payment(payment), &reservation)?;
                }
            }
            Self::PaymentsOf(user, next) => {
                let Some(page) = next.take() else { return Ok(None) };
                let found = app.engine.payments(user, &page).await?;
                for payment in &found.items {
                    let reservation = app.engine.reservation(&Caller::Admin, payment.reservation_id).await?;
                    sheet.add(&of_payment(payment), &reservation)?;
                }
                *next = found.next_cursor.map(|cursor| PageRequest { cursor: Some(cursor), ..page });
            }
        }
        sheet.done().map(Some)
    }
}

/// `200` with all lines of a walk, a place each, which are made while they are read.
pub(super) fn all(request: &HttpRequest, app: web::Data<App>, walk: Walk) -> Result<HttpResponse, Problem> {
    let heading = walk.heading()?;
    if request.method() == Method::HEAD {
        return Ok(as_csv(Vec::new()));
    }
    let lines = try_unfold((app, walk), |(app, mut walk)| async move {
        // It is never closed.
        let turn = app.lists.acquire().await;
        let lines = walk.lines(&app).await;
        drop(turn);
        if let Err(error) = &lines {
            tracing::warn!(%error, "a list as CSV is cut off");
        }
        Ok::<_, Error>(lines?.map(|lines| (lines, (app, walk))))
    });
    let mut answer = HttpResponse::Ok();
    answer.insert_header(Cache::Private.header()).content_type("text/csv; charset=utf-8");
    Ok(or_csv(answer.body(Growing::new(once(ready(Ok(heading))).chain(lines)))))
}

/// Lines on their way.
struct Sheet(csv::Writer<Vec<u8>>);

impl Default for Sheet {
    fn default() -> Self {
        Self(csv::Writer::from_writer(Vec::new()))
    }
}

impl Sheet {
    fn line<T: AsRef<[u8]>>(&mut self, cells: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.0.write_record(cells).map_err(|error| Error::Internal(error.to_string()))
    }

    /// Adds a line for each place of a reservation, behind what they have in common.
    fn add(&mut self, common: &[String], reservation: &Reservation) -> Result<(), Error> {
        let currency = reservation.currency().map_or_else(String::new, |currency| currency.to_string());
        for seat in reservation.seats() {
            let texts = [seat.id, seat.zone, seat.row, seat.number, "", seat.category].map(cell);
            let price = [seat.price.to_string(), currency.clone()];
            self.line(common.iter().chain(&texts).chain(&price))?;
        }
        for area in reservation.areas() {
            let texts = ["", "", "", "", area.name, area.category].map(cell);
            let price = [area.price.to_string(), currency.clone()];
            for _ in 0..area.count {
                self.line(common.iter().chain(&texts).chain(&price))?;
            }
        }
        Ok(())
    }

    fn done(self) -> Result<Vec<u8>, Error> {
        self.0.into_inner().map_err(|error| Error::Internal(error.error().to_string()))
    }
}

fn of_reservation(one: &Reservation) -> [String; 9] {
    [
        one.id.to_string(),
        one.id.option.to_string(),
        cell(one.user_id.as_str()),
        one.status.as_str().to_owned(),
        one.payment_id.map_or_else(String::new, |payment| payment.to_string()),
        cell(one.reference().unwrap_or_default()),
        cell(one.data().unwrap_or_default()),
        one.created_at.to_string(),
        one.expires_at.to_string(),
    ]
}

fn of_payment(one: &Payment) -> [String; 7] {
    [
        one.id.to_string(),
        one.reservation_id.to_string(),
        cell(one.user_id.as_str()),
        one.status.as_str().to_owned(),
        one.provided.as_ref().map_or_else(|| POINTS.to_owned(), |by| cell(&by.method)),
        one.amount.to_string(),
        one.paid_at.map_or_else(String::new, |at| at.to_string()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_spreadsheet_would_run_is_text() {
        for (text, shown) in [
            ("", ""),
            ("anna", "anna"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "'\r=1"),
            (" =1", " =1"),
            ("a=1", "a=1"),
        ] {
            assert_eq!(cell(text), shown);
        }
    }
}
