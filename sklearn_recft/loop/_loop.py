"""The loop: events are stored, the model learns them, and lists are made meanwhile."""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sklearn_recft.loop._committer import Committer
from sklearn_recft.loop._errors import NotRunningError, ServingError
from sklearn_recft.loop._events import Appended, Event, check_ids, check_stored_events
from sklearn_recft.loop._feedback import Feedback
from sklearn_recft.loop._folder_lock import FolderLock, check_store
from sklearn_recft.loop._items import check_stored_items, check_takes_items
from sklearn_recft.loop._learner import Learner, Monitor
from sklearn_recft.loop._lists import Recommended, shown_lists
from sklearn_recft.loop._model import Served
from sklearn_recft.loop._pace import Pace
from sklearn_recft.loop._rows import RowMaker, check_form, predicts_first, verb_of
from sklearn_recft.loop._shortcut import Shortcut
from sklearn_recft.loop._snapshots import Snapshots
from sklearn_recft.loop._store import FeedbackStore
from sklearn_recft.loop._versions import LoopReceipt, Versions
from sklearn_recft.model_selection import Guard

_FEEDBACK = {"click": 1.0, "purchase": 3.0, "skip": 0.0}


class Loop:
    """Serve a model that learns from a log of feedback while it is read.

    The log is the truth, and the model is a function of it. Each event is on disk before its
    sender has an answer. What the model learns next, and by which method, is written down before it
    does. So a restart loads the newest snapshot, repeats the steps after it, and ends with the same
    model, bit by bit.

    Any number of threads may call `submit`, `recommend` and `predict`. One thread stores events,
    another one learns them. A reader never sees a model that is half changed.

    Parameters
    ----------
    model : estimator or None
        The first model, fitted or one that `partial_fit` can fit. If the folder holds models, the
        newest of them is taken instead, and this may be None.
    store : FeedbackStore
    folder : str or path-like
        Saved models. One loop writes it, any number may follow.
    learn : {"event", "observe", "chunk"}, default="event"
        How events are learned. "event": by ``partial_fit_predict`` (or ``_proba``), or by
        ``partial_fit`` if the model has neither, as soon as they are stored. "observe": by
        ``observe``, which changes histories but no shared weights; call `update` each night.
        "chunk": by ``partial_fit``, once ``chunk_size`` events wait, or the oldest of them has
        waited for ``chunk_seconds``.
    feedback : dict of str to float or str, or None
        Feedback of an event that has no value, by its kind: a number, or a label of a classifier.
        By default, a click is 1, a purchase 3 and a skip 0. None: the model learns positives, and
        is fitted without ``y``. `start` raises an error if the model cannot learn it.
    snapshot_every : int, default=50_000
        The model is saved after this many events.
    guard : Guard, default=None
        `update` goes live only if this guard promotes it. See
        :class:`~sklearn_recft.model_selection.Guard`.
    follow : bool, default=False
        Read only: repeat the steps that another process writes.
    after : int, default=0
        The first model has learned the events up to this number already.
    keep : int, default=5
        Snapshots that stay.
    queue_size : int, default=10_000
        Largest number of events that wait for their commit.
    chunk_size, chunk_seconds : int and float, default=512 and 1.0
        See ``learn``.
    poll_seconds : float, default=0.2
        How often to look for events, or steps, of other processes.

    Examples
    --------
    >>> import tempfile
    >>> from sklearn_recft import PopularityRecommender
    >>> from sklearn_recft.serving import FeedbackStore, Loop
    >>> folder = tempfile.TemporaryDirectory()
    >>> store = FeedbackStore(f"sqlite:///{folder.name}/feedback.db")
    >>> with Loop(PopularityRecommender(), store, f"{folder.name}/models") as loop:
    ...     done = loop.submit([{"user_id": "ann", "item_id": "tea", "kind": "purchase"},
    ...                         {"user_id": "bob", "item_id": "rye"}])
    ...     learned = loop.wait(done.seq[-1], timeout=60)
    ...     found = loop.recommend(["cem"], 2)
    >>> found.items.tolist(), found.scores.tolist(), found.seq
    ([['tea', 'rye']], [[3.0, 1.0]], 2)
    >>> store.close(), folder.cleanup()
    (None, None)
    """

    def __init__(
        self,
        model: Served | None,
        store: FeedbackStore,
        folder: str | os.PathLike[str],
        *,
        learn: str = "event",
        feedback: Feedback | None = _FEEDBACK,
        snapshot_every: int = 50_000,
        guard: Guard | None = None,
        follow: bool = False,
        after: int = 0,
        keep: int = 5,
        queue_size: int = 10_000,
        chunk_size: int = 512,
        chunk_seconds: float = 1.0,
        poll_seconds: float = 0.2,
    ) -> None:
        for name, value in (("snapshot_every", snapshot_every), ("queue_size", queue_size)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}={value!r}: give an integer of at least 1.")
        self.store = store
        self.folder = Path(folder)
        self.learn = learn
        self.follow = follow
        self.snapshot_every = snapshot_every
        self._first, self._after = model, after
        self._snapshots = Snapshots(folder, keep, key=store.key)
        self._learner = Learner(store, self._snapshots, RowMaker(feedback))
        self._learner.writes = not follow
        self._versions = Versions(self._learner, guard)
        self._pace = Pace(learn, chunk_size, chunk_seconds)
        self._lock = FolderLock(self.folder)
        self._turn = threading.RLock()  # of the threads that change the model
        self._shortcut = Shortcut(self._learner, self._pace, self._turn)
        self._committer = Committer(store, queue_size, self._shortcut.append, self._after_commit)
        self._work = threading.Event()
        self._poll = poll_seconds
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

        Raises
        ------
        ServingError
            If another loop writes the folder, if no saved model can be read, or if the store is not
            the one that goes with the folder.
        ValueError
            If the model cannot learn by `learn`, or not the `feedback` of some kind of event.
        """
        with self._turn:
            if self._running:
                return self
            if not self.follow:
                self._lock.take()
            try:
                self._restore()
            except BaseException:
                self._lock.release()
                raise
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
        self._wake()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if not self.follow:
            try:
                with self._turn:
                    self._settle()
                    while self._learner.advance(self._pace.size):
                        self._versions.settle()
                    if self._learner.seq > self._saved_seq:
                        self._save()
            finally:
                self._lock.release()

    def __enter__(self) -> Loop:
        return self.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    # ------------------------------------------------------------------ events in

    def submit(self, events: Any) -> Appended:
        """Store events, and return after the commit; they are learned soon afterwards.

        Callers that wait at the same time share a commit.

        Parameters
        ----------
        events : iterable of dict, or data frame
            As in `FeedbackStore.append`.

        Returns
        -------
        appended : Appended
            ``seq`` of each event, and the number of ``duplicates``. Give the last ``seq`` to `wait`
            to know when the model has learned them.

        Raises
        ------
        ValueError, TypeError
            If an event is not valid. Nothing is stored.
        QueueFullError
            If too many events wait. Nothing is stored; send them again later.
        StoreError
            If the database could not store them.
        NotRunningError
            If the loop is not running, or follows another one.
        """
        return self.submit_later(events).result()

    def submit_later(self, events: Any) -> Future[Appended]:
        """Queue events, and return a future that has the answer of `submit`."""
        self._check_writer()
        return self._committer.submit(check_stored_events(events))

    def add_items(self, items: Any) -> Appended:
        """Store new items, and return after the commit; the model learns them in their turn.

        They are rows of the log, so that a replay learns them at the same place. The model needs
        the method `add_items`.

        Parameters
        ----------
        items : iterable of dict, or data frame
            ``item_id``, and the ``text``, ``embedding`` or features that the model reads.

        Returns
        -------
        appended : Appended
            ``seq`` of each item; give the last one to `wait`. An item that the log has with the
            same content is not stored again, and counted in ``duplicates``.

        Raises
        ------
        ValueError, TypeError
            If an item is not valid, or the model knows items by events alone. Nothing is stored.
        QueueFullError, StoreError, NotRunningError
            As in `submit`.
        """
        return self.add_items_later(items).result()

    def add_items_later(self, items: Any) -> Future[Appended]:
        """Queue new items, and return a future that has the answer of `add_items`."""
        self._check_writer()
        check_takes_items(self._learner.model)
        return self._committer.submit(check_stored_items(items, self._learner.refused))

    def submit_all(self, groups: Sequence[Sequence[Event]]) -> Future[list[Appended]]:
        """Queue the checked events of several callers; the future has an answer for each."""
        self._check_writer()
        return self._committer.submit_all(groups)

    def wait(self, seq: int, timeout: float | None = None) -> bool:
        """Wait until the model has learned the events up to a number.

        Parameters
        ----------
        seq : int
        timeout : float, default=None
            Seconds; None waits without a limit.

        Returns
        -------
        learned : bool
            False if the time was up.
        """
        return self._learner.wait(seq, timeout)

    def when(self, seq: int, call: Callable[[], object]) -> Callable[[], None]:
        """Call a function once the model has learned the events up to a number.

        Parameters
        ----------
        seq : int
        call : callable
            Called in the thread that learns, or at once if they are learned.

        Returns
        -------
        cancel : callable
            Call it without arguments if the function need not be called any more.
        """
        return self._learner.when(seq, call)

    def watch(self, monitor: Monitor, *, probability: bool) -> bool:
        """Give a monitor the predictions of the steps that learn events, from now on.

        Parameters
        ----------
        monitor : Monitor
            ``before(model, batch)`` and ``after(predicted)`` are called around each step.
        probability : bool
            Whether it takes probabilities, or else feedback.

        Returns
        -------
        watches : bool
            False, and no call follows, if the method that learns returns no such predictions.
        """
        found = predicts_first(self._learner.verb, probability=probability)
        if found:
            self._learner.watch(monitor)
        return found

    @property
    def is_new(self) -> bool:
        """Whether neither the store nor the folder has a model yet: `start` needs the first one."""
        return self._learner.last_number() == 0 and not self._snapshots.saved()

    @property
    def feedback(self) -> Feedback | None:
        """Feedback by kind of event, read only; None if the model learns positives."""
        return self._learner.rows.feedback

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
            Store the lists under their ``list_id``, soon after this returns. The end of the process
            may lose the last ones.
        **options : dict
            Options of the model's `recommend`.

        Returns
        -------
        found : Recommended
            ``list_ids`` (n,), ``items`` and ``scores`` (n, n_recommendations), ``model`` (name of
            the base that the model comes from) and ``seq``, the last event that it had learned.
        """
        with self._learner.reading() as view:
            items, scores = view.model.recommend(
                users, n_recommendations=n_recommendations, **options
            )
        list_ids = [uuid.uuid4().hex for _ in range(len(items))]
        found = Recommended(list_ids, items, scores, view.name, view.seq)
        if remember and not self.follow:
            self._committer.add_lists(shown_lists(users, found))
        return found

    def predict(self, X: Any) -> np.ndarray:
        """Predict the feedback of rows, as the model does."""
        with self._learner.reading() as view:
            return view.model.predict(X)

    def reading(self) -> Any:
        """Return a context manager that gives the model: it does not change inside of the block.

        Returns
        -------
        view : context manager of View
            ``model``, ``name`` and ``seq``. Do not change the model.
        """
        return self._learner.reading()

    def reading_now(self) -> Any:
        """Return a context manager as `reading`, which gives None where it would have to wait.

        Returns
        -------
        view : context manager of View or None
        """
        return self._learner.reading_now()

    # ------------------------------------------------------------------ models

    def snapshot(self) -> str:
        """Save the model as it is, remove events that are too old, and return its name."""
        self._check_writer()
        with self._turn:
            self._check_running()
            self._settle()
            return self._save()

    def models(self) -> list[Bunch]:
        """Return the saved models, by step.

        Returns
        -------
        models : list of Bunch
            ``name``, ``seq``, ``step``, ``digest``, ``kind``, ``base`` (whether it is one that no
            event leads to: the first one, an update, or one that was promoted) and ``live``
            (whether the model in use comes from it).
        """
        return self._versions.saved()

    def promote(self, name: str, *, release: bool = False) -> str:
        """Take a saved model, and learn the events after it again.

        Parameters
        ----------
        name : str
            One of `models`.
        release : bool, default=False
            Learn also the events that an earlier `rollback` refused.

        Returns
        -------
        name : str
            Name of the new base.
        """
        return self._exchange(lambda: self._versions.promote(name, release=release))

    def rollback(self, name: str | None = None, refuse: tuple[int, int] | None = None) -> str:
        """Take an older model, and learn the events after it again, but for a refused range.

        The refused events stay in the log. No model learns them until `promote` releases them.

        Parameters
        ----------
        name : str, default=None
            One of `models`. None is the newest that has learned fewer events than the one in use.
        refuse : (int, int), default=None
            Events after the first number, up to the second one. None: all events that the model in
            use has learned since.

        Returns
        -------
        name : str
            Name of the new base.
        """
        return self._exchange(lambda: self._versions.rollback(name, refuse))

    def update(self, verb: str = "fit", *, last: int | None = None) -> str | None:
        """Learn the log beside the model in use; with a guard, it decides which of both stays.

        It takes as long as the model's own method, during which the loop goes on.

        Parameters
        ----------
        verb : {"fit", "partial_fit"}, default="fit"
            "fit": a clone of the model learns the events of the log from nothing. "partial_fit":
            the newest base learns those after it.
        last : int, default=None
            Learn only so many of the newest of these events.

        Returns
        -------
        name : str or None
            Name of the new base. None with a guard, which compares both models on the next events:
            `health` has its verdict.
        """
        self._check_writer()
        with self._turn:
            self._check_running()
            self._settle()
            name = self._learner.name
        model, seq, newest = self._versions.updated(verb, last)
        with self._turn:
            self._settle()
            if self._learner.name != name:
                raise ServingError("Another model went live meanwhile; call update again.")
            return self._versions.propose(model, seq, verb, newest)

    # ------------------------------------------------------------------ privacy

    def forget(self, user_ids: Iterable[Any]) -> LoopReceipt:
        """Erase users from the store, the lists shown, the model and all saved models.

        If the process ends meanwhile, the next start finishes it. A later `update` by "fit" also
        removes what other parameters learned from these users.

        Parameters
        ----------
        user_ids : iterable of int or str

        Returns
        -------
        receipt : LoopReceipt
        """
        ids = check_ids(user_ids, "user_ids")
        self._check_writer()
        # Events and lists that were queued before: they would be stored after the erasure.
        self._committer.submit([]).result()
        return self._exchange(lambda: self._versions.forget(ids))

    def export(self, user_id: Any) -> dict[str, Any]:
        """Return all that the store has of a user; see `FeedbackStore.export`."""
        return self.store.export(user_id)

    def health(self) -> Bunch:
        """Return the state of the loop.

        Returns
        -------
        health : Bunch
            ``running``, ``follow``, ``seq`` and ``last_seq`` with their difference ``lag``,
            ``queue`` (events that wait for their commit), ``n_commits``, ``n_learned`` since the
            start, ``model``, ``snapshot_seq``, ``snapshot_age`` in seconds, ``damaged`` (saved
            models that cannot be read), ``refused`` (ranges), ``candidate`` (verdict of the guard
            so far), ``decisions`` (the last ones), ``forget_pending`` (users that
            are still to be erased after a failure), ``n_dropped_lists``, ``error`` (the last one of
            a thread, None if it has recovered), and `FeedbackStore.counts`.
        """
        learner, candidate = self._learner, self._versions.candidate
        seq, last = learner.seq, self.store.last_seq()  # in this order: the lag is not negative
        return Bunch(
            running=self._running,
            follow=self.follow,
            seq=seq,
            last_seq=last,
            lag=last - seq,
            queue=self._committer.n_waiting,
            n_commits=self._committer.n_commits,
            n_dropped_lists=self._committer.n_dropped_lists,
            n_learned=learner.n_learned,
            model=learner.name,
            snapshot_seq=self._saved_seq,
            snapshot_age=time.time() - self._saved_at,
            damaged=dict(self._snapshots.damaged),
            refused=learner.refused,
            candidate=None if candidate is None else candidate.verdict,
            decisions=list(self._versions.decisions),
            forget_pending=self._versions.n_forgetting(),
            error=self._error or self._committer.error,
            **self.store.counts(),
        )

    # ------------------------------------------------------------------ private

    def _restore(self) -> None:
        """Load the newest model, and repeat the steps after it."""
        learner = self._learner
        check_store(self.folder, self.store, writes=False)
        if not learner.restore():
            if self.follow or self._first is None:
                raise ServingError(
                    f"{self.folder} holds no model yet; give one to a loop that writes."
                )
            verb_of(self._first, self.learn)
            check_form(self._first)  # before it is saved: a restart would take it again
            learner.rows.check(self._first)
            learner.begin(self._first, self._after, "start")
        learner.verb = verb_of(learner.model, self.learn)
        check_form(learner.model)
        learner.rows.check(learner.model)
        check_store(self.folder, self.store, writes=not self.follow)
        self._saved_seq, self._saved_at = learner.seq, time.time()
        self._repeat()

    def _repeat(self) -> None:
        """Do all steps that are written."""
        learner = self._learner
        try:
            if learner.is_broken:
                self._versions.drop("a step failed")
                learner.restore()
            while learner.repeat() or (not self.follow and self._versions.finish()):
                pass
            learner.write_reasons()
        except BaseException:
            learner.in_doubt = True  # also where another base came before the step that failed
            raise
        learner.in_doubt = False

    def _settle(self) -> None:
        """Do steps that are written, where the last one failed: no other may follow before."""
        if self._learner.in_doubt:
            self._repeat()

    def _save(self) -> str:
        """Save a model that is between two steps, and remove events that are too old."""
        name = self._learner.save()
        self._saved_seq, self._saved_at = self._learner.seq, time.time()
        return name

    def _check_writer(self) -> None:
        if self.follow:
            raise NotRunningError("This loop follows another process, and changes nothing.")

    def _check_running(self) -> None:
        if not self._running:
            raise NotRunningError("The loop is not running: call start, or use it in a with-block.")

    def _exchange(self, change: Any) -> Any:
        """Replace the model between two steps, and save the new one."""
        self._check_writer()
        with self._turn:
            self._check_running()
            self._settle()
            found = change()
            try:
                self._save()
            except (OSError, ServingError) as error:  # the change is done: a restart repeats it
                self._error = f"{type(error).__name__}: {error}"
        return found

    def _wake(self) -> None:
        self._work.set()

    def _after_commit(self) -> None:
        is_learned = self._shortcut.finish()
        if not is_learned or self._learner.seq - self._saved_seq >= self.snapshot_every:
            self._wake()

    def _run(self) -> None:
        """Learn until stopped; what fails is tried again."""
        while self._running:
            n_done = 0
            try:
                with self._turn:
                    n_done = self._learner.follow() if self.follow else self._advance()
                self._error = None
            except BaseException as error:  # a thread that ends would learn nothing, unnoticed
                self._error = f"{type(error).__name__}: {error}"
            if not n_done or self._learner.is_level:
                self._work.wait(self._pace.seconds(self._poll))
                self._work.clear()

    def _advance(self) -> int:
        learner = self._learner
        self._settle()
        if not self._pace.is_time(learner.seq, self.store.last_seq):
            return 0
        n_done = learner.advance(self._pace.size)
        went_live = self._versions.settle()
        if went_live or learner.seq - self._saved_seq >= self.snapshot_every:
            self._save()
        return n_done
