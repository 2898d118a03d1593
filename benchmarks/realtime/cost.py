"""Milliseconds of an answer in real time, and seconds and memory of logs of growing size."""

import copy
import time
from contextlib import ExitStack
from functools import wraps
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from benchmarks.common.events import K
from benchmarks.common.process import in_fresh_process, peak_memory
from benchmarks.common.report import row
from benchmarks.realtime.log import Log, make_model
from sklearn_recft.modules import SequenceNet
from sklearn_recft.training import EagerAdamW, SequenceWindows

DAY = 86_400
N_CALLS, N_WARM_UP, N_AT_ONCE = 1000, 20, 100_000
AIM = {"n_users": 1_000_000, "n_items": 200_000, "n_events": 20_000_000}


def latency(log: Log, seed: int, params: dict[str, Any]) -> dict[str, Any]:
    """Time the verbs of a service on the newest events, which are not learned.

    First many events are observed in one call, then each call observes one event and
    recommends to its user. "both_cpu" is processor time, which other processes hardly change.
    """
    # Rows as a service has them: an array, where a frame of one row costs a millisecond more.
    events = log.events[["user_id", "item_id", "timestamp"]].to_numpy()
    n_single = min(N_CALLS + N_WARM_UP, len(events) // 20)
    n_at_once = min(N_AT_ONCE, len(events) // 10)
    learned = events[: -n_single - n_at_once]
    model = make_model(seed, {"max_epochs": 1}, params)
    start = time.perf_counter()
    model.fit(learned)
    figures = {"n_learned": len(learned), "fit_seconds": time.perf_counter() - start}
    bulk = events[len(learned) : len(learned) + n_at_once]
    copy.deepcopy(model).observe(bulk[:1])  # loads what is compiled
    start = time.perf_counter()
    model.observe(bulk)
    figures |= {"n_at_once": n_at_once, "at_once_seconds": time.perf_counter() - start}
    ticks, used = [], []
    for place in range(len(events) - n_single, len(events)):
        event = events[place : place + 1]
        query = event[:, [0, 2]]
        start, before = time.perf_counter(), time.process_time()
        model.observe(event)
        observed = time.perf_counter()
        model.recommend(query, n_recommendations=K, exclude_seen=log.exclude_seen)
        ticks.append((start, observed, time.perf_counter()))
        used.append(time.process_time() - before)
    n_first = min(N_WARM_UP, n_single // 2)
    took = 1e3 * np.diff(ticks[n_first:], axis=1)
    figures["n_calls"] = len(took)
    for verb, ms in {
        "observe": took[:, 0], "recommend": took[:, 1], "both": took.sum(axis=1),
        "both_cpu": 1e3 * np.array(used[n_first:]),
    }.items():  # fmt: skip
        for percent in (50, 90, 99):
            figures[f"{verb}_ms_{percent}"] = float(np.percentile(ms, percent))
    return figures


# ------------------------------------------------------------------------ parts

SOFTMAX = "softmax and its gradient"
PARTS = {
    "windows": (SequenceWindows, "__call__"), "events": (SequenceNet, "event_states"),
    "queries": (SequenceNet, "query_states"), SOFTMAX: (SequenceNet, "forward"),
    "other gradients": (torch.Tensor, "backward"),
    "clipping": (torch.nn.utils, "clip_grad_norm_"), "steps": (EagerAdamW, "step"),
}  # fmt: skip


def parts(log: Log, seed: int, params: dict[str, Any]) -> dict[str, Any]:
    """Measure the seconds of one epoch's training by part; the rest is the loop around them."""
    seconds = dict.fromkeys(PARTS, 0.0)
    model = make_model(seed, {"max_epochs": 1}, params)
    with ExitStack() as stack:
        for name, (owner, verb) in PARTS.items():
            stack.enter_context(patch.object(owner, verb, _timed(owner, verb, name, seconds)))
        model.fit(log.events)
    # A forward pass encodes events and queries, then computes the loss with its gradient.
    seconds[SOFTMAX] -= seconds["events"] + seconds["queries"]
    whole = model.net_.history_[-1]["dur"]
    return {**seconds, "the loop": whole - sum(seconds.values()), "epoch": whole}


def _timed(owner: Any, verb: str, name: str, seconds: dict[str, float]) -> Any:
    plain = getattr(owner, verb)

    @wraps(plain)
    def timed(*args: Any, **kwargs: Any) -> Any:
        start = time.perf_counter()
        try:
            return plain(*args, **kwargs)
        finally:
            seconds[name] += time.perf_counter() - start

    return timed


# ------------------------------------------------------------------------ scale


def scale(seed: int, params: dict[str, Any], shares: list[int]) -> None:
    """Print what fractions of the users cost, one after the other, and where that leads."""
    found = []
    for share in shares:
        found.append(in_fresh_process(slice_cost, seed, params, share, AIM))
        row("scale", "synthetic", f"1/{share} of the users", **found[-1])
    if len(found) > 1:
        row("scale", "synthetic", "all users, extrapolated", **extrapolate(found, AIM["n_events"]))


def synthetic(seed: int, share: int, n_users: int, n_items: int, n_events: int) -> pd.DataFrame:
    """Draw a year of events of one in ``share`` users; items have probabilities 1 / rank."""
    rng = np.random.default_rng(seed)
    n = n_events // share
    chances = np.cumsum(1 / np.arange(1, n_items + 1))
    items = rng.permutation(n_items)[np.searchsorted(chances, rng.random(n) * chances[-1])]
    times = np.sort(rng.integers(0, 365 * DAY, n))
    users = rng.integers(0, n_users // share, n)
    return pd.DataFrame({"user_id": users, "item_id": items, "timestamp": times})


def slice_cost(
    seed: int, params: dict[str, Any], share: int, aim: dict[str, int]
) -> dict[str, Any]:
    """Fit one epoch on a share of the users, in a process that has done nothing before.

    All items are registered beforehand, whatever few of them the share takes.
    """
    events = synthetic(seed, share, **aim)
    items = pd.DataFrame({"item_id": np.arange(aim["n_items"]), "text": ""})
    model = make_model(seed, params, {"max_epochs": 1})
    before = peak_memory()
    start = time.perf_counter()
    model.fit(events, items=items)
    seconds = time.perf_counter() - start
    return {
        "n_users": events["user_id"].nunique(), "n_items": model.n_items_,
        "n_events": len(events), "fit_seconds": seconds,
        "epoch_seconds": float(model.net_.history[-1, "dur"]),
        "peak_mib_before": before, "peak_mib": peak_memory(),
    }  # fmt: skip


def extrapolate(found: list[dict[str, Any]], n_events: int) -> dict[str, Any]:
    """Extrapolate a line through the costs of the slices, with the largest relative residual."""
    n = np.array([one["n_events"] for one in found], float)
    figures: dict[str, Any] = {"n_events": n_events}
    for name in ("fit_seconds", "epoch_seconds", "peak_mib"):
        cost = np.array([one[name] for one in found], float)
        slope, fixed = np.polyfit(n, cost, 1)
        figures[name] = slope * n_events + fixed
        figures[f"{name}_off_the_line"] = float(np.max(np.abs(slope * n + fixed - cost) / cost))
    return figures
