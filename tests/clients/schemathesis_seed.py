"""Makes things for schemathesis to work on, and prints a configuration for it that knows their ids.

    schemathesis_seed.py URL ADMIN_TOKEN BUYER_TOKEN
"""

import json
import os
import sys
import urllib.request

URL, ADMIN, BUYER = sys.argv[1:]
BUYER_NAME = "schemathesis-buyer"

# Which ids the parameter `id` of a path is about.
IDS = [
    ("/v1/concerts/{id}", "concerts"),
    ("/v1/concerts/{id}/options", "concerts"),
    ("/v1/concerts/{id}/tokens", "concerts"),
    ("/v1/concerts/{id}/waiting-room", "concerts"),
    ("/v1/options/{id}", "options"),
    ("/v1/options/{id}/blocks", "options"),
    ("/v1/options/{id}/plan", "options"),
    ("/v1/options/{id}/reservations", "options"),
    ("/v1/options/{id}/seats", "options"),
    ("/v1/options/{id}/unblocks", "options"),
    ("/v1/payments/{id}", "payments"),
    ("/v1/payments/{id}/confirmation", "provided"),
    ("/v1/payments/{id}/facts", "provided"),
    ("/v1/payments/{id}/lookup", "provided"),
    ("/v1/payments/{id}/refunds", "payments"),
    ("/v1/reservations/{id}", "reservations"),
    ("/v1/reservations/{id}/payments", "reservations"),
    ("/v1/sinks/{id}", "webhooks"),
    ("/v1/sinks/{id}/dead-letters", "webhooks"),
    ("/v1/sinks/{id}/dead-letters/{event_id}", "webhooks"),
    ("/v1/sinks/{id}/redrive", "webhooks"),
    ("/v1/tokens/{id}", "tokens"),
    ("/v1/webhooks/{id}", "webhooks"),
    ("/v1/webhooks/{id}/dead-letters", "webhooks"),
    ("/v1/webhooks/{id}/dead-letters/{event_id}", "webhooks"),
    ("/v1/webhooks/{id}/redrive", "webhooks"),
    ("/v1/webhooks/{id}/rotate-secret", "webhooks"),
]

# 400 is a documented status of these operations, and expected unless STRICT=1: some of what is refused with it could be
# said in the schema, and STRICT=1 lists that.
STRICT = os.environ.get("STRICT") == "1"
VALID = ["2xx", "3xx", *([] if STRICT else ["400"]), "401", "402", "403", "404", "409", "422", "429"]
INVALID = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]

# To release a reservation, to leave the line or to give up a payment does not do away with it: it can be read, as released,
# expired or voiding. The check takes every DELETE for the end of its resource.
ENDED_CAN_BE_READ = ["/v1/payments/{id}", "/v1/reservations/{id}", "/v1/tokens/{id}"]

# What no JSON schema can say, and is 400: where a URL leads, and what a template makes of an event; each category has a price and a plan without seats has areas; areas are named
# that the option has, and none twice; a sale opens before it closes; the event that others are asked after has been.
MORE_THAN_A_SCHEMA_SAYS = [
    "POST /v1/concerts/{id}/options",
    "POST /v1/options/{id}/reservations",
    "PATCH /v1/options/{id}",
    "GET /v1/events",
]


def call(method, path, token, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}"}
    if data is not None:
        headers["Content-Type"] = "application/json"
    request = urllib.request.Request(URL + path, data=data, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.load(response)


def plan(rows, seats):
    def row(r):
        names = [{"seat_guid": f"{r}-{s}", "seat_number": str(s), "category": "A", "position": {"x": 30 * s, "y": 40 * r}}
                 for s in range(1, seats + 1)]
        return {"row_number": str(r), "seats": names}
    return {"categories": [{"name": "A"}], "zones": [{"name": "Hall", "rows": [row(r) for r in range(1, rows + 1)]}]}


def main():
    ids = {"concerts": [], "options": [], "payments": [], "provided": [], "reservations": [], "tokens": [], "webhooks": []}
    # Nobody listens there, so there are dead letters.
    for _ in range(2):
        ids["webhooks"].append(call("POST", "/v1/webhooks", ADMIN, {"url": "http://127.0.0.1:9/"})["id"])
    for _ in range(3):
        concert = call("POST", "/v1/concerts", ADMIN, {"title": "For schemathesis"})["id"]
        option = call("POST", f"/v1/concerts/{concert}/options", ADMIN, {
            "starts_at": "2100-01-01T00:00:00Z", "refundable_until": "2100-01-01T00:00:00Z", "seating_plan": plan(20, 40),
            "prices": {"A": 10}, "areas": [{"name": "Floor", "capacity": 100000, "category": "A"}],
            "payment_methods": ["points", "card"], "currency": "KRW", "hold_seconds": 86400, "max_seats_per_reservation": 100, "max_seats_per_user": 10000,
        })["id"]
        ids["concerts"].append(concert)
        ids["options"].append(option)
        for token in (ADMIN, BUYER):
            ids["tokens"].append(call("POST", f"/v1/concerts/{concert}/tokens", token)["id"])
    call("POST", f"/v1/users/{BUYER_NAME}/wallet/charges", ADMIN, {"amount": 1_000_000})
    call("POST", "/v1/users/schemathesis-admin/wallet/charges", ADMIN, {"amount": 1_000_000})
    for number in range(40):
        token = (ADMIN, BUYER)[number % 2]
        option = ids["options"][number % 3]
        held = call("POST", f"/v1/options/{option}/reservations", token, {"best_available": {"count": 2}})["id"]
        if number < 24:
            how = {} if number < 12 else {"method": "card"}
            payment = call("POST", f"/v1/reservations/{held}/payments", token, how)["id"]
            ids["payments"].append(payment)
            if how:
                ids["provided"].append(payment)
        ids["reservations"].append(held)
    print(config(ids))


def config(ids):
    lines = [
        "# Statuses of API.md that schemathesis does not expect by itself: for valid data 402 insufficient_points and 422",
        "# (unknown_seats, idempotency_key_reused), for invalid data 413 (it may be long as well).",
        "[checks.positive_data_acceptance]",
        f"expected-statuses = {json.dumps(VALID)}",
        "[checks.negative_data_rejection]",
        f"expected-statuses = {json.dumps(INVALID)}",
        "[dictionaries]",
    ]
    lines += [f"{name} = {{ values = {json.dumps(values)} }}" for name, values in ids.items()]
    lines.append('providers = { values = ["stripe", "toss"] }')
    lines.append(f'users = {{ values = ["{BUYER_NAME}", "schemathesis-admin"] }}')
    paths = [(path, "id", name) for path, name in IDS]
    paths += [(f"/v1/users/{{user_id}}/wallet{more}", "user_id", "users") for more in ("", "/charges")]
    paths.append(("/v1/payment-providers/{name}/webhook", "name", "providers"))
    for path, parameter, name in paths:
        lines += [
            "[[operations]]",
            f'include-path = "{path}"',
            f'parameters = {{ "path.{parameter}" = {{ dictionary = "{name}", probability = 0.8 }} }}',
        ]
    # Nothing may happen for as long as a poll can last.
    lines += ["[[operations]]", 'include-path = "/v1/events"', 'parameters = { "query.wait_seconds" = 0 }']
    for path in ENDED_CAN_BE_READ:
        lines += [
            "[[operations]]",
            f'include-name = "GET {path}"',
            "checks = { use_after_free = { enabled = false } }",
        ]
    for operation in MORE_THAN_A_SCHEMA_SAYS:
        lines += [
            "[[operations]]",
            f'include-name = "{operation}"',
            f"checks = {{ positive_data_acceptance = {{ expected-statuses = {json.dumps(sorted({'400', *VALID}))} }} }}",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
