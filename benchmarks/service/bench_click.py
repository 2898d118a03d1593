"""From a click to a list that knows it, relative to a ping of the same server.

python benchmarks/service/bench_click.py [--n 400] [--against FOLDER]

One client sends an event, waits for the answer, and asks for a list with the number of the event as
``min_seq``. Each click is followed by a ping, and the servers take turns, so that other load on the
machine meets all of them alike: one that waits for the disk, one that does not, and, with
``--against``, both of another checkout of the repository. ``flush`` is the time of ``fdatasync``
after 8 kB were written to the same disk.
"""

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve()
ROOT = Path(os.environ.get("BENCH_ROOT", HERE.parents[2]))
sys.path[:0] = [str(ROOT), str(HERE.parent)]

from bench_http import PING, Connection, event, make_app, message, wait_until_ready


def serve(folder, port, durable):
    """Serve until a signal; this runs in a process of its own."""
    from sklearn_recft.serving import make_server

    make_server(make_app(folder, None, durable=durable == "True"), port=port).run()


@contextlib.contextmanager
def server(root, durable):
    """Yield the port of a server that runs the code of a checkout."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        own = {**os.environ, "BENCH_ROOT": str(root), "PYTHONPATH": str(root)}
        command = [sys.executable, str(HERE), "--serve", folder, str(port), str(durable)]
        process = subprocess.Popen(command, env=own)
        try:
            wait_until_ready(port, process)
            yield port
        finally:
            process.terminate()
            process.wait()


async def click(connection, k):
    """Return the seconds of an event, and of an event and the list that knows it."""
    clock = time.perf_counter()
    answer = json.loads(await connection.ask(event(1, k)))
    stored = time.perf_counter() - clock
    body = {"users": [1], "min_seq": answer["seq"]}
    found = json.loads(await connection.ask(message("POST", "/v1/recommend", body)))
    assert found["seq"] >= answer["seq"]
    return stored, time.perf_counter() - clock


async def ping(connection):
    clock = time.perf_counter()
    await connection.ask(PING)
    return time.perf_counter() - clock


def flush(file):
    """Return the seconds of a write that reaches the disk."""
    os.write(file.fileno(), bytes(8192))
    clock = time.perf_counter()
    os.fdatasync(file.fileno())
    return time.perf_counter() - clock


async def measure(ports, n):
    """Return the seconds of events, clicks and pings of each server, and of the disk."""
    connections = {name: await Connection.open(port) for name, port in ports.items()}
    found = {name: {"event": [], "click": [], "ping": []} for name in ports}
    disk = []
    with tempfile.NamedTemporaryFile() as file:
        for k in range(-50, n):  # the first ones compile and fill caches
            for name, connection in connections.items():
                stored, known = await click(connection, k + 50)
                pong = await ping(connection)
                if k >= 0:
                    found[name]["event"].append(stored)
                    found[name]["click"].append(known)
                    found[name]["ping"].append(pong)
            disk.append(flush(file))
    return found, disk


def summary(name, own, disk):
    """Return the medians of one server in microseconds, and their ratios, of the fastest too."""
    middle = {kind: statistics.median(values) for kind, values in own.items()}
    first = {kind: statistics.quantiles(values, n=10)[0] for kind, values in own.items()}
    return {
        "server": name,
        **{f"{kind}, us": round(1e6 * value) for kind, value in middle.items()},
        "event / ping": round(middle["event"] / middle["ping"], 1),
        "click to list / ping": round(middle["click"] / middle["ping"], 1),
        "click to list / ping, fastest tenth": round(first["click"] / first["ping"], 1),
        "flush / ping": round(statistics.median(disk) / middle["ping"], 1),
    }


def main():
    """Print a line for each server."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=400)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], int(args.serve[1]), args.serve[2])
        return
    roots = {"this": HERE.parents[2]} | ({"against": args.against} if args.against else {})
    with contextlib.ExitStack() as stack:
        ports = {
            f"{name}, {'durable' if durable else 'not durable'}":
                stack.enter_context(server(root, durable))
            for durable in (True, False) for name, root in roots.items()
        }  # fmt: skip
        found, disk = asyncio.run(measure(ports, args.n))
    for name, own in found.items():
        print(json.dumps(summary(name, own, disk)), flush=True)


if __name__ == "__main__":
    main()
