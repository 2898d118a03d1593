"""How the sequence model learns: a whole log, then what is new beside some of what was."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import numpy as np

from sklearn_recft import training
from sklearn_recft.columns import SECONDS_PER_DAY
from sklearn_recft.estimators._realtime_scoring import next_item_ndcg, remembered
from sklearn_recft.history import Trends
from sklearn_recft.interactions import Interactions
from sklearn_recft.modules import SequenceNet, make_sequence_net
from sklearn_recft.parallel import n_threads
from sklearn_recft.text import make_encoder, new_texts, read_texts, texts_of
from sklearn_recft.training import Scorer, SequenceWindows, Trainer

Columns = dict[str, np.ndarray]

DEFAULTS = training.Policy(
    learning_rate=2e-3, rates={"decay": 5.0}, weight_decay=0.0, warmup=0.05, update_rate=0.1,
    update_epochs=3,
)  # fmt: skip
# The options of `FineTuning` that this estimator has.
OPTIONS = (
    "learning_rate", "decay_rate", "embedding_rate", "weight_decay", "warmup", "schedule", "clip",
    "accumulate", "bf16", "adversarial", "patience", "validation_fraction", "update_rate",
    "update_epochs", "freeze_blocks",
)  # fmt: skip
_TOKENS = 2048  # of a batch
_FEW_ITEMS, _MANY_NEGATIVES = 20_000, 4096  # above so many items, so many are drawn
_N_HELD_OUT = 4096  # held-out events at most
_N_PERIODS = 256  # that a log is cut into, for trends; none is longer than a day,
_TREND_BYTES = 2**27  # but where all of them would say more than this


def learn_all(model: Any, events: Interactions, listed: Any) -> None:
    """Train the net on every step of every user's sequence."""
    users, items = model._remember(events)
    times = times_of(model, events)
    texts, codes = _texts_of(model, events, items, listed)
    reads = model.backbone is not None
    model._encoder = _make_encoder(model, texts) if reads else None
    vectors = _read(model, codes, texts, 0)
    new = _log(model, events, users, items, times)
    model._trends = _after(_make_trends(model, times), new, model.n_items_)
    module = _make_module(model, vectors, new)
    module.begin(vectors, new["feedback"], new["context"])
    module.grow(vectors, model.n_items_, model._rng)
    model._n_events = _counted(model, np.zeros(0), new)
    model._met = _met(model, np.zeros(0, bool), new)
    model._n_learned = model._n_events
    module.count(model._n_events, model._n_learned)
    log = _in_order(new)
    _tell_trends(model, log)
    until, scorer, policy = np.inf, None, model._policy
    if policy.patience is not None:
        until = float(np.quantile(times, 1 - policy.validation_fraction))
        scorer = _make_scorer(model, module, log, until)
    _train(model, log, _windows(log, model.max_history, until), scorer=scorer)
    module.trends = None
    _append(model, new)
    model._catalogue = module.catalogue()


def update(model: Any, events: Interactions, listed: Any, *, learn: bool) -> None:
    """Grow, learn and remember; whatever fails on the way is undone."""
    module, n_items, rng = model.module_, model.n_items_, model._rng.bit_generator
    with model._undo(events) as undo:
        undo.callback(module.count, model._n_events, model._n_learned)
        undo.callback(model._items.truncate, n_items)  # after those that are only listed
        undo.callback(module.shrink, n_items)
        undo.callback(setattr, rng, "state", rng.state)
        users, items = model._remember(events)
        undo.callback(model._history.restore, model._history.mark(users))
        times = times_of(model, events)
        texts, codes = _texts_of(model, events, items, listed)
        module.grow(_read(model, codes, texts, n_items), model.n_items_, model._rng)
        told = _log(model, events, users, items, times)
        known = _as_log(model, remembered(model, np.unique(users))[0], weight=0.0)
        new = _without_known(known, told) if model._timed else told
        model._n_events = _counted(model, model._n_events, new)
        model._n_learned = _counted(model, model._n_learned, told if learn else None)
        model._met = _met(model, model._met, new)
        model._trends = _after(model._trends, new, model.n_items_)
        if learn or model.n_items_ > n_items:
            module.count(model._n_events, model._n_learned)
            if learn:
                _rehearse(model, undo, known, new)
            model._catalogue = module.catalogue()
        _append(model, new)
        undo.pop_all()


def times_of(model: Any, events: Interactions) -> np.ndarray:
    """Seconds of each row; of a log without timestamps all are one, and order is all there is.

    Rows without a timestamp, where the log has them, come after all that is known.
    """
    if model._timed and events.timestamps is not None:
        return events.timestamps
    return np.full(len(events), model._newest + 1.0 if model._timed else 0.0)


def _without_known(known: Columns, new: Columns) -> Columns:
    """Return the new events that are not remembered yet: of one user, item and time.

    Those that are become targets where they stand in ``known``, which is written to. As many
    are taken for known as there are: what came three times and is remembered twice, is new once.
    """
    both = {name: np.concatenate([known[name], new[name]]) for name in ("user", "item", "time")}
    n_known = len(known["user"])
    is_new = np.arange(len(both["user"])) >= n_known
    order = np.lexsort((is_new, both["time"], both["item"], both["user"]))
    first = np.ones(len(order), bool)
    first[1:] = np.logical_or.reduce([c[order][1:] != c[order][:-1] for c in both.values()])
    group = np.cumsum(first) - 1
    n_before = np.bincount(group, ~is_new[order]).astype(np.int64)[group]  # remembered alike
    nth = np.arange(len(order)) - np.flatnonzero(first)[group] - n_before
    again = np.flatnonzero((nth >= 0) & (nth < n_before))
    there, here = order[again - n_before[again]], order[again] - n_known
    for name in ("weight", "context"):
        known[name][there] = new[name][here]
    kept = np.delete(np.arange(len(new["user"])), here)
    return {name: column[kept] for name, column in new.items()}


def _rehearse(model: Any, undo: ExitStack, known: Columns, new: Columns) -> None:
    """Train on new events, each after its user's past, beside sequences of other users."""
    log = _in_order({name: np.concatenate([known[name], new[name]]) for name in new})
    touched = np.unique(log["user"])
    windows = _windows(log, model.max_history)
    n_replayed = min(model.replay_size, model.n_users_ - len(touched))
    if n_replayed:
        others = np.setdiff1d(model._rng.integers(model.n_users_, size=n_replayed), touched)
        old = _as_log(model, remembered(model, others)[0], weight=1.0)
        again = _windows(old, model.max_history)
        last = np.unique(old["user"][again["start"]], return_index=True)[1]
        again = {name: column[last] for name, column in again.items()}
        again["start"] = again["start"] + len(log["user"])
        windows = {name: np.concatenate([windows[name], again[name]]) for name in windows}
        log = {name: np.concatenate([log[name], old[name]]) for name in log}
    module = model.module_
    undo.callback(setattr, module, "trends", None)
    _tell_trends(model, log)
    undo.callback(setattr, module, "noisy", True)
    n_layers = len(module.blocks)
    frozen = n_layers if model._policy.freeze_blocks == "all" else model._policy.freeze_blocks
    undo.callback(training.checkpoint(model.net_, weights=True))
    try:
        module.noisy = False  # that keeps long fits from learning by heart; few steps do not
        module.freeze(frozen)
        _train(model, log, windows, update=True)
    finally:
        module.noisy = True
        module.requires_grad_(True)
        module.trends = None


def _train(
    model: Any, log: Columns, windows: Columns, *, update: bool = False,
    scorer: Scorer | None = None,
) -> None:  # fmt: skip
    if not len(windows["start"]):
        return  # nobody has done two things
    n_so_far = np.cumsum(log["weight"] > 0)
    n_targets = n_so_far[windows["start"] + windows["size"]] - n_so_far[windows["start"]]
    trainer = Trainer(
        model._policy.update_epochs if update else model.max_epochs, model._seed(),
        n_threads=n_threads(model.n_jobs), collate=SequenceWindows(log), update=update,
        n_targets=int(n_targets.sum()), scorer=scorer,
    )  # fmt: skip
    trainer.fit(model.net_, windows, np.zeros(len(windows["start"]), np.float32))
    model.module_.settle(model._met)


def _make_scorer(model: Any, module: SequenceNet, log: Columns, until: float) -> Scorer:
    """Return what computes NDCG@10 of events after ``until``, each by what came before it."""
    asked = np.flatnonzero((log["time"] > until) & (log["weight"] > 0))
    if not len(asked):
        raise ValueError(
            "patience holds out the newest events, and none is later than the rest: give X a "
            "timestamp, a larger validation_fraction, or patience=None."
        )
    if len(asked) > _N_HELD_OUT:
        asked = np.sort(model._rng.choice(asked, _N_HELD_OUT, replace=False))
    threads = n_threads(model.n_jobs)
    return Scorer("ndcg@10", lambda: next_item_ndcg(module, log, asked, n_threads=threads))


# ------------------------------------------------------------------------- trends


def _make_trends(model: Any, times: np.ndarray) -> Trends:
    """Make trends that know nothing yet, with periods to suit the log."""
    timed = model._timed and model.query_time
    half_lives = tuple(map(float, model.trend_half_lives)) if timed else ()
    span = float(np.ptp(times)) or SECONDS_PER_DAY
    size = 4 * (model.n_items_ + 1) * len(half_lives)  # bytes of a period
    period = min(span / _N_PERIODS, SECONDS_PER_DAY)
    return Trends(half_lives, max(period, span * size / _TREND_BYTES))


def _after(trends: Trends, new: Columns, n_items: int) -> Trends:
    wanted = new["weight"] > 0
    return trends.after(new["item"][wanted], new["time"][wanted], n_items)


def _tell_trends(model: Any, log: Columns) -> None:
    """Let the module know what was popular when each event of ``log`` is to be predicted."""
    if model._trends.half_lives:
        asked = np.where(log["weight"] > 0, log["time"], log["time"].max(initial=0))
        log["moment"], shares = model._trends.known_at(asked, model.n_items_)
        model.module_.tell_trends(shares[..., :-1])


# ------------------------------------------------------------------- what is made


def _make_encoder(model: Any, texts: list[str]) -> Any:
    device = str((model.net_params or {}).get("device", "cpu"))
    return make_encoder(
        model.backbone, "all", texts, seed=model._seed(), device=device, lora_rank=0
    )


def _make_module(model: Any, vectors: np.ndarray | None, new: Columns) -> SequenceNet:
    """Make the module, and the net around it."""
    n_negatives = model.n_negatives
    if n_negatives is None:
        n_negatives = _MANY_NEGATIVES if model.n_items_ > _FEW_ITEMS else 0
    timed = model._timed and model.query_time
    module = make_sequence_net(
        model._seed(), new["context"].shape[1], n_layers=model.n_layers, n_heads=model.n_heads,
        max_history=model.max_history, query_time=timed,
        time_decay=model.decay if model._timed else "none", width=model.width,
        text_width=0 if vectors is None else vectors.shape[1], dropout=model.dropout,
        late_share=model.history_dropout if timed else 0.0,  # else nothing tells a pause
        n_trends=len(model._trends.half_lives), n_negatives=n_negatives,
    )  # fmt: skip
    # Few events are learned in small batches, or there would be too few steps.
    size = int(np.clip(2 ** int(np.log2(len(new["user"]) / 50 + 1)), 32, _TOKENS))
    ours = {"batch_size": size, "iterator_train__size": "size", "optimizer__betas": (0.9, 0.98)}
    model.net_ = training.make_net(
        module, training.OwnLoss(), model._policy, max_epochs=model.max_epochs,
        verbose=model.verbose, net_params={**ours, **(model.net_params or {})},
    )  # fmt: skip
    return model.net_.module_.eval()


def _texts_of(
    model: Any, events: Interactions, items: np.ndarray, listed: Any
) -> tuple[list[str], np.ndarray]:
    """Texts of the events' items and of those listed beside them, and their codes."""
    texts = [] if model.backbone is None else texts_of(np.asarray(events.item_ids), events.text)
    if listed is None:
        return texts, items
    codes = np.concatenate([items, model._items.extend(listed[0])])
    return (texts + texts_of(*listed) if model.backbone is not None else texts), codes


def _read(model: Any, codes: np.ndarray, texts: list[str], first: int) -> np.ndarray | None:
    """Text vectors of the items from code ``first`` on."""
    if model._encoder is None:
        return None
    new = new_texts(codes, texts, first)
    return read_texts(model._encoder, new, n_threads=n_threads(model.n_jobs), apart=first > 0)


# ------------------------------------------------------------------------- the log


def _log(
    model: Any, events: Interactions, users: np.ndarray, items: np.ndarray, times: np.ndarray
) -> Columns:
    """Put what happened in columns; what had no positive feedback is no target."""
    n = len(events)
    feedback = np.ones(n) if events.feedback is None else events.feedback
    weight = np.ones(n) if events.sample_weight is None else events.sample_weight
    return {
        "user": users, "item": items, "feedback": feedback.astype(np.float32), "time": times,
        "weight": np.where(feedback > 0, weight, 0.0).astype(np.float32),
        "context": events.context.astype(np.float32),
    }  # fmt: skip


def _as_log(model: Any, stored: Columns, *, weight: float) -> Columns:
    """Give stored events the columns of `_log`; their context is forgotten, and the average."""
    n, mean = len(stored["user"]), model.module_.scale_of_context[0].numpy(force=True)
    weights = np.where(stored["feedback"] > 0, weight, 0.0).astype(np.float32)
    return {**stored, "weight": weights, "context": np.tile(mean, (n, 1)).astype(np.float32)}


def _in_order(log: Columns) -> Columns:
    """Sort by user, then time, then arrival."""
    order = np.lexsort((log["time"], log["user"]))
    return {name: column[order] for name, column in log.items()}


def _windows(log: Columns, max_history: int, until: float = np.inf) -> Columns:
    """Cut each user's events into windows from the newest back, each with a target.

    Returns ``start`` and ``size`` of windows of at most ``max_history`` events in the sorted
    log, the event behind each event being its target; none goes beyond time ``until``.
    """
    known = log["time"] <= until
    users, count = np.unique(log["user"][known], return_counts=True)
    start = np.searchsorted(log["user"], users)  # known events are a user's first
    n_inputs = count - 1
    n_windows = -(-n_inputs // max_history)
    user = np.repeat(np.arange(len(users)), n_windows)
    nth = np.arange(len(user)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
    stop = n_inputs[user] - nth * max_history
    begin = np.maximum(stop - max_history, 0)
    total = np.concatenate([[0], np.cumsum(log["weight"] > 0)])
    begin, stop = start[user] + begin, start[user] + stop
    real = total[stop + 1] > total[begin + 1]
    return {"start": begin[real], "size": (stop - begin)[real]}


def _counted(model: Any, before: np.ndarray, new: Columns | None) -> np.ndarray:
    """Count the events of each item (n_items,) that were to be recommended, with new ones."""
    counts = np.zeros(model.n_items_)
    counts[: len(before)] = before
    if new is not None:
        counts += np.bincount(new["item"], new["weight"] > 0, model.n_items_)
    return counts


def _met(model: Any, before: np.ndarray, new: Columns) -> np.ndarray:
    """Whether each item (n_items,) is in any event, liked or not."""
    met = np.bincount(new["item"], minlength=model.n_items_) > 0
    met[: len(before)] |= before
    return met


def _append(model: Any, new: Columns) -> None:
    """Remember the events, in order of arrival."""
    columns = (new[name] for name in ("user", "item", "feedback", "time"))
    model._history.append(*columns, model.n_users_)
    model._newest = max(model._newest, float(new["time"].max(initial=-np.inf)))
