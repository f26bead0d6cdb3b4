#!/usr/bin/env python3
"""Each rule of breaks.py with a change that breaks it and one beside it that does not: script/contract/test_breaks.py."""

import datetime
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import breaks  # noqa: E402

PROGRAM = pathlib.Path(__file__).resolve().parent.parent / "api-breaks"
TODAY = datetime.date(2027, 6, 1)
ITEM = {
    "type": "object",
    "properties": {
        "sku": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Z]+$"},
        "state": {"type": "string", "enum": ["draft", "open"]},
        "kind": {"oneOf": [{"const": "goods", "description": "Goods."}, {"const": "labour"}]},
        "note": {"type": ["string", "null"]},
        "price": {"type": "number", "minimum": 0},
        "supplier": {"anyOf": [{"$ref": "#/components/schemas/Supplier"}, {"type": "null"}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 5},
        "parent": {"$ref": "#/components/schemas/Item"},
        "count": {"type": "integer", "default": 1},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["sku", "state"],
}
PATH = "/items/{id}"
FIELD = {"type": "string"}


def problem(status, *codes):
    schema = {"allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": {"code": {"enum": list(codes)}}}]}
    return {str(status): {"description": "", "content": {breaks.PROBLEM: {"schema": schema}}}}


def document():
    body = {"schema": {"$ref": "#/components/schemas/NewItem"}}
    media = {"application/json": body, "application/merge-patch+json": body}
    answer = {
        "description": "OK",
        "headers": {"ETag": {"$ref": "#/components/headers/ETag"}, "Location": {"schema": {"type": "string"}}},
        "content": {
            "application/json": {"schema": {"$ref": "#/components/schemas/Item"}},
            "text/csv": {"schema": {"type": "string"}},
        },
    }
    operation = {
        "operationId": "changeItem",
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}},
            {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 50, "maximum": 100}},
            {"name": "X-Tenant-ID", "in": "header", "schema": {"type": "string"}},
        ],
        "requestBody": {"required": True, "content": media},
        "responses": {"200": answer, "304": {"description": ""}, **problem(404, "gone"), **problem(409, "taken", "stale")},
        "security": [{"token": []}],
    }
    old = {"operationId": "old", "deprecated": True, "x-sunset": "2027-05-31", "responses": {"200": {"description": ""}}}
    ping = {"operationId": "ping", "responses": {"200": {"description": ""}}, "security": []}
    return json.loads(json.dumps({
        "openapi": "3.1.1",
        "servers": [{"url": "/"}],
        "paths": {PATH: {"patch": operation}, "/old": {"get": old}, "/ping": {"post": ping}},
        "components": {
            "schemas": {
                "Item": ITEM,
                "NewItem": {**ITEM, "properties": {**ITEM["properties"], "parent": FIELD}, "required": ["sku"]},
                "Supplier": {"type": "object", "properties": {"name": {"type": "string"}}},
                "Problem": {"type": "object", "properties": {"code": {"type": "string"}, "title": {"type": "string"}}},
            },
            "headers": {"ETag": {"required": True, "schema": {"type": "string"}}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }))  # fmt: skip


def put(path, value):
    """A change: sets what is at a path of names, separated by spaces. `op` is the operation, `in` and `out` the schemas
    of what it reads and answers."""

    def change(document):
        place, names = document, names_of(path)
        for name in names[:-1]:
            place = place[name]
        if value is GONE and isinstance(place, list):
            place.pop(names[-1])
        elif value is GONE:
            place.pop(names[-1])
        elif names[-1] == "+":
            place.append(value)
        else:
            place[names[-1]] = value

    return change


def names_of(path):
    short = {
        "op": ["paths", PATH, "patch"],
        "in": ["components", "schemas", "NewItem"],
        "out": ["components", "schemas", "Item"],
    }
    first, *rest = path.split(" ")
    names = short.get(first, [first]) + rest
    return [int(name) if name.isdigit() and names[at - 1] in ("parameters", "servers", "anyOf", "oneOf") else name
            for at, name in enumerate(names)]


GONE = object()
REQUIRED = {"name": "since", "in": "query", "required": True, "schema": {}}
OPTIONAL = {"name": "since", "in": "query", "schema": {}}
SUPPLIER = "properties supplier anyOf"

# For each rule: where it is told, what breaks it, and what is near it and does not.
PAIRS = [
    ("operation-removed", "/paths/~1ping/post", [put("paths /ping", GONE)], [put("paths /old", GONE)]),
    ("operation-removed", "/paths/~1items~1{id}/patch", [put("paths /items/{id} patch", GONE)],
     [put("paths /items/{id} get", {"responses": {}})]),
    ("sunset-advanced", "/paths/~1old/get/x-sunset", [put("paths /old get x-sunset", "2027-05-30")],
     [put("paths /old get x-sunset", "2027-06-30")]),
    ("operation-id-changed", "/paths/~1ping/post/operationId", [put("paths /ping post operationId", "pong")],
     [put("paths /ping post summary", "pong")]),
    ("parameter-removed", "/paths/~1items~1{id}/patch/parameters/1", [put("op parameters 1", GONE)],
     [put("op parameters 0 name", "item")]),
    ("parameter-required", "/paths/~1items~1{id}/patch/parameters/3", [put("op parameters +", REQUIRED)],
     [put("op parameters +", OPTIONAL)]),
    ("parameter-required", "/paths/~1items~1{id}/patch/parameters/1", [put("op parameters 1 required", True)],
     [put("op parameters 0 required", False)]),
    ("body-removed", "/paths/~1items~1{id}/patch/requestBody", [put("op requestBody", GONE)],
     [put("op requestBody required", False)]),
    ("body-required", "/paths/~1ping/post/requestBody", [put("paths /ping post requestBody", {"required": True})],
     [put("paths /ping post requestBody", {"content": {}})]),
    ("request-media-type-removed", "/paths/~1items~1{id}/patch/requestBody/content/application~1merge-patch+json",
     [put("op requestBody content application/merge-patch+json", GONE)],
     [put("op requestBody content application/cbor", {})]),
    ("request-field-removed", "/components/schemas/NewItem/properties/note", [put("in properties note", GONE)],
     [put("in properties more", FIELD)]),
    ("request-field-required", "/components/schemas/NewItem/properties/note", [put("in required", ["sku", "note"])],
     [put("in required", [])]),
    ("request-default-changed", "/paths/~1items~1{id}/patch/parameters/1/schema/default",
     [put("op parameters 1 schema default", 20)], [put("op parameters 2 schema default", "acme")]),
    ("request-type-narrowed", "/components/schemas/NewItem/properties/note/type",
     [put("in properties note type", "string")], [put("in properties sku type", ["string", "null"])]),
    ("request-type-narrowed", "/components/schemas/NewItem/properties/price/type",
     [put("in properties price type", "integer")], [put("in properties count type", "number")]),
    ("request-enum-narrowed", "/components/schemas/NewItem/properties/state/enum",
     [put("in properties state enum", ["draft"])], [put("in properties state enum", ["draft", "open", "closed"])]),
    ("request-enum-narrowed", "/components/schemas/NewItem/properties/kind/enum",
     [put("in properties kind oneOf 1", GONE)], [put("in properties kind oneOf +", {"const": "rent"})]),
    ("request-bound-tightened", "/components/schemas/NewItem/properties/sku/maxLength",
     [put("in properties sku maxLength", 63)], [put("in properties sku maxLength", 65)]),
    ("request-bound-tightened", "/components/schemas/NewItem/properties/price/minimum",
     [put("in properties price minimum", 1)], [put("in properties price minimum", GONE)]),
    ("request-bound-tightened", "/components/schemas/NewItem/properties/note/minLength",
     [put("in properties note minLength", 1)], [put("in properties note minLength", 0)]),
    ("request-bound-tightened", "/components/schemas/NewItem/properties/tags/items/maxLength",
     [put("in properties tags items maxLength", 8)], [put("in properties tags items maxLength", 10)]),
    ("request-pattern-changed", "/components/schemas/NewItem/properties/note/pattern",
     [put("in properties note pattern", "^x")], [put("in properties sku pattern", GONE)]),
    ("request-closed", "/components/schemas/NewItem/additionalProperties", [put("in additionalProperties", False)],
     [put("in additionalProperties", True)]),
    ("request-alternative-removed", "/components/schemas/NewItem/properties/supplier",
     [put(f"in {SUPPLIER} 1", GONE)], [put(f"in {SUPPLIER} +", FIELD)]),
    ("success-status-removed", "/paths/~1items~1{id}/patch/responses/304", [put("op responses 304", GONE)],
     [put("op responses 202", {"description": ""})]),
    ("response-media-type-removed", "/paths/~1items~1{id}/patch/responses/200/content/text~1csv",
     [put("op responses 200 content text/csv", GONE)], [put("op responses 200 content text/plain", {})]),
    ("response-header-removed", "/paths/~1items~1{id}/patch/responses/200/headers/ETag",
     [put("op responses 200 headers ETag", GONE)], [put("op responses 200 headers Age", {})]),
    ("response-header-optional", "/components/headers/ETag", [put("components headers ETag required", False)],
     [put("op responses 200 headers Location required", True)]),
    ("response-field-removed", "/components/schemas/Item/properties/note", [put("out properties note", GONE)],
     [put("out properties more", FIELD)]),
    ("response-field-optional", "/components/schemas/Item/properties/state", [put("out required", ["sku"])],
     [put("out required", ["sku", "state", "note"])]),
    ("response-type-widened", "/components/schemas/Item/properties/sku/type",
     [put("out properties sku type", ["string", "null"])], [put("out properties note type", "string")]),
    ("response-type-widened", "/components/schemas/Item/properties/labels/additionalProperties/type",
     [put("out properties labels additionalProperties", {"type": ["string", "integer"]})],
     [put("out properties labels additionalProperties", {"type": "string", "maxLength": 5})]),
    ("response-enum-widened", "/components/schemas/Item/properties/state/enum",
     [put("out properties state enum", ["draft", "open", "closed"])], [put("out properties state enum", ["draft"])]),
    ("response-enum-widened", "/components/schemas/Item/properties/kind/enum",
     [put("out properties kind oneOf +", {"const": "rent"})], [put("out properties kind oneOf 1", GONE)]),
    ("response-bound-loosened", "/components/schemas/Item/properties/sku/maxLength",
     [put("out properties sku maxLength", 65)], [put("out properties sku maxLength", 63)]),
    ("response-pattern-changed", "/components/schemas/Item/properties/sku/pattern",
     [put("out properties sku pattern", GONE)], [put("out properties note pattern", "^x")]),
    ("response-alternative-added", "/components/schemas/Item/properties/supplier",
     [put(f"out {SUPPLIER} +", FIELD)], [put(f"out {SUPPLIER} 1", GONE)]),
    ("response-field-removed", "/components/schemas/Item/properties/supplier/anyOf/0/properties/name",
     [put("components schemas Supplier properties", {})], [put("components schemas Supplier properties more", FIELD)]),
    ("error-code-removed", "/paths/~1items~1{id}/patch/responses/409",
     [put("op responses 409", problem(409, "taken")["409"])], [put("op responses 410", problem(410, "new")["410"])]),
    ("error-status-changed", "/paths/~1items~1{id}/patch/responses/409",
     [put("op responses 409", problem(409, "taken")["409"]), put("op responses 412", problem(412, "stale")["412"])],
     [put("op responses 409", problem(409, "taken", "stale", "new")["409"])]),
    ("security-added", "/paths/~1ping/post/security", [put("paths /ping post security", [{"token": []}])],
     [put("op security", [{"token": []}, {"key": []}])]),
    ("security-added", "/paths/~1items~1{id}/patch/security", [put("op security", [{"token": ["write"]}])],
     [put("op security", [])]),
    ("security-scheme-changed", "/components/securitySchemes/token",
     [put("components securitySchemes token scheme", "basic")], [put("components securitySchemes key", {})]),
    ("server-removed", "/servers/0", [put("servers", [{"url": "/v2"}])], [put("servers +", {"url": "/v2"})]),
    ("schema-changed", "/components/schemas/Item/properties/note/not", [put("out properties note not", {"const": ""})],
     [put("out properties note description", "A note.")]),
]  # fmt: skip


def found(changes):
    present = document()
    for change in changes:
        change(present)
    return [(one.rule, one.pointer) for one in breaks.compare(document(), present, TODAY)]


class Rules(unittest.TestCase):
    def test_each_rule_refuses_its_break_and_nothing_else(self):
        for rule, pointer, breaking, _ in PAIRS:
            with self.subTest(rule=rule, pointer=pointer):
                self.assertIn((rule, pointer), found(breaking))

    def test_what_is_near_a_break_passes(self):
        for rule, pointer, _, harmless in PAIRS:
            with self.subTest(rule=rule, pointer=pointer):
                self.assertEqual(found(harmless), [])

    def test_each_rule_has_a_pair(self):
        self.assertEqual({pair[0] for pair in PAIRS}, set(breaks.RULES))

    def test_what_many_answers_share_is_told_once(self):
        gone = found([put("components schemas Problem properties title", GONE)])
        self.assertEqual(gone, [("response-field-removed", "/components/schemas/Problem/properties/title")])

    def test_a_document_does_not_break_itself(self):
        self.assertEqual(found([]), [])

    def test_a_deprecated_operation_stays_until_its_sunset(self):
        present = document()
        del present["paths"]["/old"]
        day_before = datetime.date(2027, 5, 30)
        rules = [one.rule for one in breaks.compare(document(), present, day_before)]
        self.assertEqual(rules, ["operation-removed"])

    def test_an_operation_may_refuse_for_fewer_reasons(self):
        both = document()
        both["paths"]["/ping"]["post"]["responses"].update(problem(404, "gone"))
        self.assertEqual(breaks.compare(both, document(), TODAY), [])


class Program(unittest.TestCase):
    """The program over a folder with a released and a present document."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name)
        self.write(document())
        self.assertEqual(self.run_it("--release").returncode, 0)

    def write(self, present):
        (self.path / "openapi.json").write_text(json.dumps(present), encoding="utf-8")

    def run_it(self, *arguments):
        command = [sys.executable, str(PROGRAM), str(self.path), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def broken(self):
        present = document()
        put("out properties note", GONE)(present)
        self.write(present)

    def accept(self, line):
        with (self.path / "released/accepted-breaks.txt").open("a", encoding="utf-8") as list_:
            list_.write(line + "\n")

    def test_a_break_ends_with_one_and_says_where_and_what_to_do(self):
        self.assertEqual(self.run_it().returncode, 0)
        self.broken()
        told = self.run_it()
        self.assertEqual(told.returncode, 1)
        for part in ("response-field-removed /components/schemas/Item/properties/note: ", "Keep the field.", "accepted"):
            self.assertIn(part, told.stderr)
        self.assertEqual(self.run_it("--release").returncode, 1)

    def test_a_declared_break_passes_and_a_release_empties_the_list(self):
        self.broken()
        self.accept("response-field-removed /components/schemas/Item/properties/note: nobody could fill it")
        self.assertEqual(self.run_it().returncode, 0)
        self.assertEqual(self.run_it("--release").returncode, 0)
        self.assertNotIn("nobody", (self.path / "released/accepted-breaks.txt").read_text(encoding="utf-8"))
        self.assertEqual(self.run_it().returncode, 0)

    def test_a_declaration_without_a_break_or_a_reason_is_refused(self):
        self.accept("response-field-removed /components/schemas/Item/properties/note: no longer so")
        self.assertIn("remove the line", self.run_it().stderr)
        for line in ("response-field-removed /x:", "response-field-removed /x", "no-rule /x: why"):
            self.setUp()
            self.accept(line)
            told = self.run_it()
            self.assertEqual(told.returncode, 1)
            self.assertIn("is not RULE POINTER: REASON", told.stderr)


if __name__ == "__main__":
    unittest.main()
