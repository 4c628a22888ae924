"""Receives stormhook deliveries with the standard library, verifies them and drops repeats.

    STORMHOOK_SECRET=whsec_… PORT=9003 python3 consumer.py

Three things matter, whatever the framework:

- verify the bytes as received, before any JSON parsing: `request.get_data()` in Flask,
  `request.body` in Django, `await request.body()` in FastAPI;
- answer within 15 seconds, and 2xx only once you have stored the event: anything else is sent
  again;
- drop repeats by webhook-id. A delivery may arrive more than once, with the same id. Here the
  ids are in memory. In a service, insert the id into a table with a unique key in the same
  transaction that does the work.
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import sys
import threading
import time
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Events are at most 256 KiB unless the daemon is configured otherwise; the envelope adds some bytes.
BODY_BYTES_MAX = 512 * 1024
TOLERANCE_S = 300
IDS_KEPT = 100_000
# `int` refuses a text with more digits, since its time is quadratic in their number.
INT_DIGITS_MAX = 4300


class Refused(Exception):
    """The delivery is not genuine, or not recent."""


def key_of(secret):
    """The key of `webhook-signature`: the bytes that the secret encodes."""
    try:
        if not secret.startswith("whsec_"):
            raise ValueError("no whsec_ prefix")
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        if len(key) < 24:
            raise ValueError("under 24 bytes")
    except (ValueError, binascii.Error) as error:
        sys.exit(f"set STORMHOOK_SECRET to the endpoint's secret (whsec_…): {error}")
    return key


def verify(headers, body, key, now_s):
    """Returns the event's id, or raises `Refused`."""
    values = {}
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        given = headers.get_all(name) or []
        if len(given) != 1 or not given[0]:
            raise Refused(f"no single {name}")
        values[name] = given[0]
    event_id, timestamp = values["webhook-id"], values["webhook-timestamp"]
    # An id with a dot would let an old delivery pass as a new one: `{id}.{timestamp}.{body}`
    # could then be split in two ways.
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,256}", event_id):
        raise Refused("malformed webhook-id")
    if not re.fullmatch(r"0|[1-9][0-9]{0,11}", timestamp):
        raise Refused("malformed webhook-timestamp")
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise Refused("timestamp too far from now")
    if len(values["webhook-signature"]) > 4096:
        raise Refused("too many signatures")

    mac = hmac.new(key, f"{event_id}.{timestamp}.".encode() + body, hashlib.sha256)
    expected = b"v1," + base64.b64encode(mac.digest())
    # During a rotation there is one signature per secret; one match is enough.
    given = values["webhook-signature"].encode("utf-8", "surrogateescape").split(b" ")
    if not any(hmac.compare_digest(item, expected) for item in given):
        raise Refused("no signature matches")
    return event_id


def integer(digits):
    """An integer of any length: `data` may hold one that `int` refuses."""
    return int(digits) if len(digits) <= INT_DIGITS_MAX else Decimal(digits)


class Consumer(BaseHTTPRequestHandler):
    """Answers `POST /hooks`."""

    protocol_version = "HTTP/1.1"
    timeout = 30
    key = b""
    seen = {}  # in order of insertion, so the first is the oldest
    lock = threading.Lock()

    def do_POST(self):
        length = self.headers.get("content-length", "")
        if self.path != "/hooks" or not length.isdecimal() or int(length) > BODY_BYTES_MAX:
            self.close_connection = True
            return self.answer(400, "POST /hooks with a content-length\n")
        body = self.rfile.read(int(length))
        try:
            event_id = verify(self.headers, body, self.key, int(time.time()))
        except Refused as refused:
            print(f"refused {refused}", flush=True)
            return self.answer(401, "signature not accepted\n")
        # Verified, so the body is stormhook's own JSON; validate `data` yourself.
        event = json.loads(body, parse_int=integer)
        with self.lock:
            if event_id in self.seen:
                print(f"repeat {event_id}", flush=True)
                return self.answer(200, "seen before\n")
            self.seen[event_id] = True
            if len(self.seen) > IDS_KEPT:
                del self.seen[next(iter(self.seen))]
        print(f"accepted {event_id} {event['type']}", flush=True)
        return self.answer(200, "thank you\n")

    def answer(self, status, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Deliveries are printed above; no second log."""


def main():
    Consumer.key = key_of(os.environ.get("STORMHOOK_SECRET", ""))
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "9003"))), Consumer)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}/hooks", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
