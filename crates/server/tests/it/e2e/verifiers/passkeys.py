"""Verifies what a browser's authenticator has answered to our pages, by py_webauthn: reads JSON, prints what it found."""

import json
import sys

import webauthn
from webauthn.helpers import base64url_to_bytes, bytes_to_base64url

given = json.load(sys.stdin)
made, proven = given["made"], given["proven"]
site = {"expected_rp_id": given["rpId"], "expected_origin": given["origin"]}

registration = webauthn.verify_registration_response(
    credential=made["credential"],
    expected_challenge=base64url_to_bytes(made["challenge"]),
    require_user_verification=True,
    **site,
)


def verify(challenge, public_key):
    return webauthn.verify_authentication_response(
        credential=proven["credential"],
        expected_challenge=base64url_to_bytes(challenge),
        credential_public_key=public_key,
        credential_current_sign_count=registration.sign_count,
        require_user_verification=True,
        **site,
    )


# By the key that our server has stored, and not by the one that py_webauthn has read.
authentication = verify(proven["challenge"], base64url_to_bytes(given["stored"]))
try:
    verify(made["challenge"], registration.credential_public_key)
    other_challenge = "accepted"
except webauthn.helpers.exceptions.InvalidAuthenticationResponse:
    other_challenge = "refused"
json.dump(
    {
        "publicKey": bytes_to_base64url(registration.credential_public_key),
        "credential": bytes_to_base64url(registration.credential_id),
        "attestation": registration.fmt,
        "verified": [registration.user_verified, authentication.user_verified],
        "signCount": authentication.new_sign_count,
        "otherChallenge": other_challenge,
    },
    sys.stdout,
)
