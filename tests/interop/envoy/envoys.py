"""Envoys as child processes: started from a template, looked into through their admin interface."""

import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path
from string import Template

HERE = Path(__file__).parent
WORLD = Path(os.environ["WORLD"])
DOMAIN = os.environ["TRUST_DOMAIN"]
AGENT = os.environ["SPIFFE_ENDPOINT_SOCKET"].removeprefix("unix://")
START = 30


class Envoy:
    """One Envoy, which the agent knows as `name`."""

    def __init__(self, name, template, **more):
        self.name = name
        config = WORLD / f"{name}.yaml"
        values = {"name": name, "trust_domain": DOMAIN, "agent_socket": AGENT, **more}
        config.write_text(Template((HERE / template).read_text()).substitute(values))
        self.admin_file = WORLD / f"{name}.admin"
        self.log = WORLD / f"{name}.log"
        self.process = subprocess.Popen(
            [
                os.path.join(os.environ["BIN"], name), "--config-path", str(config),
                "--admin-address-path", str(self.admin_file), "--log-path", str(self.log),
                "--log-level", "warning", "--concurrency", "1", "--disable-hot-restart",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.ports = self._wait_until_ready()

    def ask(self, path):
        url = f"http://{self.admin_file.read_text()}/{path}"
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.read().decode()

    def _wait_until_ready(self):
        """The listeners' ports by name, once there are secrets for all of them."""
        end = time.monotonic() + START
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name}: {self.process.stderr.read()}")
            try:
                if self.ask("ready").strip() == "LIVE":
                    listeners = json.loads(self.ask("listeners?format=json"))["listener_statuses"]
                    return {
                        it["name"]: it["local_address"]["socket_address"]["port_value"]
                        for it in listeners
                    }
            except OSError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{self.name} has no secrets after {START} s: {self.log.read_text()}")

    def svid_serials(self):
        """The serial numbers of the certificates that it shows to peers now."""
        certificates = json.loads(self.ask("certs"))["certificates"]
        return {chain["serial_number"] for it in certificates for chain in it.get("cert_chain", [])}

    def stat(self, pattern):
        """The sum of all counters whose name matches `pattern`."""
        stats = json.loads(self.ask(f"stats?format=json&filter={pattern}"))["stats"]
        return sum(it.get("value", 0) for it in stats)

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=10)
