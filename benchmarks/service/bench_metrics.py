"""Cost of the metrics: CPU time of a request with them, relative to one without.

python benchmarks/service/bench_metrics.py [--pairs 400] [--watched .1 1]

One service answers 128 clients without sockets. Its metrics are switched off in one block of each
pair of blocks; the CPU time is that of all threads. So the share is an upper bound: a server also
reads and writes its connections.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parent)]
from bench_http import event, lists, make_app, message

from sklearn_recft.serving import _watch

N_CLIENTS = 128


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
            (_watch.LearnerWatch, "before"),
            (_watch.LearnerWatch, "after"),
        ):
            stack.enter_context(mock.patch.object(owner, name, skip))
        stack.enter_context(mock.patch.object(_watch.Watch, "before", nothing))
        yield


async def answer(app, request):
    """Send the bytes of a request to an application, as a server would; return the body."""
    head, _, body = request.partition(b"\r\n\r\n")
    line, *rest = head.split(b"\r\n")
    method, path, _ = line.decode().split(" ")
    headers = [tuple(one.split(b": ", 1)) for one in rest]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "scheme": "http"}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "http_version": "1.1"}

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    parts = []

    async def send(message):
        assert message.get("status", 200) < 300, message
        parts.append(message.get("body", b""))

    await app(scope, receive, send)
    return b"".join(parts)


async def block(app, make, start, n):
    """Return the CPU seconds of a request, over ``n`` of each client.

    All clients send at once, and wait until all is learned: so each turn is the same work, cut into
    the same batches.
    """
    clock = time.process_time()
    for k in range(start, start + n):
        calls = [answer(app, make(number, k)) for number in range(N_CLIENTS)]
        last = max(json.loads(body)["seq"] for body in await asyncio.gather(*calls))
        await answer(app, message("POST", "/v1/recommend", {"users": [0], "min_seq": last}))
    return (time.process_time() - clock) / (n * N_CLIENTS)


async def measure(app, pairs, n):
    """Return the CPU seconds of a request by kind, of pairs of blocks with and without metrics.

    The order within a pair alternates, so a drift of the machine meets both alike.
    """
    found = {"events": [], "recommend": []}
    for kind, make in (("events", event), ("recommend", lists)):
        for turn in range(-3, pairs):  # the first turns warm up
            spent = {}
            for is_on in (True, False) if turn % 2 else (False, True):
                with contextlib.nullcontext() if is_on else without_metrics():
                    spent[is_on] = await block(app, make, (turn + 3) * n, n)
            if turn >= 0:
                found[kind].append((spent[True], spent[False]))
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


def summary(kind, share, pairs):
    """Return the share of the metrics, and how far the median may be off."""
    shares = np.array([own / bare - 1 for own, bare in pairs])
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(shares, (2000, len(shares))), axis=1)
    return {
        "requests": kind,
        "watched": share,
        "us of CPU": round(1e6 * statistics.median(own for own, _ in pairs), 1),
        "us without metrics": round(1e6 * statistics.median(bare for _, bare in pairs), 1),
        "share of the metrics": round(float(np.median(shares)), 4),
        "standard error": round(float(medians.std()), 4),
        "90 % interval": [round(float(one), 4) for one in np.quantile(medians, (0.05, 0.95))],
    }


async def run(watched, pairs, n):
    """Print the cost of the metrics of each setting."""
    low, high = await counting()
    print(json.dumps({"counting alone, us of CPU": [round(1e6 * low, 2), round(1e6 * high, 2)]}))
    for share in watched:
        with tempfile.TemporaryDirectory() as folder:
            app = make_app(folder, share)
            async with app.router.lifespan_context(app):
                found = await measure(app, pairs, n)
        for kind, spent in found.items():
            print(json.dumps(summary(kind, share, spent)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--n", type=int, default=1, help="requests of each client in a block")
    parser.add_argument("--watched", nargs="*", type=float, default=[None], help="see create_app")
    args = parser.parse_args()
    asyncio.run(run(args.watched or [None], args.pairs, args.n))
