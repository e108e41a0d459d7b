//! What is said, in English and Korean.

use iso_currency::Currency;
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    #[default]
    En,
    Ko,
}

/// A message; none if there is nothing to say of an event.
pub fn of(kind: &str, reservation: &Value, language: Language) -> Option<(&'static str, String)> {
    let seats = seats(reservation);
    let price = price(reservation, language);
    let until = reservation["expires_at"].as_str().map(time).unwrap_or_default();
    let said = match (kind, language) {
        ("boxoffice.reservation.created", Language::En) => {
            ("Your seats are held", format!("We hold {seats} for you. Please pay {price} by {until}."))
        }
        ("boxoffice.reservation.created", Language::Ko) => {
            ("좌석을 잡아 두었습니다", format!("{seats} 예매가 접수되었습니다. {until}까지 {price} 결제해 주세요."))
        }
        ("boxoffice.reservation.confirmed", Language::En) => {
            ("You have paid", format!("{seats}: paid with {price}. Enjoy the show!"))
        }
        ("boxoffice.reservation.confirmed", Language::Ko) => {
            ("예매가 확정되었습니다", format!("{seats} 예매가 확정되었습니다. {price} 결제하셨습니다."))
        }
        ("boxoffice.reservation.expired", Language::En) => {
            ("Your seats are free again", format!("{seats} were not paid in time, and are on sale again."))
        }
        ("boxoffice.reservation.expired", Language::Ko) => {
            ("예매가 취소되었습니다", format!("결제 시간이 지나 {seats} 예매가 취소되었습니다."))
        }
        ("boxoffice.reservation.refunded", Language::En) => {
            ("Your tickets are given back", format!("{seats}: given back, and with them {price}."))
        }
        ("boxoffice.reservation.refunded", Language::Ko) => {
            ("환불되었습니다", format!("{seats} 예매가 환불되었습니다. {price} 돌려드립니다."))
        }
        _ => return None,
    };
    Some(said)
}

/// `120 points`, or `24.00 EUR` of an amount in the smallest unit of a currency; in Korean as what is paid.
fn price(reservation: &Value, language: Language) -> String {
    let amount = reservation["amount"].as_u64().unwrap_or_default();
    let Some(code) = reservation["currency"].as_str() else {
        return match language {
            Language::En => format!("{amount} points"),
            Language::Ko => format!("{amount}포인트를"),
        };
    };
    let digits = Currency::from_code(code).and_then(Currency::exponent).unwrap_or_default();
    let unit = 10_u64.pow(digits.into());
    let amount = match usize::from(digits) {
        0 => amount.to_string(),
        width => format!("{}.{:0width$}", amount / unit, amount % unit),
    };
    match language {
        Language::En => format!("{amount} {code}"),
        Language::Ko => format!("{amount} {code}을(를)"),
    }
}

/// So many seats are named, since a chat takes 4,096 letters of a message and no more.
const NAMED: usize = 50;

/// `Stalls A 1, Stalls A 2, 2 x Lawn`, in so far as there are any.
fn seats(reservation: &Value) -> String {
    let list = |name: &str| reservation[name].as_array().into_iter().flatten();
    let text = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let seats = list("seats").map(|seat| {
        [text(seat, "zone"), text(seat, "row"), text(seat, "number")]
            .map(|part| part.trim().to_owned())
            .join(" ")
            .trim()
            .to_owned()
    });
    let areas =
        list("areas").map(|area| format!("{} x {}", area["count"].as_u64().unwrap_or_default(), text(area, "name")));
    let mut all: Vec<_> = seats.chain(areas).collect();
    let more = all.len().saturating_sub(NAMED);
    all.truncate(NAMED);
    all.extend((more > 0).then(|| format!("+{more}")));
    all.join(", ")
}

/// `2026-11-29 16:00 UTC`, of a time as events have it.
fn time(text: &str) -> String {
    let minutes = text.get(..16).unwrap_or(text).replace('T', " ");
    format!("{minutes} UTC")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn four_kinds_are_told_in_two_languages() {
        let reservation = json!({
            "seats": [{"zone": "Stalls", "row": "A", "number": "1"}], "areas": [{"name": "Lawn", "count": 2}],
            "amount": 120, "expires_at": "2026-11-29T16:05:00.000Z",
        });
        for (kind, english, korean) in [
            (
                "created",
                "We hold Stalls A 1, 2 x Lawn for you. Please pay 120 points by 2026-11-29 16:05 UTC.",
                "까지 120포인트",
            ),
            ("confirmed", "Stalls A 1, 2 x Lawn: paid with 120 points. Enjoy the show!", "확정되었습니다"),
            ("expired", "Stalls A 1, 2 x Lawn were not paid in time, and are on sale again.", "결제 시간이 지나"),
            ("refunded", "Stalls A 1, 2 x Lawn: given back, and with them 120 points.", "돌려드립니다"),
        ] {
            let said = |language| of(&format!("boxoffice.reservation.{kind}"), &reservation, language).unwrap().1;
            assert_eq!(said(Language::En), english);
            assert!(said(Language::Ko).contains(korean) && said(Language::Ko).contains("Stalls A 1"), "{kind}");
        }
        for (currency, price) in [("EUR", "1.20 EUR"), ("KRW", "120 KRW"), ("KWD", "0.120 KWD"), ("XXQ", "120 XXQ")] {
            let mut by_card = reservation.clone();
            by_card["currency"] = json!(currency);
            let (_, said) = of("boxoffice.reservation.confirmed", &by_card, Language::En).unwrap();
            assert_eq!(said, format!("Stalls A 1, 2 x Lawn: paid with {price}. Enjoy the show!"));
        }
        let many = vec![json!({"zone": "Z".repeat(20), "row": "R".repeat(20), "number": "N".repeat(20)}); 500];
        let many = of("boxoffice.reservation.confirmed", &json!({"seats": many}), Language::Ko).unwrap().1;
        assert!(many.chars().count() < 4_096 && many.contains(", +450 "), "{many}");
        assert_eq!(of("boxoffice.reservation.released", &reservation, Language::En), None);
    }
}
