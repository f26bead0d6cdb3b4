"""Compares two OpenAPI 3.1 documents, and tells what a client of the first could no longer rely on in the second.

A request may not be narrowed, and an answer may not be widened or lose something; what is added is fine. Assumes that
clients ignore fields, headers, error codes and statuses of refusals that they do not know. What it cannot judge
(`not`, `if`, `patternProperties` ...) may not change at all. Permissions are not part of the document's structure, so
one that a route newly needs is not seen.
"""

import datetime
import json
from typing import NamedTuple

# What may not happen, and what to do instead.
RULES = {
    "operation-removed": "Keep it; deprecate it with a sunset, and remove it once that day has passed.",
    "sunset-advanced": "Keep the day, or name a later one: clients plan with it.",
    "operation-id-changed": "Keep the id: it names the function in generated clients.",
    "parameter-removed": "Keep it: clients send it.",
    "parameter-required": "Make it optional, with a default that does what was done without it.",
    "body-removed": "Keep the body: clients send it.",
    "body-required": "Make the body optional.",
    "request-media-type-removed": "Go on reading this media type.",
    "request-field-removed": "Go on taking the field: clients send it.",
    "request-field-required": "Make the field optional, with a default.",
    "request-default-changed": "Keep the default: clients that leave it out rely on it.",
    "request-type-narrowed": "Go on taking values of the former types.",
    "request-enum-narrowed": "Go on taking the value.",
    "request-bound-tightened": "Keep the bound, or loosen it.",
    "request-pattern-changed": "Keep the former pattern or format, or drop it.",
    "request-closed": "Go on taking fields that are not known.",
    "request-alternative-removed": "Go on taking this form.",
    "success-status-removed": "Keep the status: clients wait for it.",
    "response-media-type-removed": "Go on answering with this media type.",
    "response-header-removed": "Keep the header.",
    "response-header-optional": "Go on sending the header always.",
    "response-field-removed": "Keep the field.",
    "response-field-optional": "Go on sending the field always.",
    "response-type-widened": "Answer with the former types only; put other values into a new field.",
    "response-enum-widened": "Answer with the former values only; put others into a new field.",
    "response-bound-loosened": "Keep the bound, or tighten it.",
    "response-pattern-changed": "Keep the former pattern or format.",
    "response-alternative-added": "Answer in the former forms only; put others into a new field.",
    "error-code-removed": "Keep the code: clients decide by it.",
    "error-status-changed": "Keep the code's status, or give the new case a code of its own.",
    "security-added": "Go on accepting what was enough.",
    "security-scheme-changed": "Keep the scheme; add another beside it.",
    "server-removed": "Keep the address of the API.",
    "schema-changed": "The comparison cannot judge this keyword: keep it as it is.",
}

PROBLEM = "application/problem+json"
METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# Bounds, and whether a larger one is the tighter one.
BOUNDS = {
    "minLength": True, "minimum": True, "exclusiveMinimum": True, "minItems": True, "minProperties": True,
    "maxLength": False, "maximum": False, "exclusiveMaximum": False, "maxItems": False, "maxProperties": False,
}  # fmt: skip
UNJUDGED = (
    "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties", "propertyNames",
    "contains", "minContains", "maxContains", "unevaluatedProperties", "unevaluatedItems", "prefixItems",
)  # fmt: skip
TYPES = frozenset(("null", "boolean", "object", "array", "integer", "number", "string"))


class Break(NamedTuple):
    """A rule that is broken, where, and how. The place is a JSON pointer (RFC 6901) into the released document, or into the
    present one for what is new."""

    rule: str
    pointer: str
    what: str


def compare(released, present, today=datetime.date.min):
    """The breaks of `present`, in the order of the released document; one that several operations share, once."""
    found = {}
    for one in Comparison(released, present, today).document():
        found.setdefault((one.rule, one.pointer), one)
    return list(found.values())


def at(pointer, *names):
    """The pointer to a place below another."""
    return pointer + "".join("/" + str(name).replace("~", "~0").replace("/", "~1") for name in names)


def text(value):
    return json.dumps(value, ensure_ascii=False, sort_keys=True)


def listed(values):
    return plain_list(text(value) for value in values)


def plain_list(values):
    return ", ".join(sorted(values))


def shape(path):
    """A path without the names of its parameters, which are not on the wire."""
    return "/".join("{}" if part.startswith("{") else part for part in path.split("/"))


def is_success(status):
    return status[:1] in ("1", "2", "3")


class Comparison:
    """Two documents, and which pairs of schemas have been compared."""

    def __init__(self, released, present, today):
        self.released, self.present, self.today = released, present, today
        self.compared = set()

    def document(self):
        servers = [server.get("url") for server in self.present.get("servers", [])]
        for number, server in enumerate(self.released.get("servers", [])):
            if server.get("url") not in servers:
                yield Break("server-removed", at("/servers", number), f"{server.get('url')} is gone")
        yield from self.security_schemes()
        paths = {shape(path): item for path, item in self.present.get("paths", {}).items()}
        for path, item in self.released.get("paths", {}).items():
            other = paths.get(shape(path), {})
            for method in (method for method in METHODS if method in item):
                pointer, name = at("/paths", path, method), f"{method.upper()} {path}"
                if method in other:
                    pair = whole(item, method, path), whole(other, method, path)
                    yield from self.operation(*pair, pointer, name)
                elif not self.is_past(item[method]):
                    yield Break("operation-removed", pointer, f"{name} is gone")
        yield from self.codes()

    def is_past(self, operation):
        """Whether clients were told that it would be gone by now."""
        sunset = operation.get("x-sunset")
        return bool(operation.get("deprecated") and sunset) and datetime.date.fromisoformat(sunset) <= self.today

    def security_schemes(self):
        schemes = self.present.get("components", {}).get("securitySchemes", {})
        for name, scheme in self.released.get("components", {}).get("securitySchemes", {}).items():
            for key in ("type", "scheme", "in", "name", "openIdConnectUrl", "flows"):
                # One that is gone altogether is seen where an operation asks for another.
                if name in schemes and scheme.get(key) != schemes[name].get(key):
                    what = f"`{key}` was {text(scheme.get(key))} and is {text(schemes[name].get(key))}"
                    yield Break("security-scheme-changed", at("/components/securitySchemes", name), what)

    def operation(self, old, new, pointer, name):
        if old.get("operationId") != new.get("operationId"):
            what = f"{name} was {old.get('operationId')} and is {new.get('operationId')}"
            yield Break("operation-id-changed", at(pointer, "operationId"), what)
        if "x-sunset" in old and new.get("x-sunset", "9999") < old["x-sunset"]:
            what = f"{name} was promised until {old['x-sunset']}, and goes on {new['x-sunset']}"
            yield Break("sunset-advanced", at(pointer, "x-sunset"), what)
        yield from self.security(old, new, pointer, name)
        yield from self.parameters(old, new, name)
        yield from self.body(old, new, pointer, name)
        yield from self.responses(old, new, pointer, name)
        yield from self.statuses(old, new, pointer, name)

    def security(self, old, new, pointer, name):
        def alternatives(operation, document):
            return operation.get("security", document.get("security", [])) or [{}]

        offered = alternatives(new, self.present)
        for alternative in alternatives(old, self.released):
            enough = any(
                all(scheme in alternative and set(scopes) <= set(alternative[scheme]) for scheme, scopes in one.items())
                for one in offered
            )
            if not enough:
                what = f"{name} was open to {text(alternative)} and wants {listed(offered)}"
                yield Break("security-added", at(pointer, "security"), what)

    # Requests

    def parameters(self, old, new, name):
        known, offered = by_name(old, self.released), by_name(new, self.present)
        for key, (place, parameter) in known.items():
            called = f"{name}: the {key[0]} parameter {parameter['name']}"
            if key not in offered:
                yield Break("parameter-removed", place, f"{called} is gone")
                continue
            other = offered[key][1]
            if other.get("required") and not parameter.get("required"):
                yield Break("parameter-required", place, f"{called} was optional")
            schemas = parameter.get("schema", {}), other.get("schema", {})
            yield from self.schemas(*schemas, "request", at(place, "schema"), called)
        for key, (place, parameter) in offered.items():
            if key not in known and parameter.get("required"):
                called = f"{name}: the {key[0]} parameter {parameter['name']}"
                yield Break("parameter-required", place, f"{called} is new and required")

    def body(self, old, new, pointer, name):
        place = at(pointer, "requestBody")
        known, offered = resolve(old.get("requestBody"), self.released), resolve(new.get("requestBody"), self.present)
        if offered and offered.get("required") and not (known and known.get("required")):
            yield Break("body-required", place, f"{name} could be sent without a body")
        if not known:
            return
        if not offered:
            yield Break("body-removed", place, f"{name} takes no body any more")
            return
        for media, content in known.get("content", {}).items():
            there = at(place, "content", media)
            if media not in offered.get("content", {}):
                yield Break("request-media-type-removed", there, f"{name} does not read {media} any more")
                continue
            schemas = content.get("schema", {}), offered["content"][media].get("schema", {})
            yield from self.schemas(*schemas, "request", at(there, "schema"), name)

    # Answers

    def responses(self, old, new, pointer, name):
        offered = new.get("responses", {})
        for status, response in old.get("responses", {}).items():
            place = at(pointer, "responses", status)
            if status not in offered:
                if is_success(status):
                    yield Break("success-status-removed", place, f"{name} does not answer {status} any more")
                continue
            called = f"{name}: the answer {status}"
            place = response["$ref"][1:] if "$ref" in response else place
            response, other = resolve(response, self.released), resolve(offered[status], self.present)
            yield from self.headers(response, other, place, called)
            for media, content in response.get("content", {}).items():
                there = at(place, "content", media)
                if media not in other.get("content", {}):
                    yield Break("response-media-type-removed", there, f"{called} is no {media} any more")
                    continue
                schemas = content.get("schema", {}), other["content"][media].get("schema", {})
                if media == PROBLEM:
                    schemas = [without_codes(schema) for schema in schemas]
                yield from self.schemas(*schemas, "response", at(there, "schema"), called)

    def headers(self, old, new, pointer, name):
        offered = {header.lower(): value for header, value in new.get("headers", {}).items()}
        for header, value in old.get("headers", {}).items():
            place = at(pointer, "headers", header)
            place = value["$ref"][1:] if "$ref" in value else place
            value, other = resolve(value, self.released), resolve(offered.get(header.lower()), self.present)
            called = f"{name}: the header {header}"
            if other is None:
                yield Break("response-header-removed", at(pointer, "headers", header), f"{called} is gone")
                continue
            if value.get("required") and not other.get("required"):
                yield Break("response-header-optional", place, f"{called} was always there")
            schemas = value.get("schema", {}), other.get("schema", {})
            yield from self.schemas(*schemas, "response", at(place, "schema"), called)

    def statuses(self, old, new, pointer, name):
        """An operation may stop refusing for a reason; it may not refuse for the same reason with another status."""
        known, offered = codes_of(old, self.released), codes_of(new, self.present)
        for code, statuses in known.items():
            if code in offered and not offered[code] <= statuses:
                place = at(pointer, "responses", min(statuses))
                what = f"{name} refuses with {code} as {plain_list(offered[code])}, and did as {plain_list(statuses)}"
                yield Break("error-status-changed", place, what)

    def codes(self):
        """A code that no operation has any more."""
        offered = set(all_codes(self.present))
        for code, pointer in all_codes(self.released).items():
            if code not in offered:
                yield Break("error-code-removed", pointer, f"nothing refuses with {code} any more")

    # Schemas: what is narrowed in a request, and what is widened in an answer

    def schemas(self, old, new, way, pointer, name):
        """Compares two schemas. Those behind a reference are compared once for each way."""
        if old in (True, {}) and new in (True, {}):
            return
        if isinstance(old, dict) and "$ref" in old:
            pointer = old["$ref"][1:]
            pair = (text(old), text(new), way)
            if pair in self.compared:
                return
            self.compared.add(pair)
        old, new = flat(old, self.released), flat(new, self.present)
        before, after = choices(old, self.released), choices(new, self.present)
        if len(before) == 1 and len(after) == 1:
            yield from self.plain(before[0], after[0], way, pointer, name)
        elif way == "request":
            yield from self.choice(before, after, way, pointer, name, "request-alternative-removed")
        else:
            yield from self.choice(after, before, way, pointer, name, "response-alternative-added")

    def choice(self, needed, offered, way, pointer, name, rule):
        """Each of `needed` must fit one of `offered`. Where only one has its type, what does not fit is told."""
        for number, one in enumerate(needed):
            pairs = [(one, other) if way == "request" else (other, one) for other in offered]
            if any(not self.breaks_alone(pair, way) for pair in pairs):
                continue
            akin = [pair for pair in pairs if types(pair[0]) & types(pair[1])]
            if len(akin) == 1:
                yield from self.plain(*akin[0], way, at(pointer, "anyOf", number), name)
            else:
                what = "is not taken any more" if way == "request" else "is new"
                yield Break(rule, pointer, f"{name}: the form {text(one)[:120]} {what}")

    def breaks_alone(self, pair, way):
        """Whether a pair breaks, without a trace of having looked."""
        kept = set(self.compared)
        found = next(iter(self.plain(*pair, way, "", "")), None)
        if found:
            self.compared = kept
        return found is not None

    def plain(self, old, new, way, pointer, name):
        yield from self.values(old, new, way, pointer, name)
        yield from self.bounds(old, new, way, pointer, name)
        for key in UNJUDGED:
            if old.get(key) != new.get(key):
                yield Break("schema-changed", at(pointer, key), f"{name}: `{key}` has changed")
        if way == "request" and "default" in old and old["default"] != new.get("default"):
            what = f"{name}: the default was {text(old['default'])} and is {text(new.get('default'))}"
            yield Break("request-default-changed", at(pointer, "default"), what)
        if "object" in types(old) & types(new):
            yield from self.fields(old, new, way, pointer, name)
        if "array" in types(old) & types(new):
            items = old.get("items", {}), new.get("items", {})
            yield from self.schemas(*items, way, at(pointer, "items"), name)

    def values(self, old, new, way, pointer, name):
        before, after = types(old), types(new)
        if way == "request" and not before <= after:
            yield Break("request-type-narrowed", at(pointer, "type"), f"{name}: {listed(before - after)} is refused")
        if way == "response" and not after <= before:
            yield Break("response-type-widened", at(pointer, "type"), f"{name}: {listed(after - before)} is new")
        before, after = constants(old), constants(new)
        if way == "request" and after is not None and (before is None or before - after):
            gone = "others than " + plain_list(after) if before is None else plain_list(before - after)
            yield Break("request-enum-narrowed", at(pointer, "enum"), f"{name}: {gone} is refused")
        if way == "response" and before is not None and (after is None or after - before):
            more = "any value" if after is None else plain_list(after - before)
            yield Break("response-enum-widened", at(pointer, "enum"), f"{name}: {more} is new")

    def bounds(self, old, new, way, pointer, name):
        for key, larger_is_tighter in BOUNDS.items():
            before, after = old.get(key), new.get(key)
            if key in ("minLength", "minItems", "minProperties"):
                before, after = before or None, after or None  # 0 bounds nothing
            if before == after:
                continue
            tighter = before is None or (after is not None and (after > before) == larger_is_tighter)
            what = f"{name}: `{key}` was {text(before)} and is {text(after)}"
            if way == "request" and tighter:
                yield Break("request-bound-tightened", at(pointer, key), what)
            if way == "response" and not tighter:
                yield Break("response-bound-loosened", at(pointer, key), what)
        for key in ("pattern", "format", "multipleOf", "uniqueItems", "contentEncoding", "contentMediaType"):
            before, after = old.get(key) or None, new.get(key) or None
            what = f"{name}: `{key}` was {text(before)} and is {text(after)}"
            if before != after and (after if way == "request" else before) is not None:
                yield Break(f"{way}-pattern-changed", at(pointer, key), what)

    def fields(self, old, new, way, pointer, name):
        known, offered = old.get("properties", {}), new.get("properties", {})
        for field, schema in known.items():
            place = at(pointer, "properties", field)
            if field not in offered:
                yield Break(f"{way}-field-removed", place, f"{name}: the field {field} is gone")
                continue
            yield from self.schemas(schema, offered[field], way, place, f"{name}: {field}")
        before, after = set(old.get("required", [])), set(new.get("required", []))
        if way == "request":
            for field in sorted(after - before):
                what = f"{name}: the field {field} is required"
                yield Break("request-field-required", at(pointer, "properties", field), what)
        else:
            for field in sorted(field for field in before - after if field in offered):
                what = f"{name}: the field {field} was always there"
                yield Break("response-field-optional", at(pointer, "properties", field), what)
        yield from self.others(old, new, way, pointer, name)

    def others(self, old, new, way, pointer, name):
        """The fields that have no schema of their own."""
        before, after = (schema.get("additionalProperties", True) for schema in (old, new))
        place = at(pointer, "additionalProperties")
        if way == "request" and after is False and before is not False:
            yield Break("request-closed", place, f"{name}: fields that are not known are refused")
        elif before is not False and after is not False:
            yield from self.schemas(before, after, way, place, f"{name}: other fields")


def whole(item, method, path):
    """An operation with the parameters of its path, and the place of each."""
    own, shared = item[method].get("parameters", []), item.get("parameters", [])
    places = [(at("/paths", path, "parameters", number), one) for number, one in enumerate(shared)]
    places += [(at("/paths", path, method, "parameters", number), one) for number, one in enumerate(own)]
    return {**item[method], "parameters": places}


def by_name(operation, document):
    """Parameters by kind and name, with their places. Those of a path go by order: their names are not on the wire."""
    named, order = {}, 0
    for place, parameter in operation["parameters"]:
        parameter = resolve(parameter, document)
        name = parameter["name"].lower() if parameter["in"] == "header" else parameter["name"]
        if parameter["in"] == "path":
            name, order = order, order + 1
        named[parameter["in"], name] = place, parameter
    return named


def resolve(value, document):
    """What a reference leads to."""
    while isinstance(value, dict) and "$ref" in value:
        target = document
        for name in value["$ref"].removeprefix("#/").split("/"):
            target = target[name.replace("~1", "/").replace("~0", "~")]
        value = target
    return value


def flat(schema, document):
    """A schema without references and `allOf` at its top. What stands beside a reference counts too."""
    if schema is True:
        return {}
    if schema is False:
        return {"type": []}
    own = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
    parts = [resolve(schema, document)] if "$ref" in schema else []
    for part in parts + schema.get("allOf", []):
        own = both(own, flat(part, document))
    return own


def both(one, other):
    """The schema of what fits two."""
    merged = {**other, **one}
    for key in one.keys() & other.keys():
        if key == "properties":
            names = one[key].keys() & other[key].keys()
            shared = {name: {"allOf": [one[key][name], other[key][name]]} for name in names}
            merged[key] = {**other[key], **one[key], **shared}
        elif key == "required":
            merged[key] = sorted({*one[key], *other[key]})
        elif key == "type":
            merged[key] = sorted(types(one) & types(other))
        elif key in ("enum", "const"):
            merged[key] = [value for value in one[key] if value in other[key]] if key == "enum" else one[key]
        elif key in BOUNDS:
            merged[key] = max(one[key], other[key]) if BOUNDS[key] else min(one[key], other[key])
        elif key in ("anyOf", "oneOf"):
            merged[key] = [{"allOf": [a, b]} for a in one[key] for b in other[key]]
    return merged


def choices(schema, document):
    """The forms that a schema allows: itself, or each of its alternatives."""
    for key in ("anyOf", "oneOf"):
        if key in schema:
            rest = {name: value for name, value in schema.items() if name != key}
            forms = [flat({"allOf": [rest, form]}, document) for form in schema[key]]
            forms = [choice for form in forms for choice in choices(form, document)]
            values = [value for form in forms for value in sorted(constants(form) or ())]
            others = [form for form in forms if constants(form) is None]
            # An enumeration whose values are described one by one is still one form.
            return ([{**rest, "enum": [json.loads(value) for value in values]}] if values else []) + others
    return [schema]


def types(schema):
    """The types that a schema allows; each integer is a number."""
    if "type" not in schema:
        values = constants(schema)
        named = TYPES if values is None else {name_of(json.loads(value)) for value in values}
    else:
        named = {schema["type"]} if isinstance(schema["type"], str) else set(schema["type"])
    return frozenset(named | {"integer"} if "number" in named else named)


def name_of(value):
    names = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in names if isinstance(value, kind)), "null")


def constants(schema):
    """The values that a schema allows, as texts; `None` where it does not list them."""
    if "const" in schema:
        return {text(schema["const"])}
    return {text(value) for value in schema["enum"]} if "enum" in schema else None


def is_codes(schema):
    """The part of a problem's schema that lists its codes: they have rules of their own."""
    return isinstance(schema, dict) and set(schema) == {"properties"} and set(schema["properties"]) == {"code"}


def without_codes(schema):
    if not isinstance(schema, dict) or "allOf" not in schema:
        return schema
    rest = [part for part in schema["allOf"] if not is_codes(part)]
    # As a plain reference, so that what all problems share is told once.
    return rest[0] if set(schema) == {"allOf"} and len(rest) == 1 else {**schema, "allOf": rest}


def codes_of(operation, document):
    """The codes that an operation refuses with, and their statuses."""
    found = {}
    for status, response in operation.get("responses", {}).items():
        schema = resolve(response, document).get("content", {}).get(PROBLEM, {}).get("schema", {})
        for part in schema.get("allOf", []):
            for code in part["properties"]["code"].get("enum", []) if is_codes(part) else []:
                found.setdefault(code, set()).add(status)
    return found


def all_codes(document):
    """Each code of a document, and where it first stands."""
    found = {}
    for path, item in document.get("paths", {}).items():
        for method in (method for method in METHODS if method in item):
            for code, statuses in codes_of(item[method], document).items():
                found.setdefault(code, at("/paths", path, method, "responses", min(statuses)))
    return found
