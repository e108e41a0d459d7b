//! The parts of the adapter that need no other side.

use super::*;

const SECRET: &str = "whsec_of_these_tests";

fn sign(secret: &str, time: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{time}.").as_bytes());
    mac.update(body);
    base16ct::lower::encode_string(&mac.finalize().into_bytes())
}

/// Zero decimals at Stripe, by its own page on currencies; those of ISO 4217 beside them.
#[test]
fn amounts_are_in_the_units_of_stripes_own_table() {
    let iso_has_none = [
        "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "PYG", "RWF", "VND", "VUV", "XAF", "XOF", "XPF", "EUR", "USD",
        "HUF", "TWD", "BHD", "KWD",
    ];
    let table = iso_has_none.map(|code| (code, 1_230, 1_230));
    for (code, iso, stripe) in table.into_iter().chain([("ISK", 500, 50_000), ("UGX", 500, 50_000), ("MGA", 500, 5)]) {
        let currency: Currency = code.parse().unwrap();
        assert_eq!(to_stripe(currency, Points::new(iso).unwrap()), Ok(stripe), "{code}");
        assert_eq!(from_stripe(currency, stripe), Ok(Points::new(iso).unwrap()), "{code}");
    }
    for (code, amount) in [("MGA", 501), ("KWD", 1_234)] {
        assert!(to_stripe(code.parse().unwrap(), Points::new(amount).unwrap()).is_err(), "{code}");
    }
    assert!(to_stripe("ISK".parse().unwrap(), Points::MAX).is_ok());
    assert!(from_stripe("ISK".parse().unwrap(), 50_001).is_err() && from_stripe(Currency::KRW, u64::MAX).is_err());
}

#[test]
fn a_signature_holds_for_these_bytes_at_this_time_by_any_of_the_secrets() {
    let body = r#"{"id": "evt_1", "text": "안녕"}"#.as_bytes();
    let secrets = [Secret::new("whsec_another"), Secret::new(SECRET)];
    let good = sign(SECRET, "1000", body);
    let check =
        |header: &str, body: &[u8], now| check_signature(&secrets, header, body, now, Duration::from_secs(300)).is_ok();
    let header = format!("t=1000,v1={good}");
    for now in [700, 1_000, 1_300] {
        assert!(check(&header, body, now), "{now}");
    }
    let many = format!("t=1000,v1={},v1={good},v0=00", "0".repeat(64));
    assert!(check(&many, body, 1_000) && check(&format!("t=1000, v1={good}"), body, 1_000));
    for wrong in [
        String::new(),
        "t=1000".into(),
        format!("v1={good}"),
        format!("t=1001,v1={good}"),
        format!("t= 1000,v1={good}"),
        format!("t=-1,v1={good}"),
        format!("t=1000,v0={good}"),
        format!("t=1000,v1={}", &good[..62]),
        format!("t=1000,v1={good}00"),
        format!("t=1000,v1={}", sign("whsec_unknown", "1000", body)),
        "t=1000,v1=".into(),
        "t=1000,v1=zz".into(),
    ] {
        assert!(!check(&wrong, body, 1_000), "{wrong}");
    }
    assert!(!check(&header, &body[1..], 1_000) && !check(&header, &[body, b" "].concat(), 1_000));
    assert!(!check(&header, body, 699) && !check(&header, body, 1_301));
    assert!(check_signature(&[], &header, body, 1_000, Duration::from_secs(300)).is_err());
}

#[test]
fn only_ids_of_intents_become_part_of_a_path() {
    assert!(is_intent("pi_3MtwBwLkdIwHu7ix28a3tqPa"));
    for reference in ["", "..", "ch_1", "pi_1/refunds", "pi_..", "pi_1?expand=1", "pi_ü"] {
        assert!(!is_intent(reference), "{reference}");
    }
}
