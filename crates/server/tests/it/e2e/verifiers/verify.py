"""Verifies what the server has issued, with libraries that know nothing of it: reads JSON, prints what they found."""

import base64
import io
import json
import sys

import argon2
import jwt
import pyotp
import zxingcpp
from PIL import Image

given = json.load(sys.stdin)

keys = jwt.PyJWKSet.from_dict(given["jwks"])
key = next(key for key in keys.keys if key.key_id == jwt.get_unverified_header(given["token"])["kid"])
claims = jwt.decode(
    given["token"],
    key.key,
    algorithms=["EdDSA"],
    audience="erp-backend-api",
    issuer="erp-backend",
    options={"require": ["exp", "iat", "iss", "aud", "sub", "jti"]},
)
symmetric = jwt.decode(
    given["symmetric"], given["secret"], algorithms=["HS256"], audience="erp-backend-api", issuer="erp-backend"
)

picture = Image.open(io.BytesIO(base64.b64decode(given["qr"])))
[code] = zxingcpp.read_barcodes(picture)
totp = pyotp.parse_uri(code.text)
assert isinstance(totp, pyotp.TOTP)

hasher = argon2.PasswordHasher()
parameters = argon2.extract_parameters(given["phc"])
json.dump(
    {
        "sub": claims["sub"],
        "symmetricSub": symmetric["sub"],
        "lives": claims["exp"] - claims["iat"],
        "uri": code.text,
        "issuer": totp.issuer,
        "code": totp.now(),
        "password": hasher.verify(given["phc"], given["password"]),
        "memory": parameters.memory_cost,
        "rounds": parameters.time_cost,
        "kind": parameters.type.name,
    },
    sys.stdout,
)
