"""What Schemathesis needs to know about stormhook: its media types, what must not be deleted, who may call, and exceptions."""

import atexit
import collections
import json
import os
import pathlib
import tomllib

import schemathesis
from schemathesis.openapi.checks import RejectedPositiveData

CALLER = os.environ["CALLER"]
KEPT = os.environ["KEPT"].split()
EVENT, ENDPOINT = os.environ["EVENT"], os.environ["ENDPOINT"]
EXCEPTIONS = tomllib.loads(pathlib.Path(__file__).with_name("exceptions.toml").read_text())["exceptions"]
STATUSES = collections.defaultdict(collections.Counter)
EXCUSED = collections.Counter()


@atexit.register
def write_tally():
    pathlib.Path(os.environ["TALLY"]).write_text(json.dumps({"statuses": STATUSES, "excused": EXCUSED}))


@schemathesis.serializer("application/x-ndjson")
def one_line(_context, value):
    """The schema of the body is that of one line."""
    return value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"


@schemathesis.deserializer("application/x-ndjson")
def read_line(_context, response):
    """One line was sent, so one is answered."""
    return json.loads(response.content)


@schemathesis.deserializer("application/octet-stream")
def read_store(_context, response):
    """A copy of the store begins as redb's files do."""
    if not response.content.startswith(b"redb"):
        raise ValueError("not a store")


@schemathesis.hook
def before_call(_context, case, _kwargs):
    """Keeps what other requests need, and names an endpoint that a replayed event can go to: no response links the two."""
    if case.method in ("DELETE", "PATCH") and case.path_parameters.get("id") in KEPT:
        case.path_parameters["id"] = "kept"
    replays = case.operation.label == "POST /v1/events/{id}/replay" and case.meta and case.meta.generation.mode.is_positive
    if replays and case.path_parameters["id"].startswith("evt_"):
        case.path_parameters["id"], case.body = EVENT, {"endpointId": ENDPOINT}


@schemathesis.hook
def after_call(_context, case, response):
    STATUSES[case.operation.label][response.status_code] += 1


@schemathesis.hook
def filter_failure(_context, failure, case, response):
    """Drops the failures that exceptions.toml lists."""
    if not isinstance(failure, RejectedPositiveData):
        return True
    problem = response.json()
    operation = case.operation.definition.raw["operationId"]
    for exception in EXCEPTIONS:
        excepted = exception["code"] == problem["code"] and exception.get("field") == problem.get("field")
        if excepted and operation in exception["operations"]:
            EXCUSED[exception["reason"]] += 1
            return False
    return True


@schemathesis.check
def allowed_with_a_valid_key_only(_context, response, case):
    """The health routes are open. A key for everything is never refused; without a valid one everything is."""
    refused = response.status_code in (401, 403, 429)
    if CALLER == "everything":
        assert not refused, f"{response.status_code} with a key for everything"
    elif CALLER != "organization" and case.operation.definition.raw["security"] != [{}]:
        assert refused, f"{response.status_code} without a valid key"
