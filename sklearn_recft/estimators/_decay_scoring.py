"""What the decay model answers: logits of rows, and of a catalogue for a query."""

from __future__ import annotations

from typing import Any

import numpy as np

from sklearn_recft import training
from sklearn_recft.estimators._decay_rows import Columns, past_of
from sklearn_recft.interactions import Interactions, context_of_queries
from sklearn_recft.parallel import n_threads
from sklearn_recft.ranking import TileScorer
from sklearn_recft.text import texts_of

ROWS_AT_ONCE = 16_384  # with their past written out: bounds memory
_SCORED_AT_ONCE = 256


def times_of(model: Any, events: Interactions, *, learn: bool = False) -> np.ndarray:
    """Seconds of each row; without timestamps, after all that is known.

    Rows to ``learn`` of a log without timestamps follow each other in their order.
    """
    if model._timed and events.timestamps is not None:
        return events.timestamps
    newest = model._streams.newest if np.isfinite(model._streams.newest) else 0.0
    steps = np.arange(len(events)) if learn and not model._timed else np.zeros(len(events))
    return max(newest + 1.0, np.nextafter(newest, np.inf)) + steps


def logits_of(model: Any, events: Interactions) -> np.ndarray:
    """Logit (n,) of each row, of users and items known or not."""
    users, items = model._users.encode(events.user_ids), model._items.encode(events.item_ids)
    strangers, extra = np.flatnonzero(items < 0), None
    if len(strangers):
        extra, place = _unknown_texts(model, events.take(strangers))
    table = model.module_.catalogue(model._catalogue, extra)
    times, out = times_of(model, events), np.empty(len(events))
    codes = items.copy()
    if len(strangers):
        codes[strangers] = model.n_items_ + place
    for start in range(0, len(events), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        columns = past_of(users[rows], times[rows], model._history)
        columns["item"] = codes[rows]
        columns["features"] = _features(
            model, users[rows], items[rows], times[rows], events.context[rows]
        )
        out[rows] = score(model, columns, lambda batch: {**batch, "table": table})
    return out


def score(model: Any, columns: Columns, collate: training.Collate) -> np.ndarray:
    """Logits (n,), float64, each of them the same to the last bit whatever rows come behind.

    Of matrix products that holds for one shape: the last batch is filled up.
    """
    n = len(columns["item"])
    missing = -n % _SCORED_AT_ONCE
    filled = {
        name: np.concatenate([c, np.repeat(c[-1:], missing, 0)]) for name, c in columns.items()
    }
    said = training.predict_net(
        model.net_, filled, batch_size=_SCORED_AT_ONCE, n_threads=n_threads(model.n_jobs),
        collate=collate,
    )  # fmt: skip
    return said[:n].astype(np.float64)


def tile_scorer(
    model: Any, users: np.ndarray, columns: np.ndarray, queries: Interactions
) -> TileScorer:
    """Return what writes the logits of ``users`` (codes) for catalogue ``columns``."""
    module, table, times = model.module_, model._catalogue, times_of(model, queries)
    past = past_of(users, times, model._history)
    context = context_of_queries(queries, model._context_names)
    if context is None:  # the average one
        mean = module.feature_mean.numpy(force=True)[model._streams.n_features :]
        context = np.tile(mean, (len(users), 1))

    def score_tile(r0: int, r1: int, c0: int, c1: int, out: np.ndarray) -> None:
        items, n = columns[c0:c1], c1 - c0
        for row in range(r0, r1):
            features = _features(
                model, np.full(n, users[row]), items, np.full(n, times[row]),
                np.tile(context[row], (n, 1)),
            )  # fmt: skip
            its = {name: column[row] for name, column in past.items()}
            out[row - r0] = module.score_items(table, items, features, its)

    return score_tile


def _features(
    model: Any, users: np.ndarray, items: np.ndarray, times: np.ndarray, context: np.ndarray
) -> np.ndarray:
    described = model._streams.describe(users, items, times)
    return np.concatenate([described, context.astype(np.float32)], 1)


def _unknown_texts(model: Any, events: Interactions) -> tuple[np.ndarray, np.ndarray]:
    """Text vectors (n, t) of items without a code, and which of them each row has."""
    texts = texts_of(np.asarray(events.item_ids), events.text)
    distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
    place = np.array([distinct[text] for text in texts])
    encoder = model.module_.encoder or model._frozen_encoder
    if encoder is None:
        return np.zeros((len(distinct), 0), np.float32), place
    threads = n_threads(model.n_jobs)
    return encoder.encode(list(distinct), n_threads=threads, apart=True), place
