"""A receiver of webhooks from plugin_webhooks, for Python 3.9 or later: verifies, takes each delivery once, answers.

    pip install standardwebhooks==1.1.0
    WEBHOOK_SECRET=whsec_... python3 receiver.py

WEBHOOK_SECRET  what `select plugin_webhooks.receiver_secret('name')` gives, or the secret's text
VERIFY          standard-webhooks (default, by the library), by-hand (the same without it), plugin (X-Plugin-Signature)
HOST, PORT      where to listen; 127.0.0.1 and 8080. 0 takes a free port; the first line printed says which.
"""

import base64
import collections
import hashlib
import hmac
import http.server
import json
import os
import re
import signal
import sys
import threading
import time

SECRET = os.environ.get("WEBHOOK_SECRET", "")
WAY = os.environ.get("VERIFY", "standard-webhooks")
TOLERANCE_S = 300
MAX_BODY_BYTES = 16 * 1024 * 1024
MAX_SEEN = 100_000


def key():
    """The key: base64 after whsec_, or the secret's UTF-8 bytes."""
    encoded = re.match(r"(?:v1,)?whsec_(.*)", SECRET, re.DOTALL)
    if not encoded:
        return SECRET.encode()
    text = encoded[1]
    return base64.b64decode(text + "=" * (-len(text) % 4))


def with_library():
    from standardwebhooks.webhooks import Webhook, WebhookVerificationError

    webhook = Webhook(base64.b64encode(key()).decode())

    def verifies(headers, body):
        try:
            webhook.verify(body, {name.lower(): value for name, value in headers.items()})
            return True
        except WebhookVerificationError:
            return False

    return verifies


def by_hand():
    def verifies(headers, body):
        delivery = headers.get("webhook-id", "")
        timestamp = headers.get("webhook-timestamp", "")
        if not delivery or not re.fullmatch(r"[0-9]+", timestamp):
            return False
        if abs(time.time() - int(timestamp)) > TOLERANCE_S:
            return False
        mac = hmac.new(key(), f"{delivery}.{timestamp}.".encode() + body, hashlib.sha256)
        expected = b"v1," + base64.b64encode(mac.digest())
        # Two of them while a secret is rotated.
        given = headers.get("webhook-signature", "").split(" ")
        return any(hmac.compare_digest(expected, signature.encode()) for signature in given)

    return verifies


def plugin():
    def verifies(headers, body):
        expected = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest().encode()
        return hmac.compare_digest(expected, headers.get("x-plugin-signature", "").encode())

    return verifies


WAYS = {"standard-webhooks": with_library, "by-hand": by_hand, "plugin": plugin}

# Deliveries come at least once. Here a bounded memory is enough; with a database, insert the id into a table with a
# unique key, in the transaction that does the work.
seen = collections.OrderedDict()
lock = threading.Lock()


def is_new(delivery):
    with lock:
        if delivery in seen:
            return False
        seen[delivery] = True
        if len(seen) > MAX_SEEN:
            seen.popitem(last=False)
        return True


def handle(delivery, event):
    """The work. It should be quick: an answer within timeout_ms (15 s by default), or the delivery comes again."""
    print(json.dumps({"id": delivery, "event": event}), flush=True)


def receive(headers, body, verifies):
    """Status and text of the answer."""
    if not verifies(headers, body):
        return 401, "wrong signature"
    try:
        event = json.loads(body)
    except ValueError:
        # It will not become better: 410 ends the delivery.
        return 410, "not JSON"
    delivery = headers.get("webhook-id")
    if WAY == "plugin":
        # That signature is of the body alone: of a recorded request, somebody could change the header.
        delivery = f"{event['installation_id']}/{(event['audit'] or {}).get('id')}"
    if not is_new(delivery):
        return 200, "seen before"
    try:
        handle(delivery, event)
    except Exception as error:
        with lock:
            seen.pop(delivery, None)
        print(error, file=sys.stderr)
        return 500, "try again"
    return 200, "ok"


def handler(verifies):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_POST(self):
            length = self.headers.get("content-length", "")
            if not re.fullmatch(r"[0-9]+", length):
                return self.answer(411, "length required")
            if int(length) > MAX_BODY_BYTES:
                return self.answer(413, "too large")
            # The bytes that arrived are what is signed: verify before anything parses them.
            body = self.rfile.read(int(length))
            self.answer(*receive(self.headers, body, verifies))

        def answer(self, status, text):
            self.send_response(status)
            self.send_header("content-type", "text/plain")
            self.send_header("content-length", str(len(text)))
            if status in (411, 413):
                self.send_header("connection", "close")
                self.close_connection = True
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format, *arguments):
            pass

    return Handler


def main():
    if not SECRET:
        sys.exit("WEBHOOK_SECRET is not set")
    if WAY not in WAYS:
        sys.exit(f"VERIFY is one of {', '.join(WAYS)}")
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080")))
    server = http.server.ThreadingHTTPServer(address, handler(WAYS[WAY]()))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    host, port = server.server_address[:2]
    print(json.dumps({"listening": f"http://{host}:{port}/"}), flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
