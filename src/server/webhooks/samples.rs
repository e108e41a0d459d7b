//! An event of each type, and of some types two, for templates to be tried on.

use serde_json::{Value, json};

use crate::domain::EventType;

/// What a template sees of events of this type, in the forms that they come in: seats or places, names that are there or
/// not.
pub fn samples(kind: EventType) -> Vec<Value> {
    use EventType as E;
    match kind {
        E::ReservationCreated => reservations(kind, "held"),
        E::ReservationReleased => reservations(kind, "released"),
        E::ReservationExpired => reservations(kind, "expired"),
        E::ReservationConfirmed => reservations(kind, "confirmed"),
        E::ReservationRefunded => reservations(kind, "refunded"),
        E::PaymentCompleted => vec![payment(kind, "completed", json!(88_000), json!("2026-10-01T10:01:00.000Z"))],
        E::PaymentFailed => vec![payment(kind, "failed", Value::Null, Value::Null)],
        E::PaymentRefunded => vec![payment(kind, "refunded", json!(88_000), json!("2026-10-01T10:01:00.000Z"))],
        E::PaymentPending => provided(kind, "pending", Value::Null),
        E::PaymentAuthorized | E::CaptureRequested => provided(kind, "authorized", json!("capture")),
        E::PaymentVoided => provided(kind, "voided", Value::Null),
        E::PaymentRefundOwed | E::RefundRequested => provided(kind, "refund_owed", json!("refund")),
        E::VoidRequested | E::CheckRequested => provided(kind, "voiding", json!("void")),
        E::PaymentDisputed => provided(kind, "completed", Value::Null),
        E::TokenIssued => vec![token(kind, "waiting", Value::Null)],
        E::TokenActivated => vec![token(kind, "active", json!("2026-10-01T10:10:00.000Z"))],
        E::TokenExpired => vec![token(kind, "expired", Value::Null)],
        E::TokenUsed => vec![token(kind, "used", Value::Null)],
        E::WalletCharged => {
            let entry = json!({"id": "e616e6e61-1", "kind": "charge", "amount": 100_000, "balance": 100_000,
                "reference": "root", "at": "2026-10-01T10:00:00.000Z"});
            vec![context(kind, "/users/anna/wallet", "anna", &entry)]
        }
    }
}

fn reservations(kind: EventType, status: &str) -> Vec<Value> {
    let seat = |id: &str, zone: &str, row: &str, number: &str| json!({"id": id, "zone": zone, "row": row, "number": number, "category": "A", "price": 4_000});
    let mut seats =
        [seat("S-3-14", "Stalls", "3", "14"), seat("S-3-15", "Stalls", "3", "15"), seat("box-1", "", "", "")];
    seats[1]["row_label"] = json!("Bench 3");
    seats[1]["seat_label"] = json!("Place 15");
    let area = |name: &str, count: u32| json!({"name": name, "count": count, "category": "B", "price": 0});
    let of = |seats: Value, areas: Value, amount: u64| {
        let reservation = json!({"id": "r1-2", "option_id": "o1", "user_id": "anna", "status": status, "seats": seats,
            "areas": areas, "amount": amount, "created_at": "2026-10-01T10:00:00.000Z",
            "expires_at": "2026-10-01T10:05:00.000Z"});
        with_concert(context(kind, "/options/o1", "r1-2", &reservation))
    };
    let mut in_euros = of(json!(seats), json!([]), 12_000);
    for data in ["/data", "/event/data"] {
        in_euros.pointer_mut(data).into_iter().for_each(|data| data["currency"] = json!("EUR"));
    }
    vec![of(json!(seats), json!([]), 12_000), of(json!([]), json!([area("Floor", 2), area("Balcony", 1)]), 1), in_euros]
}

fn payment(kind: EventType, status: &str, balance: Value, paid_at: Value) -> Value {
    let payment = json!({"id": "p1-3", "reservation_id": "r1-2", "user_id": "anna", "amount": 12_000, "status": status,
        "balance": balance, "paid_at": paid_at});
    with_concert(context(kind, "/options/o1", "r1-2", &payment))
}

fn provided(kind: EventType, status: &str, verdict: Value) -> Vec<Value> {
    let payment = json!({"id": "p1-3", "reservation_id": "r1-2", "user_id": "anna", "amount": 12_000, "status": status,
        "balance": null, "paid_at": null, "method": "card", "currency": "EUR", "expires_at": "2026-10-01T10:11:00.000Z",
        "provider_id": "00000000000000ff-p1-3", "verdict": verdict, "refunded": 0,
        "disputed": kind == EventType::PaymentDisputed});
    vec![with_concert(context(kind, "/options/o1", "r1-2", &payment))]
}

fn token(kind: EventType, status: &str, expires_at: Value) -> Value {
    let token =
        json!({"id": "t1-4", "concert_id": "c1", "user_id": "anna", "status": status, "expires_at": expires_at});
    context(kind, "/concerts/c1", "t1-4", &token)
}

fn context(kind: EventType, source: &str, subject: &str, data: &Value) -> Value {
    let event = json!({"specversion": "1.0", "id": "0-12-0", "source": source, "type": kind, "subject": subject,
        "time": "2026-10-01T10:00:00.000Z", "datacontenttype": "application/json", "data": data});
    json!({"event": event, "data": data})
}

fn with_concert(mut context: Value) -> Value {
    context["option"] = json!({"id": "o1", "starts_at": "2026-11-20T19:30:00.000Z", "concert_id": "c1"});
    context["concert"] = json!({"id": "c1", "title": "A \"Grand\" Concert"});
    context
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What is described is checked elsewhere against what the API gives; samples must not fall behind it.
    #[test]
    fn samples_have_the_members_that_are_described() {
        let document: Value = serde_json::from_str(&crate::server::openapi::document()).unwrap();
        let schemas = &document["components"]["schemas"];
        let described = |schema: &str| -> BTreeSet<String> {
            schemas[schema]["properties"].as_object().unwrap().keys().cloned().collect()
        };
        let members = |value: &Value| -> BTreeSet<String> { value.as_object().unwrap().keys().cloned().collect() };
        for &kind in EventType::ALL {
            let schema = match kind.as_str().split('.').nth(1).unwrap() {
                "reservation" => "Reservation",
                "payment" => "Payment",
                "token" => "EventToken",
                _ => "WalletEntry",
            };
            for sample in samples(kind) {
                assert_eq!(members(&sample["event"]), described("Event"), "{kind}");
                let (found, all) = (members(&sample["data"]), described(schema));
                let required: BTreeSet<String> = serde_json::from_value(schemas[schema]["required"].clone()).unwrap();
                assert!(found.is_superset(&required) && found.is_subset(&all), "{kind}: {found:?} of {all:?}");
                assert_eq!(sample["event"]["data"], sample["data"]);
                let seats: Vec<_> = sample["data"]["seats"].as_array().into_iter().flatten().map(members).collect();
                if let Some(fullest) = seats.iter().max_by_key(|seat| seat.len()) {
                    assert_eq!(*fullest, described("ReservedSeat"));
                }
                let required: BTreeSet<String> =
                    serde_json::from_value(schemas["ReservedSeat"]["required"].clone()).unwrap();
                assert!(seats.iter().all(|seat| seat.is_superset(&required)));
                for area in sample["data"]["areas"].as_array().into_iter().flatten() {
                    assert_eq!(members(area), described("ReservedArea"));
                }
            }
        }
    }
}
