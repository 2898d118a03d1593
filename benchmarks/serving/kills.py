"""Kill a loop again and again while clients write, and check what is left.

The parent forks a process for each round: it starts a loop, and 16 threads send events, one at a
time. They write down each answer. After a random time, the process is killed (SIGKILL), while it
loads, replays, stores, learns or saves. Another process checks the store and the models after each
round. It also has a model that repeats every step as it appears: it was never loaded nor killed.
"""

import multiprocessing
import os
import signal
import sqlite3
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.loop._learner import Learner
from sklearn_recft.loop._rows import RowMaker
from sklearn_recft.loop._snapshots import Snapshots
from sklearn_recft.persistence import save
from sklearn_recft.serving import FeedbackStore, Loop

FEEDBACK = {"click": 1.0, "purchase": 3.0, "skip": 0.0}
KINDS = list(FEEDBACK)
SNAPSHOT_EVERY = 150


def model():
    """Return the first model."""
    return IncrementalMFRecommender(n_factors=4, max_epochs=1, random_state=0)


def event(client, number):
    """Return an event of a client: the same one each time."""
    rng = np.random.default_rng([client, number])
    user, item = int(rng.integers(40)), f"i{rng.integers(30)}"
    return {
        "event_id": f"{client}-{number}",
        "user_id": user,
        "item_id": item,
        "kind": KINDS[int(rng.integers(3))],
    }


def url(folder):
    """Return the address of the store."""
    return f"sqlite:///{folder}/feedback.db"


def serve(folder, n_clients, sent, rollback, key=None):
    """Run a loop until the process is killed; each client goes on after its last answer."""
    answers = os.open(folder / "answers", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    loop = Loop(
        model(),
        FeedbackStore(url(folder), key=key),
        folder / "models",
        keep=3,
        snapshot_every=SNAPSHOT_EVERY,
    ).start()

    def send(client, number):
        while True:
            seq = loop.submit([event(client, number)]).seq[0]
            os.write(answers, f"{client} {number} {seq}\n".encode())
            number += 1

    for client in range(n_clients):
        threading.Thread(target=send, args=(client, sent[client]), daemon=True).start()
    if rollback:
        time.sleep(0.02)
        loop.rollback()
    time.sleep(60)


def answered(folder):
    """Return the number of each event that a client has an answer for."""
    path = folder / "answers"
    lines = path.read_text().splitlines() if path.exists() else []
    return {f"{c}-{n}": int(seq) for c, n, seq in map(str.split, lines)}


def _wait_for_answers(folder, patience):
    """Wait until a client has an answer of this round."""
    path, end = folder / "answers", time.monotonic() + patience
    before = path.stat().st_size if path.exists() else 0
    while time.monotonic() < end:
        if path.exists() and path.stat().st_size > before:
            return
        time.sleep(0.005)


class Checker:
    """What must hold after each kill."""

    def __init__(self, folder, key=None):
        self.folder, self.key = folder, key
        self.clean = None  # of a model that repeats all steps, and is never loaded

    def check(self):
        """Return what was found; raise if anything is lost, doubled or different."""
        store = FeedbackStore(url(self.folder), key=self.key)
        try:
            found = self._check_log(store)
            found |= self._check_models(store)
        finally:
            store.close()
        return found

    def _check_log(self, store):
        with sqlite3.connect(self.folder / "feedback.db") as connection:
            n_rows = connection.execute("select count(*) from event").fetchone()[0]
            steps = connection.execute(
                'select verb, "after", until from learned order by step'
            ).fetchall()
        connection.close()
        found = store.read(0, n_rows + 1)  # the ids of a store with a key are encrypted
        ids = [event.event_id for event in found.events]
        rows = dict(zip(ids, found.seq.tolist(), strict=True))
        assert len(rows) == n_rows, "an event is stored twice"
        acknowledged = answered(self.folder)
        lost = [one for one, seq in acknowledged.items() if rows.get(one) != seq]
        assert not lost, f"lost or moved: {lost[:5]}"
        assert sorted(rows.values()) == list(range(1, len(rows) + 1)), "gaps"
        at, n_bases = 0, 0
        for verb, after, until in steps:
            if verb == "base":
                n_bases += 1
            else:
                assert after == at, f"learned twice, or left out: {after} after {at}"
            at = until
        return {
            "n_acknowledged": len(acknowledged),
            "n_stored": len(rows),
            "n_steps": len(steps),
            "n_bases": n_bases,
        }

    def _check_models(self, store):
        snapshots = Snapshots(self.folder / "models", 3, key=self.key)
        restored = Learner(store, snapshots, RowMaker(FEEDBACK))
        restored.writes = False
        if not restored.restore():
            return {"seq": 0}
        from_snapshot = restored.seq
        _catch_up(restored)
        self._catch_up_clean(store, snapshots)
        assert (restored.step, restored.seq) == (self.clean.step, self.clean.seq)
        digests = [_digest(learner.model) for learner in (restored, self.clean)]
        assert digests[0] == digests[1], f"digests differ at {restored.seq}"
        return {"seq": restored.seq, "from_snapshot": from_snapshot, "digest": digests[0][:12]}

    def _catch_up_clean(self, store, snapshots):
        clean = Learner(store, snapshots, RowMaker(FEEDBACK))
        clean.writes = False
        if self.clean is None:
            first = clean.steps.after(0, 1)[0]
            clean.exchange(model(), first)
        else:
            base = clean.steps.last("base", until=self.clean.step)
            clean.exchange(self.clean.model, base)
            clean.seq, clean.step = self.clean.seq, self.clean.step
        _catch_up(clean)
        self.clean = clean


def _catch_up(learner):
    while learner.repeat():
        pass


def _digest(one):
    with tempfile.TemporaryDirectory() as folder:
        return save(one, Path(folder) / "model")


def _check_forever(folder, pipe, key):
    checker = Checker(folder, key)
    while pipe.recv():
        try:
            pipe.send(checker.check())
        except BaseException as error:
            pipe.send(error)
            return


def _warm_up(folder, key):
    """Compile what the loop needs, and leave no thread nor connection behind."""
    store = FeedbackStore(url(folder), key=key)
    with Loop(model(), store, folder / "models") as loop:
        loop.submit([event(0, number) for number in range(50)])
        loop.wait(50)
        loop.recommend([1], 2)
    store.close()


def kill_rounds(
    folder, n_rounds, *, n_clients=16, longest=0.3, seed=0, share_rollback=0.05, key=None
):
    """Yield what is found after each kill; with a key, that of the store and of its models."""
    folder, rng = Path(folder), np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as other:
        _warm_up(Path(other), key)
    context = multiprocessing.get_context("fork")
    pipe, theirs = context.Pipe()
    checker = context.Process(target=_check_forever, args=(folder, theirs, key), daemon=True)
    checker.start()
    for number in range(n_rounds):
        sent = [0] * n_clients
        for name in answered(folder):
            client, last = map(int, name.split("-"))
            sent[client] = max(sent[client], last + 1)
        rollback = bool(rng.random() < share_rollback)
        child = os.fork()
        if not child:
            os.setpgid(0, 0)
            try:
                serve(folder, n_clients, sent, rollback, key)
            finally:
                os._exit(1)
        if rng.random() < 0.8:  # while it serves; else from the start on
            _wait_for_answers(folder, 5.0)
        time.sleep(float(rng.uniform(0, longest)))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), "the loop ended by itself"
        pipe.send(True)
        found = pipe.recv()
        if isinstance(found, BaseException):
            raise found
        yield {"round": number, "rollback": rollback, **found}
    pipe.send(False)
    checker.join()
