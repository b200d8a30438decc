"""shim-records.py CLIENT SERVER PREFIX: checks that the access records of two shims, one a line, tell of the
same connections, in both modes."""

import json
import sys
import time


def main():
    client, server, prefix = sys.argv[1:]
    end = time.monotonic() + 10
    while True:
        try:
            return check(read(client), read(server), prefix)
        except AssertionError:
            # A record is written when its connection has ended at that side.
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def check(client, server, prefix):
    for mode in ("psk", "mtls"):
        ours = [record for record in client if record["mode"] == mode and "exporter" in record]
        theirs = {record["exporter"]: record for record in server if record["mode"] == mode and "exporter" in record}
        assert len(ours) >= 2 and len(theirs) >= 2, (mode, client, server)
        for record in ours:
            assert record["exporter"] in theirs, (mode, "no record at the other end", record)
            other = theirs[record["exporter"]]
            for one in (record, other):
                assert one["client"] == f"{prefix}/client", one
                assert one["server"] == f"{prefix}/server", one
                assert one["purpose"] == "interop" and one["group"] == "X25519MLKEM768", one
            assert record["caller"]["spiffe_id"] == f"{prefix}/client", record
            # A client that hangs up while the server is speaking does not hear all of it.
            cut = "broken" in record["ended"] + other["ended"]
            assert record["sent"] == other["received"] or cut, (record, other)
            assert record["received"] == other["sent"] or cut, (record, other)
            assert 0 < record["sent"] and 0 < record["received"], record


def read(path):
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


main()
