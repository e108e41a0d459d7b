//! What was heard of a provider's payments on a day, as JSON or CSV, and what the provider lists beside it.

use std::io;

use actix_web::{HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use utoipa::{IntoParams, ToSchema};

use super::auth::Admin;
use super::config::Settings;
use super::openapi::Paged;
use super::problem::{Code, Problem};
use super::providers::Providers;
use super::query::Query;
use super::respond::{self, Cache};
use super::sheets::{as_csv, cell, or_csv, refuse_pages, wants_csv};
use super::{App, Error};
use crate::api::{Page, Reconciled};
use crate::domain::facts::Kind;
use crate::domain::reconciliation::{Day, Movement};
use crate::domain::{Currency, Points};
use crate::engine::desk::{LISTING_CALLS, in_time};
use crate::payment::Failure;

/// The heading.
const COLUMNS: [&str; 9] =
    ["reference", "payment_id", "currency", "captured", "refunded", "refund_failed", "lost", "owed", "shortfall"];

/// Of which provider, and which day.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "it describes what is read by name")]
pub(super) struct Wanted {
    /// The provider's name.
    #[param(min_length = 1, max_length = 64)]
    provider: String,
    /// The day in UTC, such as 2026-11-29: by the provider's clock, where it said when.
    #[param(format = Date)]
    day: String,
}

/// Lists the charges of which money moved on a day, by their references: how much was captured, went back or was lost then, and what of
/// them is owed or missing now. With `Accept: text/csv` all of them, a line each.
#[utoipa::path(get, path = "/v1/payments/reconciliation", tag = "payments", operation_id = "reconcile",
    params(Wanted, Paged), security(("bearer" = [])),
    responses((status = 200, description = "A page of charges", content(
            (Page<Reconciled> = "application/json"), (String = "text/csv"))),
        (status = 400), (status = 403)))]
pub(super) async fn of_day(request: HttpRequest, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, &["provider", "day", "limit", "cursor"])?;
    let (provider, day) = wanted(&query)?;
    if !wants_csv(request.headers()) {
        let page = query.page()?;
        let page = app.engine.reconciliation(provider, day, &page);
        return respond::page(&app, page, Cache::Private).await.map(or_csv);
    }
    refuse_pages(&query)?;
    // It is never closed.
    let _turn = app.lists.acquire().await;
    let text = to_csv(&app.engine.whole_reconciliation(provider, day).await?);
    text.map(as_csv).map_err(|error| Problem::new(Code::Internal, error.to_string()))
}

/// Of which provider, and which day.
fn wanted(query: &Query) -> Result<(&str, Day), Problem> {
    let provider = query.get("provider").filter(|name| (1..=64).contains(&name.len()));
    let provider = provider.ok_or_else(|| Problem::invalid_field("provider", "must be a provider's name"))?;
    let day = query.parsed::<Day>("day")?;
    Ok((provider, day.ok_or_else(|| Problem::invalid_field("day", "must be a day, such as 2026-11-29"))?))
}

/// Money that moved.
#[derive(Debug, Serialize, ToSchema)]
struct Moved {
    /// The provider's name for the charge.
    reference: String,
    /// `captured`, `refunded`, `refund_failed` or `dispute_lost`.
    #[schema(value_type = String)]
    kind: Kind,
    /// How much.
    amount: Points,
    /// Of what.
    currency: Currency,
}

impl From<Movement> for Moved {
    fn from(Movement { reference, kind, amount, currency }: Movement) -> Self {
        Self { reference, kind, amount, currency }
    }
}

/// What one of both does not know.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Compared {
    /// What the provider lists, and was not heard of.
    unknown_here: Vec<Moved>,
    /// What was heard of, and the provider does not list.
    unknown_to_provider: Vec<Moved>,
}

/// Asks the provider what it did on a day, and tells what of that, or of what was heard, one of both does not know. It takes as long as the
/// provider needs for its list.
#[utoipa::path(get, path = "/v1/payments/reconciliation/differences", tag = "payments", operation_id = "compare_payments",
    params(Wanted), security(("bearer" = [])),
    responses((status = 200, description = "What is different", body = Compared),
        (status = 400, description = "It is no provider that this server asks"), (status = 403),
        (status = 503, description = "The provider cannot be reached")))]
pub(super) async fn differences(request: HttpRequest, _: Admin, app: web::Data<App>) -> Result<HttpResponse, Problem> {
    let query = Query::read(&request, &["provider", "day"])?;
    let (provider, day) = wanted(&query)?;
    // It is never closed.
    let _turn = app.listings.acquire().await;
    let found = app.engine.reconcile(provider, day).await?;
    let told = |all: Vec<Movement>| all.into_iter().map(Moved::from).collect();
    let (unknown_here, unknown_to_provider) = (told(found.unknown_here), told(found.unknown_there));
    respond::ok(&Compared { unknown_here, unknown_to_provider }, Cache::Private)
}

fn to_csv(charges: &[Reconciled]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(COLUMNS)?;
    for charge in charges {
        let amounts =
            [charge.captured, charge.refunded, charge.refund_failed, charge.lost, charge.owed, charge.shortfall];
        writer.write_field(cell(&charge.reference))?;
        writer.write_field(charge.payment_id.to_string())?;
        writer.write_field(charge.currency.as_str())?;
        writer.write_record(amounts.map(|amount| amount.to_string()))?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// Why a provider's list cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListError {
    /// It is no CSV, or a line is not as it should be.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// A line says something that is no movement of money.
    #[error("line {line}: kind must be captured, refunded, refund_failed or dispute_lost")]
    Kind {
        /// Which, from 1.
        line: u64,
    },
    /// By the configuration nobody can be asked.
    #[error(transparent)]
    Settings(#[from] Error),
    /// It is not asked by the server: it needs a list.
    #[error("it is not asked by this server, so what it lists has to be given")]
    NotAsked,
    /// It does not say.
    #[error("it cannot be asked: {0}")]
    Unanswered(#[from] Failure),
}

/// A line of a provider's list.
#[derive(Debug, Deserialize)]
struct Line {
    reference: String,
    kind: Kind,
    amount: Points,
    currency: Currency,
}

/// Reads what a provider lists: CSV with the columns `reference`, `kind`, `amount` and `currency`, in any order, among others.
///
/// # Errors
/// It cannot be read, or a line is not one.
pub fn read_list(list: impl io::Read) -> Result<Vec<Movement>, ListError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(list);
    let headings = reader.headers()?.clone();
    let mut movements = Vec::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, csv::Position::line);
        let Line { reference, kind, amount, currency } = record.deserialize(Some(&headings))?;
        if !Movement::is_one(kind) {
            return Err(ListError::Kind { line });
        }
        movements.push(Movement { reference, kind, amount, currency });
    }
    Ok(movements)
}

/// Asks a provider what it did on `day`, as a server with these settings would. Its requests are made in the runtime that this is in.
///
/// # Errors
/// It cannot be asked, or does not answer.
pub async fn ask_list(settings: &Settings, provider: &str, day: Day) -> Result<Vec<Movement>, ListError> {
    let providers = Providers::new(&settings.payments, &Handle::current())?;
    let provider = providers.get(provider).ok_or(ListError::NotAsked)?;
    let listing = provider.list(day).ok_or(ListError::NotAsked)?;
    let listed = in_time(settings.payments.call_timeout.0.saturating_mul(LISTING_CALLS), listing).await?;
    Ok(listed.iter().filter_map(Movement::of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{OptionId, PaymentId};

    #[test]
    fn no_cell_is_run() {
        let charge = |reference: &str| Reconciled {
            reference: reference.into(),
            payment_id: PaymentId { option: OptionId(1), no: 2 },
            currency: Currency::KRW,
            captured: 100,
            refunded: 1,
            refund_failed: 2,
            lost: 3,
            owed: 4,
            shortfall: 5,
        };
        for (reference, cell) in [
            ("ch_1", "ch_1"),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("\r=1", "\"'\r=1\""),
            ("a,\"b\"", "\"a,\"\"b\"\"\""),
            (" =1", " =1"),
        ] {
            let text = String::from_utf8(to_csv(&[charge(reference)]).unwrap()).unwrap();
            let heading = "reference,payment_id,currency,captured,refunded,refund_failed,lost,owed,shortfall";
            assert_eq!(text, format!("{heading}\n{cell},p1-2,KRW,100,1,2,3,4,5\n"));
        }
    }

    #[test]
    fn what_a_provider_lists() {
        let list = "\u{feff}amount, kind ,note,currency,reference\n100,captured,\"a, b\",KRW,ch_1\n40, refunded ,,EUR,\"ch_2\"\n";
        let read = read_list(list.as_bytes()).unwrap();
        let movement = |kind, reference: &str, amount: u32, currency: &str| Movement {
            reference: reference.into(),
            kind,
            amount: amount.into(),
            currency: currency.parse().unwrap(),
        };
        assert_eq!(read, [movement(Kind::Captured, "ch_1", 100, "KRW"), movement(Kind::Refunded, "ch_2", 40, "EUR")]);
        for (wrong, says) in [
            ("reference,kind,amount\na,captured,1\n", "currency"),
            ("reference,kind,amount,currency\na,captured,1.50,KRW\n", "line: 2"),
            ("reference,kind,amount,currency\na,captured,-1,KRW\n", "line: 2"),
            ("reference,kind,amount,currency\na,captured,1,krw\n", "line: 2"),
            ("reference,kind,amount,currency\na,paid,1,KRW\n", "line: 2"),
            ("reference,kind,amount,currency\na,captured,1,KRW\nb,voided,1,KRW\n", "line 3"),
            ("reference,kind,amount,currency\na,captured,1\n", "line: 2"),
        ] {
            let error = read_list(wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong:?}: {error}");
        }
    }
}
