"""Single events of a factorization: learned and scored in a microsecond, as many are."""

from __future__ import annotations

from operator import setitem
from typing import Any, ClassVar

import numpy as np
from scipy.special import expit

from sklearn_recft import kernels
from sklearn_recft.history import Reservoir
from sklearn_recft.models import _factorization_ridge as ridge
from sklearn_recft.models import _factorization_sgd as sgd
from sklearn_recft.models._base import FittedModel
from sklearn_recft.models._factorization_base import FactorizationBase, FactorizationSettings
from sklearn_recft.models._light_events import LightEvents, Steps, is_small, kind_of
from sklearn_recft.modules import MatrixFactorization
from sklearn_recft.parallel import SharedLock
from sklearn_recft.ranking import row_tiles, top_k

# What `kernels.gather_seen` returns for a user without seen items.
_NO_ITEMS = np.zeros(2, np.int64), np.empty(0, np.int32)


class FactorizationEvents(LightEvents):
    """Learn and score single events of a factorization, in compiled code.

    It holds the addresses of a model's arrays, as long as nothing else writes to the model: see
    `is_current`.

    Parameters
    ----------
    model : SingleEventsMixin
        Without context, stored rows and habits.
    lock : SharedLock
        The lock of the model.
    settings : FactorizationSettings
        What `learn` sets as the settings of the model.
    """

    def __init__(
        self, model: SingleEventsMixin, lock: SharedLock, settings: FactorizationSettings
    ) -> None:
        with lock.mutex:
            super().__init__(model, lock, settings)
            # What a writer is about to replace is never current.
            self._n_writings = lock.n_writings if lock.may_read() else -1
            self._factors = model
            self._seen, self._reservoir = model.seen, model.reservoir
            self._users, self._items, self._module = model.users, model.items, model.tables
            self._user_code, self._item_code = model.users.code, model.items.code
            self._kinds = kind_of(model.users.ids), kind_of(model.items.ids)
            given, loss = settings.learning_rate, settings.loss
            rate = sgd.LEARNING_RATE[loss] if given is None else given
            self._named = named = model.tables.arrays_with_room()
            arrays = [named[name] for name in kernels.EventTables._fields[:7]]
            rates = np.array([sgd.pass_rates(loss, rate, chunk=chunk) for chunk in (True, False)])
            tables = kernels.EventTables._make(
                [*arrays, model.moments, *self._seen.arrays(), rates]
            )
            if not all(array.flags.writeable and array.flags.c_contiguous for array in tables):
                self._n_writings = -1  # those of a mapped file, until the model has learned
            self._tables, self._loss = tables, loss
            self._n_slots = len(tables.previous)
            # Up to these sizes, tables grow in their place.
            self._room = min(len(arrays[0]), len(tables.last)), len(arrays[1])
            self._scratch = kernels.EventScratch(tables, sgd.LOSS[loss], model.tables.NEWEST)
            self._words = self._scratch.words
            self._touch_item = model.tables.quantized_items.touch

    def is_current(self, model: FittedModel) -> bool:
        """Whether this is of ``model``, and nothing else has written to it."""
        return model is self._model and self._lock.n_writings == self._n_writings

    def learn(
        self,
        user_id: int | str,
        item_id: int | str,
        target: float,
        time: float | None,
        streams: bool,
    ) -> float | None:
        """Learn an event, and return its prediction before; None if nothing was learned.

        Parameters and reasons are those of `LightEvents.learn`.

        Raises
        ------
        ValueError
            If parameters are no longer finite.
        """
        lock, seen, reservoir, model = self._lock, self._seen, self._reservoir, self._factors
        with lock.mutex:
            if lock.n_writings != self._n_writings or not lock.may_write():
                return None
            user, item, size = self._user_code(user_id), self._item_code(item_id), seen.size
            if user < 0 or item < 0 or size >= self._n_slots:
                return self._learn_elsewhere(user_id, item_id, target, time, streams)
            n_offered, settings = reservoir.n_offered, model.settings
            try:
                self._touch_item(item)
                scored: float = kernels.learn_event(self._words, user, item, target, size, streams)
                if scored != scored:
                    return None
                seen.size = size + 1
                reservoir.n_offered = n_offered + 1
                model.settings = self._settings
            except BaseException:  # an interrupt
                kernels.undo_event(self._words, user, item, size)
                seen.size, reservoir.n_offered, model.settings = size, n_offered, settings
                raise
            return scored

    def score(self, user_id: int | str, item_id: int | str, time: float | None) -> float | None:
        """Return what `FittedModel.score` does for one row; None if it has to."""
        tables, lock = self._tables, self._lock
        with lock.mutex:
            if lock.n_writings != self._n_writings or not lock.may_read():
                return None
            user, item = self._user_code(user_id), self._item_code(item_id)
            if user >= 0 and item >= 0:
                p, user_bias = tables.user_factors[user], tables.user_bias[user]
                q, item_bias = tables.item_factors[item], tables.item_bias[item]
            elif (type(user_id), type(item_id)) != self._kinds:
                return None
            else:
                p, user_bias = self._row(user, len(self._users), tables.user_factors, tables[2])
                q, item_bias = self._row(item, len(self._items), tables.item_factors, tables[3])
            score = float(p.dot(q) + user_bias + item_bias + tables.mean[0])
            if self._loss == "log_loss":
                return float(expit(score))
            n, _, _, least, largest = tables.moments.tolist()
            return min(max(score, least), largest) if n else score

    def recommend(
        self, user_id: int | str, n: int, exclude_seen: bool
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the best items of a user and their scores; None if ``recommend`` has to."""
        model, tables = self._factors, self._tables
        if type(user_id) is not self._kinds[0]:
            return None
        with model.reading():
            if self._lock.n_writings != self._n_writings:
                return None
            user, n_items = self._user_code(user_id), len(self._items)
            p, bias = self._row(user, len(self._users), tables.user_factors, tables.user_bias)
            columns, seen = np.arange(n_items), _NO_ITEMS
            if exclude_seen:
                last, previous, item, _ = self._seen.arrays()
                seen = kernels.gather_seen(np.array([user]), last, previous, item, columns)
            if n > n_items - len(seen[1]):
                return None
            q, item_bias = tables.item_factors[:n_items], tables.item_bias[:n_items]
            copy = self._module.quantized_items
            scorer = row_tiles(p[None], q, item_bias, bias + tables.mean, columns, copy)
            codes, raw = top_k(scorer, 1, n_items, n, *seen)
            if codes[0, -1] < 0:
                return None
            return self._items.decode(codes[0]), model.inverse_link(raw[0].astype(np.float64))

    def _row(
        self, code: int, n_known: int, factors: np.ndarray, bias: np.ndarray
    ) -> tuple[np.ndarray, np.float32]:
        """Return factors and bias of a code as `MatrixFactorization.rows` does; -1 is unknown."""
        if code >= 0:
            return factors[code], bias[code]
        newest = slice(max(0, n_known - self._module.NEWEST), n_known)
        return factors[newest].mean(0), bias[newest].mean()

    def _learn_elsewhere(
        self,
        user_id: int | str,
        item_id: int | str,
        target: float,
        time: float | None,
        streams: bool,
    ) -> float | None:
        """Learn an event of a new id, or one for which memory is to be allocated."""
        if (type(user_id), type(item_id)) != self._kinds:
            return None
        n_users = len(self._users) + (self._user_code(user_id) < 0)
        n_items = len(self._items) + (self._item_code(item_id) < 0)
        fits = n_users <= self._room[0] and n_items <= self._room[1]
        if fits and self._seen.size < self._n_slots and is_small(user_id) and is_small(item_id):
            return self._learn_new(user_id, item_id, target, streams)
        return self._learn_row(user_id, item_id, target, time, streams)

    def _learn_new(
        self, user_id: int | str, item_id: int | str, target: float, streams: bool
    ) -> float | None:
        """Learn an event of new ids in spare rows of the tables, as `FittedModel.learn` does."""
        model, seen, reservoir = self._factors, self._seen, self._reservoir
        sizes, size, ids = (len(self._users), len(self._items)), seen.size, (user_id, item_id)
        before = model.noise_rng.mark(), reservoir.n_offered, model.settings
        try:
            user, item = self._add(user_id, item_id, sizes)
            self._touch_item(item)
            if not streams:
                new = user == sizes[0], item == sizes[1]
                scale, newest = model.scale, self._module.NEWEST
                ridge.fold_in_event(
                    self._named, (user, item), new, target, newest, loss=self._loss, scale=scale
                )
            scored: float = kernels.learn_event(self._words, user, item, target, size, streams)
            if scored == scored:
                seen.size = size + 1
                reservoir.n_offered += 1
                model.settings = self._settings
                self._n_writings = self._lock.count_writing()
                return scored
        except BaseException:  # an interrupt, or no memory
            self._take_back(ids, sizes, size, before)
            raise
        self._take_back(ids, sizes, size, before)
        return None

    def _add(
        self, user_id: int | str, item_id: int | str, sizes: tuple[int, int]
    ) -> tuple[int, int]:
        """Return the codes of ids; new ones get a row of zeros, items random factors."""
        user, item = self._user_code(user_id), self._item_code(item_id)
        if user < 0:
            user = self._users.add(user_id)
        if item < 0:
            item = self._items.add(item_id)
        self._module.grow(len(self._users), len(self._items))
        rows, rng = self._named["item_factors"][: len(self._items)], self._factors.noise_rng
        sgd.start_items({"item_factors": rows}, sizes[1], rng.generator)
        return user, item

    def _take_back(
        self,
        ids: tuple[int | str, int | str],
        sizes: tuple[int, int],
        size: int,
        before: tuple[Any, int, FactorizationSettings],
    ) -> None:
        """Undo what `_learn_new` has done."""
        user, item = self._users.code(ids[0]), self._items.code(ids[1])
        kernels.undo_event(self._words, user, item, size)
        model, (noise, self._reservoir.n_offered, model.settings) = self._factors, before
        self._seen.size = size
        self._module.grow(*sizes)
        self._users.restore(sizes[0])
        self._items.restore(sizes[1])
        model.noise_rng.restore(noise)


class SingleEventsMixin(FactorizationBase):
    """Mixin of a factorization whose single events may change nothing but rows, mean and moments.

    They do if it has one copy of its tables, a loss of single rows, and no stored rows.
    """

    _IN_PLACE = ("moments",)

    tables: MatrixFactorization
    moments: np.ndarray
    reservoir: Reservoir
    _RAW: ClassVar[bool]

    def single_events(self, settings: FactorizationSettings) -> LightEvents | None:
        """Return what learns and scores single events quickly; None if rows are missing."""
        plain = not (self._RAW or self.reservoir.capacity) and self.settings.loss in sgd.LOSS
        if not (plain and kernels.COMPILED):
            return super().single_events(settings)
        with self._lock.mutex:
            sizes = self.n_users, self.n_items
            if self.tables.n_rows != sizes or not all(sizes) or len(self.seen.last) < self.n_users:
                return None
            return FactorizationEvents(self, self._lock, settings)

    def learn_event(
        self, user: int, item: int, target: float, time: float | None, steps: Steps, streams: bool
    ) -> float | None:
        """Learn an event of known ids; by "bpr", in one call of the kernel where nothing decays."""
        settings, sizes = self.settings, (self.n_users, self.n_items)
        plain = settings.half_life is self.habits is None and not self.reservoir.capacity
        if settings.loss != "bpr" or not plain or self.tables.n_rows != sizes:
            return super().learn_event(user, item, target, time, steps, streams)
        ids, weight = np.array([[user], [item]], np.int32), float(target > 0)
        numbers = np.array([[target], [weight]], np.float32)
        rows = sgd.Rows(ids[0], ids[1], numbers[0], numbers[1], np.empty((1, 0), np.float32))
        steps.keep(self.rng)
        steps.write((vars(self.reservoir), "n_offered", self.reservoir.n_offered + 1))
        rng = self.rng.generator
        draws = sgd.draw_negatives(rows.item, sizes[1], rng, chunk=not streams)
        changed = ids[0], np.append(draws, ids[1])
        self.tables.quantized_items.touch(changed[1])
        arrays = {name: self.tables.array(name) for name in sgd.BPR_TABLES}
        for name, values in arrays.items():
            codes = changed[name.startswith("item")]
            steps.on_failure(setitem, values, codes, values[codes])
        (scored,) = sgd.stream(
            arrays,
            rows,
            self.moments,
            loss="bpr",
            learning_rate=self.learning_rate,
            newest=self.tables.NEWEST,
            n_items=sizes[1],
            rng=rng,
            chunk=not streams,
            draws=draws,
        ).tolist()
        factors = arrays["user_factors"][user], arrays["item_factors"][item]
        with np.errstate(all="ignore"):
            finite = all(np.isfinite(values.dot(values)) for values in factors)
        return float(scored) if finite else None
