#!/usr/bin/env bash
# Everything side by side: the engine, its two ceilings, Redis and PostgreSQL, in rounds, so that what drifts drifts for all.
#
# Usage: run.sh [SECONDS [ROUNDS]] (default 10 and 3). Prints a table of medians in Markdown. Needs root, or the packages of
# the peers (Debian: redis-server, postgresql). Nothing else should run on the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
seconds=${1:-10} rounds=${2:-3}

(cd ../.. && cargo bench --quiet --no-run --no-default-features --bench engine && cargo bench --quiet --no-run --bench http) >&2
results=$(mktemp)
trap 'rm -f "$results"' EXIT
for ((round = 1; round <= rounds; round++)); do
    echo "round $round of $rounds" >&2
    for peer in ./boxoffice.sh ./redis.sh ./postgres.sh; do
        "$peer" "$seconds" | tee -a "$results" >&2
    done
done

python3 - "$results" <<'PY'
import statistics
import sys

rows = {}
for line in open(sys.argv[1], encoding="utf-8"):
    name, *figures = line.rstrip("\n").split("\t")
    rows.setdefault(name, []).append([float(figure) for figure in figures])
medians = {name: [statistics.median(column) for column in zip(*found)] for name, found in rows.items()}
print("| what | a second | p50 | p99 | runs |")
print("|---|---|---|---|---|")
for name, (rate, p50, p99) in medians.items():
    print(f"| {name} | {rate:,.0f} | {p50:.2f} ms | {p99:.2f} ms | {len(rows[name])} |")

RATE, P50 = 0, 1

def ratio(what, ours, theirs, figure=RATE):
    print(f"| {what} | {medians[ours][figure] / medians[theirs][figure]:.2f} |")

print()
print("| ratio of medians | |")
print("|---|---|")
burst, sold_out = "hold + release, 1024 callers, a burst", "hold + pay, 256 callers, a burst"
over_http = "hold, release over HTTP, 64 connections"
ratio("holds and releases, 1,024 callers, a burst / Redis: hold", burst, "Redis: hold")
ratio("holds and releases, 1,024 callers, sustained / Redis: hold", "hold + release, 1024 callers", "Redis: hold")
ratio("purchases, a burst / Redis: hold + pay", sold_out, "Redis: hold + pay (Lua)")
ratio("purchases, a burst / PostgreSQL: hold + pay", sold_out, "PostgreSQL: hold + pay")
ratio("purchases, sustained / PostgreSQL: hold + pay", "hold + pay, 256 callers", "PostgreSQL: hold + pay")
ratio("holds and releases over HTTP / PostgreSQL: hold, its own protocol", over_http, "PostgreSQL: hold")
ratio("holds and releases over HTTP / echo", over_http, "actix-web JSON echo, 64 connections")
ratio("p50 of 1 caller / bare append + fdatasync", "hold + release, 1 callers", "bare append + fdatasync, 512 bytes", P50)
PY
