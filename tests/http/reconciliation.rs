//! What was heard of a provider's payments on a day, over HTTP and by the command that compares it with the provider's list.

use std::fs;

use boxoffice::server::config::Provider;
use serde_json::{Value, json};

use crate::harness::{Answer, Server};
use crate::money::{card_option, fact, pending};
use crate::process::{run, text};

const DAY: &str = "2020-01-05";

/// A server with two providers, and five payments of that day and the next one.
async fn server() -> (Server, [String; 5]) {
    let server = Server::with(|settings| {
        let providers = ["card", "cash"].map(|name| Provider { name: name.into(), ..Provider::default() });
        settings.payments.providers = providers.to_vec();
    })
    .await;
    let concert = server.concert().await;
    let mut body = card_option(5);
    body["payment_methods"] = json!(["card", "cash"]);
    let option = server.post(&format!("/v1/concerts/{concert}/options"), &server.admin, body).await.created();
    let anna = server.buyer("anna");
    let mut payments = Vec::new();
    for seat in ["S1", "S2", "S3", "S4"] {
        payments.push(pending(&server, &option, &anna, seat).await.1);
    }
    let held = server.hold(&option, &anna, &["S5"]).await;
    let by_cash = server.post(&format!("/v1/reservations/{held}/payments"), &anna, json!({"method": "cash"})).await;
    payments.push(by_cash.created());
    let payments = <[String; 5]>::try_from(payments).unwrap();
    for (payment, kind, reference, id, amount, at) in [
        (0, "captured", "ch_1", None, 100, "2020-01-05T00:00:00.000Z"),
        (0, "captured", "ch_1", None, 100, "2020-01-05T00:00:00.000Z"),
        (0, "refunded", "ch_1", Some("r1"), 40, "2020-01-05T23:59:59.999Z"),
        (1, "captured", "=ch_2", None, 100, "2020-01-05T10:00:00.000Z"),
        (2, "captured", "ch_3", None, 100, "2020-01-06T00:00:00.000Z"),
        (3, "captured", "ch_4", None, 100, "2020-01-05T10:00:00.000Z"),
        (3, "disputed", "ch_4", None, 100, "2020-01-05T11:00:00.000Z"),
        (3, "dispute_lost", "ch_4", None, 100, "2020-01-05T12:00:00.000Z"),
        (4, "captured", "note", None, 100, "2020-01-05T10:00:00.000Z"),
    ] {
        let mut body = json!({"kind": kind, "reference": reference, "amount": amount, "at": at});
        if let Some(id) = id {
            body["id"] = json!(id);
        }
        assert_eq!(fact(&server, &payments[payment], body).await.status, 200, "{reference} {kind}");
    }
    let refund = server.post(&format!("/v1/payments/{}/refunds", payments[1]), &server.admin, Value::Null).await;
    assert_eq!(refund.status, 202, "{refund:?}");
    (server, payments)
}

async fn reconciliation(server: &Server, query: &str) -> Answer {
    server.get(&format!("/v1/payments/reconciliation?{query}"), &server.admin).await
}

async fn csv(server: &Server, query: &str) -> (u16, String, String) {
    let request = server.request("GET", &format!("/v1/payments/reconciliation?{query}"), &server.admin);
    let answer = request.header("accept", "text/html, text/csv;q=0.9").send().await.unwrap();
    let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
    (answer.status().as_u16(), kind, answer.text().await.unwrap())
}

#[actix_web::test]
async fn the_money_of_a_day_by_charge() {
    let (server, payments) = server().await;
    let of_day = format!("provider=card&day={DAY}");
    let charge = |payment: usize, reference: &str, amounts: [u64; 6]| {
        let [captured, refunded, refund_failed, lost, owed, shortfall] = amounts;
        json!({
            "reference": reference, "payment_id": payments[payment], "currency": "KRW",
            "captured": captured, "refunded": refunded, "refund_failed": refund_failed, "lost": lost,
            "owed": owed, "shortfall": shortfall,
        })
    };
    let expected = [
        charge(1, "=ch_2", [100, 0, 0, 0, 100, 0]),
        charge(0, "ch_1", [100, 40, 0, 0, 0, 40]),
        charge(3, "ch_4", [100, 0, 0, 100, 0, 100]),
    ];
    let server = server.restart(|_| ()).await;
    let whole = reconciliation(&server, &of_day).await;
    assert_eq!((whole.status, &whole.body), (200, &json!({"items": expected, "next_cursor": null})));
    // Page by page, whatever comes meanwhile.
    let mut cursor = String::new();
    for (n, expected) in expected.iter().enumerate() {
        let page = reconciliation(&server, &format!("{of_day}&limit=1{cursor}")).await;
        assert_eq!(page.body["items"], json!([expected]), "{n}");
        let next = page.body["next_cursor"].as_str().map(|next| format!("&cursor={next}"));
        assert_eq!(next.is_none(), n == 2);
        cursor = next.unwrap_or_default();
        let at = "2020-01-05T12:00:00.000Z";
        let more = json!({"kind": "captured", "reference": format!("a{n}"), "amount": 1, "at": at});
        assert_eq!(fact(&server, &payments[2], more).await.status, 200);
    }
    let heading = "reference,payment_id,currency,captured,refunded,refund_failed,lost,owed,shortfall";
    let [p1, p2, p3, p4, _] = &payments;
    let lines = format!(
        "{heading}\n'=ch_2,{p2},KRW,100,0,0,0,100,0\na0,{p3},KRW,1,0,0,0,1,0\na1,{p3},KRW,1,0,0,0,1,0\n\
         a2,{p3},KRW,1,0,0,0,1,0\nch_1,{p1},KRW,100,40,0,0,0,40\nch_4,{p4},KRW,100,0,0,100,0,100\n"
    );
    assert_eq!(csv(&server, &of_day).await, (200, "text/csv; charset=utf-8".into(), lines));
    // Other days, and another provider.
    let references = async |query: &str| {
        let found = reconciliation(&server, query).await;
        let items = found.body["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["reference"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(references("provider=card&day=2020-01-06").await, ["ch_3"]);
    assert_eq!(references(&format!("provider=cash&day={DAY}")).await, ["note"]);
    assert!(references("provider=card&day=2020-01-04").await.is_empty());
    for (query, field) in [
        (format!("day={DAY}"), "provider"),
        (format!("provider=&day={DAY}"), "provider"),
        ("provider=card".into(), "day"),
        ("provider=card&day=2020-02-30".into(), "day"),
        (format!("{of_day}&cursor=x"), "cursor"),
        (format!("{of_day}&limit=0"), "limit"),
    ] {
        let wrong = reconciliation(&server, &query).await;
        assert_eq!((wrong.status, wrong.fields()), (400, vec![field]), "{query}");
    }
    assert_eq!(csv(&server, &format!("{of_day}&limit=5")).await.0, 400);
}

#[actix_web::test]
async fn a_providers_list_is_compared_while_the_server_runs() {
    let (server, _) = server().await;
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("boxoffice.toml"), "[[payments.providers]]\nname = \"card\"\n").unwrap();
    let data = server.data_dir().to_str().unwrap().to_owned();
    let reconcile = |list: &str, provider: &str| {
        fs::write(dir.path().join("list.csv"), list).unwrap();
        let arguments =
            ["reconcile", "--config", "boxoffice.toml", "--data", &data, "--list", "list.csv", "--day", DAY];
        let output = run(dir.path(), &[&arguments[..], &["--provider", provider]].concat());
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    // What is listed of this day may be of the next one here.
    let whole = "reference,kind,amount,currency,note\nch_1,captured,100,KRW,\n=ch_2,captured,100,KRW,\nch_3,captured,100,KRW,\n\
                 ch_4,captured,100,KRW,\nch_4,dispute_lost,100,KRW,\nch_1,refunded,40,KRW,\n";
    let same = reconcile(whole, "card");
    assert_eq!((same.0, &*same.1), (true, "card 2020-01-05: nothing is different\n"), "{same:?}");
    let other = whole.replace("ch_1,refunded,40,", "ch_1,refunded,39,").replace("ch_3", "ch_9");
    let (ok, told, _) = reconcile(&other, "card");
    let expected = "unknown here: refunded 39 KRW of \"ch_1\"\nunknown here: captured 100 KRW of \"ch_9\"\n\
                    unknown to the provider: refunded 40 KRW of \"ch_1\"\n";
    assert_eq!((ok, &*told), (false, expected));
    let (ok, told, _) = reconcile("reference,kind,amount,currency\n", "card");
    assert!(!ok && told.lines().all(|line| line.starts_with("unknown to the provider: ")), "{told}");
    assert_eq!(told.lines().count(), 5, "{told}");
    for (list, provider, says) in [
        (whole, "cash", "--provider"),
        ("reference,kind\na,captured\n", "card", "list.csv"),
        ("reference,kind,amount,currency\na,voided,1,KRW\n", "card", "line 2"),
    ] {
        let (ok, _, complaint) = reconcile(list, provider);
        assert!(!ok && complaint.contains(says), "{complaint}");
    }
}
