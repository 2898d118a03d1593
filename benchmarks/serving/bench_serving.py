"""What a loop loses, and what it costs; prints JSON lines.

"kills" kills a loop with 16 clients at random, and compares the model with one that repeats all
steps and is never killed; "keyed-kills" does so with a key. "memory" streams many events through
one loop. "replay" compares a restart with a refit, and a replay with the rate at which events came
in. "reads" compares the times of reads while the model learns with those while it does not.
"observe" compares a replay of models that observe with the rate of the events. "keyed" compares a
store that has a key with one without.

    python benchmarks/serving/bench_serving.py --task kills --n 1000
    python benchmarks/serving/bench_serving.py --task memory --n 1000000
    python benchmarks/serving/bench_serving.py --task replay reads
"""

import argparse
import copy
import json
import resource
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from sklearn.base import clone

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.serving.kills import FEEDBACK, kill_rounds
from sklearn_recft import (
    IncrementalMFRecommender,
    RealtimeTransformerRecommender,
    SequentialRulesRecommender,
)
from sklearn_recft.persistence import save
from sklearn_recft.preprocessing import SecretKey
from sklearn_recft.serving import FeedbackStore, Loop, replay

KINDS = list(FEEDBACK)
KEY = SecretKey(b"a key of the benchmark")


def log(n, n_users, n_items, seed=0):
    """Return events of popular items, as dicts."""
    rng = np.random.default_rng(seed)
    users, items = rng.integers(n_users, size=n), (n_items * rng.random(n) ** 2).astype(int)
    kinds = rng.integers(3, size=n)
    return [
        {"event_id": f"e{j}", "user_id": int(u), "item_id": int(i), "kind": KINDS[k]}
        for j, (u, i, k) in enumerate(zip(users, items, kinds, strict=True))
    ]


def resident():
    """Return the memory of this process in MiB, now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def keyed_kills(n, seed):
    """Kill a loop ``n`` times whose store and models have a key."""
    yield from kills(n, seed, KEY)


def kills(n, seed, key=None):
    """Kill a loop ``n`` times."""
    begin = time.time()
    with TemporaryDirectory() as folder:
        for found in kill_rounds(folder, n, seed=seed, share_rollback=0.2, key=key):
            if found["round"] % 50 == 49 or found["round"] == n - 1:
                own, children = (
                    resource.getrusage(who)
                    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
                )
                cpu = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
                yield {
                    "task": "kills" if key is None else "keyed-kills",
                    **found,
                    "cpu": round(cpu, 1),
                    "wall": round(time.time() - begin, 1),
                }


def memory(n, seed):
    """Stream events through a loop, and report its memory; users and items are soon all known."""
    with TemporaryDirectory() as folder:
        store = FeedbackStore(f"sqlite:///{folder}/feedback.db", retention_days=1e-4)
        model = IncrementalMFRecommender(n_factors=16, random_state=0)
        with Loop(model, store, f"{folder}/models", snapshot_every=max(n // 20, 1)) as loop:
            for part in range(20):
                for chunk in range(0, n // 20, 512):
                    size = min(512, n // 20 - chunk)
                    events = log(size, 5000, 2000, seed=seed + part * 10_000 + chunk)
                    for event in events:
                        del event["event_id"]
                    done = loop.submit(events)
                loop.wait(done.seq[-1])
                lists = loop.recommend(range(50), 10)
                yield {
                    "task": "memory",
                    "events": loop.seq,
                    "mib": round(resident(), 1),
                    "file_mib": round(Path(f"{folder}/feedback.db").stat().st_size / 2**20, 1),
                    "stored": store.counts()["events"],
                    "list": lists.seq,
                }
        store.close()


def replays(n, seed):
    """Compare a restart with a refit, and a replay with the rate of the events."""
    events = log(n, 2000, 1000, seed)
    with TemporaryDirectory() as folder:
        store = FeedbackStore(f"sqlite:///{folder}/feedback.db")
        model = IncrementalMFRecommender(n_factors=32, random_state=0)
        with Loop(model, store, f"{folder}/models", snapshot_every=n // 10) as loop:
            loop.submit(events[:100])
            loop.wait(100)
            rates = {}
            for n_clients, size in ((1, 1), (16, 1), (1, 100)):
                start, cpu = time.perf_counter(), time.process_time()
                n_sent = _send(
                    loop,
                    log(1000 * (1 if size == 1 else 10), 2000, 1000, n_clients),
                    n_clients,
                    size,
                )
                loop.wait(store.last_seq())
                rates[f"{n_clients} clients, {size} a call"] = (
                    n_sent / (time.perf_counter() - start),
                    n_sent / (time.process_time() - cpu),
                )
            for start in range(100, n, 500):
                loop.submit(events[start : start + 500])
            loop.wait(store.last_seq())
            learned = loop.seq
        start, cpu = time.perf_counter(), time.process_time()
        clean = replay(store, f"{folder}/models", feedback=FEEDBACK)
        replayed = learned / (time.perf_counter() - start), learned / (time.process_time() - cpu)
        for name, (wall, used) in rates.items():
            yield {
                "task": "replay",
                "came in": name,
                "events a second": round(wall),
                "a CPU second": round(used),
                "replay": round(replayed[0]),
                "replay, CPU": round(replayed[1]),
                "ratio": round(replayed[0] / wall, 1),
                "ratio, CPU": round(replayed[1] / used, 1),
            }
        yield from _restarts(store, folder, clean)
        store.close()


def observations(n, seed):
    """Compare the replay of a model that observes with the rate of the events."""
    first = log(5000, 200, 300, seed)
    X = np.array([[e["user_id"], e["item_id"], 1e9 + j] for j, e in enumerate(first)])
    models = (
        RealtimeTransformerRecommender(max_epochs=1, width=32, max_history=50, random_state=0),
        SequentialRulesRecommender(),
    )
    for model in models:
        model.fit(X)
        for n_clients in (1, 16):
            with TemporaryDirectory() as folder:
                store = FeedbackStore(f"sqlite:///{folder}/feedback.db")
                options = {"learn": "observe", "feedback": None}
                with Loop(copy.deepcopy(model), store, f"{folder}/models", **options) as loop:
                    cpu = time.process_time()
                    _send(loop, log(n, 200, 300, seed + 1), n_clients, 1)
                    loop.wait(n)
                    used = time.process_time() - cpu
                    with loop.reading() as view:
                        digest = save(view.model, f"{folder}/a")
                cpu = time.process_time()
                clean = replay(store, f"{folder}/models", feedback=None)
                replayed = time.process_time() - cpu
                same = save(clean, f"{folder}/b") == digest
                store.close()
            yield {
                "task": "observe",
                "model": type(model).__name__,
                "clients": n_clients,
                "events a CPU second": round(n / used),
                "replay, CPU": round(n / replayed),
                "ratio, CPU": round(used / replayed, 1),
                "same digest": same,
            }


def keyed(n, seed):
    """Compare appends and reads of a store with a key with those of one without."""
    for size, n_users in ((1, 500), (16, 2000), (100, 2000), (500, 2000), (500, 1 << 40)):
        found = [_times(key, size, n, n_users, seed) for _ in range(3) for key in (None, KEY)]
        plain, own = np.median(found[::2], 0), np.median(found[1::2], 0)
        yield {
            "task": "keyed",
            "a call": size,
            "users": n_users,
            "append, us": [round(plain[0], 1), round(own[0], 1)],
            "append, ratio": round(own[0] / plain[0], 2),
            "read, us": [round(plain[1], 1), round(own[1], 1)],
            "read, ratio": round(own[1] / plain[1], 2),
            "file, MiB": [round(plain[2], 2), round(own[2], 2)],
        }


def _times(key, size, n, n_users, seed):
    """Return CPU time of appending and of reading an event, in microseconds, and the file's MiB."""
    n = min(n, 2000 * size)
    users = np.random.default_rng(seed).integers(n_users, size=n).tolist()
    events = [{"user_id": user, "item_id": user % 100} for user in users]
    with TemporaryDirectory() as folder:
        store = FeedbackStore(f"sqlite:///{folder}/feedback.db", key=key)
        begin = time.process_time()
        for start in range(0, n, size):
            store.append(events[start : start + size])
        stored = time.process_time()
        store.read(0, n)
        end = time.process_time()
        store.database.overwrite_deleted()
        mib = Path(f"{folder}/feedback.db").stat().st_size / 2**20
        store.close()
    return (stored - begin) / n * 1e6, (end - stored) / n * 1e6, mib


def _send(loop, events, n_clients, size):
    """Send events by threads, some at a time, and wait for each answer."""

    def send(own):
        for start in range(0, len(own), size):
            loop.submit([{**e, "event_id": None} for e in own[start : start + size]])

    threads = [
        threading.Thread(target=send, args=(events[c::n_clients],)) for c in range(n_clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(events)


def _restarts(store, folder, clean):
    """Time restarts, with the last tenth of a snapshot's events to repeat, and refits."""
    X = np.array([[e.user_id, e.item_id] for e in store.read(0, 1 << 40).events])
    y = np.array([FEEDBACK[e.kind] for e in store.read(0, 1 << 40).events])
    for damaged in (False, False, True, True):
        newest = sorted((Path(folder) / "models" / "models").iterdir())[-1]
        for file in newest.iterdir():
            if damaged:  # so that events have to be repeated
                file.write_bytes(b"damaged")
        loop = Loop(None, store, f"{folder}/models")
        start, cpu = time.perf_counter(), time.process_time()
        loop.start()
        restart = time.perf_counter() - start, time.process_time() - cpu
        repeated = loop.health().n_learned
        with TemporaryDirectory() as other, loop.reading() as view:
            same = save(view.model, f"{other}/a") == save(clean, f"{other}/b")
        loop.stop()
        start, cpu = time.perf_counter(), time.process_time()
        clone(clean).fit(X, y)
        refit = time.perf_counter() - start, time.process_time() - cpu
        yield {
            "task": "restart",
            "events": len(X),
            "repeated": repeated,
            "same digest": same,
            "restart_s": round(restart[0], 3),
            "refit_s": round(refit[0], 3),
            "restart_cpu": round(restart[1], 3),
            "refit_cpu": round(refit[1], 3),
            "ratio, CPU": round(restart[1] / refit[1], 3),
        }


def reads(n, seed):
    """Time reads of one user, with and without a model that learns."""
    for n_users, n_items in ((2000, 3706),):
        with TemporaryDirectory() as folder:
            store = FeedbackStore(f"sqlite:///{folder}/feedback.db")
            model = IncrementalMFRecommender(n_factors=32, random_state=0)
            with Loop(model, store, f"{folder}/models", queue_size=100_000) as loop:
                loop.submit(log(20_000, n_users, n_items, seed))
                loop.wait(20_000)
                for turn in range(3):
                    for learning in (False, True):
                        stop = threading.Event()
                        writer = threading.Thread(target=_write, args=(loop, stop, learning))
                        writer.start()
                        times, failures = _read(loop, n, n_users)
                        stop.set()
                        writer.join()
                        p50, p99 = np.percentile(times, (50, 99)) * 1e3
                        yield {
                            "task": "reads",
                            "turn": turn,
                            "learning": learning,
                            "p50_ms": round(p50, 2),
                            "p99_ms": round(p99, 2),
                            "failures": failures,
                            "seq": loop.seq,
                        }
            store.close()


def _write(loop, stop, learning):
    number = 0
    while not stop.is_set():
        if learning:
            number += 1
            loop.submit([{**e, "event_id": None} for e in log(20, 2000, 3706, number)])
        time.sleep(0.005)


def _read(loop, n, n_users):
    times, failures = [], 0
    for user in np.random.default_rng(0).integers(n_users, size=n).tolist():
        start = time.perf_counter()
        try:
            found = loop.recommend([user], 10, remember=False)
            failures += not np.isfinite(found.scores).all() or (np.diff(found.scores) > 0).any()
        except (IndexError, RuntimeError, ValueError):
            failures += 1
        times.append(time.perf_counter() - start)
    return times, int(failures)


TASKS = {
    "kills": (kills, 1000),
    "keyed-kills": (keyed_kills, 60),
    "memory": (memory, 1_000_000),
    "replay": (replays, 100_000),
    "reads": (reads, 2000),
    "observe": (observations, 2000),
    "keyed": (keyed, 20_000),
}


def main():
    """Run the tasks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--n", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for name in args.task:
        run, n = TASKS[name]
        for line in run(args.n or n, args.seed):
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
