"""Has a server deliver the events of a sale to receivers that are built on packages that nobody here wrote:
`standardwebhooks` verifies each delivery, `cloudevents` reads it, and `jsonschema` checks it by docs/events/. The guide's
receiver is one of them.

    webhooks.py SERVER_BINARY

Needs what events.py needs, and `standardwebhooks`.
"""

import http.server
import json
import os
import re
import subprocess
import sys
import tempfile
import threading

from cloudevents.core.bindings.http import HTTPMessage, from_http
from cloudevents.core.formats.json import JSONFormat
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from events import Server, check, fetch, hold_a_sale, read_schemas, until

GUIDE = os.path.join(os.path.dirname(__file__), "../../docs/EVENTS.md")


class Receiver:
    """Keeps what comes, and says that it is fine, but for the first time."""

    def __init__(self):
        self.deliveries = []
        mine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                mine.deliveries.append((dict(self.headers), body))
                self.send_response(503 if len(mine.deliveries) == 1 else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def register(self, server, **more):
        url = f"http://127.0.0.1:{self.http.server_port}/"
        registered = server.call("POST", "/v1/webhooks", server.admin, {"url": url, "start": "beginning", **more})
        self.path, self.secrets = f"/v1/webhooks/{registered['id']}", [registered["secret"]]

    def rotate(self, server):
        self.secrets.append(server.call("POST", f"{self.path}/rotate-secret", server.admin, {})["secret"])

    def verified(self):
        """The bodies, each signed with the last secret, or with another one that was good at its time."""
        for headers, body in self.deliveries:
            good = 0
            for secret in self.secrets:
                try:
                    Webhook(secret).verify(body, headers)
                    good += 1
                except WebhookVerificationError:
                    pass
            signatures = headers["webhook-signature"].split(" ")
            if good != len(signatures):
                sys.exit(f"webhooks.py: {good} of {len(signatures)} signatures are good: {headers}")
            yield headers, body


def first_by_id(deliveries):
    """Events by their ids, in the order in which they came first; the same id must be the same event."""
    events = {}
    for event in deliveries:
        if events.setdefault(event["id"], event) != event:
            sys.exit(f"webhooks.py: {event} is not {events[event['id']]}")
    return events


def single_events(receiver, validators):
    for headers, body in receiver.verified():
        event = json.loads(body)
        check(event, validators)
        read = from_http(HTTPMessage(headers=headers, body=body), JSONFormat())
        if (read.get_id(), read.get_data()) != (event["id"], event["data"]) or headers["webhook-id"] != event["id"]:
            sys.exit(f"webhooks.py: cloudevents reads {headers} {body} as {read}")
        yield event


def batched_events(receiver, validators):
    for headers, body in receiver.verified():
        if headers["content-type"] != "application/cloudevents-batch+json":
            sys.exit(f"webhooks.py: {headers}")
        for event in json.loads(body):
            check(event, validators)
            yield event


def compare(name, delivered, events):
    """All events, none twice but with its id, and each subject's in order."""
    if delivered.keys() != {event["id"] for event in events}:
        sys.exit(f"webhooks.py: {name}: {len(delivered)} of {len(events)} events came")
    for subject in {event["subject"] for event in events}:
        came = [event["id"] for event in delivered.values() if event["subject"] == subject]
        happened = [event["id"] for event in events if event["subject"] == subject]
        if came != happened:
            sys.exit(f"webhooks.py: {name}: of {subject} came {came}, not {happened}")


def readme_receiver(server, folder):
    """Starts the receiver of docs/EVENTS.md, registered as it says there; it prints what it gets."""
    with open(GUIDE, encoding="utf-8") as file:
        section = file.read().split("\n## Events\n")[1].split("\n## ")[0]
    code = re.search(r"```python\n(.*?)```", section, re.S).group(1)
    if len([line for line in code.splitlines() if line.strip()]) > 15:
        sys.exit("webhooks.py: the guide's receiver has more than 15 lines")
    with http.server.HTTPServer(("127.0.0.1", 0), None) as free:
        port = free.server_port
    path = os.path.join(folder, "receiver.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(code.replace("9000", str(port)))
    url = f"http://127.0.0.1:{port}/"
    registered = server.call("POST", "/v1/webhooks", server.admin, {"url": url})
    environment = {**os.environ, "WEBHOOK_SECRET": registered["secret"]}
    output = open(os.path.join(folder, "printed"), "w+", encoding="utf-8")
    return subprocess.Popen([sys.executable, path], env=environment, stdout=output, stderr=subprocess.DEVNULL), output


def main():
    validators = read_schemas()
    settings = {"BOXOFFICE_WEBHOOKS_ALLOW_PRIVATE_ADDRESSES": "true",
                "BOXOFFICE_WEBHOOKS_RETRY_SCHEDULE": ",".join(["100ms"] * 100)}
    with tempfile.TemporaryDirectory() as folder:
        server = Server(sys.argv[1], os.path.join(folder, "data"), **settings)
        single, batched, rendered = Receiver(), Receiver(), Receiver()
        by_readme, printed = readme_receiver(server, folder)
        try:
            single.register(server)
            batched.register(server, format="batch")
            rendered.register(server, format="template", template="ko")
            hold_a_sale(server)
            single.rotate(server)
            server.call("POST", "/v1/users/last/wallet/charges", server.admin, {"amount": 1})
            events = fetch(server, set(validators))

            def is_delivered(receiver):
                state = server.call("GET", receiver.path, server.admin)
                return state["lag"] == 0 and state["parked"] == 0

            until(lambda: all(is_delivered(receiver) for receiver in (single, batched, rendered)))
            events = server.call("GET", "/v1/events?limit=500", server.admin)["items"]
            compare("single events", first_by_id(single_events(single, validators)), events)
            compare("batches", first_by_id(batched_events(batched, validators)), events)
            texts = [json.loads(body)["text"] for _, body in rendered.verified()]
            if not any("예매가 확정되었습니다" in text for text in texts):
                sys.exit(f"webhooks.py: {texts}")
            if max(len(headers["webhook-signature"].split(" ")) for headers, _ in single.deliveries) != 2:
                sys.exit("webhooks.py: nothing was signed with two secrets")

            happened = {f"{event['id']} {event['type']} {event['subject']}" for event in events}

            def what_is_printed():
                printed.seek(0)
                return set(printed.read().splitlines())

            until(lambda: happened <= what_is_printed())
        finally:
            by_readme.kill()
            server.stop()
    print(f"webhooks.py: {len(events)} events, alone and in batches, and {len(texts)} messages are as they should be")


if __name__ == "__main__":
    main()
