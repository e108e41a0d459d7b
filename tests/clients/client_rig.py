"""What the tests of the clients stand on: a server of their own, a proxy before it that is as bad as networks are, and
who takes deliveries of events. Not a test by itself."""

import http.client
import http.server
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit


class Server:
    """A server in a data directory of its own, on a port that is free, for buyers who hold a lot."""

    def __init__(self, binary, data):
        self.binary, self.data = binary, data
        command = [binary, "--data", data, "--listen", "127.0.0.1:0", "--ops-listen", "off"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BOXOFFICE_")}
        environment |= {"BOXOFFICE_LOG_LEVEL": "error", "BOXOFFICE_WEBHOOKS_ALLOW_PRIVATE_ADDRESSES": "true",
                        "BOXOFFICE_LIMITS_USER_OPEN_HOLDS": "0"}
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("listening on "):
            sys.exit(f"client_rig.py: the server said {line!r}")
        self.url = line.split()[2]

    def token(self, user, *more):
        command = [self.binary, "token", "--data", self.data, "--user", user, *more]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(timeout=30) != 0:
            sys.exit("client_rig.py: the server ended with an error")


class Proxy(http.server.ThreadingHTTPServer):
    """Hands everything on, but for what it is told to do to the next call that fits:

    - `drop`: the server does the work, and the answer is lost with the connection;
    - `garble`: likewise, in the middle of the answer;
    - `busy`, `limited`: 503 or 429 in place of the server, with a `Retry-After` of a second; `shut`: of an hour;
    - `hang_up`: the connection ends before the server hears of it;
    - `no_sockets`: WebSockets are refused.

    `/rig/` is its own: who has no reach into this process tells it there, and asks what came through.
    """

    daemon_threads = True

    def __init__(self, upstream):
        super().__init__(("127.0.0.1", 0), Handler)
        self.upstream = urlsplit(upstream)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.lock = threading.Lock()
        self.faults, self.calls, self.tunnels, self.deliveries = [], [], [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def next(self, *kinds, path="", method=None):
        """The next calls of a path that has this in it go wrong so, one after another."""
        with self.lock:
            self.faults += [(kind, path, method) for kind in kinds]

    def fault(self, method, path):
        with self.lock:
            for index, (kind, part, only) in enumerate(self.faults):
                if re.search(part, path) and only in (None, method):
                    return self.faults.pop(index)[0]
        return None

    def clear(self):
        with self.lock:
            self.faults, self.calls = [], []

    def cut(self):
        """Ends every WebSocket without a word. How many there were."""
        with self.lock:
            tunnels, self.tunnels = self.tunnels, []
        for pair in tunnels:
            for end in pair:
                shut(end)
        return len(tunnels)

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/rig/"):
            return self.rig(body)
        rig = self.server
        key = self.headers.get("Idempotency-Key")
        fault = rig.fault(self.command, self.path)
        call = {"method": self.command, "path": self.path, "key": key, "fault": fault, "at": time.monotonic()}
        with rig.lock:
            rig.calls.append(call)
        if self.headers.get("Upgrade"):
            if fault == "no_sockets":
                return self.answer(400, [], b"")
            return self.tunnel()
        if fault == "hang_up":
            return self.hang_up()
        if fault in ("busy", "limited", "shut"):
            status, code = (429, "rate_limited") if fault == "limited" else (503, "overloaded")
            problem = {"type": "about:blank", "title": fault, "status": status, "detail": fault, "code": code}
            headers = [("Content-Type", "application/problem+json"), ("Retry-After", "3600" if fault == "shut" else "1")]
            return self.answer(status, headers, json.dumps(problem).encode())
        upstream = http.client.HTTPConnection(rig.upstream.hostname, rig.upstream.port, timeout=90)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        upstream.request(self.command, self.path, body or None, headers)
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        if fault == "drop":
            return self.hang_up()
        kept = [(name, value) for name, value in response.getheaders()
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date")]
        if fault == "garble":
            self.answer(response.status, kept, content, len(content) // 2)
            return self.hang_up()
        self.answer(response.status, kept, content)

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

    def answer(self, status, headers, content, part=None):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status not in (204, 304):
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:part])

    def hang_up(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def tunnel(self):
        rig = self.server
        upstream = socket.create_connection((rig.upstream.hostname, rig.upstream.port))
        lines = [f"{self.command} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in self.headers.items())]
        upstream.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        pair = (self.connection, upstream)
        with rig.lock:
            rig.tunnels.append(pair)
        self.close_connection = True
        back = threading.Thread(target=pump, args=(upstream, self.connection), daemon=True)
        back.start()
        pump(self.connection, upstream)
        back.join()
        upstream.close()
        with rig.lock:
            rig.tunnels = [it for it in rig.tunnels if it is not pair]

    def rig(self, body):
        rig, said, command = self.server, json.loads(body or b"null"), self.path.removeprefix("/rig/")
        if command == "deliver":
            with rig.lock:
                rig.deliveries.append({"headers": dict(self.headers.items()), "body": body.decode()})
            return self.answer(204, [], b"")
        answer = None
        if command == "next":
            rig.next(*said["kinds"], path=said.get("path", ""), method=said.get("method"))
        elif command == "clear":
            rig.clear()
        elif command == "cut":
            answer = rig.cut()
        elif command == "sockets":
            answer = len(rig.tunnels)
        elif command == "calls":
            answer = rig.calls
        elif command == "deliveries":
            answer = rig.deliveries
        else:
            return self.answer(404, [], b"")
        self.answer(200, [("Content-Type", "application/json")], json.dumps(answer).encode())

    def log_message(self, *_):
        pass


def pump(source, sink):
    try:
        while part := source.recv(65536):
            sink.sendall(part)
    except OSError:
        pass
    shut(source)
    shut(sink)


def shut(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def readme_code(path, language):
    """All of a README's blocks in a language, one after another: what somebody pastes who follows it."""
    with open(path, encoding="utf-8") as file:
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", file.read(), re.M | re.S)
    if not blocks:
        sys.exit(f"client_rig.py: {path} has no {language}")
    return "\n".join(blocks)
