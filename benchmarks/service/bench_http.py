"""Speed of the service, relative to a bare ping of the same server in the same run.

python benchmarks/service/bench_http.py [--seconds 3] [--rounds 3] [--watched SHARE]

Two kinds of ratios: requests per second on the clock, and requests per second of CPU time of the
server. The second says what one core can do, and other load on the machine hardly changes it.
"""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT))

N_USERS, N_ITEMS = 2000, 1000


def make_app(folder, watched, *, durable=True):
    """Return the service of a factorization that is fitted on synthetic feedback."""
    from sklearn_recft import IncrementalMFRecommender
    from sklearn_recft.datasets import make_interactions
    from sklearn_recft.serving import FeedbackStore, Limits, Loop, create_app

    X, y = make_interactions(N_USERS, N_ITEMS, 100_000, random_state=0, return_X_y=True)
    model = IncrementalMFRecommender(n_factors=32, max_epochs=3, random_state=0).fit(X, y)
    model.partial_fit_predict(X[:10], y[:10])  # compiled before the clock runs
    store = FeedbackStore(f"sqlite:///{folder}/feedback.db", durable=durable)
    loop = Loop(model, store, f"{folder}/models")
    return create_app(loop, limits=Limits(max_waiting=4096), watched=watched)


def serve(folder, port, watched):
    """Serve until a signal; this runs in a process of its own."""
    from sklearn_recft.serving import make_server

    share = None if watched == "None" else float(watched)
    make_server(make_app(folder, share), port=port).run()


# ------------------------------------------------------------------------------ the load


def message(method, path, body=None):
    """Return the bytes of a request."""
    content = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(content)}\r\n"
    if content:
        head += "content-type: application/json\r\n"
    return head.encode() + b"\r\n" + content


class Connection:
    """One client that waits for each answer before it sends the next request."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def ask(self, request):
        self.writer.write(request)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await self.reader.readexactly(length)
        status = int(head[9:12])
        assert status < 300, (status, body)
        return body


PING = message("GET", "/health/live")


def ping(client, n):
    return PING


def event(client, n):
    user, item = (client * 7919 + n * 31) % N_USERS, (client * 104_729 + n * 17) % N_ITEMS
    one = {"user_id": user, "item_id": item, "kind": "click", "value": 1 + n % 5}
    return message("POST", "/v1/events", {"events": [one]})


def lists(client, n):
    return message("POST", "/v1/recommend", {"users": [(client * 7919 + n * 31) % N_USERS]})


async def load(port, make, n_clients, seconds):
    """Return the requests per second, and the duration of each."""
    durations, end = [], time.perf_counter() + seconds

    async def client(number):
        connection, n = await Connection.open(port), 0
        while time.perf_counter() < end:
            clock = time.perf_counter()
            await connection.ask(make(number, n))
            durations.append(time.perf_counter() - clock)
            n += 1
        connection.writer.close()

    clock = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(n_clients)))
    return len(durations) / (time.perf_counter() - clock), durations


async def reads_while_learning(port, seconds):
    """Return the durations of reads by 8 clients while 8 others send events."""
    (_, reads), _ = await asyncio.gather(
        load(port, lists, 8, seconds), load(port, event, 8, seconds)
    )
    return reads


async def click_to_list(port, n):
    """Return the seconds from sending an event to a list that knows it."""
    connection, found = await Connection.open(port), []
    for k in range(n):
        clock = time.perf_counter()
        answer = json.loads(await connection.ask(event(1, k)))
        body = {"users": [1], "min_seq": answer["seq"]}
        await connection.ask(message("POST", "/v1/recommend", body))
        found.append(time.perf_counter() - clock)
    connection.writer.close()
    return found


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(q * len(values)))]


class Processor:
    """CPU time of the server between two calls."""

    def __init__(self, pid):
        self.path = Path(f"/proc/{pid}/stat")
        self.last = self.now()

    def now(self):
        fields = self.path.read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def spent(self):
        before, self.last = self.last, self.now()
        return self.last - before


async def measure(port, pid, seconds):
    """Return the ratios of one round; each measurement has its own ping beside it."""
    cpu = Processor(pid)

    async def per_cpu(make, n_clients):
        cpu.spent()
        rate, durations = await load(port, make, n_clients, seconds)
        return rate, len(durations) / cpu.spent()

    ping_128, ping_128_cpu = await per_cpu(ping, 128)
    events_128, events_128_cpu = await per_cpu(event, 128)
    ping_32, ping_32_cpu = await per_cpu(ping, 32)
    lists_32, lists_32_cpu = await per_cpu(lists, 32)
    _, alone = await load(port, lists, 8, seconds)
    _, beside_pings = await asyncio.gather(
        load(port, ping, 8, seconds), load(port, lists, 8, seconds)
    )
    learning = await reads_while_learning(port, seconds)
    _, one = await load(port, ping, 1, seconds / 2)
    click = await click_to_list(port, 200)
    return {
        "ping/s, 128 clients": ping_128,
        "events, 128 clients / ping": events_128 / ping_128,
        "events, 128 clients / ping, by CPU": events_128_cpu / ping_128_cpu,
        "recommend, 32 clients / ping": lists_32 / ping_32,
        "recommend, 32 clients / ping, by CPU": lists_32_cpu / ping_32_cpu,
        "p99 of reads while learning / frozen": quantile(learning, 0.99) / quantile(alone, 0.99),
        "p99 of reads while learning / beside pings":
            quantile(learning, 0.99) / quantile(beside_pings[1], 0.99),
        "click to list / ping, medians": statistics.median(click) / statistics.median(one),
    }  # fmt: skip


def main():
    """Print the ratios of each round as JSON lines, and their medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--watched", type=float, help="as in create_app")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve[0], int(args.serve[1]), args.serve[2])
        return
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--serve", folder, str(port), str(args.watched)]
        server = subprocess.Popen(command)
        try:
            wait_until_ready(port, server)
            asyncio.run(measure(port, server.pid, 0.5))
            rounds = []
            for _ in range(args.rounds):
                rounds.append(asyncio.run(measure(port, server.pid, args.seconds)))
                print(json.dumps(rounds[-1]), flush=True)
        finally:
            server.terminate()
            server.wait()
    print(json.dumps({k: statistics.median(r[k] for r in rounds) for k in rounds[0]}, indent=1))


def wait_until_ready(port, server):
    while server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port)):
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server has ended")


if __name__ == "__main__":
    main()
