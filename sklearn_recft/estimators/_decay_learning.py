"""How the decay model learns: a whole log at once, then what is new."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from sklearn_recft import training
from sklearn_recft.estimators._decay_rows import Columns, draw_negatives, explicit, windows_of
from sklearn_recft.estimators._decay_scoring import ROWS_AT_ONCE, score, times_of
from sklearn_recft.interactions import Interactions
from sklearn_recft.modules import DecayNet, make_decay_net
from sklearn_recft.parallel import n_threads
from sklearn_recft.text import TextEncoder, make_encoder, new_texts, read_texts, texts_of
from sklearn_recft.training import LogWindows, Trainer

DEFAULTS = training.Policy(
    learning_rate=2e-3, rates={"backbone": 0.01, "decay": 5.0, "embedding": 10.0}, update_rate=0.0
)
# The options of `FineTuning` that this estimator has.
OPTIONS = (
    "learning_rate", "backbone_rate", "decay_rate", "embedding_rate", "weight_decay", "warmup",
    "schedule", "clip", "accumulate", "bf16", "adversarial", "patience", "validation_fraction",
    "update_rate", "update_epochs", "lora_rank",
)  # fmt: skip


def learn_all(model: Any, events: Interactions, listed: Any) -> np.ndarray:
    """Follow the log once in time, then train the net on what was known before each row.

    Returns the logits (n,) of the events by what was known before each, without the net.
    """
    threads = n_threads(model.n_jobs)
    users, items = model._remember(events)
    times = times_of(model, events, learn=True)
    rows = _rows(model, events, users, items, times)
    texts, codes = _texts_of(model, events, items, listed)
    model._streams.grow(model.n_users_, model.n_items_)
    features = _follow(model, rows)
    encoder = None if model.backbone is None else _make_encoder(model, texts)
    no_words = model.backbone is None or (events.text is None and listed is None)
    module = _make_module(model, features, encoder, no_words)
    # One that trains is a part of the net, and pickled with it.
    model._frozen_encoder = None if module.encoder is not None else encoder
    _add_items(model, module, codes, texts)
    _make_net(model, module, len(features))
    log = _log(model, events, users, items, times)
    model._history.append(*log.values(), model.n_users_)
    log, columns = _columns(model, rows, features, log, len(events))
    # In the order of time, so that the last rows are the newest.
    order = np.argsort(rows["time"], kind="stable")
    columns = {name: column[order] for name, column in columns.items()}
    target = _target(model, rows)[order]
    windows = LogWindows(log["item"], log["feedback"], log["time"])
    trainer = Trainer(model.max_epochs, model._seed(), n_threads=threads, collate=windows)
    trainer.fit(model.net_, columns, target)
    if _net_moves(model):
        size = min(model._reservoir.capacity, len(order))
        chosen = np.sort(model._rng.choice(len(order), size, replace=False))
        kept = {name: column[chosen] for name, column in columns.items()}
        kept = {**explicit(log, kept, model.max_history), "target": target[chosen]}
        model._reservoir.put(np.arange(size), kept)
        model._reservoir.n_offered = len(order)
    if not model._positives_only:
        # Not on drawn negatives, which many passes learn by heart.
        outcome = rows.get("outcome")
        model._streams.refine(
            users, items, label=rows["label"], outcome=outcome, weight=rows["weight"],
            n_threads=threads,
        )  # fmt: skip
    model._catalogue = module.catalogue()
    streams = features[rows["real"], : model._streams.n_features]
    return streams.astype(np.float64) @ model._streams.first_weights


def update(
    model: Any, events: Interactions, listed: Any, *, learn: bool, predict: bool
) -> np.ndarray:
    """Grow, follow, learn and remember; whatever fails on the way is undone.

    Returns the logits (n,) of the events just before each was learned, if ``predict``.
    """
    module, n_items, rng = model.module_, model.n_items_, model._rng.bit_generator
    with model._undo(events) as undo:
        undo.callback(model._items.truncate, n_items)  # after those that are only listed
        undo.callback(module.shrink, n_items)
        if module.encoder is not None:
            undo.callback(module.encoder.forget_texts, module.encoder.n_texts)
        undo.callback(setattr, rng, "state", rng.state)
        users, items = model._remember(events)
        undo.callback(model._history.restore, model._history.mark(users))
        times = times_of(model, events, learn=True)
        rows = _rows(model, events, users, items, times)
        texts, codes = _texts_of(model, events, items, listed)
        undo.callback(model._streams.checkpoint(rows["user"], rows["item"]))
        model._streams.grow(model.n_users_, model.n_items_)
        features = _follow(model, rows, items_learn=learn)
        _add_items(model, module, codes, texts)
        table = module.catalogue(model._catalogue)
        new = _log(model, events, users, items, times)
        said, moves = np.empty(0), learn and _net_moves(model)
        if predict or moves:
            known = model._history.events_of(np.unique(users))
            log = {name: np.concatenate([known[name], new[name]]) for name in new}
            log, columns = _columns(model, rows, features, log, len(events))
        if predict:
            past = LogWindows(log["item"], log["feedback"], log["time"], model.max_history)
            happened = {name: column[rows["real"]] for name, column in columns.items()}
            said = score(model, happened, lambda batch: {**past(batch), "table": table})
        if moves:
            _rehearse(model, undo, log, columns, _target(model, rows))
            table = module.catalogue()
        model._catalogue = table
        model._history.append(*new.values(), model.n_users_)
        undo.pop_all()
    return said


def _rehearse(
    model: Any, undo: ExitStack, log: Columns, columns: Columns, target: np.ndarray
) -> None:
    """Take small steps with the net on new rows, each beside one of the past."""
    undo.callback(training.checkpoint(model.net_, weights=True))
    for start in range(0, len(target), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        new = {name: column[part] for name, column in columns.items()}
        new = {**explicit(log, new, model.max_history), "target": target[part]}
        both = new
        if len(model._reservoir):
            old = model._reservoir.draw(len(new["item"]), model._rng)
            both = {name: np.concatenate([new[name], old[name]]) for name in new}
        aims = both["target"]
        trainer = Trainer(
            model._policy.update_epochs, model._seed(), n_threads=n_threads(model.n_jobs),
            update=True,
        )  # fmt: skip
        inputs = {name: column for name, column in both.items() if name != "target"}
        trainer.fit(model.net_, inputs, aims)
        slots = model._reservoir.slots(len(new["item"]), model._rng)
        undo.callback(model._reservoir.restore, model._reservoir.mark(slots))
        model._reservoir.put(slots, new)


def _net_moves(model: Any) -> bool:
    """Whether updates train the net, which then needs rows to rehearse."""
    return model._policy.update_rate != 0


# ------------------------------------------------------------------- what is made


def _make_encoder(model: Any, texts: list[str]) -> TextEncoder:
    encoder = make_encoder(
        model.backbone, "all", texts, seed=model._seed(),
        device=str((model.net_params or {}).get("device", "cpu")),
        lora_rank=model._policy.lora_rank,
    )  # fmt: skip
    if not isinstance(model.freeze, str) and model.freeze > encoder.n_layers:
        raise ValueError(
            f"freeze={model.freeze}: it must be 'all', 'none' or an int from 0 to "
            f"{encoder.n_layers}, the number of layers of backbone={model.backbone!r}."
        )
    return encoder.freeze(model.freeze)


def _make_module(
    model: Any, features: np.ndarray, encoder: TextEncoder | None, no_words: bool
) -> DecayNet:
    streams = model._streams
    trains = encoder is not None and encoder.keep != "all"
    module = make_decay_net(
        model._seed(), features.shape[1], text_width=encoder.width if encoder else 0, ids=no_words,
        about_item=streams.about_item, width=model.width, n_hidden=2 * model.width,
        n_heads=model.n_heads, decay=model.decay, half_lives=None,
        cold_dropout=model.cold_dropout, encoder=encoder if trains else None,
    )  # fmt: skip
    first = np.zeros(features.shape[1])
    first[: streams.n_features] = streams.first_weights
    negative, positive = model._class_weight
    module.begin(features, first, float(np.log(positive / negative)))
    return module


def _make_net(model: Any, module: DecayNet, n_rows: int) -> None:
    # Few rows are learned in small batches, or there would be too few steps.
    size = int(np.clip(2 ** int(np.log2(n_rows / 100 + 1)), 16, 512))
    model.net_ = training.make_net(
        module, training.LogLoss(), model._policy, max_epochs=model.max_epochs,
        verbose=model.verbose, net_params={"batch_size": size, **(model.net_params or {})},
    )  # fmt: skip


def _add_items(model: Any, module: DecayNet, codes: np.ndarray, texts: list[str]) -> None:
    """Give the net what it reads of new items."""
    first, threads = module.n_items, n_threads(model.n_jobs)
    encoder = model._frozen_encoder if module.encoder is None else module.encoder
    new = new_texts(codes, texts, first)
    if not first and encoder is not None:
        module.center(encoder.encode(new, n_threads=threads))
    read = read_texts(encoder, new, n_threads=threads, apart=first > 0)
    module.grow(read, model.n_items_, None if first else model._rng)


def _texts_of(
    model: Any, events: Interactions, items: np.ndarray, listed: Any
) -> tuple[list[str], np.ndarray]:
    """Texts of the events' items and of those listed beside them, and their codes."""
    texts = texts_of(np.asarray(events.item_ids), events.text)
    if listed is None:
        return texts, items
    return texts + texts_of(*listed), np.concatenate([items, model._items.extend(listed[0])])


# ---------------------------------------------------------------------- its rows


def _rows(
    model: Any, events: Interactions, users: np.ndarray, items: np.ndarray, times: np.ndarray
) -> Columns:
    """Rows to learn: what happened, each followed by its drawn negatives if there are any."""
    n = len(events)
    event, real = np.arange(n), np.ones(n, bool)
    if model._positives_only:
        met = model._streams.met_items()
        event, items = draw_negatives(items, met, model.n_negatives, model._rng)
        real = np.r_[True, event[1:] != event[:-1]]
    label = np.ones(n) if events.feedback is None else events.feedback
    weight = np.ones(n) if events.sample_weight is None else events.sample_weight
    rows = {
        "event": event, "user": users[event], "item": items, "time": times[event], "real": real,
        "label": np.where(real, label[event], 0.0), "weight": weight[event],
        "context": events.context[event].astype(np.float32),
    }  # fmt: skip
    return rows if events.outcome is None else {**rows, "outcome": events.outcome[event]}


def _follow(model: Any, rows: Columns, *, items_learn: bool = True) -> np.ndarray:
    """Features of the rows, each from before itself, then learned."""
    followed = model._streams.follow(
        rows["user"], rows["item"], rows["time"], label=rows["label"],
        outcome=rows.get("outcome"), weight=rows["weight"], real=rows["real"],
        items_learn=items_learn,
    )  # fmt: skip
    return np.concatenate([followed, rows["context"]], 1)


def _log(
    model: Any, events: Interactions, users: np.ndarray, items: np.ndarray, times: np.ndarray
) -> Columns:
    """Put what happened as histories hold it; feedback is about -1 to 1."""
    feedback = np.ones(len(events))
    if events.outcome is not None:
        mean, scale = model._outcome_scale
        feedback = (events.outcome - mean) / scale
    elif events.feedback is not None:
        feedback = 2 * events.feedback - 1
    return {"user": users, "item": items, "feedback": feedback.astype(np.float32), "time": times}


def _columns(
    model: Any, rows: Columns, features: np.ndarray, log: Columns, n_events: int
) -> tuple[Columns, Columns]:
    """Sort the log, whose last rows are the events, and point each row at its past in there."""
    asks = slice(len(log["user"]) - n_events, None)
    log, windows = windows_of(log["user"][asks], log["time"][asks], log, model.max_history)
    windows = {name: column[rows["event"]] for name, column in windows.items()}
    return log, {"item": rows["item"], "features": features, **windows}


def _target(model: Any, rows: Columns) -> np.ndarray:
    """Label and weight of each row, (n, 2) float32."""
    weight = rows["weight"] * model._class_weight[rows["label"].astype(int)]
    return np.column_stack([rows["label"], weight]).astype(np.float32)
