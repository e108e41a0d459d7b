#!/usr/bin/env python3
"""The TypeScript client against a real server: the tour of its README, and what it does when the network is bad.

    client_typescript.py SERVER_BINARY CACHE

Needs `node`, 20 or later, and `npm`. CACHE is a folder for the compiler, which npm gets by the client's lock file the
first time. The client is built as npm would pack it; the tour and client_typescript.ts are compiled against its
declarations, as strictly as it can be.
"""

import filecmp
import json
import os
import shutil
import subprocess
import sys
import tempfile

from client_rig import Proxy, Server, readme_code

HERE = os.path.dirname(os.path.realpath(__file__))
CLIENT = os.path.join(HERE, "../../clients/typescript")
STRICT = {
    "strict": True, "noUncheckedIndexedAccess": True, "noUnusedLocals": True, "skipDefaultLibCheck": True,
    "target": "es2022", "module": "nodenext", "lib": ["es2022", "dom", "dom.iterable"],
    "types": [], "outDir": "out", "rootDir": ".",
}
# What the tour prints.
TOLD = """on_sale 10
completed 160
160
409 seats_unavailable A-1
refunded A-5,A-6
held true
active
held
blocked held false
"""


def run(what, command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    if done.returncode != 0:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {what} failed\n{done.stdout}{done.stderr}")
    return done.stdout


def compiler(cache):
    """The compiler that the lock file names."""
    os.makedirs(cache, exist_ok=True)
    lock, had = (os.path.join(folder, "package-lock.json") for folder in (CLIENT, cache))
    if not os.path.exists(had) or not filecmp.cmp(lock, had, shallow=False):
        for name in ("package.json", ".npmrc", "package-lock.json"):
            shutil.copy(os.path.join(CLIENT, name), cache)
        try:
            run("npm ci", ["npm", "ci", "--no-progress"], cwd=cache)
        except BaseException:
            os.remove(had)
            raise
    return os.path.join(cache, "node_modules/.bin/tsc")


def build(tsc, work, tour):
    """The client as a package in `work`, and who uses it."""
    package = os.path.join(work, "node_modules/boxoffice-client")
    os.makedirs(package)
    run("tsc", [tsc, "-p", CLIENT, "--outDir", os.path.join(package, "dist")])
    shutil.copy(os.path.join(CLIENT, "package.json"), package)
    shutil.copy(os.path.join(HERE, "client_typescript.ts"), work)
    files = {"tour.ts": tour, "package.json": '{"type": "module"}', "tsconfig.json": json.dumps({"compilerOptions": STRICT})}
    for name, text in files.items():
        with open(os.path.join(work, name), "w", encoding="utf-8") as file:
            file.write(text)
    run("tsc", [tsc, "-p", work])


def main():
    binary, cache = sys.argv[1:]
    node = ["node"]
    # It is there, behind a flag, in Node 20.
    if run("node", ["node", "--print", "typeof WebSocket"]).strip() == "undefined":
        node.append("--experimental-websocket")
    tsc = compiler(cache)
    with tempfile.TemporaryDirectory() as work:
        server = Server(binary, os.path.join(work, "data"))
        try:
            proxy = Proxy(server.url)
            admin, buyer = server.token("demo-admin", "--role", "admin"), server.token("demo-buyer")
            tour = readme_code(os.path.join(CLIENT, "README.md"), "ts")
            for text, by in [("http://127.0.0.1:8080", server.url), ('adminToken = "..."', f'adminToken = "{admin}"'),
                             ('buyerToken = "..."', f'buyerToken = "{buyer}"')]:
                assert text in tour, f"the README has no {text}"
                tour = tour.replace(text, by)
            build(tsc, work, tour)
            told = run("the tour", [*node, "--no-warnings", os.path.join(work, "out/tour.js")])
            if told != TOLD:
                sys.exit(f"client_typescript.py: the tour says:\n{told}")
            environment = {
                **os.environ, "SERVER_URL": server.url, "PROXY_URL": proxy.url, "ADMIN_TOKEN": admin, "BUYER_TOKEN": buyer,
                "FIRST_TOKEN": server.token("first"), "LATE_TOKEN": server.token("late"),
            }
            script = os.path.join(work, "out/client_typescript.js")
            parts = run("client_typescript.ts", [*node, "--no-warnings", script], env=environment, timeout=120)
        finally:
            server.stop()
    print(f"client_typescript.py: the tour, and {parts.strip()} beside it, do what they should")


if __name__ == "__main__":
    main()
