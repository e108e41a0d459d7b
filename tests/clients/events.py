"""Holds a sale on a server of its own, fetches its events, and lets packages that nobody here wrote read them: each
must be a CloudEvent to `cloudevents`, and valid to `jsonschema` by the schema of its type in docs/events/.

    events.py SERVER_BINARY

Needs the packages `cloudevents`, `jsonschema` and, for its formats, `rfc3339-validator`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

from cloudevents.core.formats.json import JSONFormat
from jsonschema import Draft202012Validator

SCHEMAS = os.path.join(os.path.dirname(__file__), "../../docs/events")


# Problems that are a part of the sale.
EXPECTED = ["insufficient_points"]


class Server:
    """A server in a data directory of its own, on a port that is free."""

    def __init__(self, binary, data, **settings):
        self.binary, self.data = binary, data
        command = [binary, "--data", data, "--listen", "127.0.0.1:0", "--ops-listen", "off"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BOXOFFICE_")}
        # Who tells what becomes of cards is whoever holds the sale.
        with open(data + ".toml", "w", encoding="utf-8") as file:
            file.write('[[payments.providers]]\nname = "card"\n')
        environment |= {"BOXOFFICE_LOG_LEVEL": "warn", "BOXOFFICE_CONFIG": data + ".toml", **settings}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"events.py: the server said {line!r}")
        self.url = line.split()[2]
        self.admin = self.token("root", "--role", "admin")

    def token(self, user, *more):
        command = [self.binary, "token", "--data", self.data, "--user", user, *more]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def call(self, method, path, token, body=None, headers=()):
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **dict(headers)}
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as response:
                return json.loads(response.read() or b"null")
        except urllib.error.HTTPError as error:
            problem = json.loads(error.read())
            if problem["code"] not in EXPECTED:
                sys.exit(f"events.py: {method} {path}: {problem}")
            return problem

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=30) != 0:
            sys.exit("events.py: the server ended with an error")


def option(server, concert, **more):
    seats = [{"seat_guid": f"S{n}", "seat_number": str(n), "category": "가", "position": {"x": 30 * n, "y": 0}}
             for n in range(1, 11)]
    return server.call("POST", f"/v1/concerts/{concert}/options", server.admin, {
        "starts_at": "2099-11-20T19:30:00Z", "prices": {"가": 100, "Lawn": 10}, **more,
        "seating_plan": {"categories": [{"name": "가"}], "zones": [{"name": "1층 \"A\"", "rows": [
            {"row_number": "1", "seats": seats}]}]},
        "areas": [{"name": "Lawn", "capacity": 100, "category": "Lawn"}],
    })["id"]


def hold_a_sale(server):
    """Brings every type of event about; some of it a moment later."""
    anna, poor = "auth0|anna b/c", "poor"
    tokens = {user: server.token(user) for user in (anna, poor)}
    server.call("POST", "/v1/users/auth0%7Canna%20b%2Fc/wallet/charges", server.admin, {"amount": 1000})
    concert = server.call("POST", "/v1/concerts", server.admin, {"title": "Open air"})["id"]
    on_sale = option(server, concert)

    def hold(user, wish, where=on_sale, headers=()):
        return server.call("POST", f"/v1/options/{where}/reservations", tokens[user], wish, headers)["id"]

    def pay(user, reservation):
        return server.call("POST", f"/v1/reservations/{reservation}/payments", tokens[user], {})

    server.call("DELETE", f"/v1/reservations/{hold(anna, {'seats': ['S1', 'S2']})}", tokens[anna])
    paid = pay(anna, hold(anna, {"areas": [{"name": "Lawn", "count": 2}]}))
    server.call("POST", f"/v1/payments/{paid['id']}/refunds", server.admin, {})
    pay(poor, hold(poor, {"seats": ["S3"]}))
    hold(anna, {"seats": ["S1"]}, option(server, concert, hold_seconds=1))

    by_card(server, option(server, concert, payment_methods=["card"], currency="KRW"), tokens[anna])

    room = {"mode": "queue", "max_active": 1, "active_ttl_seconds": 86400}
    concert = server.call("POST", "/v1/concerts", server.admin, {"title": "In demand", "waiting_room": room})["id"]
    queued = option(server, concert)
    first, second = (server.call("POST", f"/v1/concerts/{concert}/tokens", tokens[user], {}) for user in (anna, poor))
    server.call("DELETE", f"/v1/tokens/{second['id']}", tokens[poor])
    until(lambda: server.call("GET", f"/v1/tokens/{first['id']}", tokens[anna])["status"] == "active")
    pay(anna, hold(anna, {"seats": ["S1"]}, queued, [("Queue-Token", first["token"])]))


def by_card(server, option, buyer):
    """What can become of a payment by a provider."""
    def begin(seat):
        held = server.call("POST", f"/v1/options/{option}/reservations", buyer, {"seats": [seat]})["id"]
        begun = server.call("POST", f"/v1/reservations/{held}/payments", buyer, {"method": "card"})

        def tell(*kinds, amount=begun["amount"]):
            for kind in kinds:
                fact = {"kind": kind, "reference": f"ch-{begun['id']}", "amount": amount}
                server.call("POST", f"/v1/payments/{begun['id']}/facts", server.admin, fact)
        return begun["id"], tell

    paid, tell = begin("S1")
    tell("authorized", "captured", "disputed", "dispute_won")
    server.call("POST", f"/v1/payments/{paid}/refunds", server.admin, {})
    tell("refunded")
    given_up, tell = begin("S2")
    server.call("DELETE", f"/v1/payments/{given_up}", buyer)
    # More than was asked for is let go.
    tell("authorized", "voided", amount=101)
    begin("S3")[1]("failed")


def until(done):
    deadline = time.monotonic() + 60
    while not done():
        if time.monotonic() > deadline:
            sys.exit("events.py: it did not happen")
        time.sleep(0.05)


def fetch(server, types):
    """All events, in small pages, until each type has come."""
    events, after = [], ""
    while not types <= {event["type"] for event in events}:
        page = server.call("GET", f"/v1/events?limit=5&wait_seconds=60{after}", server.admin)
        if not page["items"]:
            sys.exit(f"events.py: no {types - {event['type'] for event in events}}")
        events += page["items"]
        after = f"&after={page['next_after']}"
    return events


def check(event, validators):
    text = json.dumps(event)
    read = JSONFormat().read(None, text)
    same = {"id": read.get_id(), "source": read.get_source(), "type": read.get_type(), "subject": read.get_subject(),
            "specversion": read.get_specversion(), "datacontenttype": read.get_datacontenttype(),
            "time": read.get_time().strftime("%Y-%m-%dT%H:%M:%S.") + f"{read.get_time().microsecond // 1000:03}Z",
            "data": read.get_data()}
    if same != event:
        sys.exit(f"events.py: cloudevents reads {text} as {same}")
    errors = [f"{error.json_path}: {error.message}" for error in validators[event["type"]].iter_errors(event)]
    if errors:
        sys.exit("events.py: " + "\n".join([text, *errors]))


def read_schemas():
    """What checks events, by their types."""
    validators = {}
    for name in os.listdir(SCHEMAS):
        with open(os.path.join(SCHEMAS, name), encoding="utf-8") as file:
            schema = json.load(file)
        Draft202012Validator.check_schema(schema)
        checker = Draft202012Validator.FORMAT_CHECKER
        if "date-time" not in checker.checkers:
            sys.exit("events.py: jsonschema does not check times: install rfc3339-validator")
        validators["boxoffice." + re.sub(r"\.json$", "", name)] = Draft202012Validator(schema, format_checker=checker)
    return validators


def main():
    validators = read_schemas()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(sys.argv[1], os.path.join(folder, "data"))
        try:
            hold_a_sale(server)
            events = fetch(server, set(validators))
            for event in events:
                check(event, validators)
        finally:
            server.stop()
    print(f"events.py: {len(events)} events of {len(validators)} types are as they should be")


if __name__ == "__main__":
    main()
