"""Cost of the metrics: CPU time of a request with them, relative to one without.

python benchmarks/service/bench_metrics.py [--rounds 15]

All services run in this process and answer in turns, without sockets; the CPU time is that of all
threads. So the share is an upper bound: a server also reads and writes its connections.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]
from bench_http import event, lists, make_app

from sklearn_recft.serving import _watch

N_CLIENTS = 128
SHARES = {"counters": 0.0, "default": None, "watched=.1": 0.1, "watched=1": 1.0}


def skip(*_):
    """Do nothing: a mock would take longer than what it replaces."""


async def nothing(*_):
    """Do what `Watch.before` does without metrics."""


@contextlib.contextmanager
def without_metrics():
    """Leave out all that is done for metrics."""
    with contextlib.ExitStack() as stack:
        for owner, name in (
            (_watch.Metrics, "request"),
            (_watch.Watch, "after"),
            (_watch.Quality, "add_list"),
        ):
            stack.enter_context(mock.patch.object(owner, name, skip))
        stack.enter_context(mock.patch.object(_watch.Watch, "before", nothing))
        yield


async def answer(app, request):
    """Send the bytes of a request to an application, as a server would."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    method, path, _ = line.decode().split(" ")
    headers = [tuple(one.split(b": ", 1)) for one in rest]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http"}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "http_version": "1.1"}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        assert message.get("status", 200) < 300, message

    await app(scope, receive, send)


async def block(app, make, start, n):
    """Return the CPU seconds of a request, over ``n`` of each client."""

    async def client(number):
        for k in range(start, start + n):
            await answer(app, make(number, k))

    clock = time.process_time()
    await asyncio.gather(*(client(number) for number in range(N_CLIENTS)))
    return (time.process_time() - clock) / (n * N_CLIENTS)


async def measure(apps, rounds, n=6):
    """Return the CPU seconds of each round by kind of request and by service."""
    rng = random.Random(0)
    found = {"events": {name: [] for name in apps}, "recommend": {name: [] for name in apps}}
    for turn in range(rounds + 1):
        names = rng.sample(list(apps), len(apps))
        for kind, make in (("events", event), ("recommend", lists)):
            for name in names:
                around = without_metrics() if name == "none" else contextlib.nullcontext()
                with around:
                    spent = await block(apps[name], make, turn * n, n)
                if turn:  # the first turn warms up
                    found[kind][name].append(spent)
    return found


async def counting(n=5000, rounds=7):
    """Return the smallest and largest CPU seconds of counting a request with an event."""
    watch = _watch.Watch(SimpleNamespace(feedback={"click": 1.0}), None, ("click",), 0.0)
    events = [SimpleNamespace(kind="click", value=3.0, list_id=None, item_id=1)]
    spent = []
    for _ in range(rounds):
        clock = time.process_time()
        for _ in range(n):
            watch.after(events, 0, await watch.before(events))
            watch.metrics.request("/v1/events", 202, 0.01)
        spent.append((time.process_time() - clock) / n)
    return min(spent), max(spent)


async def run(rounds):
    """Print the median cost of each service, in microseconds and relative to no metrics."""
    low, high = await counting()
    print(json.dumps({"counting alone, us of CPU": [round(1e6 * low, 1), round(1e6 * high, 1)]}))
    async with contextlib.AsyncExitStack() as stack:
        apps = {}
        for name, share in {"none": 0.0, **SHARES}.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            apps[name] = make_app(folder, share)
            await stack.enter_async_context(apps[name].router.lifespan_context(apps[name]))
        found = await measure(apps, rounds)
    for kind, by_name in found.items():
        for name, spent in by_name.items():
            pairs = zip(spent, by_name["none"], strict=True)
            ratios = sorted(own / bare - 1 for own, bare in pairs)
            quarter = len(ratios) // 4
            print(json.dumps({
                "requests": kind,
                "metrics": name,
                "us of CPU": round(1e6 * statistics.median(spent)),
                "more than none": round(statistics.median(ratios), 3),
                "quartiles": [round(ratios[quarter], 3), round(ratios[-1 - quarter], 3)],
            }))  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=15)
    asyncio.run(run(parser.parse_args().rounds))
