"""Logs in at a provider of OpenID Connect that nobody here wrote (`oidc-provider-mock`, on Authlib), and shows a server the tokens that it
gives: who gets in, who does not, and what becomes of them when the provider has other keys, or none.

    login.py SERVER_BINARY OIDC_PROVIDER_MOCK
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

CLIENT, BACK, ROLES = "tickets", "https://tickets.example/back", "https://shop.example/roles"
USERS = [{"sub": "auth0|anna"}, {"sub": "root", ROLES: ["shop-admins", "readers"]}, {"sub": "eva", ROLES: ["admin"]}]


def until(happens):
    begun = time.monotonic()
    while not happens():
        assert time.monotonic() < begun + 60, "it does not happen"
        time.sleep(0.05)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


class Provider:
    """The other side. Each start has a key of its own."""

    def __init__(self, program, port):
        self.url = f"http://127.0.0.1:{port}"
        command = [program, "--port", str(port)]
        for user in USERS:
            command += ["--user-claims", json.dumps(user)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(self.answers)

    def answers(self):
        try:
            return urllib.request.urlopen(self.url + "/.well-known/openid-configuration", timeout=5).status == 200
        except OSError:
            return False

    def log_in(self, user):
        """What a browser does and the shop behind it: the code of a user, and the tokens for it."""
        query = {"client_id": CLIENT, "redirect_uri": BACK, "response_type": "code", "scope": "openid"}
        form = urllib.parse.urlencode({"sub": user}).encode()
        try:
            urllib.request.build_opener(Stay).open(
                f"{self.url}/oauth2/authorize?{urllib.parse.urlencode(query)}", form, timeout=30)
            sys.exit("login.py: nobody was sent back")
        except urllib.error.HTTPError as found:
            back = urllib.parse.urlparse(found.headers["Location"])
        form = {"grant_type": "authorization_code", "code": urllib.parse.parse_qs(back.query)["code"][0],
                "client_id": CLIENT, "client_secret": "any", "redirect_uri": BACK}
        answer = urllib.request.urlopen(self.url + "/oauth2/token", urllib.parse.urlencode(form).encode(), timeout=30)
        return json.loads(answer.read())

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=30)


class Server:
    """A server that takes the tokens of a provider."""

    def __init__(self, binary, data, issuer):
        self.command = [binary, "--data", data, "--listen", "127.0.0.1:0", "--ops-listen", "off"]
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("BOXOFFICE_")} | {
            "BOXOFFICE_LOG_LEVEL": "error", "BOXOFFICE_AUTH_ISSUER": issuer, "BOXOFFICE_AUTH_AUDIENCES": CLIENT,
            "BOXOFFICE_AUTH_ROLE_CLAIM": ROLES, "BOXOFFICE_AUTH_ROLES": "shop-admins=admin, shop-staff=box_office",
            "BOXOFFICE_AUTH_JWKS_REFRESH": "1s",
        }
        self.process = subprocess.Popen(self.command, env=self.environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on "), line
        self.url = line.split()[2]

    def get(self, path, token=""):
        request = urllib.request.Request(self.url + path, headers={"Authorization": f"Bearer {token}"} if token else {})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def expect(self, path, token, status, what):
        answer = self.get(path, token)
        assert answer[0] == status, f"{what}: {answer}"
        return answer[1]

    def token_command(self):
        command = [self.command[0], "token", "--data", self.command[2], "--user", "root", "--role", "admin"]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)


def main():
    binary, program = sys.argv[1:]
    port = free_port()
    with tempfile.TemporaryDirectory() as data:
        provider = Provider(program, port)
        server = Server(binary, data + "/data", provider.url)
        try:
            until(lambda: server.get("/readyz")[0] == 200)
            tokens = {user["sub"]: provider.log_in(user["sub"]) for user in USERS}
            anna, root, eva = (tokens[user["sub"]]["id_token"] for user in USERS)
            assert server.expect("/v1/wallet", anna, 200, "a buyer")["user_id"] == "auth0|anna"
            server.expect("/v1/stats", anna, 403, "a buyer")
            server.expect("/v1/stats", root, 200, "an admin by another name")
            server.expect("/v1/stats", eva, 403, "who calls herself what she is not here")
            head, claims, signature = anna.split(".")
            server.expect("/v1/wallet", f"{head}.{root.split('.')[1]}.{signature}", 401, "claims of somebody else")
            server.expect("/v1/wallet", tokens["auth0|anna"]["access_token"], 401, "what is no JWT")
            made = server.token_command()
            assert made.returncode == 1 and provider.url in made.stderr and not made.stdout, made

            # Another key, of which nobody has told the server. Neither has a name here, so the next usual fetch brings it.
            provider.stop()
            provider = Provider(program, port)
            again = provider.log_in("auth0|anna")["id_token"]
            until(lambda: server.get("/v1/wallet", again)[0] == 200)
            server.expect("/v1/wallet", anna, 401, "by a key that is gone")

            # None at all: what is known goes on.
            provider.stop()
            until(lambda: "jwks" in json.dumps(server.get("/readyz")[1]["warnings"]))
            server.expect("/readyz", "", 200, "while the provider is down")
            server.expect("/v1/wallet", again, 200, "while the provider is down")
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=30) == 0
            server = Server(binary, data + "/data", provider.url)
            assert server.expect("/v1/wallet", again, 503, "with no keys yet")["code"] == "keys_unavailable"
            assert "jwks" in json.dumps(server.expect("/readyz", "", 503, "with no keys yet")["reasons"])
        finally:
            provider.stop()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(timeout=30) == 0
    print("login.py: tokens of another login are taken, and only those")


if __name__ == "__main__":
    main()
