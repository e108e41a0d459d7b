"""Runs the services behind a broker while a sale goes on, kills them again and again, and compares what they have, and what came
by chat and mail, with what the server says. History runs twice, in SQLite and in PostgreSQL, which is killed too.

    services.py SERVER_BINARY HISTORY_BINARY NOTIFICATION_BINARY [KILLS]

Needs what kafka.py needs, `aiosmtpd`, which takes the mail, and PostgreSQL as services/postgres.py finds it. Without that it
says what was left out; with POSTGRES_TESTS=required it fails.
"""

import email
import email.policy
import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import uuid

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../services"))

from aiosmtpd.controller import Controller
from confluent_kafka.admin import AdminClient, NewTopic

from events import Server, option, until
from kafka import KINDS, PARTITIONS, Broker, buy, free_port, is_delivered, published
from postgres import Postgres

TOLD = ["boxoffice.reservation." + what for what in ("created", "confirmed", "expired", "refunded")]


class Service:
    """One of the services, on a port of its own, with its database."""

    def __init__(self, binary, database, *arguments):
        self.command = [binary, "--database-url", database, "--listen", "127.0.0.1:0", *arguments]
        self.start()

    def start(self, *more):
        self.process = subprocess.Popen([*self.command, *more], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"services.py: {self.command[0]} said {line!r}")
        self.url = line.split()[2]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def get(self, path):
        try:
            with urllib.request.urlopen(self.url + path, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def items(self, path, user):
        """All pages."""
        found, cursor = [], ""
        while True:
            status, page = self.get(f"/{path}?user={user}&limit=2{cursor}")
            if status != 200:
                sys.exit(f"services.py: {path}: {status} {page}")
            found += page["items"]
            if page["next_cursor"] is None:
                return found
            cursor = f"&cursor={page['next_cursor']}"


class Chat:
    """An API of Telegram's shape. What it is sent twice by the same key it shows once; it is often busy, and now and then it
    answers when nobody waits any more."""

    def __init__(self):
        self.calls, self.shown, self.wrong = 0, {}, []
        mine = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                mine.calls += 1
                if self.path != "/bot12:secret/sendMessage" or body.keys() != {"chat_id", "text"}:
                    mine.wrong.append((self.path, body))
                if mine.calls % 7 == 3:
                    return self.answer(429, {"ok": False, "description": "busy", "parameters": {"retry_after": 1}})
                if mine.calls % 11 == 5:
                    return self.answer(502, {})
                if body["chat_id"] == "gone":
                    return self.answer(403, {"ok": False, "description": "the bot was blocked by the user"})
                key = self.headers["Idempotency-Key"]
                if mine.shown.setdefault(key, body) != body:
                    mine.wrong.append((key, body))
                self.answer(200, {"ok": True, "result": {}})

            def answer(self, status, body):
                text = json.dumps(body).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(text)))
                    self.end_headers()
                    self.wfile.write(text)
                except OSError:
                    pass

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


class Inbox:
    """Takes mail, by its Message-ID."""

    def __init__(self):
        self.mail, self.wrong = {}, []

    async def handle_DATA(self, _server, _session, envelope):
        read = email.message_from_bytes(envelope.content, policy=email.policy.default)
        said = (str(read["To"]), str(read["Subject"]), read.get_content().strip())
        if self.mail.setdefault(read["Message-ID"], said) != said:
            self.wrong.append(said)
        return "250 OK"


def compare_messages(server, notification, chat, inbox):
    """One message an event, to whom it is for, and none besides."""
    events = [event for event in published(server) if event["type"] in TOLD]
    reached = {event["id"] for event in events if event["data"]["user_id"] != "buyer-1"}
    if chat.shown.keys() != reached or chat.wrong:
        sys.exit(f"services.py: the chat has {chat.shown.keys() ^ reached} too many or few, and {chat.wrong}")
    mailed = {f"<{event['id']}@boxoffice>" for event in events if event["data"]["user_id"] == "buyer-0"}
    if inbox.mail.keys() != mailed or inbox.wrong:
        sys.exit(f"services.py: the inbox has {inbox.mail.keys() ^ mailed} too many or few, and {inbox.wrong}")
    for status, count in (("sent", len(reached) + len(mailed)), ("failed", len(events) - len(reached)), ("pending", 0)):
        found = notification.get(f"/messages?status={status}&limit=500")[1]["items"]
        if len(found) != count:
            sys.exit(f"services.py: {len(found)} messages are {status}, not {count}: {found}")
    texts = [text for to, _, text in inbox.mail.values()]
    if not any("포인트를 결제해 주세요" in text for text in texts) or not all(chat.shown.values()):
        sys.exit(f"services.py: {texts}")
    return len(events)


def compare(server, history, users):
    """What the server says of each user's payments and wallet, and what history has."""
    for user in users:
        token = server.token(user)
        known = {one["id"]: one for one in server.call("GET", "/v1/payments?limit=500", token)["items"]}
        written = history.items("payments", user)
        refunded = {payment for payment, one in known.items() if one["status"] == "refunded"}
        expected = {(payment, "payment", one["amount"]) for payment, one in known.items() if one["status"] != "failed"}
        expected |= {(payment, "refund", known[payment]["amount"]) for payment in refunded}
        expected |= {(payment, "failed", one["amount"]) for payment, one in known.items() if one["status"] == "failed"}
        came = [(one["payment_id"], one["kind"], one["amount"]) for one in written]
        if len(came) != len(expected) or set(came) != expected:
            sys.exit(f"services.py: of {user} history has {came}, not {expected}")
        by_id = {one["id"]: one for one in written}
        for one in written:
            undone = by_id.get(one["compensates"])
            if (one["kind"] == "refund") != (undone is not None and undone["payment_id"] == one["payment_id"]):
                sys.exit(f"services.py: {one} undoes {undone}")
        entries = server.call("GET", "/v1/wallet/entries?limit=500", token)["items"]
        moved = history.items("wallet-entries", user)
        if sorted((one["kind"], one["amount"]) for one in moved) != sorted((one["kind"], one["amount"]) for one in entries):
            sys.exit(f"services.py: in the wallet of {user} history has {moved}, not {entries}")
        sums = {"charge": 1, "credit": 1, "debit": -1}
        if sum(sums[one["kind"]] * one["amount"] for one in moved) != server.call("GET", "/v1/wallet", token)["balance"]:
            sys.exit(f"services.py: {moved} does not add up")


def everything(history, users):
    return [[history.items(path, user) for path in ("payments", "wallet-entries")] for user in users]


def start_postgres():
    try:
        return Postgres()
    except SystemExit as missing:
        if os.environ.get("POSTGRES_TESTS") == "required":
            raise
        print(f"services.py: history in PostgreSQL is left out: {missing}", flush=True)
        return None


def main():
    binary, history_program, notification_program = sys.argv[1:4]
    kills = int(sys.argv[4]) if len(sys.argv) > 4 else 10
    postgres = start_postgres()
    with tempfile.TemporaryDirectory() as folder:
        broker = Broker(folder)
        pattern = f"boxoffice-test-{uuid.uuid4()}-" + "{kind}"
        admin = AdminClient({"bootstrap.servers": broker.outside, "log_level": 0})
        topics = [NewTopic(pattern.replace("{kind}", kind), PARTITIONS, 1) for kind in KINDS]
        for made in admin.create_topics(topics).values():
            made.result(30)
        settings = {"BOXOFFICE_KAFKA_BOOTSTRAP_SERVERS": broker.outside, "BOXOFFICE_KAFKA_TOPIC": pattern,
                    "BOXOFFICE_KAFKA_BREAKER_PAUSE": "50ms", "BOXOFFICE_STORAGE_MIN_FREE_BYTES": "0"}
        chat, inbox = Chat(), Inbox()
        mail = Controller(inbox, hostname="127.0.0.1", port=free_port())
        mail.start()
        files = {"token": "12:secret\n", "recipients": json.dumps({
            "buyer-0": {"chat_id": "0", "email": "buyer@example.com", "language": "ko"},
            "buyer-1": {"chat_id": "gone"}, "*": {"chat_id": "all"}})}
        for name, text in files.items():
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
        server = Server(binary, os.path.join(folder, "data"), **settings)
        listens = ["--kafka-bootstrap", broker.outside, "--kafka-topic", pattern]
        databases = ["sqlite:" + os.path.join(folder, "history.db"), *([postgres.url] if postgres else [])]
        histories = [Service(history_program, database, *listens) for database in databases]
        notification = Service(
            notification_program, "sqlite:" + os.path.join(folder, "notification.db"), *listens, "--rate", "200",
            "--recipients", os.path.join(folder, "recipients"), "--telegram-url", chat.url,
            "--telegram-token-file", os.path.join(folder, "token"),
            "--smtp-url", f"smtp://127.0.0.1:{mail.port}")
        services = (*histories, notification)
        try:
            concert = server.call("POST", "/v1/concerts", server.admin, {"title": "Kills"})["id"]
            number = 0
            for kill in range(kills):
                if kill % 20 == 0:
                    # There is room for a hundred.
                    on_sale = option(server, concert)
                for _ in range(2):
                    buy(server, on_sale, number)
                    number += 1
                if kill % 4 == 3:
                    # The records since the cursor come twice.
                    server.process.send_signal(signal.SIGKILL)
                    server.process.wait()
                    server = Server(binary, os.path.join(folder, "data"), **settings)
                # At any moment between a record, what comes of it and the position.
                time.sleep((kill * 7 % 23) / 100)
                for service in services:
                    service.kill()
                    service.start()
                if postgres and kill % 10 == 6:
                    # Whoever uses it waits until it is there again.
                    postgres.kill()
                    buy(server, on_sale, number)
                    number += 1
                    postgres.start()
            users = [f"buyer-{one}" for one in range(number)]
            until(lambda: is_delivered(server))
            last = [event for event in published(server) if event["type"].startswith("boxoffice.payment.")][-1]
            last_user = last["data"]["user_id"]
            for history in histories:
                until(lambda: history.get("/readyz")[0] == 200)
                until(lambda: last["id"] in [one["event_id"] for one in history.items("payments", last_user)])
            until(lambda: all(service.get("/readyz")[1]["lag"] == 0 for service in services))
            until(lambda: not notification.get("/messages?status=pending")[1]["items"])
            told = compare_messages(server, notification, chat, inbox)
            for history in histories:
                compare(server, history, users)
                before = everything(history, users)
                history.kill()
                history.start("--rebuild")
                until(lambda: history.get("/readyz")[0] == 200)
                if everything(history, users) != before:
                    sys.exit("services.py: rebuilt, history is not what it was")
            if len({json.dumps(everything(history, users)) for history in histories}) != 1:
                sys.exit("services.py: the two databases have other histories")
            server.stop()
        finally:
            server.process.kill()
            for service in services:
                service.process.kill()
            mail.stop()
            broker.stop()
            if postgres:
                postgres.stop()
    print(f"services.py: after {kills} kills of each, history has in {len(histories)} databases what {number} buyers did, and once more when it is built anew; "
          f"{told} events were told once, in {chat.calls} calls and {len(inbox.mail)} mails")


if __name__ == "__main__":
    main()
