#!/usr/bin/env python3
"""Writes what the clients know of the API, its types and its operations, from the server's OpenAPI document.

    clients/generate.py SERVER_BINARY            writes the files anew
    clients/generate.py SERVER_BINARY --check    says what is not as the document has it, and ends with 1

What cannot be told from the document is written by hand beside it: retries, pages, the waiting room, live seats, webhooks.
A part of the document that this script does not know is an error, not left out.
"""

import difflib
import functools
import json
import keyword
import os
import re
import subprocess
import sys
import tempfile
import textwrap
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
TYPESCRIPT = os.path.join(HERE, "typescript/src/api.ts")
PYTHON = os.path.join(HERE, "python/boxoffice_client/api.py")

# Operations that are no methods, and why.
NO_METHODS = {
    "live_seats": "a WebSocket: written by hand",
    "live_token": "a WebSocket: written by hand",
    "hear_provider": "for providers alone, who sign the bytes",
}
# Writes that take no key because they are idempotent by themselves: these may be tried again too.
IDEMPOTENT = {"issue_token", "report_fact"}
# Headers of requests that are no arguments of methods: the first is made by the client, the rest belong to sockets.
KEY = "Idempotency-Key"
TAG = "If-None-Match"
WIDTH = 116


class Unknown(Exception):
    """The document has something that the clients would not have."""


@functools.cache
def words(name):
    """`Page_Concert`, `queue-token` and `hold seats` as words in lower case."""
    return re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower())


@functools.cache
def pascal(name):
    return "".join(word.capitalize() for word in words(name))


def camel(name):
    return pascal(name)[0].lower() + pascal(name)[1:]


def snake(name):
    return "_".join(words(name))


def unique(items):
    return list(dict.fromkeys(items))


def reference(schema):
    return schema["$ref"].rsplit("/", 1)[1]


class Operation:
    """What is called, with what, and what comes back."""

    def __init__(self, path, method, item):
        self.name, self.path, self.method = item["operationId"], path, method.upper()
        self.about = item.get("summary", "")
        parameters = item.get("parameters", [])
        self.in_path = [it for it in parameters if it["in"] == "path"]
        self.query = [it for it in parameters if it["in"] == "query"]
        headers = {it["name"] for it in parameters if it["in"] == "header"}
        self.has_key, self.has_tag = KEY in headers, TAG in headers
        self.headers = sorted(headers - {KEY, TAG})
        if unknown := {it["in"] for it in parameters} - {"path", "query", "header"}:
            raise Unknown(f"{self.name}: parameters in {unknown}")
        body = item.get("requestBody")
        self.body = body and body["content"]["application/json"]["schema"]
        self.body_required = bool(body and body.get("required"))
        self.may_be_tried_again = self.method == "GET" or self.has_key or self.name in IDEMPOTENT
        # With what it is answered: one type, whatever the status. Problems are not among them.
        answers = {}
        self.statuses, self.is_csv = [], False
        for status, answer in item["responses"].items():
            if "$ref" in answer or status == "304":
                continue
            content = answer.get("content", {})
            self.statuses.append(int(status))
            self.is_csv |= "text/csv" in content
            if unknown := content.keys() - {"application/json", "text/csv"}:
                raise Unknown(f"{self.name}: answers {unknown}")
            if "application/json" in content:
                schema = content["application/json"]["schema"]
                answers[json.dumps(schema, sort_keys=True)] = schema
        self.statuses.sort()
        self.answers = list(answers.values())
        self.page_of = None
        if len(self.answers) == 1 and reference(self.answers[0]).startswith("Page_"):
            self.page_of = reference(self.answers[0]).removeprefix("Page_")


class Document:
    def __init__(self, document):
        self.schemas = document["components"]["schemas"]
        self.operations = []
        for path, item in document["paths"].items():
            for method, operation in item.items():
                if operation["operationId"] in NO_METHODS:
                    continue
                if method not in ("get", "post", "put", "patch", "delete"):
                    raise Unknown(f"{path}: {method}")
                self.operations.append(Operation(path, method, operation))
        named = [item["operationId"] for path in document["paths"].values() for item in path.values()]
        if gone := (NO_METHODS.keys() | IDEMPOTENT) - set(named):
            raise Unknown(f"this script names {sorted(gone)}, which the document does not")
        if len(named) != len(set(named)):
            raise Unknown(f"two operations have one name: {sorted(named)}")

    def types(self):
        """Schemas with names of their own. A page is a type of the clients', whatever it is of."""
        for name, schema in self.schemas.items():
            if name.startswith("Page_"):
                item = name.removeprefix("Page_")
                if item not in self.schemas or schema["properties"].keys() != {"items", "next_cursor"}:
                    raise Unknown(f"{name} is no page of {item}")
            else:
                yield name, schema

    def is_object(self, schema):
        if "allOf" in schema:
            return len(schema["allOf"]) > 1 or "properties" in schema
        return "properties" in schema

    def members(self, schema):
        """Of an object, and of what it is composed of: name, type, whether it is always there."""
        if "$ref" in schema:
            return self.members(self.schemas[reference(schema)])
        found = {}
        for part in schema.get("allOf", []):
            found |= self.members(part)
        required = schema.get("required", [])
        found |= {name: (it, name in required) for name, it in schema.get("properties", {}).items()}
        return found


@functools.cache
def paragraph(text, indent, first="", rest=""):
    """A text in lines that fit."""
    text = " ".join(text.split())
    return tuple(textwrap.wrap(text, WIDTH - len(indent), initial_indent=indent + first, subsequent_indent=indent + rest,
                               break_long_words=False, break_on_hyphens=False))


class Writer:
    """What both languages have in common: which type a schema is."""

    def __init__(self, document):
        self.document = document

    def type(self, schema, name):
        """`name`: what an object without a name of its own is called."""
        if "$ref" in schema:
            target = reference(schema)
            if target not in self.document.schemas:
                raise Unknown(f"{name}: no schema {target}")
            return target
        if "const" in schema:
            return self.literal([schema["const"]])
        if "enum" in schema:
            return self.literal(schema["enum"])
        for choice in ("oneOf", "anyOf"):
            if choice in schema:
                return self.union([self.type(it, name + self.variant(it)) for it in schema[choice]])
        if self.document.is_object(schema):
            return self.object(schema, name)
        if "allOf" in schema:
            return self.type(schema["allOf"][0], name)
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return self.union([self.type({**schema, "type": kind}, name) for kind in kinds])
        if kinds == "array":
            return self.array(self.type(schema["items"], name))
        if kinds == "object":
            values = schema.get("additionalProperties")
            if values is False:
                return self.object(schema, name)
            return self.mapping(self.type(values, name) if isinstance(values, dict) else None)
        if kinds in self.SIMPLE:
            return self.SIMPLE[kinds]
        raise Unknown(f"{name}: {json.dumps(schema)}")

    def variant(self, schema):
        """What tells one of several objects from the others."""
        return "".join(pascal(member) for member in schema.get("required", [])) if self.document.is_object(schema) else ""


class TypeScript(Writer):
    SIMPLE = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}

    def literal(self, values):
        return " | ".join(json.dumps(value) for value in values)

    def union(self, types):
        return " | ".join(unique(types))

    def array(self, item):
        return f"({item})[]" if re.search(r" \| ", item) else f"{item}[]"

    def mapping(self, values):
        return f"Record<string, {values or 'unknown'}>"

    def object(self, schema, name, indent="  "):
        members = self.document.members(schema)
        if not members:
            return "Record<string, never>"
        lines = ["{"]
        for member, (it, required) in members.items():
            lines += self.comment(it.get("description"), indent)
            inner = self.type(it, "").replace("\n", f"\n{indent}")
            key = member if member.isidentifier() else json.dumps(member)
            lines.append(f"{indent}{key}{'' if required else '?'}: {inner};")
        return "\n".join([*lines, "}"])

    @staticmethod
    def comment(text, indent):
        if not text:
            return []
        text = text.replace("*/", "* /")
        lines = paragraph(text + " */", indent, "/** ", " * ")
        return lines if len(lines) == 1 else (*paragraph(text, indent, "/** ", " * "), f"{indent} */")

    def text(self):
        out = ["// Written by clients/generate.py from the server's OpenAPI document. Change that, not this.", "",
               'import { type Call, type Options, type Pages, type Tagged, newKey, pathOf } from "./calls.js";', ""]
        for name, schema in self.document.types():
            out += self.comment(schema.get("description"), "")
            out += [f"export type {name} = {self.type(schema, name)};", ""]
        out += ["/** Every operation of the API. Who calls is whoever extends it. */", "export abstract class Operations {",
                "  /** Calls, and tries again where that is safe. */", "  protected abstract call<T>(call: Call): Promise<T>;",
                "  /** Calls for an answer of text. */", "  protected abstract text(call: Call): Promise<string>;",
                "  /** Calls for what is not as it was. */",
                "  protected abstract changed<T>(call: Call, etag?: string): Promise<Tagged<T> | undefined>;",
                "  /** Calls page by page. */", "  protected abstract pages<T>(call: Call): Pages<T>;"]
        for operation in self.document.operations:
            out += self.method(operation)
        return "\n".join([*out, "}", ""])

    def method(self, operation):
        path = re.sub(r"{(\w+)}", lambda found: f"${{pathOf({camel(found[1])})}}", operation.path)
        arguments = [f"{camel(it['name'])}: {self.type(it['schema'], '')}" for it in operation.in_path]
        call = [f'method: "{operation.method}"', f"path: `{path}`"]
        if operation.body:
            type = self.type(operation.body, "")
            if type == "Empty":
                call.append("body: {}")
            else:
                arguments.append(f"body: {type}" if operation.body_required else f"body: {type} = {{}}")
                call.append("body")
        if operation.query:
            members = "; ".join(f"{it['name']}{'' if it.get('required') else '?'}: {self.type(it['schema'], '')}"
                                for it in operation.query)
            required = any(it.get("required") for it in operation.query)
            arguments.append(f"query: {{ {members} }}{'' if required else ' = {}'}")
            call.append("query")
        headers, options = [], []
        for header in [KEY] * operation.has_key + operation.headers:
            options.append(f"{camel(header)}?: string")
            made = " ?? newKey()" if header == KEY else ""
            headers.append(f'"{header}": options.{camel(header)}{made}')
        if headers:
            call.append(f"headers: {{ {', '.join(headers)} }}")
        extended = f" & {{ {'; '.join(options)} }}" if options else ""
        if operation.may_be_tried_again:
            call.append("tryAgain: true")
        if unusual := [status for status in operation.statuses if status >= 300]:
            call.append(f"answers: {json.dumps(unusual)}")
        arguments.append(f"options: Options{extended} = {{}}")
        call.append("options")
        answer = self.union([self.type(it, "") for it in operation.answers]) or "void"

        def written(name, arguments, how, promised):
            head = f"  {name}({', '.join(arguments)}): {promised} {{"
            if len(head) > WIDTH:
                head = "\n".join([f"  {name}(", *(f"    {it}," for it in arguments), f"  ): {promised} {{"])
            body = f"    return this.{how.format('{ ' + ', '.join(call) + ' }')};"
            if len(body) > WIDTH:
                body = f"    return this.{how.format('{' + ''.join(f'{chr(10)}      {it},' for it in call) + chr(10) + '    }')};"
            return ["", *self.comment(operation.about, "  "), head, body, "  }"]

        name = camel(operation.name)
        if operation.page_of:
            item = operation.page_of
            lines = written(name, arguments, f"pages<{item}>({{}})", f"Pages<{item}>")
        else:
            lines = written(name, arguments, f"call<{answer}>({{}})", f"Promise<{answer}>")
        if operation.is_csv:
            lines += written(name + "AsCsv", arguments, "text({})", "Promise<string>")
        if operation.has_tag:
            with_tag = [*arguments[:-1], "etag?: string", arguments[-1]]
            lines += written(name + "IfChanged", with_tag, f"changed<{answer}>({{}}, etag)",
                             f"Promise<Tagged<{answer}> | undefined>")
        return lines


class Python(Writer):
    SIMPLE = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}

    def __init__(self, document):
        super().__init__(document)
        self.classes = []

    def literal(self, values):
        texts = ["None" if value is None else repr(value) if isinstance(value, bool) else json.dumps(value) for value in values]
        return f"Literal[{', '.join(texts)}]"

    def union(self, types):
        types = unique(types)
        return types[0] if len(types) == 1 else f"Union[{', '.join(types)}]" if types else ""

    def array(self, item):
        return f"list[{item}]"

    def mapping(self, values):
        return f"dict[str, {values or 'Any'}]"

    def object(self, schema, name):
        """Members that may be absent come in a second class: `NotRequired` is not in Python 3.9."""
        members = {True: [], False: []}
        for member, (it, required) in self.document.members(schema).items():
            if not member.isidentifier() or keyword.iskeyword(member):
                raise Unknown(f"{name}: a member {member}")
            members[required].append(f"    {member}: {self.type(it, name + pascal(member))}")
            members[required] += self.comment(it.get("description"), "    ")
        about = self.comment(schema.get("description"), "    ")
        base = "TypedDict"
        if members[True] and members[False]:
            base = f"_{name}"
            self.classes.append([f"class {base}(TypedDict):", *members[True]])
        total = ", total=False" if members[False] else ""
        own = members[not members[False]]
        self.classes.append([f"class {name}({base}{total}):", *about, *(own or ([] if about else ["    pass"]))])
        return name

    @staticmethod
    def comment(text, indent):
        if not text:
            return []
        text = text.replace("\\", "\\\\").replace('"""', "'''")
        text += " " if text.endswith('"') else ""
        lines = paragraph(text + '"""', indent, '"""')
        return lines if len(lines) == 1 else (*paragraph(text, indent, '"""'), f'{indent}"""')

    def text(self):
        aliases = []
        for name, schema in self.document.types():
            type = self.type(schema, name)
            if type != name:
                aliases.append((name, type, schema.get("description", "")))
        # Not all that they are of has come before them.
        known = self.document.schemas.keys() | {re.match(r"class (\w+)", lines[0])[1] for lines in self.classes}
        quoted = lambda it: it[1] or (f'"{it[2]}"' if it[2] in known else it[2])
        methods = [line for operation in self.document.operations for line in self.method(operation)]
        out = ["# Written by clients/generate.py from the server's OpenAPI document. Change that, not this.",
               '"""The types and the operations of the API."""', "", "from __future__ import annotations", "",
               "from typing import Any, Literal, Optional, TypedDict, Union", "",
               "from .calls import Call, Calls, Pages, Tagged, new_key, path_of"]
        for name, type, about in aliases:
            alias = re.sub(r'("[^"]*")|\b([A-Z]\w+)\b', quoted, type)
            out += ["", *(f"# {line}" for line in paragraph(about, "")), *self.wrapped(f"{name} = {alias}")]
        for lines in self.classes:
            out += ["", "", *lines]
        return "\n".join([*out, "", "", "class Operations(Calls):", '    """Every operation of the API."""', *methods, ""])

    def wrapped(self, line):
        if len(line) <= WIDTH:
            return [line]
        head, rest = line.split("[", 1)
        inner = paragraph(rest[:-1], "    ")
        return [f"{head}[", *inner, "]"]

    def method(self, operation):
        argument = lambda it: snake(it["name"])
        path = re.sub(r"{(\w+)}", lambda found: f"{{path_of({snake(found[1])})}}", operation.path)
        arguments = [f"{argument(it)}: {self.type(it['schema'], '')}" for it in operation.in_path]
        call = [f'"{operation.method}"', f'f"{path}"' if operation.in_path else f'"{path}"']
        if operation.body:
            type = self.type(operation.body, "")
            if type == "Empty":
                call.append("body={}")
            elif operation.body_required:
                arguments.append(f"body: {type}")
                call.append("body=body")
            else:
                arguments.append(f"body: Optional[{type}] = None")
                call.append("body=body or {}")
        named = []
        for it in sorted(operation.query, key=lambda it: not it.get("required")):
            type = self.type(it["schema"], "")
            named.append(f"{argument(it)}: {type}" if it.get("required") else f"{argument(it)}: Optional[{type}] = None")
        if operation.query:
            call.append("query={" + ", ".join(f'"{it["name"]}": {argument(it)}' for it in operation.query) + "}")
        headers = []
        for header in [KEY] * operation.has_key + operation.headers:
            named.append(f"{snake(header)}: Optional[str] = None")
            made = " or new_key()" if header == KEY else ""
            headers.append(f'"{header}": {snake(header)}{made}')
        if headers:
            call.append(f"headers={{{', '.join(headers)}}}")
        if operation.may_be_tried_again:
            call.append("try_again=True")
        if unusual := [status for status in operation.statuses if status >= 300]:
            call.append(f"answers={unusual}")
        answer = self.union([self.type(it, "") for it in operation.answers]) or "None"
        if operation.page_of:
            answer = f"Pages[{operation.page_of}]"

        def written(name, arguments, returned, how):
            arguments = ["self", *arguments, *(["*", *named] if named else [])]
            head = f"    def {name}({', '.join(arguments)}) -> {returned}:"
            if len(head) > WIDTH:
                head = "\n".join([f"    def {name}(", *(f"        {it}," for it in arguments), f"    ) -> {returned}:"])
            made = f"Call({', '.join(call)})"
            body = how.format(made)
            if len(body) > WIDTH:
                made = "\n".join(["Call(", *(f"            {it}," for it in call), "        )"])
                body = how.format(made)
            return ["", head, *self.comment(operation.about, "        "), body]

        if operation.page_of:
            lines = written(operation.name, arguments, answer, "        return self._pages({})")
        elif answer == "None":
            lines = written(operation.name, arguments, answer, "        self._call({})")
        else:
            lines = written(operation.name, arguments, answer, f"        answer: {answer} = self._call({{}})")
            lines.append("        return answer")
        if operation.is_csv:
            lines += written(operation.name + "_as_csv", arguments, "str", "        return self._text({})")
        if operation.has_tag:
            lines += written(operation.name + "_if_changed", [*arguments, "etag: Optional[str] = None"],
                             f"Optional[Tagged[{answer}]]", "        return self._changed({}, etag)")
        return lines


def fetch_document(server):
    """The OpenAPI document, from a server that is started for it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BOXOFFICE_")}
    with tempfile.TemporaryDirectory() as folder:
        command = [server, "--data", os.path.join(folder, "data"), "--listen", "127.0.0.1:0", "--ops-listen", "off"]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        try:
            line = process.stdout.readline()
            if not line.startswith("listening on "):
                sys.exit(f"generate.py: the server said {line!r}")
            with urllib.request.urlopen(line.split()[2] + "/openapi.json", timeout=30) as answer:
                return json.load(answer)
        finally:
            process.terminate()
            process.wait(30)


def generate(document):
    """The files, by their paths."""
    document = Document(document)
    return {TYPESCRIPT: TypeScript(document).text(), PYTHON: Python(document).text()}


def differences(files):
    for path, text in files.items():
        with open(path, encoding="utf-8") as file:
            stands = file.read()
        name = os.path.relpath(path, HERE)
        yield from difflib.unified_diff(stands.splitlines(), text.splitlines(), f"clients/{name}", "the document", lineterm="")


def main():
    files = generate(fetch_document(sys.argv[1]))
    if sys.argv[2:] == ["--check"]:
        if lines := list(differences(files)):
            sys.exit("\n".join([*lines, "", "generate.py: the clients are not as the document has it: run clients/generate.py"]))
        print("generate.py: the clients know what the document has")
        return
    for path, text in files.items():
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main()
