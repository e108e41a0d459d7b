#!/usr/bin/env python3
"""Whether the clients know exactly what the server's OpenAPI document has, and whether this would be noticed if they did not.

    client_types.py SERVER_BINARY
"""

import copy
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "../../clients"))
sys.dont_write_bytecode = True

import generate  # noqa: E402


def changes(document):
    """Everything that may be missing: each operation, parameter and member, one at a time. What is renamed is missing too,
    and to somebody who has it not what is missing is what was added."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            name = operation["operationId"]
            if name in generate.NO_METHODS:
                continue
            if name not in generate.IDEMPOTENT:
                yield f"{name} is gone", item, method, None
            for index, parameter in enumerate(operation.get("parameters", [])):
                if parameter["in"] != "path":
                    yield f"{name} has no {parameter['name']}", operation["parameters"], index, None
            yield f"{name} is elsewhere", document["paths"], path, (path + "/more", item)
    yield from members(document["components"]["schemas"], "")


def members(schema, where):
    if isinstance(schema, list):
        for index, it in enumerate(schema):
            yield from members(it, f"{where}[{index}]")
    if not isinstance(schema, dict):
        return
    for name, it in schema.items():
        if name.startswith("Page_"):
            continue
        if name == "properties" and isinstance(it, dict):
            for member in it:
                yield f"{where} has no {member}", it, member, None
            required = schema.get("required", [])
            for index, member in enumerate(required):
                if member in it:
                    yield f"{where} may have no {member}", required, index, None
        if name == "enum" and isinstance(it, list):
            yield f"{where} is never {it[0]}", it, 0, None
        yield from members(it, f"{where}.{name}")


def main():
    document = generate.fetch_document(sys.argv[1])
    files = generate.generate(document)
    if lines := list(generate.differences(files)):
        sys.exit("\n".join([*lines, "", "client_types.py: the clients are not as the document has it: run clients/generate.py"]))
    tried = 0
    for what, container, at, instead in list(changes(document)):
        before = copy.copy(container)
        del container[at]
        if instead:
            container[instead[0]] = instead[1]
        try:
            changed = generate.generate(document)
        except (generate.Unknown, KeyError) as error:
            changed = {path: str(error) for path in files}
        finally:
            container.clear()
            (container.update if isinstance(container, dict) else container.extend)(before)
        for path, text in files.items():
            if changed[path] == text:
                sys.exit(f"client_types.py: {os.path.basename(path)} would be the same although {what}")
        tried += 1
    if generate.generate(document) != files:
        sys.exit("client_types.py: the document is not what it was")
    print(f"client_types.py: the clients know what the document has, and {tried} changes of it would show")


if __name__ == "__main__":
    main()
