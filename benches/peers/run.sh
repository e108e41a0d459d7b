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

def ratio(what, ours, theirs):
    ours, theirs = ([rate for name, (rate, *_) in medians.items() if name.startswith(start)] for start in (ours, theirs))
    if ours and theirs:
        print(f"{what}: {ours[0] / theirs[0]:.2f}")

print()
ratio("holds and releases, 1,024 callers, a burst / Redis holds", "hold + release, 1024 callers, a burst", "Redis: hold")
ratio("holds and releases, 1,024 callers, sustained / Redis holds", "hold + release, 1024 callers", "Redis: hold")
ratio("purchases, embedded / Redis purchases", "hold + pay (+ refund), 256", "Redis: hold + pay")
ratio("purchases, embedded / PostgreSQL purchases", "hold + pay (+ refund), 256", "PostgreSQL: hold + pay")
ratio("holds over HTTP / PostgreSQL holds by its own protocol", "hold, release over HTTP", "PostgreSQL: hold")
ratio("holds over HTTP / echo", "hold, release over HTTP", "actix-web JSON echo")
PY
