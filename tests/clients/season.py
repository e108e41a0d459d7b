"""Runs a whole season by HTTP alone and keeps its own books: nights are put on sale, sold, changed, called off and reconciled, and in
the end each sum, each seat, each sheet and each history must be what these books say.

    season.py SERVER_BINARY [SEED]

It knows the contract and nothing of the engine. Needs Python alone.
"""

import collections
import csv
import io
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

PATIENCE_SECONDS = 60
SETTINGS = """
[[payments.providers]]
name = "card"
[limits]
user_open_holds = 0
user_requests_per_second = 0
"""
PRICES = {"A": 100, "B": 60}
LAWN = "=Lawn"
LAWN_PRICE = 30
FREE_PLACES = 40
USERS = [f"user-{n}" for n in range(30)]
# What a spreadsheet would run.
REFERENCES = [None, "Table 7", "=HYPERLINK(\"http://x\")", "+1 from \"Anna\", late", "@home", "-"]


def check(what, found, wanted):
    if found != wanted:
        sys.exit(f"season.py: {what}: it is {found!r}, and should be {wanted!r}")


def eventually(what, ask):
    until = time.monotonic() + PATIENCE_SECONDS
    while not (answer := ask()):
        if time.monotonic() > until:
            sys.exit(f"season.py: still not: {what}")
        time.sleep(0.02)
    return answer


class Server:
    def __init__(self, binary, folder):
        self.binary, self.data = binary, os.path.join(folder, "data")
        settings = os.path.join(folder, "settings.toml")
        with open(settings, "w", encoding="utf-8") as file:
            file.write(SETTINGS)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("BOXOFFICE_")}
        environment |= {"BOXOFFICE_LOG_LEVEL": "warn", "BOXOFFICE_CONFIG": settings}
        command = [binary, "--data", self.data, "--listen", "127.0.0.1:0", "--ops-listen", "off"]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        check("what the server says first", line[:13], "listening on ")
        self.url, self.tokens = line.split()[2], {}

    def token(self, user, role=None):
        """Anybody's, made once."""
        if user not in self.tokens:
            more = ["--role", role] if role else []
            command = [self.binary, "token", "--data", self.data, "--user", user, *more]
            self.tokens[user] = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        return self.tokens[user]

    def ask(self, who, method, path, body=None, accept="application/json"):
        """The status and the answer."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}", "Content-Type": "application/json", "Accept": accept}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, text if accept == "text/csv" and status == 200 else json.loads(text or "null")

    def do(self, who, method, path, body=None):
        """What must succeed."""
        status, answer = self.ask(who, method, path, body)
        if status >= 300:
            sys.exit(f"season.py: {who}: {method} {path} {body}: {status} {answer}")
        return answer

    def all(self, who, path):
        """All items of all pages."""
        items, cursor = [], ""
        while cursor is not None:
            page = self.do(who, "GET", f"{path}{'&' if '?' in path else '?'}limit=100{cursor}")
            items += page["items"]
            cursor = f"&cursor={page['next_cursor']}" if page.get("next_cursor") else None
        return items

    def sheet(self, path):
        """The lines of a sheet, each by its headings."""
        status, text = self.ask("viewer", "GET", path, accept="text/csv")
        check(f"the status of {path}", status, 200)
        lines = list(csv.DictReader(io.StringIO(text)))
        for line in lines:
            running = [cell for cell in line.values() if cell[:1] in ("=", "+", "-", "@", "\t", "\r")]
            check(f"what a spreadsheet would run in {path}", running, [])
        return lines

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE_SECONDS)


def plan():
    """Six rows of ten seats; the first half of them is A."""
    def row(number):
        seats = [{"seat_guid": f"{number}-{n}", "seat_number": str(n), "category": "A" if number <= 3 else "B",
                  "position": {"x": 30 * n, "y": 40 * number}} for n in range(1, 11)]
        return {"row_number": str(number), "seats": seats}
    return {"categories": [{"name": "A"}, {"name": "B"}],
            "zones": [{"name": "Hall", "rows": [row(number) for number in range(1, 7)]}]}


class Order:
    """What somebody has, and who paid for it: legs are wallets and what they paid, oldest first; a card is one leg."""

    def __init__(self, id, owner, seats, lawn):
        self.id, self.owner, self.seats, self.lawn = id, owner, seats, lawn
        self.status, self.payment, self.by_card, self.legs, self.was_handed_on = "held", None, False, [], False
        self.reference = None

    def amount(self):
        return sum(self.seats.values()) + sum(self.lawn)


class Season:
    def __init__(self, server, seed):
        self.server, self.dice = server, random.Random(seed)
        for who, role in [("root", "admin"), ("till", "box_office"), ("refunder", "refunds"), ("viewer", "viewer"), ("bank", "payments")]:
            server.token(who, role)
        for user in USERS:
            server.token(user)
        self.balances = collections.Counter()
        self.orders, self.free, self.prices, self.lawn_left = {}, {}, {}, {}
        # Of charges by card, by their references: taken, and given back.
        self.taken, self.given = collections.Counter(), collections.Counter()
        self.counts = collections.Counter()

    # What is sold

    def put_on_sale(self, nights):
        concert = self.server.do("root", "POST", "/v1/concerts", {"title": "Season"})["id"]
        patch = {"venue": "Hall", "time_zone": "Asia/Seoul", "description": "Twelve nights"}
        check("the venue", self.server.do("root", "PATCH", f"/v1/concerts/{concert}", patch)["venue"], "Hall")
        self.concert = concert
        for _ in range(nights):
            night = self.server.do("root", "POST", f"/v1/concerts/{concert}/options", {
                "starts_at": "2099-11-20T19:30:00Z", "refundable_until": "2099-11-19T00:00:00Z", "seating_plan": plan(),
                "prices": {**PRICES, "Lawn": LAWN_PRICE}, "areas": [{"name": LAWN, "capacity": FREE_PLACES, "category": "Lawn"}],
                "max_seats_per_user": 100, "currency": "KRW", "payment_methods": ["points", "card"]})["id"]
            self.orders[night], self.prices[night] = {}, {**PRICES, "Lawn": LAWN_PRICE}
            self.free[night] = {f"{row}-{n}" for row in range(1, 7) for n in range(1, 11)}
            self.lawn_left[night] = FREE_PLACES
        return list(self.orders)

    def price(self, night, seat):
        return self.prices[night]["A" if int(seat.split("-")[0]) <= 3 else "B"]

    def charge(self):
        for user in USERS:
            amount = self.dice.randrange(100, 900)
            self.server.do("root", "POST", f"/v1/users/{user}/wallet/charges", {"amount": amount})
            self.balances[user] += amount
        amount = -self.dice.randrange(1, 100)
        adjusted = self.server.do("root", "POST", "/v1/users/user-0/wallet/adjustments", {"amount": amount, "reason": "=1+1"})
        check("the kind of an adjustment", adjusted["kind"], "adjustment")
        self.balances["user-0"] += amount

    # What buyers and the box office do

    def some(self, of, most):
        of = sorted(of)
        return self.dice.sample(of, self.dice.randint(1, min(most, len(of))))

    def buy(self, night, by="points"):
        user, server = self.dice.choice(USERS), self.server
        body, lawn = {}, 0
        if self.dice.random() < 0.2 and self.lawn_left[night] >= 3:
            lawn = self.dice.randint(1, 3)
            body["areas"] = [{"name": LAWN, "count": lawn}]
        elif self.free[night]:
            body["seats"] = self.some(self.free[night], 4)
        else:
            return
        if reference := self.dice.choice(REFERENCES):
            body["reference"] = reference
        held = server.do(user, "POST", f"/v1/options/{night}/reservations", body)
        order = Order(held["id"], user, {seat: self.price(night, seat) for seat in body.get("seats", [])}, [self.prices[night]["Lawn"]] * lawn)
        order.reference = reference
        self.take(night, order)
        check("the amount of a hold", held["amount"], order.amount())
        if len(order.seats) > 1 and self.dice.random() < 0.3:
            seat = self.dice.choice(sorted(order.seats))
            left = server.do(user, "POST", f"/v1/reservations/{order.id}/releases", {"seats": [seat]})
            self.let_go(night, order, [seat])
            check("the amount of what is left", left["amount"], order.amount())
            self.counts["released in part"] += 1
        if by == "card":
            return self.pay_by_card(order)
        status, answer = server.ask(user, "POST", f"/v1/reservations/{order.id}/payments", {})
        if order.amount() > self.balances[user]:
            check("what comes of too few points", (status, answer["code"]), (402, "insufficient_points"))
            server.do(user, "DELETE", f"/v1/reservations/{order.id}")
            self.end(night, order, "released")
            self.counts["not paid"] += 1
            return
        check("the status of a payment", (status, answer["status"]), (201, "completed"))
        self.balances[user] -= order.amount()
        order.status, order.payment, order.legs = "confirmed", answer["id"], [[user, order.amount()]]
        self.counts["sold"] += 1

    def take(self, night, order):
        self.orders[night][order.id] = order
        self.free[night] -= set(order.seats)
        self.lawn_left[night] -= len(order.lawn)

    def let_go(self, night, order, seats):
        for seat in seats:
            del order.seats[seat]
            self.free[night].add(seat)

    def end(self, night, order, status):
        order.status = status
        self.free[night] |= set(order.seats)
        self.lawn_left[night] += len(order.lawn)

    def tell(self, order, kind, amount):
        fact = {"kind": kind, "reference": f"ch-{order.payment}", "amount": amount, "currency": "KRW"}
        if kind == "refunded":
            fact["id"] = f"re-{order.payment}-{self.given[fact['reference']]}"
        return self.server.do("bank", "POST", f"/v1/payments/{order.payment}/facts", fact)

    def pay_by_card(self, order):
        begun = self.server.do(order.owner, "POST", f"/v1/reservations/{order.id}/payments", {"method": "card"})
        order.payment, order.by_card = begun["id"], True
        check("the verdict", self.tell(order, "authorized", order.amount())["verdict"], "capture")
        check("the status", self.tell(order, "captured", order.amount())["status"], "completed")
        self.taken[f"ch-{order.payment}"] += order.amount()
        order.status = "confirmed"
        self.counts["sold by card"] += 1

    def give_away(self, night):
        if not self.free[night]:
            return
        seat, user = self.dice.choice(sorted(self.free[night])), self.dice.choice(USERS)
        self.server.do("till", "POST", f"/v1/options/{night}/blocks", {"seats": [seat]})
        wish = {"seats": [seat], "user_id": user, "complimentary": True, "from_blocked": True}
        given = self.server.do("till", "POST", f"/v1/options/{night}/reservations", wish)
        check("what is given away", (given["status"], given["amount"], given["user_id"]), ("confirmed", 0, user))
        order = Order(given["id"], user, {seat: 0}, [])
        order.status, order.payment, order.was_handed_on = "confirmed", given.get("payment_id"), True
        self.take(night, order)
        # It stays, as a guest's.
        self.orders[night][order.id].guest = True
        self.counts["given away"] += 1

    def one(self, night, fits=lambda order: True):
        """Some order that is paid."""
        found = [order for order in self.orders[night].values() if order.status == "confirmed" and not hasattr(order, "guest") and fits(order)]
        return self.dice.choice(found) if found else None

    def drawn(self, order, amount):
        """Of which legs an amount goes back, and how much of each."""
        parts = []
        for leg in reversed(order.legs):
            parts.append((leg, min(leg[1], amount)))
            amount -= parts[-1][1]
        check("what no leg has paid", amount, 0)
        return parts

    def told(self, order, amount):
        """What the answer to a refund tells: of one that goes to several wallets, what the newest payer gets."""
        if order.by_card:
            return amount
        parts = [(leg[0], part) for leg, part in self.drawn(order, amount) if part]
        return sum(part for payer, part in parts if payer == parts[0][0])

    def back(self, order, amount):
        """What goes back, to who paid last first; by card it is owed, and done when it is told."""
        if order.by_card:
            self.tell(order, "refunded", amount)
            self.given[f"ch-{order.payment}"] += amount
            return
        for leg, part in self.drawn(order, amount):
            leg[1] -= part
            self.balances[leg[0]] += part

    def settles(self, order):
        """Until nothing of it is under way."""
        owner = self.server.do("viewer", "GET", f"/v1/payments/{order.payment}")["user_id"]
        eventually("the wallet is right", lambda: self.balance(owner) == self.balances[owner])

    def balance(self, user):
        return self.server.do("root", "GET", f"/v1/users/{user}/wallet")["balance"]

    def refund_part(self, night):
        order = self.one(night, lambda order: len(order.seats) > 1)
        if order is None:
            return
        seats = self.some(order.seats, len(order.seats) - 1)
        who = "refunder" if order.was_handed_on else order.owner
        amount = sum(order.seats[seat] for seat in seats)
        status, refund = self.server.ask(who, "POST", f"/v1/payments/{order.payment}/refunds", {"seats": seats})
        check("what goes back of a part", (status, refund["amount"]), (202 if order.by_card else 201, self.told(order, amount)))
        self.back(order, amount)
        self.let_go(night, order, seats)
        self.settles(order)
        self.counts["refunded in part"] += 1

    def refund(self, night):
        order = self.one(night)
        if order is None:
            return
        who = "refunder" if order.was_handed_on else order.owner
        self.server.do(who, "POST", f"/v1/payments/{order.payment}/refunds", {})
        self.back(order, order.amount())
        self.end(night, order, "refunded")
        self.settles(order)
        self.counts["refunded"] += 1

    def exchange(self, night):
        order = self.one(night, lambda order: order.seats)
        if order is None or not self.free[night]:
            return
        give, take = self.dice.choice(sorted(order.seats)), self.dice.choice(sorted(self.free[night]))
        rise = self.price(night, take) - order.seats[give]
        who = "root" if order.was_handed_on else order.owner
        status, answer = self.server.ask(who, "POST", f"/v1/reservations/{order.id}/exchanges", {"give": [give], "take": [take]})
        if rise > 0 and order.by_card:
            check("a dearer seat by card", (status, answer["code"]), (409, "price_would_rise"))
            self.counts["not exchanged by card"] += 1
            return
        if rise > self.balances[order.owner]:
            check("a dearer seat for too few points", (status, answer["code"]), (402, "insufficient_points"))
            self.counts["not exchanged for points"] += 1
            return
        check("the status of an exchange", (status, answer.get("code")), (201, None))
        self.let_go(night, order, [give])
        order.seats[take] = self.price(night, take)
        self.free[night].remove(take)
        check("the seats after an exchange", {seat["id"]: seat["price"] for seat in answer["seats"]}, order.seats)
        if rise > 0:
            self.balances[order.owner] -= rise
            order.legs.append([order.owner, rise])
        elif rise < 0:
            self.back(order, -rise)
        self.settles(order)
        self.counts["exchanged"] += 1

    def transfer(self, night):
        order, to = self.one(night), self.dice.choice(USERS)
        if order is None or order.owner == to:
            return
        offers = f"/v1/reservations/{order.id}/transfers"
        if self.dice.random() < 0.3:
            self.server.do("till", "POST", offers, {"to": to, "accept": True})
        else:
            offer = self.server.do(order.owner, "POST", offers, {"to": to})["id"]
            check("an offer to another", self.server.ask(order.owner, "POST", f"/v1/transfers/{offer}/accept", {})[0], 404)
            self.server.do(to, "POST", f"/v1/transfers/{offer}/accept", {})
        check("what is not theirs any more", self.server.ask(order.owner, "GET", f"/v1/reservations/{order.id}")[0], 404)
        order.owner, order.was_handed_on = to, True
        self.counts["handed on"] += 1

    def play(self, nights, times):
        acts = [self.buy] * 5 + [lambda night: self.buy(night, "card")] * 2
        acts += [self.refund_part, self.refund, self.exchange, self.exchange, self.transfer, self.give_away]
        for _ in range(times):
            self.dice.choice(acts)(self.dice.choice(nights))

    # What is changed

    def change_what_is_sold(self, night):
        """Dearer from now on, with more places on the lawn."""
        lawn = {"name": LAWN, "capacity": FREE_PLACES + 5}
        changed = self.server.do("root", "PATCH", f"/v1/options/{night}", {"prices": {"A": 120}, "areas": [lawn]})
        check("the new price", changed["prices"]["A"], 120)
        self.prices[night]["A"] = 120
        self.lawn_left[night] += 5
        used = FREE_PLACES + 5 - self.lawn_left[night]
        if used > 1:
            less = {"areas": [{"name": LAWN, "capacity": used - 1}]}
            status, problem = self.server.ask("root", "PATCH", f"/v1/options/{night}", less)
            check("room for fewer than are there", (status, problem["code"]), (409, "capacity_in_use"))

    def call_off(self, night):
        self.server.do("root", "POST", f"/v1/options/{night}/cancellation", {"reason": "Rain"})
        check("asked again", self.server.ask("root", "POST", f"/v1/options/{night}/cancellation", {"reason": "Rain"})[0], 202)
        for order in self.orders[night].values():
            if order.status == "held":
                self.end(night, order, "released")
            if order.status != "confirmed":
                continue
            if order.by_card:
                payment = eventually("a refund is owed", lambda: self.owed(order))
                check("how much is owed", sum(owed["amount"] for owed in payment["owed"]), order.amount())
            self.back(order, order.amount())
            self.end(night, order, "refunded")
        progress = lambda: self.server.do("root", "GET", f"/v1/options/{night}/cancellation")
        done = eventually("all is given back", lambda: (now := progress())["done"] == now["total"] and now["owed"] == 0 and now)
        check("how many were to be given back", done["total"] > 0, True)
        check("the status", self.server.do("viewer", "GET", f"/v1/options/{night}")["status"], "cancelled")
        wish = {"seats": ["1-1"]}
        check("a hold", self.server.ask("user-1", "POST", f"/v1/options/{night}/reservations", wish)[0], 409)

    def owed(self, order):
        """The payment, if it is on the list of work with a refund."""
        listed = self.server.all("bank", "/v1/payments?owed=true")
        found = [one for one in listed if one["id"] == order.payment and any(owed["kind"] == "refund" for owed in one["owed"])]
        return found[0] if found else None

    # What must be so in the end

    def audit(self, night):
        orders = self.orders[night]
        sheet = self.server.sheet(f"/v1/options/{night}/reservations")
        places, statuses = collections.Counter(), {}
        for line in sheet:
            statuses[line["reservation_id"]] = (line["status"], line["user_id"])
            if line["status"] == "confirmed":
                places[line["reservation_id"], line["seat"] or line["area"].lstrip("'"), int(line["price"])] += 1
        check("who has what", statuses, {order.id: (order.status, order.owner) for order in orders.values()})
        sold = [order for order in orders.values() if order.status == "confirmed"]
        wanted = collections.Counter()
        for order in sold:
            wanted.update((order.id, seat, price) for seat, price in order.seats.items())
            wanted.update((order.id, LAWN, price) for price in order.lawn)
        check("the places that are sold", places, wanted)
        references = {line["reservation_id"]: line["reference"].removeprefix("'") for line in sheet if line["status"] == "confirmed"}
        check("the references", references, {order.id: order.reference or "" for order in sold})
        # Pages say the same as the sheet.
        pages = {one["id"]: one for one in self.server.all("viewer", f"/v1/options/{night}/reservations?status=confirmed")}
        check("the pages", {id: one["amount"] for id, one in pages.items()}, {order.id: order.amount() for order in sold})
        counts = self.server.do("viewer", "GET", f"/v1/options/{night}")["counts"]
        check("how many are sold", counts["sold"], sum(len(order.seats) + len(order.lawn) for order in sold))
        # What came in is what the places cost.
        by_wallet = sum(left for order in sold for _, left in order.legs)
        by_card = sum(self.taken[f"ch-{order.payment}"] - self.given[f"ch-{order.payment}"] for order in orders.values() if order.by_card)
        check("the revenue", by_wallet + by_card, sum(order.amount() for order in sold))
        payments = self.server.sheet(f"/v1/payments?option_id={night}")
        paid = sum(int(line["price"]) for line in payments if line["status"] == "completed")
        check("the revenue by the payments' sheet", paid, sum(order.amount() for order in sold))
        for order in self.dice.sample(sold, min(3, len(sold))):
            for seat in order.seats:
                history = self.server.all("viewer", f"/v1/options/{night}/seats/{seat}/history")
                last = [item for item in history if item.get("reservation_id") == order.id]
                check(f"whose {seat} is by its history {history}", history[-1].get("reservation_id"), order.id)
                check(f"that {seat} is not given back", last[-1]["what"] in ("refund_credited", "released", "given_in_exchange"), False)

    def audit_money(self):
        for user in USERS:
            check(f"the wallet of {user}", self.balance(user), self.balances[user])
            signs = {"charge": 1, "credit": 1, "debit": -1}
            entries = self.server.all(user, "/v1/wallet/entries")
            total = sum(entry["amount"] * signs.get(entry["kind"], 1) for entry in entries)
            check(f"the entries of {user}", total, self.balances[user])
        days = {time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (BEGUN, time.time())}
        taken, given = collections.Counter(), collections.Counter()
        for day in days:
            for line in self.server.all("root", f"/v1/payments/reconciliation?provider=card&day={day}"):
                taken[line["reference"]] += line["captured"]
                given[line["reference"]] += line["refunded"]
                check(f"what is owed or missing of {line['reference']}", (line["owed"], line["shortfall"]), (0, 0))
        check("what was taken by card", +taken, +self.taken)
        check("what was given back by card", +given, +self.given)


BEGUN = time.time()


def main():
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    print(f"season.py: seed {seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        server = Server(sys.argv[1], folder)
        season = Season(server, seed)
        try:
            nights = season.put_on_sale(3)
            season.charge()
            season.play(nights, 250)
            season.change_what_is_sold(nights[1])
            season.charge()
            season.play(nights, 150)
            season.call_off(nights[2])
            season.play(nights[:2], 50)
            for night in nights:
                season.audit(night)
            season.audit_money()
        finally:
            ended = server.stop()
        check("how the server ends", ended, 0)
        verified = subprocess.run([sys.argv[1], "verify", "--data", server.data], capture_output=True, text=True)
        check("what verify says", (verified.returncode, "state agrees" in verified.stdout), (0, True))
    print("season.py: " + ", ".join(f"{count} {what}" for what, count in sorted(season.counts.items())) + ": all sums and sheets agree")


main()
