"""What schemathesis is told about the requests that it makes up."""

import re
import unicodedata
import uuid

import schemathesis
from hypothesis import strategies

TENANT = re.compile(r"^([a-z0-9-]{1,63}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$")
KEYS = []


def whole(value):
    """An integer as one: 3.0 is an integer to JSON Schema, and refused here (I-02)."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole(member) for name, member in value.items()}
    if isinstance(value, list):
        return [whole(member) for member in value]
    return value


@schemathesis.hook
def before_load_schema(ctx, raw_schema):
    """Has headers whose values hold quotes made by their pattern: by itself schemathesis takes no quote for one of a
    header's characters, and sends an empty field as a valid one."""
    operations = (operation for path in raw_schema["paths"].values() for operation in path.values())
    for parameter in (parameter for operation in operations for parameter in operation.get("parameters", [])):
        name, schema = parameter["name"], parameter["schema"]
        if parameter["in"] == "header" and '"' in schema.get("pattern", ""):
            schemathesis.openapi.format(name, strategies.from_regex(schema["pattern"], fullmatch=True))
            schema["format"] = name
            if name == "Idempotency-Key" and not KEYS:
                KEYS.append(re.compile(schema["pattern"]))


def unsaid(value):
    """Whether a text holds a character that `format` forbids and no pattern can name in every engine: one that is not
    assigned, or one that cannot be seen."""
    if isinstance(value, dict):
        return any(unsaid(member) for member in value.values())
    if isinstance(value, list):
        return any(unsaid(member) for member in value)
    return isinstance(value, str) and any(
        unicodedata.category(character) in ("Cn", "Co", "Cf")
        or 0xFE00 <= ord(character) <= 0xFE0F
        or 0x180B <= ord(character) <= 0x180F
        or 0xE0000 <= ord(character) <= 0xE0FFF
        or character == "\u2800"
        for character in value
    )


@schemathesis.hook
def filter_query(ctx, query):
    """A parameter that is null, or an empty list or object, is not sent at all: what is wrong with it never arrives."""
    nothing = any(value is None or value == [] or value == {} for value in (query or {}).values())
    return not nothing and not unsaid(query)


@schemathesis.hook
def filter_body(ctx, body):
    return not unsaid(body)


@schemathesis.hook
def map_body(ctx, body):
    return whole(body)


def is_random_and_valid(case):
    meta = case.meta
    return meta is not None and meta.phase.name.value == "fuzzing" and not meta.generation.mode.is_negative


def is_chained(case):
    return case.meta is not None and case.meta.phase.name.value == "stateful"


@schemathesis.hook
def before_call(ctx, case, kwargs):
    """A cursor that nobody issued is 400 before anything else of the query counts, so that each request with one looks
    rightly refused: one that left out `limit`, which the contract called required, went unseen. Made-up ones are left to
    random requests that are else valid, and issued ones to chains. A tenant that the caller is no member of is 403 before anything else
    is looked at, so well-formed ones are left out, and the token's counts. A key that was used for another request is 422:
    each well-formed one is made anew, as clients must."""
    if case.query and "cursor" in case.query and not is_random_and_valid(case) and not is_chained(case):
        del case.query["cursor"]
    headers = case.headers or {}
    if TENANT.match(str(headers.get("X-Tenant-ID", ""))):
        del headers["X-Tenant-ID"]
    key = headers.get("Idempotency-Key")
    if key and any(pattern.fullmatch(key) for pattern in KEYS):
        headers["Idempotency-Key"] = f'"{uuid.uuid4()}"' if key.startswith('"') else str(uuid.uuid4())


@schemathesis.check
def missing_parameter_rejected(ctx, response, case):
    """What the contract requires, the server demands. schemathesis sends such requests itself, and judges one harmless as
    soon as another parameter of its query is right."""
    tried = case.meta.phase.data if case.meta else None
    if getattr(getattr(tried, "scenario", None), "value", "") == "missing_parameter" and response.status_code < 400:
        raise AssertionError(f"accepted without `{tried.parameter}`, which the contract requires")
