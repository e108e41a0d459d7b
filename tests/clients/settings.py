"""Compares the table of docs/CONFIGURATION.md with what `boxoffice-server config` prints: keys and defaults.

    settings.py SERVER_BINARY
"""

import os
import re
import subprocess
import sys
import tomllib


def flatten(table, prefix=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def shown(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        value = ", ".join(value)
    return str(value) or "none"


def main():
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOXOFFICE_")}
    printed = subprocess.run([sys.argv[1], "config"], env=environment, check=True, capture_output=True, text=True).stdout
    settings = {key: shown(value) for key, value in flatten(tomllib.loads(printed))}
    guide = open(os.path.join(os.path.dirname(__file__), "../../docs/CONFIGURATION.md")).read()
    section = guide.split("\n## Configuration")[1].split("\n## ")[0]
    table = {key: default.strip(" `") for key, default in re.findall(r"^\| `([a-z_.]+)` \| ([^|]+) \|", section, re.M)}
    wrong = [f"{key}: the server says {settings.get(key)}, the guide {table.get(key)}"
             for key in sorted(settings.keys() | table.keys()) if settings.get(key) != table.get(key)]
    if wrong:
        sys.exit("settings.py: " + "\n".join(wrong))
    print(f"settings.py: {len(table)} settings agree")


if __name__ == "__main__":
    main()
