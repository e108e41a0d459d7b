"""Goes from the deb to a sale as the README tells a stranger, with its blocks as they stand there: in a clean root, with a login that nobody here
wrote (`oidc-provider-mock`), in a page of another origin, by a browser; and sees in Prometheus what the dashboards show of it.

usage: stranger.py ROOT, as root, by a Python that has grafana-foundation-sdk and oidc-provider-mock; nginx runs in there, the names of the README
lead to this machine, and SSL_CERT_FILE is whom their certificates are of. With PICTURES=DIR it leaves screenshots there.
"""

import base64
import http.server
import json
import os
import pathlib
import re
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import warnings

with warnings.catch_warnings(record=True):
    # Packages of it that warn of each other.
    import oidc_provider_mock
import werkzeug.serving
from werkzeug.middleware.proxy_fix import ProxyFix

import dashboards

README = (pathlib.Path(__file__).resolve().parents[2] / "README.md").read_text()
TICKETS, SHOP, LOGIN = (f"https://{name}" for name in ("tickets.shop.example", "shop.example", "id.shop.example"))
CLIENT, ROLES = "tickets", "https://shop.example/roles"
PATIENCE_SECONDS = 40
# What stands behind nginx.
LOGIN_PORT, SHOP_PORT = 9400, 9500


def step(number):
    """The blocks of a step by their languages, each kind as one text."""
    section = re.search(rf"\n### {number}\. .*?(?=\n##)", README, re.S).group()
    blocks = {}
    for language, code in re.findall(r"```(\w+)\n(.*?)```", section, re.S):
        blocks[language] = blocks.get(language, "") + code
    return blocks


def type_in(root, number):
    """What a step says to run, by one shell."""
    environment = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]
    shell = ["chroot", str(root), *environment, "bash", "-euo", "pipefail", "-c", "cd /root\n" + step(number)["sh"]]
    # A file, since what it starts goes on and would keep a pipe open.
    with open(root / "root" / f"step-{number}.log", "w+") as log:
        status = subprocess.run(shell, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=600).returncode
        log.seek(0)
        printed = log.read()
    if status != 0:
        sys.exit(f"stranger.py: step {number}:\n{printed}")
    print(f"      step {number}", flush=True)
    return printed


def in_background(server):
    threading.Thread(target=server.serve_forever, daemon=True).start()


def let_nginx_pass(root, name, port):
    """Puts it behind TLS."""
    certificate = "/etc/ssl/tickets.shop.example"
    (root / "etc/nginx/sites-enabled" / name).write_text(
        f"server {{ listen 443 ssl; server_name {name}; ssl_certificate {certificate}/fullchain.pem; ssl_certificate_key {certificate}/privkey.pem;\n"
        f"location / {{ proxy_pass http://127.0.0.1:{port}; proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto https; }} }}\n")


def serve_login():
    users = [oidc_provider_mock.User(sub="anna"), oidc_provider_mock.User(sub="root", claims={ROLES: ["shop-admins"]})]
    app = oidc_provider_mock.app(user_claims=users)
    app.wsgi_app = ProxyFix(app.wsgi_app, x_proto=1)
    in_background(werkzeug.serving.make_server("127.0.0.1", LOGIN_PORT, app, threaded=True, request_handler=Quiet))


class Quiet(werkzeug.serving.WSGIRequestHandler):
    def log(self, *_):
        pass


def begin_login():
    """Where somebody is sent to sign in, and what comes back to the shop."""
    query = {"client_id": CLIENT, "redirect_uri": SHOP + "/back", "response_type": "code", "scope": "openid"}
    return f"{LOGIN}/oauth2/authorize?{urllib.parse.urlencode(query)}"


def end_login(code):
    """The token for a code, as the shop gets it."""
    form = {"grant_type": "authorization_code", "code": code, "client_id": CLIENT, "client_secret": "any", "redirect_uri": SHOP + "/back"}
    with urllib.request.urlopen(LOGIN + "/oauth2/token", urllib.parse.urlencode(form).encode(), timeout=30) as answer:
        return json.load(answer)["id_token"]


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def token_of(user):
    """Signs somebody in without a browser."""
    try:
        urllib.request.build_opener(Stay).open(begin_login(), urllib.parse.urlencode({"sub": user}).encode(), timeout=30)
    except urllib.error.HTTPError as found:
        return end_login(urllib.parse.parse_qs(urllib.parse.urlparse(found.headers["Location"]).query)["code"][0])
    raise AssertionError("nobody was sent back")


class Shop(http.server.BaseHTTPRequestHandler):
    """A site with the page of the README, under the policy of the README, and what the README says that a site has."""

    blocks = step(4)
    policy = blocks["text"].strip().removeprefix("Content-Security-Policy: ")
    sessions = {}

    def do_GET(self):
        url = urllib.parse.urlparse(self.path)
        session = (self.headers["Cookie"] or "").removeprefix("session=")
        match url.path:
            case "/":
                self.answer(200, "text/html; charset=utf-8", self.blocks["html"])
            case "/tickets.js":
                self.answer(200, "text/javascript", self.blocks["js"])
            case "/session/ticket-token" if session in self.sessions:
                self.answer(200, "text/plain", self.sessions[session])
            case "/session/ticket-token":
                self.answer(401, "text/plain", "Nobody is signed in.")
            case "/login":
                self.send(begin_login())
            case "/back":
                session = secrets.token_hex()
                self.sessions[session] = end_login(urllib.parse.parse_qs(url.query)["code"][0])
                self.send("/", ("Set-Cookie", f"session={session}; Path=/; Secure; HttpOnly; SameSite=Lax"))
            case "/checkout":
                self.answer(200, "text/html; charset=utf-8", "<!doctype html><title>Checkout</title><h1>Pay here</h1>")
            case _:
                self.answer(404, "text/plain", "There is no such page.")

    def send(self, to, *headers):
        self.answer(303, "text/plain", "", ("Location", to), *headers)

    def answer(self, status, kind, text, *headers):
        body = text.encode()
        self.send_response(status)
        own = [("Content-Type", kind), ("Content-Length", str(len(body))), ("Content-Security-Policy", self.policy), ("Cache-Control", "no-store")]
        for name, value in [*own, *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Browser:
    """Chromium, by WebDriver."""

    def __init__(self):
        self.driver = subprocess.Popen(["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        port = next(found[1] for line in self.driver.stdout if (found := re.search(r"started successfully on port (\d+)", line)))
        self.url = f"http://127.0.0.1:{port}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900", "--ignore-certificate-errors"]
        wanted = {"browserName": "chrome", "goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}}
        self.url += "/" + self.call("POST", "", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]

    def call(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise WebDriverError(json.load(error)["value"]["message"]) from None

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def script(self, text):
        return self.call("POST", "/execute/sync", {"script": text, "args": []})

    def until(self, expression):
        """What an expression is in the page, once it is something."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not (value := self.script(f"return {expression}")):
            if time.monotonic() > until:
                self.picture("failed")
                sys.exit(f"stranger.py: never: {expression}\n{self.script('return document.body.innerText')}\n{self.said()}")
            time.sleep(0.1)
        return value

    def click(self, expression):
        """As a pointer does it, on what can be seen and is not covered."""
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            element = next(iter(self.until(expression).values()))
            try:
                return self.call("POST", f"/element/{element}/click", {})
            except WebDriverError:
                # It moves, or is another one by now.
                if time.monotonic() > until:
                    self.picture("failed")
                    raise
                time.sleep(0.1)

    def said(self):
        return [entry["message"] for entry in self.call("POST", "/se/log", {"type": "browser"}) if entry["level"] == "SEVERE"]

    def picture(self, name):
        if directory := os.environ.get("PICTURES"):
            pathlib.Path(directory, f"stranger-{name}.png").write_bytes(base64.b64decode(self.call("GET", "/screenshot")))

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.wait(30)


class WebDriverError(Exception):
    pass


def buy(browser):
    """Chooses a seat in the shop's page, is sent to sign in, chooses it again, and comes to the checkout; the hold's id."""
    inside = "document.querySelector('boxoffice-seats')?.shadowRoot"
    seat = f"[...{inside}?.querySelectorAll('#list-seats label') ?? []][1]"

    def choose_and_hold():
        browser.click(f"{inside}?.querySelector('#list summary')")
        browser.click(seat)
        browser.until("document.querySelector('boxoffice-seats').selection.seats.join() === 'A-2'")
        browser.picture("chosen")
        browser.click(f"{inside}.querySelector('.cart [part=button]')")

    browser.open(SHOP)
    choose_and_hold()
    browser.until(f"location.origin === '{LOGIN}'")
    browser.picture("login")
    browser.click("[...document.querySelectorAll('button')].find((button) => button.textContent.includes('anna'))")
    browser.until(f"location.origin === '{SHOP}'")
    choose_and_hold()
    browser.until("location.pathname === '/checkout'")
    # That nobody is signed in yet is told of there, too; what the login says is its own.
    said = [message for message in browser.said() if message.startswith((SHOP, TICKETS))]
    wrong = [message for message in said if "the server responded with a status of 401" not in message]
    assert not wrong, wrong
    return browser.script("return new URLSearchParams(location.search).get('reservation')")


def look_at_sale(browser, admin):
    browser.open(f"{TICKETS}/ops#token={admin}")
    browser.until("document.body.innerText.includes('Chamber Music') && document.querySelector('#desk canvas')")
    browser.picture("ops")


def shown(board):
    """What each panel of a dashboard shows now."""
    return {title: [float(series["value"][1]) for series in dashboards.answers_to(text)] for title, text in dashboards.panels(board)}


def see_it(root):
    """What Grafana would show, by the dashboards in the package."""
    boards = dict(dashboards.boards())
    for name, board in boards.items():
        packaged = root / "usr/share/doc/boxoffice/examples" / name
        assert json.loads(packaged.read_text()) == board, name
    sale = boards["sale.json"]
    dashboards.wait_for("Prometheus has nothing", lambda: shown(sale)["Held"])
    figures = shown(sale)
    assert (figures["Held"], figures["Free"], figures["Sold"]) == ([1], [4], [0]), figures
    assert figures["Revenue"] == [0] and figures["Looking on"], figures
    chosen = {name: [series["metric"] for series in dashboards.answers_to(text)] for name, text in dashboards.variables(sale)}
    assert (chosen["concert"], chosen["option"]) == ([{"concert_id": "c1"}], [{"option_id": "o1"}]), chosen
    assert shown(boards["engine.json"])["Memory"][0] > 1_000_000


def main(directory):
    root = pathlib.Path(directory)
    let_nginx_pass(root, "id.shop.example", LOGIN_PORT)
    let_nginx_pass(root, "shop.example", SHOP_PORT)
    serve_login()
    in_background(http.server.ThreadingHTTPServer(("127.0.0.1", SHOP_PORT), Shop))
    type_in(root, 1)
    type_in(root, 2)
    admin = token_of("root")
    (root / "root/admin.token").write_text(admin)
    printed = type_in(root, 3)
    # What the page of the README has on sale.
    assert printed.splitlines()[-1] in Shop.blocks["html"], printed
    browser = Browser()
    try:
        look_at_sale(browser, admin)
        reservation = buy(browser)
        print("      step 4", flush=True)
    finally:
        browser.close()
    held = dashboards.call("GET", f"/v1/reservations/{reservation}", token_of("anna"))
    assert (held["status"], held["user_id"], [seat["id"] for seat in held["seats"]]) == ("held", "anna", ["A-2"]), held
    type_in(root, 5)
    see_it(root)


if __name__ == "__main__":
    main(*sys.argv[1:])
