#!/usr/bin/env python3
"""Follows a sale over WebSockets with a client that nobody here wrote, through drops and resumes.

    tests/clients/live.py SERVER_BINARY

Needs the package `websockets`. Ends with an error unless every follower has exactly the seats that /seats shows.
"""
import asyncio
import json
import random
import re
import subprocess
import sys
import tempfile
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

SEATS = 300
FOLLOWERS = 5
ROUNDS = 120


class Api:
    def __init__(self, url):
        self.url = url

    def ask(self, method, path, token=None, body=None):
        request = urllib.request.Request(self.url + path, method=method)
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        data = None
        if body is not None:
            request.add_header("Content-Type", "application/json")
            data = json.dumps(body).encode()
        with urllib.request.urlopen(request, data, timeout=30) as answer:
            return json.loads(answer.read() or "null")


class Follower:
    """Keeps a map of the seats, and comes back with the last seq whenever the connection is gone."""

    def __init__(self, url, number):
        self.url, self.random = url, random.Random(number)
        self.seq, self.seats, self.areas = None, {}, {}
        self.resumes = 0

    def take(self, message):
        if message["type"] == "snapshot":
            self.seats, self.areas = dict(message["seats"]), dict(message["areas"])
        else:
            assert message["type"] == "delta" and message["previous_seq"] == self.seq, (self.seq, message)
            for seat, status in message["seats"].items():
                if status == "available":
                    self.seats.pop(seat, None)
                else:
                    self.seats[seat] = status
            self.areas.update(message["areas"])
        self.seq = message["seq"]

    async def follow(self, last):
        """Until `last` is done, and everything up to its seq is here."""
        while True:
            since = "" if self.seq is None else f"?since={self.seq}"
            # None of it is asked for: pings are answered by the library itself.
            async with connect(self.url + since, max_size=None, open_timeout=30) as socket:
                self.resumes += 1
                # The first time no more than the snapshot, so that everybody comes back, however fast the sale is.
                for _ in range(self.random.randint(1, 12) if self.resumes > 1 else 1):
                    if last.done() and self.seq == last.result():
                        return
                    try:
                        self.take(json.loads(await asyncio.wait_for(socket.recv(), 1)))
                    except TimeoutError:
                        pass
                if self.random.random() < 0.5:
                    # Without a goodbye.
                    socket.transport.abort()


async def main(server):
    with tempfile.TemporaryDirectory() as work:
        command = [server, "--data", f"{work}/data", "--listen", "127.0.0.1:0", "--ops-listen", "off"]
        log = open(f"{work}/log", "w")
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            url = re.match("listening on (.*)", process.stdout.readline())[1]
            issue = [server, "token", "--data", f"{work}/data", "--user"]
            admin = subprocess.check_output([*issue, "root", "--role", "admin"], text=True).strip()
            buyers = [subprocess.check_output([*issue, f"buyer-{n}"], text=True).strip() for n in range(8)]
            await check(Api(url), admin, buyers)
        except BaseException:
            print(open(f"{work}/log").read()[-4000:], file=sys.stderr)
            raise
        finally:
            process.terminate()
            process.wait(30)


def sell(api, option, buyers):
    """Holds, pays and releases, as buyers do; gives the last seq."""
    chance = random.Random(1)
    for round in range(ROUNDS):
        buyer = buyers[round % len(buyers)]
        body = {"best_available": {"count": chance.randint(1, 4)}}
        if chance.random() < 0.2:
            body = {"areas": [{"name": "Floor", "count": 1}]}
        held = api.ask("POST", f"/v1/options/{option}/reservations", buyer, body)
        what = chance.random()
        if what < 0.4:
            api.ask("POST", f"/v1/reservations/{held['id']}/payments", buyer, {})
        elif what < 0.9:
            api.ask("DELETE", f"/v1/reservations/{held['id']}", buyer)
    return api.ask("GET", f"/v1/options/{option}/seats")["seq"]


async def check(api, admin, buyers):
    concert = api.ask("POST", "/v1/concerts", admin, {"title": "Followed"})["id"]
    seats = [
        {"seat_guid": f"S{n}", "seat_number": str(n), "category": "A", "position": {"x": 30 * n, "y": 0}}
        for n in range(SEATS)
    ]
    rows = [{"row_number": str(n), "seats": seats[n : n + 20]} for n in range(0, SEATS, 20)]
    plan = {"categories": [{"name": "A"}], "zones": [{"name": "Hall", "rows": rows}]}
    option = {
        "starts_at": "2099-11-20T19:30:00Z",
        "seating_plan": plan,
        "prices": {"A": 1, "Floor": 1},
        "areas": [{"name": "Floor", "capacity": 100, "category": "Floor"}],
        "max_seats_per_user": 1000,
    }
    option = api.ask("POST", f"/v1/concerts/{concert}/options", admin, option)["id"]
    for n in range(len(buyers)):
        api.ask("POST", f"/v1/users/buyer-{n}/wallet/charges", admin, {"amount": 10_000})

    live = api.url.replace("http", "ws") + f"/v1/options/{option}/live"
    last = asyncio.get_running_loop().create_future()
    followers = [Follower(live, n) for n in range(FOLLOWERS)]
    following = [asyncio.create_task(follower.follow(last)) for follower in followers]
    last.set_result(await asyncio.to_thread(sell, api, option, buyers))
    await asyncio.wait_for(asyncio.gather(*following), 120)
    shown = api.ask("GET", f"/v1/options/{option}/seats")
    for follower in followers:
        known = {"option_id": option, "seq": follower.seq, "seats": follower.seats, "areas": follower.areas}
        assert known == shown, f"{known}\n{shown}"
        assert follower.resumes > 1, "it was never dropped"
    print(f"{len(followers)} followers, {sum(f.resumes for f in followers)} connections: all have what /seats shows")

    await in_line(api, admin, buyers, concert)
    try:
        async with connect(live, origin="https://evil.example"):
            raise AssertionError("a page of another origin was let in")
    except InvalidStatus as refused:
        assert refused.response.status_code == 403, refused


async def in_line(api, admin, buyers, concert):
    """A browser's way in: the JWT is the second subprotocol."""
    api.ask("PATCH", f"/v1/concerts/{concert}/waiting-room", admin, {"mode": "queue", "max_active": 1})
    tokens = [api.ask("POST", f"/v1/concerts/{concert}/tokens", buyer)["id"] for buyer in buyers[:3]]
    url = api.url.replace("http", "ws") + f"/v1/tokens/{tokens[2]}/live"
    async with connect(url, subprotocols=["bearer", buyers[2]]) as socket:
        assert socket.subprotocol == "bearer"

        async def until(**expected):
            while True:
                told = json.loads(await asyncio.wait_for(socket.recv(), 30))
                assert told["type"] == "token" and told["id"] == tokens[2]
                if all(told[name] == value for name, value in expected.items()):
                    return

        await until(status="waiting", position=2)
        api.ask("DELETE", f"/v1/tokens/{tokens[0]}", buyers[0])
        await until(status="waiting", position=1)
        api.ask("DELETE", f"/v1/tokens/{tokens[1]}", buyers[1])
        await until(status="active", position=None)
        await socket.send("x" * 5000)
        try:
            while True:
                await asyncio.wait_for(socket.recv(), 30)
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed
    print("a place in line was followed to its end")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
