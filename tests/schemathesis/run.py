"""Runs Schemathesis on a daemon of its own: with a key for everything, a key of one organization, no key and a wrong one.

Started by scripts/schemathesis in a network namespace: nothing can leave it, and every port in it is free. A name server
there knows no name, and a receiver accepts every delivery. The status is 1 if a run failed, if an operation never
succeeded with the key for everything, or if the daemon is not well afterwards.
"""

import argparse
import collections
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
URL = "http://127.0.0.1:8650"
RECEIVER = "http://127.0.0.1:9000/hooks"
NOBODY = "http://127.0.0.1:9001/hooks"
SETTINGS = {
    "DNS__SERVERS": "127.0.0.1",
    "TARGET__ALLOW_HTTP": "true",
    "RETRY__SCHEDULE": "1h",
    "LOG__LEVEL": "error",
}
# Each caller with the phases of its run. Without a valid key all requests are answered alike, so random ones add nothing.
CALLERS = {
    "everything": "examples,coverage,fuzzing,stateful",
    "organization": "examples,coverage,fuzzing",
    "none": "examples,coverage",
    "wrong": "examples,coverage",
}


class Receiver(http.server.BaseHTTPRequestHandler):
    """Accepts every delivery."""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


def deny_names(server):
    """Answers each question with NXDOMAIN (RFC 1035, section 4.1.1)."""
    while True:
        question, asker = server.recvfrom(512)
        server.sendto(question[:2] + b"\x81\x83\x00\x01" + bytes(6) + question[12:], asker)


def start_surroundings():
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("127.0.0.1", 53))
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Receiver)
    threading.Thread(target=deny_names, args=(names,), daemon=True).start()
    threading.Thread(target=receiver.serve_forever, daemon=True).start()


class Daemon:
    """A daemon in a directory of its own, and its command line."""

    def __init__(self, program, directory):
        self.program = os.path.abspath(program)
        settings = SETTINGS | {"DATA_DIR": str(directory), "SOCKET": str(directory / "stormhook.sock")}
        others = {name: value for name, value in os.environ.items() if not name.startswith("STORMHOOK_")}
        self.environment = others | {f"STORMHOOK_{name}": value for name, value in settings.items()}
        start = [self.program, "serve"]
        self.process = subprocess.Popen(start, cwd=directory, env=self.environment, stdout=subprocess.PIPE, text=True)
        if not self.process.stdout.readline().startswith("stormhook ready"):
            sys.exit("the daemon did not start")

    def run(self, *arguments):
        done = subprocess.run([self.program, *arguments], env=self.environment, text=True, capture_output=True)
        if done.returncode:
            sys.exit(f"stormhook {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.run(*arguments, "--json"))

    def key(self, *arguments):
        return self.json("key", "add", "--name", "tester", *arguments)

    def seed(self):
        """Makes deliveries that succeed and others that wait. Returns an event and an endpoint that it went to."""
        for organization in ("org_43", "org_42"):
            add = ("endpoint", "add", "--organization", organization, "--event-type", "*", "--url")
            self.run(*add, NOBODY)
            endpoint = self.json(*add, RECEIVER)
            event = {"organizationId": organization, "type": "order.created", "data": {"orderId": 1001}}
            event = self.json("event", "send", json.dumps(event))
        return event["id"], endpoint["id"]

    def stop(self):
        self.process.terminate()
        return self.process.wait()


def openapi(key):
    """Returns the daemon's document."""
    request = urllib.request.Request(f"{URL}/v1/openapi.json", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return response.read()


def test(caller, key, kept, options, directory):
    """Runs Schemathesis as a caller. Returns whether it passed, and what it tallied."""
    tally = directory / f"{caller}.json"
    seconds = options.seconds if caller == "everything" else options.seconds // 2
    command = [pathlib.Path(sys.executable).with_name("schemathesis"), "--config-file", HERE / "schemathesis.toml", "run"]
    command += [directory / "openapi.json", "--url", URL, "--phases", CALLERS[caller], "--seed", options.seed]
    command += ["--max-examples", options.examples, "--max-time", seconds]
    if caller in ("none", "wrong"):
        command += ["--mode", "positive", "--warnings", "off"]
    if key:
        command += ["--header", f"Authorization: Bearer {key}"]
    hooks = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), "PYTHONDONTWRITEBYTECODE": "1"}
    hooks |= {"CALLER": caller, "TALLY": str(tally)}
    print(f"\n--- with the key: {caller}", flush=True)
    ran = subprocess.run([*map(str, command)], env=os.environ | hooks | kept, cwd=directory)
    return ran.returncode == 0, json.loads(tally.read_text())


def summarize(caller, tally):
    """Returns one line on how the requests of a caller were answered."""
    total = collections.Counter()
    for statuses in tally["statuses"].values():
        total.update(statuses)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(total.items()))
    return f"{caller}: {len(tally['statuses'])} operations, {sum(total.values())} requests: {answers}"


def run(daemon, options, directory):
    """Runs Schemathesis as each caller. Returns what failed."""
    scopes = ("--scope=ingest", "--scope=read", "--scope=write")
    event, endpoint = daemon.seed()
    everything, organization = daemon.key(*scopes, "--scope=admin"), daemon.key(*scopes, "--organization=org_42")
    kept = {"EVENT": event, "ENDPOINT": endpoint, "KEPT": " ".join(["org_42", endpoint, everything["id"], organization["id"]])}
    keys = {"everything": everything["key"], "organization": organization["key"], "none": None, "wrong": "shk_wrong"}
    (directory / "openapi.json").write_bytes(openapi(everything["key"]))
    failed, lines, excused = [], [], collections.Counter()
    for caller in options.caller or CALLERS:
        passed, tally = test(caller, keys[caller], kept, options, directory)
        failed += [] if passed else [f"the run with the key: {caller}"]
        lines.append(summarize(caller, tally))
        excused.update(tally["excused"])
        if caller == "everything":
            untried = [name for name, statuses in tally["statuses"].items() if not any(s.startswith("2") for s in statuses)]
            failed += [f"{name}, which never succeeded" for name in untried]
    print("", *lines, sep="\n")
    print(*(f"excused {count} times: {reason}" for reason, count in excused.items()), sep="\n")
    report = daemon.run("check").strip()
    print(report)
    return failed + (["the daemon, which has ended"] if daemon.process.poll() is not None else [])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="the daemon")
    parser.add_argument("--examples", type=int, default=10, help="random requests for each operation and phase (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what random requests follow from (%(default)s)")
    parser.add_argument("--seconds", type=int, default=60, metavar="N", help="longest time for a caller, half for all but the first (%(default)s)")
    parser.add_argument("--caller", choices=CALLERS, action="append", help="only this caller; may be repeated")
    options = parser.parse_args()
    start_surroundings()
    # In memory if possible: requests are tested, not the disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        directory = pathlib.Path(folder)
        daemon = Daemon(options.program, directory)
        try:
            failed = run(daemon, options, directory)
        finally:
            status = daemon.stop()
    failed += [f"the daemon, which ended with {status}"] if status else []
    if failed:
        sys.exit("FAILED: " + "; ".join(failed))


if __name__ == "__main__":
    main()
