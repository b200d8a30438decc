"""Two client libraries of ETSI GS QKD 014, as their users would use them."""

import sys
import warnings

import requests
from etsi_qkd_014_client import QKD014Client
from qkdsec.client import ETSI014Client
from qkdsec.doctor import ProbeStatus, format_text, run_all
from requests.adapters import HTTPAdapter

url, world, bundle = sys.argv[1:]


class SpiffeAdapter(HTTPAdapter):
    """The server shows an X.509-SVID: its authority is known, and it names no host."""

    def init_poolmanager(self, *args, **kwargs):
        super().init_poolmanager(*args, assert_hostname=False, **kwargs)


def files(name):
    return f"{world}/{name}.pem", f"{world}/{name}.key"


def client(name, kind=ETSI014Client):
    session = requests.Session()
    session.mount("https://", SpiffeAdapter())
    return kind(url, client_cert=files(name), verify=bundle, session=session)


class BothEnds(ETSI014Client):
    """The probe draws and collects; here, each end can do one of that only."""

    def get_dec_keys(self, _slave, **kwargs):
        return client("bob").get_dec_keys("sae-alice", **kwargs)


report = run_all(client("alice", BothEnds), "sae-bob")
failed = {result.name for result in report.results if result.status == ProbeStatus.FAIL}
warned = {result.name for result in report.results if result.status == ProbeStatus.WARN}
# It wants 404 for a key that is not there; the standard has 400, 401 and 503 only.
assert not failed and warned <= {"error_contract_404"}, format_text(report, use_rich=False)

alice, bob = client("alice"), client("bob")
drawn = alice.get_enc_keys("sae-bob", number=3, size=512, method="POST")
ids = [key.key_id for key in drawn]
assert [key.key for key in bob.get_dec_keys("sae-alice", key_ids=ids)] == [key.key for key in drawn]
assert len({key.key for key in drawn}) == 3 and {len(key.key) for key in drawn} == {64}

# This one checks names of hosts, or nothing.
warnings.simplefilter("ignore")
host = url.removeprefix("https://")
alice, bob = (QKD014Client(host, *files(name), bundle, force_insecure=True) for name in ("alice", "bob"))
code, status = alice.get_status("sae-bob")
assert code == 200 and status.key_size == 256, code
code, drawn = alice.get_key("sae-bob", number=2, size=256)
assert code == 200, code
ids = [key.key_id for key in drawn.keys]
code, collected = bob.get_key_with_key_IDs("sae-alice", ids)
assert code == 200 and [key.key for key in collected.keys] == [key.key for key in drawn.keys], code
code, _ = bob.get_key_with_key_IDs("sae-alice", ids)
assert code == 400, code
