"""Reads the dashboards as Grafana's own model has them, and runs every query of theirs and of the alerts in a real Prometheus that scrapes a
server on which something has been sold: a query that returns nothing, or a metric that the server does not have, ends it.

usage: dashboards.py PROMETHEUS DIR, by a Python that has grafana-foundation-sdk, with tokens of an admin and of the buyer `fan` in ADMIN and
FAN, and what is on sale in OPTION; the server listens on its packaged addresses
"""

import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

HERE = pathlib.Path(__file__).resolve().parent.parent
API, OPS, PROMETHEUS = "http://127.0.0.1:8080", "http://127.0.0.1:9464", "http://127.0.0.1:9090"
PATIENCE_SECONDS = 40


def call(method, path, token, body=None):
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    request = urllib.request.Request(API + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return json.loads(text) if text else None
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{method} {path}: {error.read().decode()}") from None


def follow(path):
    """A WebSocket that looks on, which the caller closes."""
    connection = socket.create_connection(("127.0.0.1", 8080), timeout=30)
    connection.sendall(
        f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    assert b" 101 " in connection.recv(4096), path
    return connection


def prometheus(path, **query):
    url = f"{PROMETHEUS}{path}?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def has_all(model, given):
    """Whether all that is given is in a model, which may have defaults beside it."""
    if isinstance(given, dict):
        return all(name in model and has_all(model[name], value) for name, value in given.items())
    if isinstance(given, list):
        return len(model) == len(given) and all(map(has_all, model, given))
    return model == given


def boards():
    """The dashboards by their file names, once Grafana's model of them has been found to have all that stands in them."""
    for path in sorted((HERE / "grafana").glob("*.json")):
        board = json.loads(path.read_text())
        assert has_all(json.loads(JSONEncoder().encode(Dashboard.from_json(board))), board), f"{path} has what no dashboard has"
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids)), path
        yield path.name, board


def variables(board):
    """The values that somebody can choose from, each as a query for them, and its name."""
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]).groups()
            yield variable["name"], f'group by ({label}) ({series[:-1]},{label}!=""}})'


def panels(board):
    """The title of each panel with each of its queries, where all values are chosen."""
    chosen = [name for name, _ in variables(board)]
    for panel in board["panels"]:
        for target in panel["targets"]:
            text = target["expr"].replace("$__rate_interval", "1m")
            for name in chosen:
                text = text.replace(f"${name}", ".*")
            assert "$" not in text, text
            yield panel["title"], text


def queries():
    for name, board in boards():
        for place, text in [*variables(board), *panels(board)]:
            yield f"{name}, {place}", text


def metrics_of(text):
    return set(re.findall(r"\b(?:boxoffice|process)_\w+", text))


def wait_for(what, condition):
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            got = condition()
        except (urllib.error.URLError, ConnectionError) as error:
            got, what = None, f"{what} ({error})"
        if got:
            return got
        assert time.monotonic() < until, what
        time.sleep(0.3)


@contextlib.contextmanager
def scraped(program, work):
    """While a Prometheus scrapes the server, as the packaged configuration says but for the interval."""
    work.mkdir()
    alerts = HERE.parent / "docs" / "prometheus-alerts.yml"
    config = (HERE / "prometheus.yml").read_text()
    assert "scrape_interval: 15s" in config and "/usr/share/doc/boxoffice/examples/prometheus-alerts.yml" in config
    config = config.replace("scrape_interval: 15s", "scrape_interval: 1s")
    config = config.replace("/usr/share/doc/boxoffice/examples/prometheus-alerts.yml", str(alerts))
    (work / "prometheus.yml").write_text(config)
    command = [program, f"--config.file={work}/prometheus.yml", f"--storage.tsdb.path={work}/data", "--web.listen-address=127.0.0.1:9090"]
    with open(work / "log", "w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for("Prometheus does not start", lambda: answers_to('up{job="boxoffice"} == 1'))
        yield alerts
    finally:
        running.terminate()
        running.wait(30)


def answers_to(query):
    return prometheus("/api/v1/query", query=query)["result"]


def main(program, directory):
    admin, fan, option = os.environ["ADMIN"], os.environ["FAN"], os.environ["OPTION"]
    with scraped(program, pathlib.Path(directory)) as alerts:
        call("POST", "/v1/users/fan/wallet/charges", admin, {"amount": 10_000})
        webhook = call("POST", "/v1/webhooks", admin, {"url": "http://127.0.0.1:9/events"})
        looking_on = follow(f"/v1/options/{option}/live")
        # What lets anybody see what is missing: asked for while things are sold, since rates are of what grows.
        missing = set(queries())
        assert missing
        number = 1

        def sell_and_ask():
            nonlocal number
            number += 1
            held = call("POST", f"/v1/options/{option}/reservations", fan, {"seats": [f"S-A-{min(number, 6)}"]})
            if number < 6:
                call("POST", f"/v1/reservations/{held['id']}/payments", fan, {})
            else:
                call("DELETE", f"/v1/reservations/{held['id']}", fan)
            for place, text in sorted(missing):
                if answers_to(text):
                    missing.discard((place, text))
            return not missing

        wait_for(missing, sell_and_ask)
        with urllib.request.urlopen(f"{OPS}/metrics", timeout=30) as answer:
            there = metrics_of(answer.read().decode())
        for place, text in queries():
            assert metrics_of(text) <= there, f"{place}: {metrics_of(text) - there}"
        # Those of a cluster are of nodes only.
        lacking = {name for name in metrics_of(re.sub(r"(?m)^\s*(#|runbook|summary).*$", "", alerts.read_text())) - there if "_cluster_" not in name}
        assert not lacking, f"alerts ask for {lacking}"
        wrong = [rule for group in prometheus("/api/v1/rules")["groups"] for rule in group["rules"] if rule["health"] == "err"]
        assert not wrong, wrong
        looking_on.close()
        call("DELETE", f"/v1/webhooks/{webhook['id']}", admin)


if __name__ == "__main__":
    main(*sys.argv[1:])
