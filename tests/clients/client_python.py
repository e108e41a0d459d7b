#!/usr/bin/env python3
"""The Python client against a real server: the tour of its README, and what it does when the network is bad.

    client_python.py SERVER_BINARY [MYPY]

With MYPY, the program, the client and the tour are checked by it as strictly as it can.
"""

import base64
import contextlib
import hashlib
import io
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
CLIENT = os.path.join(ROOT, "clients/python")
sys.path.insert(0, CLIENT)
sys.dont_write_bytecode = True

from boxoffice_client import Boxoffice, Problem, TurnLost, Unreachable, WebhookInvalid, verify_webhook  # noqa: E402
from boxoffice_client.websocket import Refused, WebSocket  # noqa: E402
from client_rig import Proxy, Server, readme_code  # noqa: E402

# What the tour prints.
TOLD = """on_sale 10
completed 160
160
409 seats_unavailable ['A-1']
refunded ['A-5', 'A-6']
held
A-2
active
held
blocked held False
"""


def refused(code, call):
    try:
        call()
    except Problem as problem:
        assert problem.code == code, problem
        return problem
    raise AssertionError(f"it was not refused: {code}")


def raises(kind, call):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"it did not raise {kind.__name__}")


class Rig:
    """A server, a proxy before it, and a sale."""

    def __init__(self, binary, work):
        self.server = Server(binary, os.path.join(work, "data"))
        self.proxy = Proxy(self.server.url)
        self.admin_token = self.server.token("demo-admin", "--role", "admin")
        self.buyer_token = self.server.token("demo-buyer")
        # Past the proxy, for whoever looks on.
        self.admin = Boxoffice(self.server.url, self.admin_token)
        self.buyer = Boxoffice(self.proxy.url, self.buyer_token)
        self.checking = None

    def sale(self, **more):
        concert = self.admin.create_concert({"title": "Tried"})["id"]
        seats = [{"seat_guid": f"S{n}", "seat_number": str(n), "category": "A", "position": {"x": 30 * n, "y": 0}}
                 for n in range(1, 101)]
        plan = {"categories": [{"name": "A"}], "zones": [{"name": "Hall", "rows": [{"row_number": "1", "seats": seats}]}]}
        option = self.admin.create_option(concert, {
            "starts_at": "2099-05-01T19:30:00Z", "prices": {"A": 10, "Lawn": 5}, "seating_plan": plan,
            "areas": [{"name": "Lawn", "capacity": 10, "category": "Lawn"}], "max_seats_per_user": 100, **more})["id"]
        return concert, option

    def calls(self, path):
        return [call for call in self.proxy.calls if re.search(path, call["path"])]


def tour(rig, work, mypy):
    code = readme_code(os.path.join(CLIENT, "README.md"), "python")
    for text, by in [("http://127.0.0.1:8080", rig.server.url), ('ADMIN_TOKEN = "..."', f'ADMIN_TOKEN = "{rig.admin_token}"'),
                     ('BUYER_TOKEN = "..."', f'BUYER_TOKEN = "{rig.buyer_token}"')]:
        assert text in code, f"the README has no {text}"
        code = code.replace(text, by)
    path = os.path.join(work, "tour.py")
    with open(path, "w", encoding="utf-8") as file:
        file.write(code)
    if mypy:
        rig.checking = subprocess.Popen(
            [mypy, "--config-file", os.path.join(CLIENT, "pyproject.toml"), "--cache-dir", os.path.join(work, "mypy"),
             os.path.join(CLIENT, "boxoffice_client"), path],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "MYPYPATH": CLIENT})
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, path, "exec", dont_inherit=True), {"__name__": "tour"})
    assert said.getvalue() == TOLD, f"the tour says:\n{said.getvalue()}"


def lost_answers(rig):
    """The server does the work and the answer is lost: done once, and known."""
    _, option = rig.sale()
    rig.admin.charge_wallet("demo-buyer", {"amount": 1000})
    before = rig.buyer.get_own_wallet()["balance"]
    rig.proxy.clear()
    rig.proxy.next("drop", "garble", path="/reservations")
    held = rig.buyer.hold_seats(option, {"seats": ["S1"]})
    rig.proxy.next("drop", "hang_up", path="/payments")
    paid = rig.buyer.pay(held["id"])
    assert (paid["status"], paid["amount"], paid["balance"]) == ("completed", 10, before - 10), paid
    debits = [entry for entry in rig.buyer.list_wallet_entries() if entry["reference"] == paid["id"]]
    assert len(debits) == 1, debits
    for path in ("/reservations$", "/payments$"):
        keys = [call["key"] for call in rig.calls(path) if call["method"] == "POST"]
        assert len(keys) == 3 and len(set(keys)) == 1 and keys[0], keys
    # Another call has another key.
    other = rig.buyer.hold_seats(option, {"seats": ["S2"]})
    keys = {call["key"] for call in rig.calls("/reservations$")}
    assert len(keys) == 2, keys

    # A change without a key is made once: nobody knows whether it was done.
    rig.proxy.clear()
    rig.proxy.next("drop", path="/reservations")
    raises(Unreachable, lambda: rig.buyer.release_reservation(other["id"]))
    assert len(rig.proxy.calls) == 1, rig.proxy.calls
    assert rig.buyer.get_reservation(other["id"])["status"] == "released"
    rig.proxy.next("drop", path="/v1/concerts")
    raises(Unreachable, lambda: Boxoffice(rig.proxy.url, rig.admin_token).change_concert(rig.sale()[0], {"title": "Other"}))
    assert len(rig.calls("/v1/concerts")) == 1, rig.proxy.calls

    # Not for ever.
    rig.proxy.clear()
    rig.proxy.next(*["hang_up"] * 10, path="/v1/wallet")
    raises(Unreachable, lambda: Boxoffice(rig.proxy.url, rig.buyer_token, attempts=3).get_own_wallet())
    assert len(rig.proxy.calls) == 3, rig.proxy.calls


def refusals(rig):
    """What is said is believed: `Retry-After` is waited for, and other problems are answers."""
    _, option = rig.sale()
    for kind in ("busy", "limited"):
        rig.proxy.clear()
        rig.proxy.next(kind, path="/reservations")
        rig.buyer.hold_seats(option, {"seats": ["S1" if kind == "busy" else "S2"]})
        first, second = rig.proxy.calls
        assert first["key"] == second["key"] and second["at"] - first["at"] >= 1.0, (first, second)

    # Neither more often nor for longer than allowed, and not at all what is not safe.
    rig.proxy.clear()
    rig.proxy.next(*["busy"] * 10)
    problem = refused("overloaded", lambda: Boxoffice(rig.proxy.url, attempts=2).get_option(option))
    assert (problem.status, problem.retry_after, len(rig.proxy.calls)) == (503, 1.0, 2), problem
    rig.proxy.clear()
    rig.proxy.next("shut", "busy")
    assert refused("overloaded", lambda: rig.buyer.get_option(option)).retry_after == 3600
    assert len(rig.proxy.calls) == 1, rig.proxy.calls
    rig.proxy.calls.clear()
    refused("overloaded", lambda: rig.buyer.leave_queue("nobody"))
    assert len(rig.proxy.calls) == 1, rig.proxy.calls
    rig.proxy.clear()

    taken = refused("seats_unavailable", lambda: rig.buyer.hold_seats(option, {"seats": ["S1", "S3"]}))
    assert (taken.status, taken.problem["conflicts"], taken.fields) == (409, ["S1"], []), taken
    wrong = refused("invalid_request", lambda: rig.buyer.hold_seats(option, {"seats": [], "rows": 1}))
    assert wrong.status == 400 and wrong.fields[0]["field"] == "rows", wrong.fields
    refused("unauthenticated", lambda: Boxoffice(rig.proxy.url).get_own_wallet())
    refused("not_found", lambda: rig.buyer.get_reservation("../../v1/wallet"))
    raises(ValueError, lambda: rig.buyer.get_reservation(".."))
    refused("idempotency_key_reused", lambda: [rig.buyer.hold_seats(option, {"seats": [seat]}, idempotency_key="one")
                                               for seat in ("S4", "S5")])
    assert len(rig.proxy.calls) == 6, rig.proxy.calls


def answers(rig):
    """What is not the usual JSON: nothing, tables, what has not changed, and pages."""
    concert, option = rig.sale()
    for seat in range(1, 6):
        rig.buyer.hold_seats(option, {"seats": [f"S{seat}"], "reference": "Tisch 7"})
    admin = Boxoffice(rig.proxy.url, rig.admin_token)
    rig.proxy.clear()
    pages = list(admin.list_option_reservations(option, limit=2).pages())
    assert [len(page.items) for page in pages] == [2, 2, 1] and pages[-1].next_cursor is None, pages
    rig.proxy.next("drop", path="cursor=")
    listed = [it["seats"][0]["id"] for it in admin.list_option_reservations(option, limit=2, reference="Tisch 7")]
    assert listed == ["S5", "S4", "S3", "S2", "S1"], listed
    table = admin.list_option_reservations_as_csv(option)
    assert table.startswith("reservation_id,option_id") and len(table.strip().splitlines()) == 6, table
    tagged = admin.get_seats_if_changed(option)
    assert tagged.value["seats"]["S1"] == "held" and tagged.etag, tagged
    assert admin.get_seats_if_changed(option, tagged.etag) is None
    rig.admin.block_seats(option, {"seats": ["S9"]})
    assert admin.get_seats_if_changed(option, tagged.etag).value["seats"]["S9"] == "blocked"
    admin.charge_wallet("auth0|anna b/c", {"amount": 1})
    assert admin.get_wallet("auth0|anna b/c")["user_id"] == "auth0|anna b/c"
    assert admin.readyz()["ready"] is True
    assert rig.buyer.leave_queue(rig.buyer.issue_token(concert)["id"]) is None


def followed(rig):
    """Live seats, over cut connections: in the end they are what /seats shows, and no change was missed."""
    _, option = rig.sale()
    rig.proxy.clear()
    seen, done, failures = [], threading.Event(), []
    reached = {}

    def follow():
        try:
            mirror = {}
            for now in rig.buyer.follow_seats(option):
                if now.changed is None:
                    mirror = dict(now.seats)
                for seat, status in (now.changed or {}).items():
                    mirror.pop(seat, None)
                    mirror |= {} if status == "available" else {seat: status}
                assert mirror == now.seats, (mirror, now)
                assert not seen or now.seq > seen[-1], (now.seq, seen[-1])
                seen.append(now.seq)
                reached.update(seats=dict(now.seats), areas=dict(now.areas), seq=now.seq)
                if "S100" in now.seats:
                    return
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    threading.Thread(target=follow, daemon=True).start()

    def until(what, is_so):
        deadline = time.monotonic() + 20
        while not is_so():
            assert not failures, failures
            assert time.monotonic() < deadline, what
            time.sleep(0.01)

    def is_known():
        shown = rig.admin.get_seats(option)
        return reached.get("seq") == shown["seq"]

    held = None
    for turn in range(1, 5):
        until("the follower does not keep up", is_known)
        # Changes while nobody listens: what was known is free again, too.
        assert rig.proxy.cut() == 1
        if held:
            rig.buyer.release_reservation(held["id"])
        held = rig.buyer.hold_seats(option, {"seats": [f"S{turn}", f"S{turn + 10}"]})
        rig.buyer.hold_seats(option, {"areas": [{"name": "Lawn", "count": 1}]})
    until("the follower does not keep up", is_known)
    rig.admin.block_seats(option, {"seats": ["S100"]})
    until("the last change did not come", done.is_set)
    assert not failures, failures
    shown = rig.admin.get_seats(option)
    assert reached == {"seats": shown["seats"], "areas": shown["areas"], "seq": shown["seq"]}, (reached, shown)
    sockets = [call["path"] for call in rig.calls("/live")]
    assert len(sockets) == 5 and "since" not in sockets[0] and all("?since=" in path for path in sockets[1:]), sockets
    refused("not_found", lambda: next(rig.buyer.follow_seats("nothing")))
    # Leaving the loop ends the connection.
    until("a connection stays", lambda: not rig.proxy.tunnels)


def in_line(rig):
    """Waiting for one's turn, by a socket and by asking."""
    ways = {"by a socket": (False, 0), "by asking": (True, 0), "where sockets are not let through": (False, 10),
            "over a cut socket": (False, 0)}
    for way, (poll, refusals) in ways.items():
        concert, option = rig.sale()
        rig.admin.configure_waiting_room(concert, {"mode": "queue", "max_active": 1})
        first = Boxoffice(rig.server.url, rig.server.token("first"))
        turn = first.wait_for_turn(concert)
        assert turn["status"] == "active"
        refused("queue_token_required", lambda: rig.buyer.hold_seats(option, {"seats": ["S1"]}))
        rig.proxy.clear()
        rig.proxy.next(*["no_sockets"] * refusals, path="/live")
        told, waiting = [], threading.Event()

        def told_of(token):
            told.append((token["status"], token["position"]))
            waiting.set()

        def leave():
            waiting.wait(20)
            if way == "over a cut socket":
                while not rig.proxy.cut():
                    time.sleep(0.01)
            first.leave_queue(turn["id"])

        threading.Thread(target=leave, daemon=True).start()
        token = rig.buyer.wait_for_turn(concert, on_change=told_of, timeout=30, poll=poll)
        assert token["status"] == "active" and told[0] == ("waiting", 1) and told[-1] == ("active", None), (way, told)
        assert bool(rig.calls("/live")) != poll, (way, rig.proxy.calls)
        rig.proxy.clear()
        assert rig.buyer.hold_seats(option, {"seats": ["S1"]}, queue_token=token["token"])["status"] == "held"

    # Who does not come to his turn is told, and so is he whose place is gone.
    late = Boxoffice(rig.server.url, rig.server.token("late"))
    raises(TimeoutError, lambda: late.wait_for_turn(concert, timeout=0.2))

    def give_up(_):
        late.leave_queue(late.issue_token(concert)["id"])

    assert raises(TurnLost, lambda: late.wait_for_turn(concert, on_change=give_up)).token["status"] == "expired"


def frames(_):
    """WebSockets as the protocol has them: parts, pings in their midst, lengths of each kind, and what it does not allow."""
    def frame(first, payload, length=None):
        length = len(payload) if length is None else length
        size = bytes([length]) if length < 126 else b"\x7e" + length.to_bytes(2, "big") if length < 65536 else \
            b"\x7f" + length.to_bytes(8, "big")
        return bytes([first]) + size + payload

    def connected(sent, head=None):
        """A client whose other side has sent this, and that side."""
        ours, theirs = socket.socketpair()
        ours.settimeout(20)

        def serve():
            asked = theirs.recv(65536)
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", asked)[1]
            accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            upgrade = b"HTTP/1.1 101 Go\r\nUpgrade: WebSocket\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            theirs.sendall((head or upgrade) + sent)

        threading.Thread(target=serve, daemon=True).start()
        return WebSocket(ours, "there", "/", {}), theirs

    long, longer = "é" * 100, "x" * 200_000
    sent = (frame(0x01, b"a") + frame(0x89, b"there?") + frame(0x00, b"") + frame(0x80, b"b") + frame(0x81, long.encode())
            + frame(0x8A, b"") + frame(0x81, longer.encode()) + frame(0x81, b"") + frame(0x88, b"\x03\xe9bye"))
    client, theirs = connected(sent)
    assert [client.read() for _ in range(5)] == ["ab", long, longer, "", None]
    client.close()

    def unmasked(length):
        mask, payload = theirs.recv(4), theirs.recv(length)
        return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))

    assert theirs.recv(2) == b"\x8a\x86" and unmasked(6) == b"there?"
    assert theirs.recv(2) == b"\x88\x82" and unmasked(2) == b"\x03\xe9"
    wrong = {"a mask": b"\x81\x81aaaab", "a reserved bit": frame(0xC1, b"a"), "the rest of nothing": frame(0x80, b"a"),
             "a second beginning": frame(0x01, b"a") + frame(0x81, b"b"), "bytes": frame(0x82, b"a"),
             "no end": frame(0x81, b"", 1 << 40)}
    for what, bad in wrong.items():
        assert raises(OSError, connected(bad)[0].read), what
    cut, theirs = connected(b"\x81\x05ab")
    theirs.shutdown(socket.SHUT_WR)
    raises(OSError, cut.read)
    accept = b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n"
    raises(OSError, lambda: connected(b"", accept))
    raises(OSError, lambda: connected(b"", b"nonsense\r\n\r\n"))
    assert raises(Refused, lambda: connected(b"", b"HTTP/1.1 503 No\r\n\r\n")).status == 503


def types(rig):
    """What mypy has found meanwhile, if it was given."""
    if rig.checking:
        found, _ = rig.checking.communicate()
        assert rig.checking.returncode == 0, found


def deliveries(rig):
    """Events, fetched and delivered: those that are signed by somebody else, or long ago, are not believed."""
    _, option = rig.sale()
    url = rig.proxy.url + "/rig/deliver"
    webhook = rig.admin.register_webhook({"url": url, "event_types": ["boxoffice.reservation.created"]})

    def delivered():
        """What comes of the next hold."""
        known = len(rig.proxy.deliveries)
        held = rig.buyer.hold_seats(option, {"best_available": {"count": 1}})["id"]
        deadline = time.monotonic() + 20
        while len(rig.proxy.deliveries) == known:
            assert time.monotonic() < deadline, "nothing was delivered"
            time.sleep(0.01)
        delivery = rig.proxy.deliveries[-1]
        return held, delivery["headers"], delivery["body"].encode()

    held, headers, body = delivered()
    event = verify_webhook(webhook["secret"], headers, body)
    assert (event["type"], event["subject"]) == ("boxoffice.reservation.created", held), event
    fetched = next(event for event in rig.admin.follow_events() if event["subject"] == held)
    assert fetched == event, (fetched, event)

    named = {name.lower(): value for name, value in headers.items()}
    now, other = int(named["webhook-timestamp"]), "whsec_" + "QUFB" * 8
    forged = {
        "a secret that is another's": (other, headers, body, {}),
        "another body": (webhook["secret"], headers, body + b" ", {}),
        "another id": (webhook["secret"], {**named, "webhook-id": "evil"}, body, {}),
        "another time": (webhook["secret"], {**named, "webhook-timestamp": str(now + 1)}, body, {}),
        "no signature": (webhook["secret"], {**named, "webhook-signature": ""}, body, {}),
        "nonsense": (webhook["secret"], {**named, "webhook-signature": "v1,=== v1, v2,AAAA x"}, body, {}),
        "another version": (webhook["secret"], {**named, "webhook-signature": named["webhook-signature"].replace("v1,", "v2,")}, body, {}),
        "a time that is none": (webhook["secret"], {**named, "webhook-timestamp": "nan"}, body, {}),
        "long ago": (webhook["secret"], headers, body, {"now": now + 301}),
        "not yet": (webhook["secret"], headers, body, {"now": now - 301}),
    }
    for what, (secret, its, text, more) in forged.items():
        try:
            verify_webhook(secret, its, text, **more)
        except WebhookInvalid:
            continue
        raise AssertionError(f"it was believed: {what}")
    raises(ValueError, lambda: verify_webhook("whsec_", headers, body))
    verify_webhook([other, webhook["secret"]], headers, body, now=now + 299)
    verify_webhook(webhook["secret"], headers, body, now=now + 900, tolerance=1000)

    rotated = rig.admin.rotate_webhook_secret(webhook["id"])["secret"]
    held, headers, body = delivered()
    for secret in (webhook["secret"], rotated, [webhook["secret"], rotated]):
        assert verify_webhook(secret, headers, body)["subject"] == held
    raises(WebhookInvalid, lambda: verify_webhook(other, headers, body))


def main():
    binary, mypy = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    parts = [lost_answers, refusals, answers, followed, in_line, deliveries, frames, types]
    with tempfile.TemporaryDirectory() as work:
        rig = Rig(binary, work)
        try:
            tour(rig, work, mypy)
            for part in parts:
                part(rig)
        except BaseException:
            traceback.print_exc()
            sys.exit("client_python.py: failed")
        finally:
            rig.server.stop()
    print(f"client_python.py: the tour, and {len(parts)} parts beside it, do what they should")


if __name__ == "__main__":
    main()
