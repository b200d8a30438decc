#!/usr/bin/env python3
"""May this tool be called? Asks Claviger's control door, with nothing but Python's standard library.

The X.509-SVID comes from files, as `claviger svid watch --write DIR` keeps them fresh:

    claviger svid watch --write /run/gateway &
    authorize.py --files /run/gateway --control 127.0.0.1:8444 --server spiffe://example.org/spire/server \
        --subject spiffe://example.org/bot --tool execute_trade --purpose rebalance symbol=AAPL amount:=5

Ends with 0 if it may, with 1 if not, with 2 if nobody decided: then it may not either.
"""

import argparse
import http.client
import json
import pathlib
import ssl
import sys
import time


class Undecided(Exception):
    """There is no decision, so it is denied."""


class ControlDoor(http.client.HTTPSConnection):
    """A connection to the control door. Questions can follow each other; the server closes it when none
    came for ten seconds, so after five it is opened anew, with the newest SVID."""

    IDLE = 5

    def __init__(self, address, files, server, timeout=10):
        host, port = address.rsplit(":", 1)
        self.files, self.server, self.used = pathlib.Path(files), server, 0.0
        super().__init__(host.strip("[]"), int(port), timeout=timeout, context=self._tls())

    def _tls(self):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        tls.minimum_version = ssl.TLSVersion.TLSv1_3
        tls.check_hostname = False  # the SPIFFE ID is checked instead
        tls.load_verify_locations(self.files / "bundle.0.pem")
        tls.load_cert_chain(self.files / "svid.0.pem", self.files / "svid.0.key")
        return tls

    def connect(self):
        self._context = self._tls()
        super().connect()
        names = self.sock.getpeercert().get("subjectAltName", ())
        if [value for kind, value in names if kind == "URI"] != [self.server]:
            self.close()
            raise Undecided(f"the server is {names}, not {self.server}")

    def authorize(self, subject, tool, purpose, parameters, **context):
        """The answer: `decision`, and beside it `context`, which may name an `approval` to wait for."""
        question = {
            "subject": {"type": "identity", "id": subject},
            "action": {"name": "call", "properties": parameters},
            "resource": {"type": "tool", "id": tool},
            "context": {"purpose": purpose, **context},
        }
        if time.monotonic() - self.used > self.IDLE:
            self.close()
        try:
            self.request("POST", "/v1/authorize", json.dumps(question), {"Content-Type": "application/json"})
            answer = self.getresponse()
            body = answer.read(65536)
            if answer.status != 200:
                raise Undecided(f"{answer.status}: {body.decode(errors='replace')}")
            decided, self.used = json.loads(body), time.monotonic()
        except (OSError, ValueError, http.client.HTTPException) as error:
            self.close()
            raise Undecided(error) from error
        if not isinstance(decided, dict) or not isinstance(decided.get("decision"), bool):
            raise Undecided(f"no decision in {decided}")
        return decided


def parameter(text):
    """NAME=TEXT, or NAME:=JSON for numbers, flags and lists."""
    name, sign, value = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=TEXT or NAME:=JSON")
    return (name[:-1], json.loads(value)) if name.endswith(":") else (name, value)


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flag in ("files", "control", "server", "subject", "tool", "purpose"):
        flags.add_argument(f"--{flag}", required=True)
    flags.add_argument("--approval", help="the approval that an earlier answer named")
    flags.add_argument("parameters", nargs="*", type=parameter, metavar="NAME=VALUE")
    given = flags.parse_args()
    more = {"approval": given.approval} if given.approval else {}
    try:
        door = ControlDoor(given.control, given.files, given.server)
        answer = door.authorize(given.subject, given.tool, given.purpose, dict(given.parameters), **more)
    except (Undecided, OSError) as error:
        print(f"denied, because nobody decided: {error}", file=sys.stderr)
        sys.exit(2)
    print(json.dumps(answer))
    sys.exit(0 if answer["decision"] else 1)


if __name__ == "__main__":
    main()
