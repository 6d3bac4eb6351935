#!/usr/bin/env python3
"""A sweep on many machines: hands the parts of `highwater sweep` out over a Ray cluster and merges what comes back.

    ray_sweep.py scenarios/labs/kill-broker-1.json --seeds 1..10000 --shards 100 --address auto --out sweep-1

Each part is one call of `highwater sweep --shard I/N --jsonl -` on some machine. A part whose machine is lost is run
again on another one. The lines of a part are written here in one piece, so a file that is there is whole: the same
command again runs only the parts that are missing. At the end `highwater sweep --merge` adds the lines up; its digest
is that of a serial sweep.

The scenario goes with the work; the binary `highwater` must be on each machine, of the same build.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import sys
import tempfile

import ray
from ray import exceptions as lost

# How `highwater sweep` ends when the runs were made, whatever they showed (README.md).
MADE = {0, 1, 3, 4, 5, 6}
# Bad usage: nobody else would do better.
REFUSED = 2
# What Ray says when a machine or a process is gone, rather than the work wrong.
LOST = (lost.WorkerCrashedError, lost.NodeDiedError, lost.RaySystemError, lost.ObjectLostError, lost.OutOfMemoryError)


class Refused(Exception):
    """The sweep itself is wrong: what `highwater` said of it."""


def part(binary, scenario, text, options, index, parts):
    """Runs a part on the machine where this is called: its exit status and its lines."""
    with tempfile.TemporaryDirectory(prefix="highwater-") as place:
        if text is not None:
            # Under the name that the user gave it, since lines that reproduce a run have it.
            file = pathlib.Path(place, scenario.lstrip("/"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(text)
            scenario = scenario.lstrip("/")
        command = [binary, "sweep", scenario, *options, "--shard", f"{index}/{parts}", "--jobs", "1", "--jsonl", "-"]
        done = subprocess.run(command, cwd=place, capture_output=True, check=False)
        return done.returncode, done.stdout, done.stderr.decode(errors="replace")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenario", help="a scenario file, or the name of one that comes with Highwater")
    parser.add_argument("--seeds", required=True, metavar="A..B", help="first and last seed")
    parser.add_argument("--shards", type=int, default=0, metavar="N", help="how many parts; four for each core unless given")
    parser.add_argument("--address", metavar="HOST:PORT", help="a Ray cluster (auto: that of this machine); none: this machine alone")
    parser.add_argument("--highwater", default="highwater", metavar="PATH", help="the binary, on each machine")
    parser.add_argument("--out", default="sweep-out", metavar="DIR", help="where the lines of each part are kept")
    parser.add_argument("--retries", type=int, default=5, metavar="N", help="how often a part may be lost")
    parser.add_argument("--json", action="store_true", help="print the JSON document of the merged sweep")
    parser.add_argument("options", nargs="*", help="more options of `highwater sweep`, behind --: -- --variant none --mutant NAME")
    return parser.parse_args()


def tell(text):
    print(text, file=sys.stderr, flush=True)


def sweep(args, out, text, options):
    """Runs the parts that are missing. Each is asked for once, and again when it is lost."""
    cores = int(ray.cluster_resources().get("CPU", 1))
    parts = args.shards or 4 * max(cores, 1)
    files = {index: out / f"part-{index:05}-of-{parts:05}.jsonl" for index in range(1, parts + 1)}
    queue = collections.deque(index for index, file in files.items() if not file.exists())
    if len(queue) < parts:
        tell(f"{parts - len(queue)} of {parts} parts are there already")
    # Ray's own retries are off: here they are counted and told.
    task = ray.remote(num_cpus=1, max_retries=0)(part)
    running, tries = {}, collections.Counter()
    while queue or running:
        # Few more than there are cores, so that a part that is lost does not wait behind all others.
        while queue and len(running) < 2 * max(cores, 1):
            index = queue.popleft()
            tries[index] += 1
            running[task.remote(args.highwater, args.scenario, text, options, index, parts)] = index
        ready, _ = ray.wait(list(running), num_returns=1, timeout=10)
        for reference in ready:
            index = running.pop(reference)
            why = collect(reference, index, files[index])
            if why is None:
                left = len(queue) + len(running)
                tell(f"part {index} of {parts} is done, {left} to go")
            elif tries[index] > args.retries:
                raise Refused(f"part {index} was lost {tries[index]} times, at last: {why}")
            else:
                tell(f"part {index} of {parts} is lost and will be run again: {why}")
                queue.append(index)
    again = sum(tries.values()) - len(tries)
    tell(f"{parts} parts, {again} of them run again")
    return [str(file) for file in files.values()]


def collect(reference, index, file):
    """Writes the lines of a part that is done; why it has to be run again, if it has."""
    try:
        status, lines, errors = ray.get(reference)
    except LOST as gone:
        return type(gone).__name__
    except ray.exceptions.RayTaskError as wrong:
        raise Refused(f"part {index}: {wrong.cause}") from wrong
    if status == REFUSED:
        raise Refused(errors.strip())
    if status not in MADE:
        return f"highwater ended with {status}"
    whole = file.with_suffix(".new")
    whole.write_bytes(lines)
    os.replace(whole, file)
    return None


def main():
    args = arguments()
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    file = pathlib.Path(args.scenario)
    text = file.read_bytes() if file.is_file() else None
    options = ["--seeds", args.seeds, *args.options]
    # What Ray has to say of its nodes goes where the progress goes: the page of the merged sweep is all of standard output.
    sys.stdout.flush()
    standard_output = os.dup(1)
    os.dup2(2, 1)
    ray.init(address=args.address, log_to_driver=False, logging_level="ERROR")
    try:
        files = sweep(args, out, text, options)
    except Refused as why:
        tell(f"error: {why}")
        return REFUSED
    except KeyboardInterrupt:
        tell(f"interrupted: the parts that are done are in {out}; the same command goes on from there")
        return 130
    finally:
        ray.shutdown()
        os.dup2(standard_output, 1)
        os.close(standard_output)
    merge = [args.highwater, "sweep", args.scenario, *options, *(["--json"] if args.json else []), "--merge", *files]
    return subprocess.run(merge, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
