"""Fitted models: stateful parts that learn, score, roll back and save together."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import numpy as np

from sklearn_recft.events import Catalogue, Events, Interactions
from sklearn_recft.history import SeenItems
from sklearn_recft.models._batches import joined_batches
from sklearn_recft.models._explain import Explanation
from sklearn_recft.models._layout import check_model_state, check_sizes, size_of
from sklearn_recft.models._merge import check_alike
from sklearn_recft.models._random import RandomStream
from sklearn_recft.models._softmax_lists import Listing
from sklearn_recft.models._state import from_plain, to_plain
from sklearn_recft.parallel import SharedLock
from sklearn_recft.ranking import TileScorer
from sklearn_recft.vocabulary import Vocabulary

Model = TypeVar("Model", bound="FittedModel")


class Undoable(Protocol):
    """Interface of objects that a `Transaction` can roll back: two methods."""

    # Written as properties, because a part chooses the arguments of its `mark`: `mark(users)`,
    # `mark(users, items)` or `mark()`. A method here would prescribe one signature to all.

    @property
    def mark(self) -> Callable[..., Any]:
        """Method ``mark(*rows)``: return what `restore` needs to undo changes of rows (codes)."""

    @property
    def restore(self) -> Callable[..., None]:
        """Method ``restore(mark)``: undo all changes since the mark."""


@runtime_checkable
class Part(Undoable, Protocol):
    """A stateful part of a fitted model.

    Vocabularies, histories, tables, nets, encoders and random streams are parts. An attribute of
    a `FittedModel` with these five methods is a part: it is saved and loaded with the model, and
    users are erased from it. A part inside a list, a dict or another object is not found; that
    object must then be a part itself.

    A part is rolled back only if it is kept before it is written in place: `_learn` calls
    ``undo.keep(part, *rows)`` (`Transaction.keep`), where ``rows`` are the codes that may change,
    or nothing for all. `FittedModel.transaction` keeps vocabularies, seen items and random streams.
    """

    def state(self) -> dict[str, Any]:
        """Return the state of the part as named arrays and plain values."""

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned."""

    def forget(self, users: np.ndarray) -> None:
        """Remove the rows of ``users`` (codes), and renumber the others to close the gaps."""


class Transaction:
    """Roll back a model if the call that changes it fails or is interrupted."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack

    def keep(self, part: Undoable, *rows: Any) -> None:
        """Restore ``rows`` of a part on failure; call it before they change."""
        self.on_failure(part.restore, part.mark(*rows))

    def on_failure(self, call: Callable[..., None], *args: Any) -> None:
        """Call a function with these arguments on failure."""
        self._stack.callback(call, *args)


@dataclass(frozen=True)
class Call:
    """Options of a call of `FittedModel.learn`. The defaults are those of `fit` and `partial_fit`.

    Attributes
    ----------
    weights : bool
        Whether to update weights that users share. False for `observe`, which updates histories,
        counts and the parameters of single users.
    predict : bool
        Whether to return the prediction of each row just before it is learned.
    catalogue : Catalogue or None
        Further items of the catalogue, from ``items=``.
    batch : int or None
        Hash of the id of these rows (`batch_code`), to be remembered if they are learned.
    adapt : bool
        Whether to update single users, and items without events before, but nothing shared.
    listing : Listing or None
        Where to write the list of each row's user just before the row is learned. Only
        `SoftmaxFactorizationModel` reads it, with ``predict`` and without rows of weight 0.
    """

    weights: bool = True
    predict: bool = False
    catalogue: Catalogue | None = None
    batch: int | None = None
    adapt: bool = False
    listing: Listing | None = None


class _Reading:
    """A with-block that reads a model: the lock, and the error handling of NumPy."""

    __slots__ = ("_claim", "_errors")

    def __init__(self, lock: SharedLock) -> None:
        self._claim, self._errors = lock.reading(), numpy_defaults()

    def __enter__(self) -> None:
        self._claim.__enter__()
        try:
            self._errors.__enter__()
        except BaseException:
            self._claim.__exit__()
            raise

    def __exit__(self, *error: Any) -> None:
        try:
            self._errors.__exit__(*error)
        finally:
            self._claim.__exit__()


class FittedModel:
    """A fitted recommender: parts, and methods on integer codes and arrays.

    A subclass adds parts in its constructor and implements `_learn`, `score` and `tile_scorer`.
    It may replace any attribute, but before it writes to a part or an array in place, it gives a
    part to `Transaction.keep` and copies an array. There is one exception: the estimator discards
    a model whose first call fails, so a first fit may write to parts that are not kept.

    Several threads may read at the same time, inside `reading`. `learn`, `merge`, `forget` and
    `load_state` wait until all readers have left, and new readers wait for them. A thread that
    holds the lock may take it again.

    Parameters
    ----------
    rows : Interactions
        The first events; they fix the columns of later ones (feedback, context).
    settings : dataclass
        Settings from the parameters of the estimator; `learn` replaces them.

    Attributes
    ----------
    users, items : Vocabulary
    seen : SeenItems
    batches : ndarray of shape (n,), uint64
        Hashes of the newest batch ids that were learned, at most `MAX_BATCHES`.
    """

    kind: ClassVar[str]
    # Whether `learn` without ``call.weights`` adds to histories, with or without a verb for it.
    adds_to_histories: ClassVar[bool] = False
    # Whether all is kept that a fit without forgotten users would need. `forget` sets it to False
    # if they had the newest events, and older ones, which a window dropped, would now be inside.
    is_whole: bool = True
    # Attributes that are computed from others: not part of the state.
    _DERIVED: ClassVar[tuple[str, ...]] = ()
    # Arrays that single events write to in place, and so the state has copies of.
    _IN_PLACE: ClassVar[tuple[str, ...]] = ()
    # Whether a learning rate decides if parameters stay finite.
    _HAS_RATE: ClassVar[bool] = True

    def __init__(self, rows: Interactions, settings: Any) -> None:
        self.users, self.items, self.seen = Vocabulary(), Vocabulary(), SeenItems()
        self.batches = np.empty(0, np.uint64)
        self.positives_only = rows.feedback is None
        self.context_names = rows.context_names
        self.timed = rows.timestamps is not None
        self.settings = settings
        self._lock = SharedLock()

    @property
    def n_users(self) -> int:
        """Number of known users."""
        return len(self.users)

    @property
    def n_items(self) -> int:
        """Number of known items."""
        return len(self.items)

    def parts(self) -> dict[str, Part]:
        """Return the stateful parts by name; a part with two names is listed once."""
        found: dict[str, Part] = {}
        for name, value in vars(self).items():
            is_part = _is_part(type(value))  # type: ignore[arg-type]
            if is_part and all(value is not part for part in found.values()):
                found[name] = value
        return found

    def reading(self) -> _Reading:
        """Lock the model for reading inside a with-block; other readers may enter."""
        return _Reading(self._lock)

    # ------------------------------------------------------------------ learning

    def learn(
        self,
        rows: Interactions,
        settings: Any,
        call: Call | None = None,
        within: Transaction | None = None,
    ) -> np.ndarray:
        """Learn further events as a transaction: all of them, or none on failure.

        Parameters
        ----------
        rows : Interactions
        settings : dataclass
        call : Call, default=None
            None is ``Call()``: update all weights, return no predictions, add no items.
        within : Transaction, default=None
            The transaction of another model that this one is a part of: its failure also undoes
            what was learned here.

        Returns
        -------
        predictions : ndarray of shape (n,), float64
            Predictions of each row just before it was learned, if ``call.predict``; else empty.

        Raises
        ------
        ValueError
            If parameters are no longer finite.
        """
        call = call or Call()
        with self.transaction(rows, within) as undo:
            self.settings = settings
            self._prepare(rows, undo, call)
            answers = self._learn_rows(rows, undo, call)
            if call.batch is not None:
                self.batches = joined_batches(self.batches, np.array([call.batch], np.uint64))
            return answers[0] if len(answers) == 1 else np.concatenate(answers)

    def _learn_rows(self, rows: Interactions, undo: Transaction, call: Call) -> list[np.ndarray]:
        """Register and learn rows; return the predictions of each piece."""
        answers = []
        for piece in self._pieces(rows, call):
            events = self._register(piece)
            answers.append(self._learn(events, undo, call))
            if (call.weights or call.adapt) and not self._is_finite(events):
                raise ValueError(_divergence(rows, self._HAS_RATE))
        return answers

    def _pieces(self, rows: Interactions, call: Call) -> Iterable[Interactions]:
        """Split rows into pieces that are learned one after the other; one piece by default."""
        return [rows]

    def _prepare(self, rows: Interactions, undo: Transaction, call: Call) -> None:
        """Register parts that any piece of a call may change for rollback."""

    @contextmanager
    def transaction(
        self, rows: Interactions, within: Transaction | None = None
    ) -> Iterator[Transaction]:
        """Change the model inside a with-block; a failure or an interrupt undoes all changes.

        Attributes, ids, seen items and random streams are kept. Every other part must be given to
        `Transaction.keep` before it is written in place. ``within`` another transaction, it is the
        failure of that one that undoes the changes.
        """
        with self._lock.writing(), numpy_defaults(), ExitStack() as stack:
            attributes = vars(self).copy()
            undo = Transaction(stack) if within is None else within
            undo.on_failure(self._put_back, attributes)
            users = self.users.encode(rows.user_ids) if self.n_users else np.empty(0, np.int64)
            undo.keep(self.seen, users[users >= 0])
            for part in attributes.values():
                if isinstance(part, (Vocabulary, RandomStream)):
                    undo.keep(part)
            yield undo
            stack.pop_all()

    def _put_back(self, attributes: dict[str, Any]) -> None:
        # In one step: a second interrupt must not lose the restored state.
        vars(self).update(attributes)
        for name in vars(self).keys() - attributes.keys():
            delattr(self, name)

    def _register(self, rows: Interactions) -> Events:
        """Assign codes to new ids, store seen items, and return the events by code."""
        users = self.users.extend(rows.user_ids)
        items = self.items.extend(rows.item_ids)
        self.seen.append(users, items, self.n_users)
        return self._as_events(rows, users, items)

    def encode(self, rows: Interactions) -> Events:
        """Return rows by code, -1 for unknown ids; nothing changes."""
        return self._as_events(
            rows, self.users.encode(rows.user_ids), self.items.encode(rows.item_ids)
        )

    def _as_events(self, rows: Interactions, users: np.ndarray, items: np.ndarray) -> Events:
        ones = np.ones(len(rows))
        return Events(
            users,
            items,
            self._times_of(rows),
            ones if rows.feedback is None else rows.feedback,
            ones if rows.sample_weight is None else rows.sample_weight,
            rows.context,
            self._texts_of(rows),
            rows.outcome,
            rows.features,
            None if rows.query is None else tuple(rows.query.tolist()),
        )

    def _times_of(self, rows: Interactions) -> np.ndarray:
        """Return the times of rows in seconds; 0 without timestamps."""
        return np.zeros(len(rows)) if rows.timestamps is None else rows.timestamps

    def _texts_of(self, rows: Interactions) -> tuple[str, ...] | None:
        """Return the text of each row's item, if the model uses texts."""
        return None

    def _learn(self, events: Events, undo: Transaction, call: Call) -> np.ndarray:
        """Learn events, whose ids are registered.

        Returns the prediction of each row before it was learned if ``call.predict``, else an
        empty array.
        """
        raise NotImplementedError

    def _is_finite(self, events: Events) -> bool:
        """Whether parameters are finite after events were learned; others cannot overflow."""
        return True

    # ------------------------------------------------------------------ scoring

    def score(self, events: Events) -> np.ndarray:
        """Return the score of each row, (n,) float64."""
        raise NotImplementedError

    def tile_scorer(
        self, users: np.ndarray, columns: np.ndarray, queries: Interactions
    ) -> TileScorer:
        """Return a function that writes scores of ``users`` for catalogue ``columns``.

        Parameters
        ----------
        users : ndarray of shape (n,)
            Codes, -1 for unknown users.
        columns : ndarray of shape (m,)
            Item codes.
        queries : Interactions of length n
            Time and context of each query.
        """
        raise NotImplementedError

    def inverse_link(self, scores: np.ndarray) -> np.ndarray:
        """Map scores of `tile_scorer` to those that `recommend` returns, such as probabilities."""
        return scores

    def similar_tiles(self, items: np.ndarray) -> TileScorer:
        """Return a function that writes similarities of ``items`` (codes) to the catalogue."""
        raise NotImplementedError

    def explain(self, events: Events) -> Explanation:
        """Return the scores of `tile_scorer` for rows as sums."""
        raise NotImplementedError

    def with_history(self: Model, rows: Interactions) -> Model:
        """Return a view of the model with these events as the only histories of users.

        What items have learned does not change. Events of unknown items are left out.
        """
        raise NotImplementedError

    def _with_users(self: Model, rows: Interactions) -> tuple[Model, Events]:
        """Return a view with the users and seen items of rows alone, and these events."""
        view = object.__new__(type(self))
        vars(view).update(vars(self))
        view.users, view.seen = Vocabulary(), SeenItems()
        items = self.items.encode(rows.item_ids)
        rows, items = rows.take(items >= 0), items[items >= 0]
        users = view.users.extend(rows.user_ids)
        view.seen.append(users, items, view.n_users)
        return view, view._as_events(rows, users, items)

    # ------------------------------------------------------------------ saving, removing users

    def state(self) -> dict[str, Any]:
        """Return the model as named arrays and plain values: no objects, no code.

        There is one exception: ids that are no plain values, such as `uuid.UUID`.

        Settings are not included: they come from the parameters of the estimator.
        """
        with self.reading():
            parts = self.parts()
            shared = {
                name: first
                for name, value in vars(self).items()
                for first, part in parts.items()
                if value is part and name != first
            }
            values = {
                name: to_plain(value.copy() if name in self._IN_PLACE else value)
                for name, value in vars(self).items()
                if name not in (*parts, *shared, *self._DERIVED, "settings", "_lock")
            }
            return {
                "kind": self.kind,
                "parts": {name: to_plain(part.state()) for name, part in parts.items()},
                "shared": shared,
                "values": values,
            }

    def load_state(self, state: dict[str, Any]) -> None:
        """Load what `state` returned; the parts must be of the same kinds."""
        if state["kind"] != self.kind:
            raise ValueError(f"The state is of a {state['kind']!r}, not of a {self.kind!r}.")
        with self._lock.writing():
            self._load(state)

    def _load(self, state: dict[str, Any]) -> None:
        """Load the state of a model of the same kind."""
        for name, plain in state["parts"].items():
            getattr(self, name).load_state(from_plain(plain))
        for name, first in state["shared"].items():
            setattr(self, name, getattr(self, first))
        for name, plain in state["values"].items():
            setattr(self, name, from_plain(plain))
        self._derive()

    def _derive(self) -> None:
        """Compute the attributes that are not part of the state."""

    def forget(self, users: np.ndarray) -> None:
        """Remove all rows of ``users`` (codes), and renumber the others to close the gaps.

        Parameters of other users and items keep what they learned, unless a subclass recomputes
        them. Items are not removed.
        """
        with self._lock.writing():
            for part in self.parts().values():
                if part is not self.items:  # its codes are not those of users
                    part.forget(users)

    @property
    def forget_items_level(self) -> str:
        """What `forget_items` does: "exact", "erased", or "" if it raises an error."""
        return ""

    def forget_items(self, items: np.ndarray) -> None:
        """Remove ``items`` (codes) and all their rows, and renumber the others to close the gaps.

        Raises
        ------
        ValueError
            If the model cannot; the message gives the reason.
        """
        if not self.forget_items_level:
            raise ValueError(
                f"forget_items: a {self.kind} cannot, since what it learned from these items is "
                "spread over weights that all items share. Remove the items from the log, and "
                "refit with sklearn_recft.model_selection.unlearn."
            )
        with self._lock.writing():
            for part in self.parts().values():
                if part is self.items:
                    part.forget(items)
                elif part is not self.users:
                    part.forget_items(items)  # type: ignore[attr-defined]

    def merge(self: Model, *others: Model) -> None:
        """Merge other models of the same kind, if the sums add up exactly.

        Raises
        ------
        ValueError
            If they do not; the message gives the reason.
        """
        raise ValueError(
            f"{self.kind} models cannot be merged: parameters trained by gradient steps depend "
            "on the order of events. Fit one model on all events."
        )

    def known_users(self) -> Interactions:
        """Return the known users as rows without items."""
        ids, context = self.users.ids, np.zeros((self.n_users, len(self.context_names)))
        return Interactions(ids, None, None, None, None, context, self.context_names)

    def _merge_ids(self, other: FittedModel) -> tuple[np.ndarray, np.ndarray]:
        """Add another model's ids and seen items; return the codes of its ids here."""
        check_alike(self, other)
        users, items = self.users.extend(other.users.ids), self.items.extend(other.items.ids)
        pairs = other.seen.state()
        self.seen.append(users[pairs["user"]], items[pairs["item"]], self.n_users)
        self.batches = joined_batches(self.batches, other.batches)
        return users, items

    @classmethod
    def check_state(cls, saved: dict[str, Any]) -> None:
        """Check what `__getstate__` returned, if another program may have changed it.

        Raises
        ------
        ValueError
            If an array has another type or shape than those of a model, or a code is of no user or
            item. Compiled loops index arrays without a check.
        """
        check_sizes(saved["settings"], size_of(saved["state"]))
        empty = cls(Interactions.none(*saved["columns"]), saved["settings"])
        check_model_state(empty, saved["state"])

    def __getstate__(self) -> dict[str, Any]:
        """Return settings and `state`, which nothing writes to: it is pickled without a lock."""
        columns = self.positives_only, self.context_names, self.timed
        return {"settings": self.settings, "columns": columns, "state": self.state()}

    def __setstate__(self, saved: dict[str, Any]) -> None:
        self.__init__(Interactions.none(*saved["columns"]), saved["settings"])  # type: ignore[misc]
        self._load(saved["state"])

    def __deepcopy__(self: Model, memo: dict[int, Any]) -> Model:
        twin = memo[id(self)] = object.__new__(type(self))
        saved = self.__getstate__()
        twin.__setstate__({**saved, "settings": copy.deepcopy(saved["settings"], memo)})
        return twin


@cache
def _is_part(cls: type) -> bool:
    """Whether objects of a class are parts; `isinstance` of a protocol takes far longer."""
    return all(hasattr(cls, name) for name in ("mark", "restore", "state", "load_state", "forget"))


def numpy_defaults() -> np.errstate:
    """Use the default floating-point error handling of NumPy within the block."""
    return np.errstate(divide="warn", over="warn", under="ignore", invalid="warn")


def _divergence(rows: Interactions, has_rate: bool) -> str:
    """Return the message for parameters that are not finite, with the largest input."""
    columns = dict(zip(rows.context_names, rows.context.T, strict=True))
    if rows.feedback is not None:
        columns["y"] = rows.feedback
    if rows.sample_weight is not None:
        columns["sample_weight"] = rows.sample_weight
    sizes = {name: float(np.abs(column).max()) for name, column in columns.items()}
    largest = max(sizes, key=lambda name: sizes[name], default="")
    fixes = ["Lower the learning rate"] if has_rate else []
    if sizes:
        scale = f"scale {largest!r} (up to {sizes[largest]:.3g} in size)"
        fixes.append(scale if has_rate else f"To fix this, {scale}")
    return (
        "Learning diverged: parameters of the model are not finite any more, so this call has "
        f"learned nothing. {', or '.join(fixes)}."
    )
