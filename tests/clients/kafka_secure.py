"""Has a server deliver, and history read, through TLS and SCRAM, which stand in front of `tansu`, since that has neither; a
consumer that nobody here wrote comes the same way. Then with a wrong authority, and with a wrong password: nothing is lost, what
is wrong is said, and no secret is.

    kafka_secure.py SERVER_BINARY HISTORY_BINARY

Needs what kafka.py needs, and `openssl`.
"""

import asyncio
import base64
import hashlib
import hmac
import os
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import uuid

from confluent_kafka.admin import AdminClient, NewTopic

from events import Server, option, read_schemas, until
from kafka import KINDS, PARTITIONS, Broker, Reader, buy, compare, free_port, is_delivered, published, sink
from services import Service

USER, PASSWORD = "boxoffice", "hunter2 of a test"
SASL_HANDSHAKE, API_VERSIONS, SASL_AUTHENTICATE = 17, 18, 36
SASL_AUTHENTICATION_FAILED = 58


def certificates(folder, name):
    """An authority, and what it says of localhost."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, cwd=folder, capture_output=True)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", f"{name}-ca.key", "-out",
            f"{name}-ca.pem", "-subj", f"/CN={name}")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=localhost")
    with open(os.path.join(folder, "names"), "w", encoding="utf-8") as file:
        file.write("subjectAltName=DNS:localhost\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{name}-ca.pem", "-CAkey", f"{name}-ca.key", "-CAcreateserial",
            "-days", "2", "-extfile", "names", "-out", f"{name}.pem")


class Scram:
    """The server's side of SCRAM-SHA-512 (RFC 5802)."""

    def __init__(self):
        self.salt, self.count, self.first = os.urandom(16), 4096, None

    def answer(self, said):
        """What is answered; none if the password is wrong."""
        fields = dict(field.split("=", 1) for field in said.removeprefix("n,,").split(","))
        if self.first is None:
            self.user, self.nonce = fields["n"], fields["r"] + uuid.uuid4().hex
            salt = base64.b64encode(self.salt).decode()
            self.first = said.removeprefix("n,,") + f",r={self.nonce},s={salt},i={self.count}"
            return f"r={self.nonce},s={salt},i={self.count}", False
        salted = hashlib.pbkdf2_hmac("sha512", PASSWORD.encode(), self.salt, self.count)
        mac = lambda key, text: hmac.digest(key, text.encode(), "sha512")
        stored = hashlib.sha512(mac(salted, "Client Key")).digest()
        everything = self.first + "," + said.rsplit(",p=", 1)[0]
        proof = base64.b64decode(fields["p"])
        key = bytes(a ^ b for a, b in zip(proof, mac(stored, everything)))
        if self.user != USER or fields["r"] != self.nonce or hashlib.sha512(key).digest() != stored:
            return None, True
        return "v=" + base64.b64encode(mac(mac(salted, "Server Key"), everything)).decode(), True


class Guard:
    """Lets only those through to a broker who come by TLS and know the password."""

    def __init__(self, folder, name, behind, port):
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(os.path.join(folder, f"{name}.pem"), os.path.join(folder, f"{name}.key"))
        self.behind, self.port, self.let_in, self.turned_away = behind, port, 0, 0
        self.loop = asyncio.new_event_loop()
        # Those who hang up, since they do not know the authority, are a part of it.
        self.loop.set_exception_handler(lambda *_: None)
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        asyncio.run_coroutine_threadsafe(self.begin(), self.loop).result(30)

    async def begin(self):
        self.server = await asyncio.start_server(self.meet, "127.0.0.1", self.port, ssl=self.context)

    def stop(self):
        async def end():
            self.server.close()
        asyncio.run_coroutine_threadsafe(end(), self.loop).result(30)

    async def meet(self, outside, to_outside):
        to_inside = None
        try:
            inside, to_inside = await asyncio.open_connection("127.0.0.1", self.behind)
            if await self.is_known(outside, to_outside, inside, to_inside):
                self.let_in += 1
                await asyncio.gather(hand_on(outside, to_inside), hand_on(inside, to_outside))
            else:
                self.turned_away += 1
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for end in (to_inside, to_outside):
                if end is not None:
                    end.close()

    async def is_known(self, outside, to_outside, inside, to_inside):
        scram = Scram()
        while True:
            frame = await read_frame(outside)
            key, version, number, name = struct.unpack(">hhih", frame[:10])
            body = frame[10 + max(name, 0):]
            if key == API_VERSIONS:
                to_inside.write(struct.pack(">i", len(frame)) + frame)
                answer = await read_frame(inside)
            elif key == SASL_HANDSHAKE:
                answer = struct.pack(">ihi", number, 0, 1) + text(b"SCRAM-SHA-512")
            elif key == SASL_AUTHENTICATE and version < 2:
                said, is_last = scram.answer(body[4:].decode())
                if said is None:
                    answer = struct.pack(">ih", number, SASL_AUTHENTICATION_FAILED) + text(b"wrong user or password")
                    answer += struct.pack(">i", 0)
                else:
                    answer = struct.pack(">ihhi", number, 0, -1, len(said)) + said.encode()
                answer += struct.pack(">q", 0) if version == 1 else b""
            else:
                return False
            to_outside.write(struct.pack(">i", len(answer)) + answer)
            await to_outside.drain()
            if key == SASL_AUTHENTICATE and is_last:
                return said is not None


def text(data):
    return struct.pack(">h", len(data)) + data


async def read_frame(stream):
    return await stream.readexactly(struct.unpack(">i", await stream.readexactly(4))[0])


async def hand_on(one, other):
    while data := await one.read(65536):
        other.write(data)
        await other.drain()
    other.close()


def main():
    binary, history_program = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ours", "theirs"):
            certificates(folder, name)
        port = free_port()
        broker = Broker(folder, outside=f"localhost:{port}")
        guard = Guard(folder, "ours", int(broker.inside.rsplit(":", 1)[1]), port)
        pattern = f"boxoffice-test-{uuid.uuid4()}-" + "{kind}"
        properties = {"security.protocol": "sasl_ssl", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": USER,
                      "sasl.password": PASSWORD, "ssl.ca.location": os.path.join(folder, "ours-ca.pem")}
        admin = AdminClient({"bootstrap.servers": broker.outside, "log_level": 0, **properties})
        topics = [pattern.replace("{kind}", kind) for kind in KINDS]
        for made in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in topics]).values():
            made.result(30)

        def write(name, **changed):
            path = os.path.join(folder, name)
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(f"{key}={value}\n" for key, value in (properties | changed).items())
            return path

        def serve(path):
            return Server(binary, os.path.join(folder, "data"), BOXOFFICE_KAFKA_BOOTSTRAP_SERVERS=broker.outside,
                          BOXOFFICE_KAFKA_TOPIC=pattern, BOXOFFICE_KAFKA_PROPERTIES_FILE=path,
                          BOXOFFICE_KAFKA_BREAKER_PAUSE="50ms", BOXOFFICE_STORAGE_MIN_FREE_BYTES="0")

        good = write("good")
        server = serve(good)
        try:
            concert = server.call("POST", "/v1/concerts", server.admin, {"title": "Secure"})["id"]
            on_sale = option(server, concert)
            for number in range(6):
                buy(server, on_sale, number)
            until(lambda: is_delivered(server))
            # Whoever is refused says why, loses nothing, and tells no secret.
            for path, reason in ((write("theirs", **{"ssl.ca.location": os.path.join(folder, "theirs-ca.pem")}), "certificate"),
                                 (write("wrong", **{"sasl.password": "hunter3 of a test"}), "authentication")):
                server.stop()
                server = serve(path)
                buy(server, on_sale, number := number + 1)
                until(lambda: sink(server)["last_failure"] is not None)
                said = sink(server)
                why = said["last_failure"]["text"]
                if reason not in why.lower() or "hunter" in str(said) or said["lag"] == 0 or said["parked"] != 0:
                    sys.exit(f"kafka_secure.py: with {path}: {said}")
                print(f"kafka_secure.py: {os.path.basename(path)}: {why}", flush=True)
            server.stop()
            server = serve(good)
            until(lambda: is_delivered(server))
            events = published(server)
            reader = Reader(broker, topics, **properties)
            until(lambda: len(reader.records) >= len(events))
            compare(reader.events(read_schemas()), events, pattern)
            history = Service(history_program, "sqlite:" + os.path.join(folder, "history.db"), "--kafka-bootstrap",
                              broker.outside, "--kafka-topic", pattern, "--kafka-properties-file", good)
            try:
                until(lambda: history.get("/readyz")[0] == 200)
                paid = [len(history.items("payments", f"buyer-{one}")) for one in range(number + 1)]
            finally:
                history.kill()
            if not all(paid):
                sys.exit(f"kafka_secure.py: history has {paid}")
            server.stop()
        finally:
            server.process.kill()
            guard.stop()
            broker.stop()
    print(f"kafka_secure.py: {len(events)} events came through TLS and SCRAM; of those who came, {guard.let_in} were let in, "
          f"{guard.turned_away} not", flush=True)


if __name__ == "__main__":
    main()
