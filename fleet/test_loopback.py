#!/usr/bin/env python3
"""A Ray cluster on this machine: a head without cores and two workers, one of which is killed in mid-sweep. The digest of
the sweep is that of a serial one.

    fleet/test_loopback.py [path of highwater] [SCENARIO] [A..B]

Needs Ray (`pip install ray`) in the Python that runs it. Ends within ten minutes, one way or the other.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time

import ray

HERE = pathlib.Path(__file__).resolve().parent
RAY = str(pathlib.Path(sys.executable).with_name("ray"))
LIMIT = 600
# A busy machine of two cores takes a minute to start a node of Ray.
START = 180


def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def node(place, *options):
    """A process of Ray, leader of a session of its own, so that all of it can be killed at once."""
    environment = dict(os.environ, RAY_health_check_period_ms="500",
                       RAY_health_check_failure_threshold="3", RAY_USAGE_STATS_ENABLED="0")
    log = open(place / f"node-{time.monotonic_ns()}.log", "wb")
    command = [RAY, "start", *options, "--block", "--disable-usage-stats", "--object-store-memory=80000000"]
    return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def kill(process):
    """All processes of a node that this script started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def wait_for(what, holds, limit=START):
    until = time.monotonic() + limit
    while not holds():
        if time.monotonic() > until:
            raise SystemExit(f"{what}: not within {limit} s")
        time.sleep(0.1)


def connected(address):
    try:
        ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
    except ConnectionError:
        return False
    return True


def nodes():
    return sum(node["Alive"] for node in ray.nodes())


def main():
    binary = str(pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "highwater").resolve())
    scenario = sys.argv[2] if len(sys.argv) > 2 else "stop-broker-1"
    seeds = sys.argv[3] if len(sys.argv) > 3 else "1..2400"
    # A process that is told to end does not leave the cluster behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    began = time.monotonic()
    serial = subprocess.run([binary, "sweep", scenario, "--seeds", seeds, "--jobs", "1", "--json"],
                            capture_output=True, check=False, timeout=LIMIT)
    serial = json.loads(serial.stdout)
    started = []
    with tempfile.TemporaryDirectory(prefix="fleet-") as place:
        place = pathlib.Path(place)
        try:
            # Ray takes 127.0.0.1 for this: one address for all of them.
            host = ray.util.get_node_ip_address()
            address = f"{host}:{port()}"
            started.append(node(place, "--head", f"--node-ip-address={host}", f"--port={address.split(':')[1]}",
                                "--num-cpus=0", "--include-dashboard=false", f"--temp-dir={place}/ray"))
            wait_for("the head", lambda: connected(address))
            # Addresses of their own: the sweep's driver belongs to whoever has its address, and must not die with a worker.
            # One after the other: two that start at once are slower than that.
            for n in (2, 3):
                started.append(node(place, f"--address={address}", f"--node-ip-address=127.0.0.{n}", "--num-cpus=1"))
                wait_for(f"worker {n - 1}", lambda: nodes() >= n)
            ray.shutdown()
            out = place / "out"
            command = [sys.executable, str(HERE / "ray_sweep.py"), scenario, "--seeds", seeds, "--shards", "24",
                       "--address", address, "--highwater", binary, "--out", str(out), "--json"]
            fleet = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            wait_for("the first part", lambda: fleet.poll() is not None or len(list(out.glob("*.jsonl"))) >= 1)
            kill(started[1])
            told, errors = fleet.communicate(timeout=LIMIT - (time.monotonic() - began))
        finally:
            for process in reversed(started):
                kill(process)
    print(errors, end="")
    merged = json.loads(told)
    again = int(errors.split(" of them run again")[0].rsplit(" ", 1)[1])
    print(f"serial   {serial['digest']}  {serial['done']} runs")
    print(f"two, one {merged['digest']}  {merged['done']} runs, {again} parts run again")
    same = all(serial[key] == merged[key] for key in ("digest", "done", "verdicts", "violations", "coverage"))
    if not same or again == 0:
        print("NOT the same" if not same else "no part was lost: the test shows nothing")
        return 1
    print(f"the same, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
