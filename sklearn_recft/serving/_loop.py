"""The loop: events are stored, the model learns them, and lists are made meanwhile."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sklearn_recft.serving._committer import Committer
from sklearn_recft.serving._errors import NotRunningError, ServingError
from sklearn_recft.serving._events import Appended, check_stored_events
from sklearn_recft.serving._learner import Learner
from sklearn_recft.serving._lists import Recommended, ShownList
from sklearn_recft.serving._rows import RowMaker, check_form, verb_of
from sklearn_recft.serving._snapshots import Snapshots
from sklearn_recft.serving._store import FeedbackStore
from sklearn_recft.tables import columns_of, is_frame

_FEEDBACK = {"click": 1.0, "purchase": 3.0, "skip": 0.0}
# Largest number of events that are learned while readers wait.
_PIECE = 256


class Loop:
    """Serve a model that learns from a log of feedback while it is read.

    Parameters
    ----------
    model : estimator or None
        The first model, if the folder holds none yet; fitted, or one that `partial_fit` can fit.
        None: the folder must hold one.
    store : FeedbackStore
    folder : str or path-like
        Saved models.
    learn : {"event", "observe", "chunk"}, default="event"
        How events are learned. "event": by ``partial_fit_predict`` (or ``_proba``), else by
        ``partial_fit``, as soon as they are stored. "observe": by ``observe``, which changes
        histories but no shared weights. "chunk": by ``partial_fit``, once ``chunk_size`` events
        wait, or the oldest for ``chunk_seconds``.
    feedback : dict of str to float, or None
        Feedback of an event that has no value, by its kind. None: the model learns positives, and
        is fitted without ``y``.
    snapshot_every : int, default=50_000
        Save the model after this many events.
    guard : Guard, default=None
        Compares an update with the model in use, before it goes live.
    follow : bool, default=False
        Read only: repeat the steps that another process writes.
    after : int, default=0
        Events up to this number are part of the first model already.
    keep : int, default=5
        Snapshots that stay.
    queue_size : int, default=10_000
        Largest number of events that wait for their commit.
    chunk_size, chunk_seconds : int and float, default=512 and 1.0
        See ``learn``.
    """

    def __init__(
        self,
        model: Any,
        store: FeedbackStore,
        folder: str | os.PathLike[str],
        *,
        learn: str = "event",
        feedback: Mapping[str, float] | None = _FEEDBACK,
        snapshot_every: int = 50_000,
        guard: Any = None,
        follow: bool = False,
        after: int = 0,
        keep: int = 5,
        queue_size: int = 10_000,
        chunk_size: int = 512,
        chunk_seconds: float = 1.0,
        poll_seconds: float = 0.2,
    ) -> None:
        self.store = store
        self.folder = Path(folder)
        self.learn = learn
        self.follow = follow
        self.guard = guard
        self.snapshot_every = snapshot_every
        self._model = model
        self._after = after
        self._chunk = (chunk_size, chunk_seconds)
        self._poll = poll_seconds
        self._snapshots = Snapshots(folder, keep)
        self._learner = Learner(store, self._snapshots, RowMaker(feedback))
        self._committer = Committer(store, queue_size, self._wake)
        self._turn = threading.RLock()  # of the threads that change the model
        self._work = threading.Event()
        self._running = False
        self._thread: threading.Thread | None = None
        self._error: str | None = None
        self._saved_seq, self._saved_at = 0, 0.0

    # ------------------------------------------------------------------ life

    def start(self) -> Loop:
        """Load the newest snapshot, replay the log, and start to learn.

        Returns
        -------
        self : object
        """
        with self._turn:
            if self._running:
                return self
            if not self._learner.restore():
                self._begin()
            self._verb = verb_of(self._learner.model, self.learn)
            check_form(self._learner.model)
            self._saved_seq, self._saved_at = self._learner.seq, time.time()
            while self._learner.repeat():
                pass
            self._running = True
            if not self.follow:
                self._committer.start()
            self._thread = threading.Thread(target=self._run, name="recft-learner", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> None:
        """Store what waits, learn it, save a snapshot, and end the threads."""
        if not self._running:
            return
        self._committer.stop()
        self._running = False
        self._work.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if not self.follow:
            with self._turn:
                while self._advance(whole=False):
                    pass
                if self._learner.seq > self._saved_seq:
                    self.snapshot()

    def __enter__(self) -> Loop:
        return self.start()

    def __exit__(self, *error: Any) -> None:
        self.stop()

    # ------------------------------------------------------------------ events in

    def submit(self, events: Any) -> Appended:
        """Store events, and return after the commit; they are learned soon afterwards.

        Any number of threads may call it; those that wait share a commit.

        Parameters
        ----------
        events : iterable of dict, or data frame
            As in `FeedbackStore.append`.

        Returns
        -------
        appended : Appended
        """
        return self.submit_later(events).result()

    def submit_later(self, events: Any) -> Future[Appended]:
        """Queue events, and return a future that has the answer after the commit."""
        if self.follow:
            raise NotRunningError("This loop follows another process, and stores no events.")
        return self._committer.submit(check_stored_events(events))

    def wait(self, seq: int, timeout: float | None = None) -> bool:
        """Wait until the model has learned the events up to a number.

        Returns
        -------
        learned : bool
            False if the time was up.
        """
        return self._learner.wait(seq, timeout)

    @property
    def seq(self) -> int:
        """Number of the last event that the model has learned."""
        return self._learner.seq

    # ------------------------------------------------------------------ answers out

    def recommend(
        self, users: Any, n_recommendations: int = 10, *, remember: bool = True, **options: Any
    ) -> Recommended:
        """Recommend items, and remember the lists.

        Parameters
        ----------
        users : array-like of user ids, or a table of queries
        n_recommendations : int, default=10
        remember : bool, default=True
            Store the lists under their ``list_id``, with the next commit.
        **options : dict
            Options of the model's `recommend`.

        Returns
        -------
        found : Recommended
            ``list_ids`` (n,), ``items`` and ``scores`` (n, n_recommendations), ``model`` (name of
            the base that the model comes from) and ``seq``, the last event it had learned.
        """
        with self._learner.reading() as view:
            items, scores = view.model.recommend(
                users, n_recommendations=n_recommendations, **options
            )
        list_ids = [uuid.uuid4().hex for _ in range(len(items))]
        if remember and not self.follow:
            self._remember(users, list_ids, items, scores, view)
        return Recommended(list_ids, items, scores, view.name, view.seq)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of rows, as the model does."""
        with self._learner.reading() as view:
            return view.model.predict(X)

    # ------------------------------------------------------------------ models

    def snapshot(self) -> str:
        """Save the model as it is, and return the name of the snapshot."""
        self._check_writer()
        with self._turn:
            learner = self._learner
            learner.steps.sync()
            name = self._snapshots.save(learner.model, learner.seq, learner.step)
            self._saved_seq, self._saved_at = learner.seq, time.time()
        return name

    def models(self) -> list[Bunch]:
        """Return the snapshots, oldest first: ``name``, ``seq``, ``step``, ``digest``, ``kind``."""
        return self._snapshots.list()

    def promote(self, name: str) -> str:
        """Go back to a snapshot, and learn the events after it again."""
        raise NotImplementedError

    def rollback(self) -> str:
        """Go back to an older snapshot, and leave out the events after it."""
        raise NotImplementedError

    def forget(self, user_ids: Iterable[Any]) -> Any:
        """Erase users from the store, the model and the saved models."""
        raise NotImplementedError

    def export(self, user_id: Any) -> dict[str, Any]:
        """Return all that the store has of a user; see `FeedbackStore.export`."""
        return self.store.export(user_id)

    def health(self) -> Bunch:
        """Return the state of the loop, in numbers."""
        last = self.store.last_seq()
        return Bunch(
            running=self._running,
            follow=self.follow,
            seq=self.seq,
            last_seq=last,
            lag=last - self.seq,
            queue=self._committer.n_waiting,
            n_commits=self._committer.n_commits,
            n_dropped_lists=self._committer.n_dropped_lists,
            n_learned=self._learner.n_learned,
            model=self._learner.name,
            snapshot_seq=self._saved_seq,
            snapshot_age=time.time() - self._saved_at,
            damaged=dict(self._snapshots.damaged),
            error=self._error or self._committer.error,
            **self.store.counts(),
        )

    # ------------------------------------------------------------------ private

    def _begin(self) -> None:
        if self.follow or self._model is None:
            raise ServingError(f"{self.folder} holds no model that can be read; give a model.")
        self._learner.begin(self._model, self._after, "start")

    def _check_writer(self) -> None:
        if self.follow:
            raise NotRunningError("This loop follows another process, and changes nothing.")

    def _wake(self) -> None:
        self._work.set()

    def _run(self) -> None:
        """Learn until stopped."""
        while self._running:
            try:
                with self._turn:
                    n_done = self._advance()
                self._error = None
            except Exception as error:
                self._error = f"{type(error).__name__}: {error}"
                n_done = 0
            if not n_done:
                self._work.wait(self._poll)
                self._work.clear()

    def _advance(self, *, whole: bool = True) -> int:
        if self.follow:
            return self._learner.repeat()
        n_done = self._learner.advance(self._verb, _PIECE)
        if self._learner.seq - self._saved_seq >= self.snapshot_every:
            self.snapshot()
        return n_done

    def _remember(self, users: Any, list_ids: Any, items: Any, scores: Any, view: Any) -> None:
        ids = columns_of(users, ("user_id",))["user_id"] if is_frame(users) else users
        ids = np.asarray(ids, dtype=object) if not hasattr(ids, "to_list") else ids.to_list()
        lists = [
            ShownList(list_id, user, own.tolist(), values.tolist(), view.seq, view.name)
            for list_id, user, own, values in zip(list_ids, ids, items, scores, strict=True)
        ]
        self._committer.add_lists(lists)
