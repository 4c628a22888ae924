"""PyPI `standardwebhooks`: verifies our cases (stdin), signs them anew (stdout). It decodes bytes as UTF-8, so other bodies are left out."""

import base64
import datetime
import json
import sys

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

cases = [case for case in json.load(sys.stdin) if case["is_utf8"]]


def accepts(peer, body, headers):
    try:
        peer.verify(body, headers, json_parse=False)
        return True
    except WebhookVerificationError:
        return False


for case in cases:
    body = base64.b64decode(case["body_base64"])
    peer = Webhook(case["secret"])
    headers = {
        "webhook-id": case["id"],
        "webhook-timestamp": str(case["timestamp"]),
        "webhook-signature": case["signature"],
    }
    if not accepts(peer, body, headers):
        sys.exit(f"standardwebhooks refuses {case['id']}")
    if accepts(peer, body + b" ", headers):
        sys.exit(f"standardwebhooks accepts another body for {case['id']}")
    at = datetime.datetime.fromtimestamp(case["timestamp"], tz=datetime.timezone.utc)
    case["signature"] = peer.sign(case["id"], at, body.decode())
print(f"PyPI standardwebhooks: {len(cases)} bodies that we signed verify there", file=sys.stderr)
json.dump(cases, sys.stdout)
