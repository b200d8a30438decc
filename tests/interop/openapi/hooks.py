"""Gives every request of schemathesis a token of its own: each works once."""
import pathlib
import sys

import schemathesis

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import issuer  # noqa: E402


@schemathesis.auth(refresh_interval=None)
class FreshToken:
    def get(self, case, context):
        return issuer.token()

    def set(self, case, data, context):
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}
