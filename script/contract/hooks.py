"""What schemathesis is told about the requests that it makes up."""

import re

import schemathesis

TENANT = re.compile(r"^([a-z0-9-]{1,63}|[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})$")


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
def map_body(ctx, body):
    return whole(body)


@schemathesis.hook
def map_headers(ctx, headers):
    """A made-up tenant is 403 before anything else is looked at: leave well-formed ones out, and the token's counts."""
    if headers and TENANT.match(str(headers.get("X-Tenant-ID", ""))):
        headers = {name: value for name, value in headers.items() if name != "X-Tenant-ID"}
    return headers
