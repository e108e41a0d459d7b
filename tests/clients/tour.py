#!/usr/bin/env python3
"""Pastes docs/TOUR.md, line by line, and checks what each line must say: against a server that was just started with
--demo; and against each node of scripts/cluster.sh, the last time with the owner killed in the middle.

    tests/clients/tour.py SERVER_BINARY [NATS_SERVER_BINARY]

Without the second the cluster is left out. Its fixed ports and paths are replaced by those of this run. Needs curl.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PATIENCE_SECONDS = 60
TOUR = open("docs/TOUR.md").read()
LINES = [line for block in re.findall(r"```sh\n(.*?)```", TOUR, re.S) for line in block.splitlines()]
# Of what the server leaves behind, once it is stopped.
AFTERWARDS = (" verify", " export")

# What must stand in the output of lines, in the order of the tour: (part of the line, parts of its output).
EXPECTED = [
    ("/v1/options/$OPTION", ['"status":"on_sale"']),
    ("/v1/reservations/$BEST -H", ['"status":"held"']),
    ("/v1/reservations/$ACCESSIBLE -H", ['"status":"released"', '"category":"Wheelchair"']),
    ('["S-A-1", "S-A-2"]', ['"status":"held"']),
    ('["S-A-2", "S-A-3"]', ["HTTP/1.1 409", "application/problem+json", '"conflicts":["S-A-2"]']),
    ("/v1/options/$OPTION/seats", ['"S-A-1":"held"']),
    ("/wallet/charges", ['"amount":500']),
    ("/v1/payments/$PAYMENT -H", ['"status":"completed"']),
    ("/v1/reservations/$BEST/payments", ["HTTP/1.1 409", "already_paid"]),
    ("/refunds", ['"payment_id"']),
    ("/v1/wallet/entries", ['"kind":"credit"']),
    ("status=refunded", ['"status":"refunded"']),
    ("Idempotency-Key", ["HTTP/1.1 201"]),
    ("Idempotency-Key", ["HTTP/1.1 201", "idempotent-replayed: true"]),
    ("Idempotency-Key", ["HTTP/1.1 422", "idempotency_key_reused"]),
    ("/wallet/charges", ['"amount":1000']),
    ("PATCH", ['"expires_at":"2099-04-30T12:00:00']),
    ("/releases", ['"status":"held"', '"reference":"Table 7"']),
    ("/refunds", ['"payment_id"']),
    ("/exchanges", ['"S-C-2"']),
    ("/accept", ['"user_id":"demo-friend"']),
    ("/blocks", ['"S-D-2"', '"row":"E"']),
    ("/unblocks", ['"row":"E"']),
    ("complimentary", ['"status":"confirmed"']),
    ("reference=Table", ['"S-B-1"', '"payment_id"']),
    ("text/csv", ["reservation_id,option_id", "Table 7"]),
    ("/history", ['"what":"refund_started"']),
    ("/adjustments", ['"kind":"adjustment"']),
    ("PATCH", ['"mode":"queue"']),
    ("/reservations", ["HTTP/1.1 403", "queue_token_required"]),
    ("/v1/tokens/$TOKEN_ID", ['"status":"active"']),
    ("/v1/reservations/$QUEUED/payments", ['"status":"completed"']),
    ("/waiting-room", ['"used":1']),
    ('"rows": "front"', ["HTTP/1.1 400", '"field":"best_available.rows"']),
    ("/v1/wallet", ["HTTP/1.1 401", "www-authenticate"]),
    ('"title": "Mine"', ["HTTP/1.1 403"]),
    ("/problems/seats-unavailable", ["seats"]),
    ("PATCH", ['"time_zone":"Europe/Vienna"']),
    ("PATCH", ['"hold_seconds":600']),
    ("PUT", ['"status":"on_sale"']),
    ("violinist", ['"cancelled_at"']),
    ("/cancellation", ['"owed":0']),
    ("DELETE", ["HTTP/1.1 204"]),
    ("/readyz", ['"ready":true']),
    ("/v1/stats", ['"durable_lsn"']),
    ("/metrics", ["boxoffice_durable_lsn"]),
    (" verify", ["sealed yes", "state agrees"]),
    (" export", ['"lsn":1']),
]


def paste(lines, expected, work, replaced, before_line=lambda line: None):
    """Runs lines in one shell, each with its texts replaced."""
    shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=os.getcwd())
    expected = iter(expected)
    wanted = next(expected)
    for line in lines:
        before_line(line)
        own = re.sub(r"\b(option|token|plan)\.json", rf"{work}/\1.json", line)
        for text, by in replaced:
            own = own.replace(text, by)
        shell.stdin.write(own + "\necho \"=== $?\"\n")
        shell.stdin.flush()
        output = ""
        while not (end := re.search(r"=== (\d+)\n$", output)):
            got = shell.stdout.readline()
            if not got:
                sys.exit(f"tour.py: the shell ended at: {line}")
            output += got
        if end.group(1) != "0":
            sys.exit(f"tour.py: failed: {line}\n{output}")
        if re.match(r"[A-Z_]+=|member\(\)|rm |sleep |.* > \S+$", line):
            if output.strip() != "=== 0":
                sys.exit(f"tour.py: should say nothing: {line}\n{output}")
            continue
        part, contents = wanted or ("(the end)", [])
        missing = [content for content in contents if content not in output]
        if part not in line or missing:
            sys.exit(f"tour.py: expected {part!r} with {missing}, came to: {line}\n{output}")
        wanted = next(expected, None)
    shell.stdin.close()
    shell.wait()
    if wanted is not None:
        sys.exit(f"tour.py: the tour ended before {wanted[0]!r}")


def eventually(what, ask):
    until = time.monotonic() + PATIENCE_SECONDS
    while not (answer := ask()):
        if time.monotonic() > until:
            sys.exit(f"tour.py: {what}")
        time.sleep(0.1)
    return answer


def free_port():
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def stop(process):
    process.send_signal(signal.SIGINT)
    return process.wait(PATIENCE_SECONDS)


def alone(server, work):
    """One machine, stopped with Ctrl-C where the tour says so."""
    data, ops = f"{work}/data", f"127.0.0.1:{free_port()}"
    command = [server, "--data", data, "--listen", "127.0.0.1:0", "--ops-listen", ops, "--demo"]
    log = open(f"{work}/server.log", "w")
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    url = None
    for line in running.stdout:
        if line.startswith("listening on "):
            url = line.removeprefix("listening on ").strip()
            break
    if url is None:
        sys.exit(f"tour.py: the server did not start:\n{open(log.name).read()}")

    def before_line(line):
        if any(part in line for part in AFTERWARDS) and running.poll() is None and stop(running) != 0:
            sys.exit("tour.py: the server ended with an error")

    replaced = [
        ("http://127.0.0.1:8080", url),
        ("127.0.0.1:9464", ops),
        *((f"boxoffice-server {command}", f"boxoffice-server {command} --data {data}") for command in ["token", "verify", "export"]),
        ("target/release/boxoffice-server", server),
    ]
    try:
        paste(LINES, EXPECTED, work, replaced, before_line)
    finally:
        running.kill()
    print(f"tour.py: {len(LINES)} lines of the tour do what they say")


def readiness(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError):
        return {}


def cluster(server, nats, work):
    """Three nodes: the same through each of them, and through the last one while another comes to own the log."""
    base = free_port()
    environment = {**os.environ, "SERVER": server, "NATS_SERVER": nats, "PORT_BASE": str(base)}
    script = subprocess.Popen(
        ["scripts/cluster.sh", f"{work}/cluster"], env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        told, nodes = [], {}
        for line in script.stdout:
            told.append(line)
            if found := re.match(r"node (\w+): process (\d+), http://127\.0\.0\.1:(\d+), configuration (\S+),", line):
                nodes[found[1]] = (int(found[2]), int(found[3]), found[4])
            if line.startswith("kill -9"):
                break
        else:
            sys.exit(f"tour.py: the cluster did not start:\n{''.join(told)}")
        for _, port, _ in nodes.values():
            eventually(f"the node at {port} is not ready", lambda: readiness(port).get("ready"))
        owner = readiness(base)["owner"]
        lines = [line for line in LINES if not any(part in line for part in AFTERWARDS)]
        # The owner first: it is gone in the end.
        for node in sorted(nodes, key=lambda node: node != owner):
            _, port, config = nodes[node]
            is_last = port == max(port for name, (_, port, _) in nodes.items() if name != owner)
            killed = []

            def before_line(line):
                if is_last and "/refunds" in line and not killed:
                    killed.append(owner)
                    os.kill(nodes[owner][0], signal.SIGKILL)
                    another = lambda: readiness(port).get("ready") and readiness(port).get("owner") not in (None, owner)
                    eventually("nobody owns after the owner", another)

            replaced = [
                ("http://127.0.0.1:8080", f"http://127.0.0.1:{port}"),
                ("127.0.0.1:9464", f"127.0.0.1:{port + 131}"),
                ("boxoffice-server token", f"boxoffice-server token --config {config}"),
                ("target/release/boxoffice-server", server),
            ]
            expected = [(part, contents) for part, contents in EXPECTED if part not in AFTERWARDS]
            paste(lines, expected, work, replaced, before_line)
            if is_last and not killed:
                sys.exit("tour.py: nobody was killed")
        print(f"tour.py: {len(lines)} lines do so through each of three nodes, and when the owner is killed in their midst")
    finally:
        os.killpg(script.pid, signal.SIGTERM)
        script.wait(PATIENCE_SECONDS)


def main():
    server = os.path.realpath(sys.argv[1])
    nats = os.path.realpath(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as work:
        alone(server, work)
        if nats:
            cluster(server, nats, work)


main()
