"""Runs a PostgreSQL server on a free port, in a directory of its own; prints its URL, and ends with its standard input.

Needs Debian's package `postgresql`, or another one that has `initdb`. Nothing of a server that runs already is touched.
"""

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

PASSWORD = "secret of a test"


def program(name):
    found = shutil.which(name) or next(iter(sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{name}"), reverse=True)), None)
    return found or sys.exit(f"postgres.py: there is no {name}: install the package postgresql")


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Postgres:
    """A server, of which `url` says where it is."""

    def __init__(self):
        # It does not run as root.
        self.user = "nobody" if os.geteuid() == 0 else None
        self.folder = tempfile.mkdtemp(prefix="boxoffice-postgres-")
        if self.user:
            one = pwd.getpwnam(self.user)
            os.chown(self.folder, one.pw_uid, one.pw_gid)
        password, self.data = os.path.join(self.folder, "password"), os.path.join(self.folder, "data")
        with open(password, "w", encoding="utf-8") as file:
            file.write(PASSWORD)
        self.run("initdb", "--pgdata", self.data, "--username", "boxoffice", "--auth", "scram-sha-256", "--pwfile", password,
                 "--encoding", "UTF8", "--no-locale")
        self.port = free_port()
        self.url = f"postgresql://boxoffice:{PASSWORD.replace(' ', '%20')}@127.0.0.1:{self.port}/postgres"
        self.start()

    def run(self, name, *arguments):
        done = subprocess.run([program(name), *arguments], user=self.user, cwd=self.folder, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"postgres.py: {name}: {done.stderr}")

    def start(self):
        command = [program("postgres"), "-D", self.data, "-k", self.folder, "-h", "127.0.0.1", "-p", str(self.port)]
        ready = [program("pg_isready"), "--quiet", "--host", "127.0.0.1", "--port", str(self.port)]
        deadline = time.monotonic() + 60
        self.process = None
        while subprocess.run(ready).returncode != 0:
            # After a crash it does not start before all of what it was has ended.
            if self.process is None or self.process.poll() is not None:
                with open(os.path.join(self.folder, "log"), "ab") as log:
                    self.process = subprocess.Popen(command, user=self.user, cwd=self.folder, stdin=subprocess.DEVNULL,
                                                    stdout=log, stderr=log)
            if time.monotonic() > deadline:
                sys.exit(f"postgres.py: it does not start: see {self.folder}/log")
            time.sleep(0.05)

    def kill(self):
        """Ends it as if it had crashed."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        # At once, without waiting for those who are connected.
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait()
        shutil.rmtree(self.folder)


def main():
    server = Postgres()
    try:
        print(server.url, flush=True)
        sys.stdin.read()
    finally:
        server.stop()


if __name__ == "__main__":
    main()
