"""Has a server take a card by Stripe, with `localstripe` as the other side, which nobody here wrote.

    stripe.py SERVER_BINARY LOCALSTRIPE

It knows no idempotency keys, no search, no disputes, no lists of a day and no events of manual capture: that event is made here, of the intent as
it stands there. The rest of the contract is kept by the stub of tests/http/stripe_stub.rs. Needs what events.py needs.
"""

import hashlib
import hmac
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

from events import Server, option, until

KEY, SECRET = "sk_test_12345", "whsec_of_localstripe"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Stripe:
    """The other side, and who runs the account."""

    def __init__(self, program):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [program, "--from-scratch", "--port", str(port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.answers)

    def answers(self):
        try:
            return self.call("GET", "/v1/payment_methods?customer=") is not None
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False

    def call(self, method, path, **fields):
        data = urllib.parse.urlencode(fields).encode() if fields else None
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {KEY}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def pay(self, intent):
        """What the buyer's page does."""
        card = {"type": "card", "card[number]": "4242424242424242", "card[exp_month]": "12", "card[exp_year]": "2099",
                "card[cvc]": "123"}
        method = self.call("POST", "/v1/payment_methods", **card)
        self.call("POST", f"/v1/payment_intents/{intent}", payment_method=method["id"])
        return self.call("POST", f"/v1/payment_intents/{intent}/confirm")


def send(server, kind, intent):
    body = json.dumps({"id": "evt_1", "object": "event", "type": kind, "livemode": False, "data": {"object": intent}}).encode()
    now = int(time.time())
    signature = hmac.new(SECRET.encode(), b"%d." % now + body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(f"{server.url}/v1/payment-providers/card/webhook", data=body, method="POST")
    request.add_header("Content-Type", "application/json; charset=utf-8")
    request.add_header("Stripe-Signature", f"t={now},v1={signature}")
    urllib.request.urlopen(request, timeout=30).close()


def main():
    stripe = Stripe(sys.argv[2])
    try:
        take_a_card(stripe)
    finally:
        stripe.process.kill()
        stripe.process.wait()
    print("stripe.py: a card was charged and refunded, and an intent called off, by localstripe")


def take_a_card(stripe):
    with tempfile.TemporaryDirectory() as directory:
        settings = os.path.join(directory, "cards.toml")
        with open(settings, "w") as file:
            file.write(f'[[payments.providers]]\nname = "card"\nkind = "stripe"\nurl = "{stripe.url}"\n')
        secrets = {"SECRET_KEY": KEY, "WEBHOOK_SECRETS": SECRET}
        environment = {f"BOXOFFICE_PAYMENTS_PROVIDERS_CARD_{name}": value for name, value in secrets.items()}
        server = Server(sys.argv[1], os.path.join(directory, "data"), BOXOFFICE_CONFIG=settings, **environment)
        anna = server.token("anna")
        concert = server.call("POST", "/v1/concerts", server.admin, {"title": "x"})["id"]
        sale = option(server, concert, payment_methods=["card"], currency="EUR", refundable_until="2099-11-01T00:00:00Z")

        def begin(seat):
            held = server.call("POST", f"/v1/options/{sale}/reservations", anna, {"seats": [seat]})["id"]
            begun = server.call("POST", f"/v1/reservations/{held}/payments", anna, {"method": "card"})
            return f"/v1/payments/{begun['id']}", begun["checkout"]["client_secret"].split("_secret_")[0]

        def becomes(payment, status):
            until(lambda: server.call("GET", payment, anna)["status"] == status)

        payment, intent = begin("S1")
        reserved = stripe.pay(intent)
        if reserved["status"] != "requires_capture":
            sys.exit(f"stripe.py: the money is not reserved: {reserved}")
        send(server, "payment_intent.amount_capturable_updated", reserved)
        becomes(payment, "completed")
        taken = stripe.call("GET", f"/v1/payment_intents/{intent}")
        if taken["status"] != "succeeded":
            sys.exit(f"stripe.py: the money is not taken: {taken}")
        server.call("POST", f"{payment}/refunds", anna, {})
        becomes(payment, "refunded")
        refunds = stripe.call("GET", f"/v1/refunds?payment_intent={intent}")["data"]
        if [refund["amount"] for refund in refunds] != [100]:
            sys.exit(f"stripe.py: it went back like this: {refunds}")

        given_up, intent = begin("S2")
        server.call("DELETE", given_up, anna)
        becomes(given_up, "voided")
        called_off = stripe.call("GET", f"/v1/payment_intents/{intent}")
        if called_off["status"] != "canceled":
            sys.exit(f"stripe.py: it can still be paid: {called_off}")
        server.stop()


if __name__ == "__main__":
    main()
