#!/usr/bin/env bash
# Pastes the README's tour, line by line, against a server that was just started with --demo, and checks what each line
# must say.
#
#   tests/clients/tour.sh SERVER_BINARY
#
# The README's fixed ports and paths are replaced by those of this run. Needs curl and python3.
set -euo pipefail

server=$(realpath "${1:?the path of the boxoffice-server binary}")
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
touch "$work/server.out" "$work/server.log"
server_pid=
cleanup() {
    status=$?
    if [[ -n $server_pid ]]; then
        kill "$server_pid" 2>/dev/null || true
        wait "$server_pid" 2>/dev/null || true
    fi
    if ((status != 0)); then
        grep -v ' INFO ' "$work/server.log" | tail -n 20 >&2 || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
ops=127.0.0.1:$(free_port)
"$server" --data "$work/data" --listen 127.0.0.1:0 --ops-listen "$ops" --demo >"$work/server.out" 2>"$work/server.log" &
server_pid=$!
url=
for _ in $(seq 300); do
    url=$(sed -n 's/^listening on //p' "$work/server.out")
    [[ -n $url ]] && break
    kill -0 "$server_pid" 2>/dev/null || { echo "tour.sh: the server did not start" >&2; exit 1; }
    sleep 0.1
done

python3 - "$url" "$ops" "$server" "$work" "$server_pid" <<'PY'
import os, re, signal, subprocess, sys, time

url, ops, server, work, pid = sys.argv[1:]
tour = open("README.md").read().split("## A tour with curl")[1].split("\n## ")[0]
lines = [line for block in re.findall(r"```sh\n(.*?)```", tour, re.S) for line in block.splitlines()]

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
    ("PATCH", ['"mode":"queue"']),
    ("/reservations", ["HTTP/1.1 403", "queue_token_required"]),
    ("/v1/tokens/$TOKEN_ID", ['"status":"active"']),
    ("/v1/reservations/$QUEUED/payments", ['"status":"completed"']),
    ("/waiting-room", ['"used":1']),
    ('"rows": "front"', ["HTTP/1.1 400", '"field":"best_available.rows"']),
    ("/v1/wallet", ["HTTP/1.1 401", "www-authenticate"]),
    ('"title": "Mine"', ["HTTP/1.1 403"]),
    ("/problems/seats-unavailable", ["seats"]),
    ("/readyz", ['"ready":true']),
    ("/v1/stats", ['"durable_lsn"']),
    ("/metrics", ["boxoffice_durable_lsn"]),
    (" verify", ["sealed yes", "state agrees"]),
    (" export", ['"lsn":1']),
]

shell = subprocess.Popen(["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
expected = iter(EXPECTED)
wanted = next(expected)
stopped = False
for line in lines:
    own = line.replace("http://127.0.0.1:8080", url).replace("127.0.0.1:9464", ops)
    own = own.replace("target/release/boxoffice-server", server)
    own = own.replace(f"{server} token", f"{server} token --data {work}/data")
    if " verify" in own or " export" in own:
        own += f" --data {work}/data"
        if not stopped:
            # Where the README says Ctrl-C.
            os.kill(int(pid), signal.SIGINT)
            while os.path.exists(f"/proc/{pid}") and open(f"/proc/{pid}/stat").read().split(") ")[1][0] != "Z":
                time.sleep(0.05)
            stopped = True
    own = own.replace("option.json", f"{work}/option.json").replace("token.json", f"{work}/token.json")
    shell.stdin.write(own + "\necho \"=== $?\"\n")
    shell.stdin.flush()
    output = ""
    while not (end := re.search(r"=== (\d+)\n$", output)):
        got = shell.stdout.readline()
        if not got:
            sys.exit(f"tour.sh: the shell ended at: {line}")
        output += got
    if end.group(1) != "0":
        sys.exit(f"tour.sh: failed: {line}\n{output}")
    silent = re.match(r"[A-Z_]+=|member\(\)|rm |sleep |.* > \S+$", line)
    if silent:
        if output.strip() != "=== 0":
            sys.exit(f"tour.sh: should say nothing: {line}\n{output}")
        continue
    part, contents = wanted or ("(the end)", [])
    missing = [content for content in contents if content not in output]
    if part not in line or missing:
        sys.exit(f"tour.sh: expected {part!r} with {missing}, came to: {line}\n{output}")
    wanted = next(expected, None)
if wanted is not None:
    sys.exit(f"tour.sh: the tour ended before {wanted[0]!r}")
print(f"tour.sh: {len(lines)} lines of the README do what they say")
PY
wait "$server_pid" || { echo "tour.sh: the server ended with an error" >&2; exit 1; }
server_pid=
