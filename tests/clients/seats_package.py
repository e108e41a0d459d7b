#!/usr/bin/env python3
"""The package of `<boxoffice-seats>` as somebody's bundle gets it: packed, installed by npm, all that it imports in it, its types those of the
element, and the page of its README compiled against them, as strictly as it can be.

    seats_package.py CACHE

Needs `node`, 20 or later, and `npm`; CACHE is that of client_typescript.py.
"""

import json
import os
import pathlib
import re
import sys
import tarfile
import tempfile

from client_rig import readme_code
from client_typescript import STRICT, compiler, run

ROOT = pathlib.Path(__file__).resolve().parents[2]
# What must compile, and what must not: `@ts-expect-error` where there is none is an error.
USE = """
seats.addEventListener("boxoffice-change", ({ detail }) => detail.seats.concat(detail.areas.map(({ name, count }) => name.repeat(count))));
document.addEventListener("boxoffice-error", ({ detail }) => detail.problem.code.trim());
const held: Promise<string> = seats.best({ count: 2, companions: 1 }).then(({ id }) => id);
// @ts-expect-error: what one wishes has a count
seats.best({ category: "A" });
// @ts-expect-error: it is only read
seats.selection = { seats: [], areas: [], amount: 0 };
// @ts-expect-error: there is no such thing
seats.addEventListener("boxoffice-hold", ({ detail }) => detail.seats);
export { held };
"""


def imports(package):
    """Each file of the package with the files that it imports."""
    for file in package.rglob("*.js"):
        for target in re.findall(r'(?:from |import\()"(\.[^"]+)"', file.read_text()):
            yield file, (file.parent / target).resolve()


def of_element():
    """What the element has, beside what every element has, and what it tells."""
    source = (ROOT / "web/seats.js").read_text()
    element = source.split("\nexport class BoxofficeSeats")[1].split("\n}")[0]
    members = set(re.findall(r"(?m)^\t(?:async |[gs]et )?([a-z]\w*)\(.*\) \{$", element))
    every = {"constructor", "connectedCallback", "disconnectedCallback", "attributeChangedCallback"}
    return members - every, {f"boxoffice-{name}" for name in re.findall(r'\.emit\("(\w+)"', source)}


def of_types(package):
    types = (package / "index.d.ts").read_text()
    element = types.split("class BoxofficeSeats")[1].split("\n}")[0]
    members = set(re.findall(r"(?m)^  (?:readonly )?(\w+)[(:]", element)) - {"addEventListener", "removeEventListener"}
    return members, set(re.findall(r'(?m)^  "(boxoffice-\w+)":', types))


def main():
    (cache,) = sys.argv[1:]
    tsc = compiler(cache)
    with tempfile.TemporaryDirectory() as directory:
        work = pathlib.Path(directory).resolve()
        run("packaging/seats.sh", [str(ROOT / "packaging/seats.sh"), directory], env={**os.environ, "COMPRESS": "-1"})
        (packed,) = work.glob("boxoffice-seats-*.tgz")
        (work / "package.json").write_text('{"type": "module"}')
        run("npm install", ["npm", "install", "--offline", "--no-audit", "--no-fund", str(packed)], cwd=work)
        package = work / "node_modules/boxoffice-seats"
        with tarfile.open(packed) as archive:
            names = {name.removeprefix("package/") for name in archive.getnames() if archive.getmember(name).isfile()}
        assert names == {str(file.relative_to(package)) for file in package.rglob("*") if file.is_file()}, names
        assert "dependencies" not in json.loads((package / "package.json").read_text())
        missing = {str(target) for _, target in imports(package) if not target.is_file()}
        assert not missing, missing
        unused = {str(file) for file in package.glob("web/**/*.js")} - {str(target) for _, target in imports(package)}
        assert not unused, unused
        assert of_element() == of_types(package), (of_element(), of_types(package))
        page = readme_code(str(package / "README.md"), "js")
        assert 'querySelector("boxoffice-seats")' in page, page
        (work / "page.ts").write_text(page.replace('querySelector("boxoffice-seats")', 'querySelector("boxoffice-seats")!') + USE)
        options = {**STRICT, "noEmit": True, "skipLibCheck": False}
        (work / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["page.ts"]}))
        run("tsc", [tsc, "-p", directory])
        size = packed.stat().st_size
    print(f"seats_package.py: {len(names)} files, {size} bytes packed, with types that are those of the element")


if __name__ == "__main__":
    main()
