"""An HTTP server that says what it got, and clients that count every request to it."""

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Echo(BaseHTTPRequestHandler):
    """Answers with the body, and with what the Envoy before it says of the other one."""

    protocol_version = "HTTP/1.1"
    # Head and body go as two segments, and the second would wait for an acknowledgement.
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        peer = self.headers["x-forwarded-client-cert"]
        answer = json.dumps({"body": body, "peer": peer}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


def serve_echo():
    """The port of an echo that lives as long as this process."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def post(connection, text):
    connection.request("POST", "/", body=text)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def post_once(port, text="once"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return post(connection, text)
    finally:
        connection.close()


class Load:
    """Clients that send one request after the other until they are told to stop."""

    def __init__(self, port, clients, expected_peer):
        self.port = port
        self.expected_peer = expected_peer
        self.requests = 0
        self.failures = []
        # Fingerprints of the certificates that the server's side saw.
        self.certificates = set()
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self, client):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        count = 0
        while not self._end.is_set():
            count += 1
            try:
                status, answer = post(connection, text := f"{client}/{count}")
                failure = self._judge(status, answer, text)
            except (OSError, http.client.HTTPException) as error:
                failure = repr(error)
                connection.close()
            with self._lock:
                self.requests += 1
                if failure:
                    self.failures.append(f"request {text}: {failure}")
        connection.close()

    def _judge(self, status, answer, text):
        """What is wrong with the answer, if anything."""
        if status != 200:
            return f"{status} {answer}"
        answer = json.loads(answer)
        peer = dict(part.split("=", 1) for part in answer["peer"].split(";"))
        if answer["body"] != text or peer.get("URI") != self.expected_peer:
            return f"answered with {answer}"
        with self._lock:
            self.certificates.add(peer["Hash"])
        return None

    def stop(self):
        self._end.set()
        for thread in self._threads:
            thread.join()
