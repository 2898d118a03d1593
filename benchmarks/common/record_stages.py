"""Feed an estimator a case's log in stages, and record what it predicts after each of them."""

import copy
import inspect
import pickle
import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import torch

import sklearn_recft
from benchmarks.common.backbone import minilm_folder
from benchmarks.common.params import constructor_params
from benchmarks.common.record_arrays import Record, Store
from benchmarks.common.record_cases import Case
from benchmarks.common.record_logs import (
    DAY,
    column,
    feedback,
    load,
    new_items,
    queried_rows,
    queries_at,
    take,
    unknown,
    visitors,
)
from benchmarks.common.record_net_cases import PRETRAINED

ONE_PASS = ("partial_fit_predict", "partial_fit_predict_proba")
FIRST_ROWS = 400  # of an unfitted estimator's `partial_fit`
FEW_ROWS = 60  # that a copy learns


def record_case(case: Case) -> Record:
    """Record a case; the global random generators, which no estimator may use, included."""
    warnings.simplefilter("ignore")
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    store = Store()
    Recorder(case, store).record()
    store.put(f"{case.name}/global/numpy", np.random.random(2))  # noqa: NPY002
    store.put(f"{case.name}/global/torch", torch.rand(2).numpy())
    return store.arrays


def is_pretrained(case: Case) -> bool:
    """Whether a case reads texts by pretrained weights, whose vectors a process keeps."""
    return case.params.get("backbone") == PRETRAINED


class Recorder:
    """The data of a case, and the stages that are recorded.

    Parameters
    ----------
    case : Case
    store : Store
    """

    def __init__(self, case: Case, store: Store) -> None:
        self.case, self.store = case, store
        self.X, ratings = load(case.log)
        self.y = feedback(ratings, case.y)
        self.n_stop = case.n_fit + case.n_stream
        if len(self.X) < self.n_stop + case.n_late:
            raise ValueError(f"{case.log} has {len(self.X)} rows, too few for {case.name}")
        self.weight = None
        if case.weighted:
            self.weight = 0.5 + np.random.default_rng(3).random(len(self.X))
            self.weight[25::50] = 0.0
        self.items = new_items(self.X) if case.items else None
        self.queried = queried_rows(self.X, self.n_stop, case.n_late)
        fitted = self.rows(slice(0, case.n_fit))[0]
        known = list(dict.fromkeys(column(fitted, "user_id").tolist()))
        step = max(1, len(known) // case.n_users)
        self.users = [*known[::step][: case.n_users], unknown(self.X, "user_id", 9)]
        times = column(fitted, "timestamp")
        self.now = None if times is None else float(times[-1])

    # -------------------------------------------------------------------- input

    def build(self, **changes: Any) -> Any:
        """Return the estimator of the case, unfitted."""
        params = constructor_params(copy.deepcopy(self.case.params)) | changes
        if is_pretrained(self.case):
            params["backbone"] = minilm_folder()
        return getattr(sklearn_recft, self.case.estimator)(**params)

    def rows(self, rows: slice) -> tuple[Any, Any]:
        """Return X and y of some rows."""
        return take(self.X, rows), None if self.y is None else self.y[rows]

    def stream(self, start: int, stop: int) -> tuple[Any, Any]:
        """Return X and y of some rows behind those that are fitted, as far as they go."""
        stop = min(stop, self.case.n_stream)
        return self.rows(slice(self.case.n_fit + start, self.case.n_fit + stop))

    def fitted(self, **changes: Any) -> Any:
        """Return an estimator that is fitted."""
        rows, given = slice(0, self.case.n_fit), {}
        if self.weight is not None:
            given["sample_weight"] = self.weight[rows]
        if self.items is not None:
            given["items"] = take(self.items, slice(0, 8))
        return self.build(**changes).fit(*self.rows(rows), **given)

    def learn(self, model: Any, start: int, stop: int, **given: Any) -> None:
        """Learn some rows behind those that are fitted."""
        if self.weight is not None:
            given["sample_weight"] = self.weight[self.case.n_fit : self.n_stop][start:stop]
        model.partial_fit(*self.stream(start, stop), **given)

    # ------------------------------------------------------------------ answers

    def predictions(self, stage: str, model: Any) -> None:
        """Record predictions and lists."""
        tag = f"{self.case.name}/{stage}"
        self.store.put(f"{tag}/predict", model.predict(self.queried))
        for verb in ("decision_function", "predict_proba"):
            if hasattr(model, verb):
                self.store.put(f"{tag}/{verb}", getattr(model, verb)(self.queried))
        self.lists(f"{tag}/recommend", model, self.users, n_recommendations=10)

    def everything(self, stage: str, model: Any) -> None:
        """Record predictions, lists of every kind, attention and fitted attributes."""
        self.predictions(stage, model)
        tag, users = f"{self.case.name}/{stage}", self.users
        self.store.put(f"{tag}/predict_one", model.predict(take(self.queried, slice(0, 1))))
        every: dict[str, Any] = {"exclude_seen": False}
        self.lists(f"{tag}/recommend_seen", model, users, n_recommendations=7, **every)
        self.lists(f"{tag}/recommend_one", model, users[:1], n_recommendations=20)
        chosen = model.item_ids_[:: max(1, len(model.item_ids_) // 30)]
        every |= {"candidates": chosen, "n_recommendations": 5}
        self.lists(f"{tag}/recommend_candidates", model, users, **every)
        if self.now is not None:
            queries = queries_at(self.X, users, self.now)
            for name, unseen in (("unseen", True), ("all", False)):
                given = {"exclude_seen": unseen, "n_recommendations": 6}
                self.lists(f"{tag}/recommend_at_{name}", model, queries, **given)
        takes_history = "history" in inspect.signature(model.recommend).parameters
        if takes_history and getattr(model, "loss", "softmax") == "softmax":
            self.lists_by_history(tag, model)
        if hasattr(model, "attend"):
            known = np.isin(column(self.queried, "item_id"), model.item_ids_)
            past = model.attend(take(self.queried, np.flatnonzero(known)[::5]))
            for name in sorted(past):
                self.store.put(f"{tag}/attend.{name}", past[name])
        self.store.put_fitted(tag, model)

    def lists(self, tag: str, model: Any, queries: Any, **given: Any) -> None:
        items, scores = model.recommend(queries, **given)
        self.store.put(f"{tag}.items", items)
        self.store.put(f"{tag}.scores", scores)

    def lists_by_history(self, tag: str, model: Any) -> None:
        """Record lists of users whose history is given with the query."""
        X, y = self.stream(0, 40)
        past, users = visitors(X, self.users)
        history = past if y is None else (past, y)
        self.lists(f"{tag}/history", model, users, history=history, n_recommendations=8)
        if self.now is not None:
            queries = queries_at(self.X, users, self.now + 10 * DAY)
            given = {"exclude_seen": False, "n_recommendations": 8}
            self.lists(f"{tag}/history_at", model, queries, history=history, **given)

    # ------------------------------------------------------------------- stages

    def record(self) -> None:
        """Record the fit, and what follows it as far as the case goes."""
        model = self.fitted()
        self.everything("fit", model)
        if self.case.fit_only:
            return
        self.pickled(model)
        self.one_pass(model)
        if self.case.brief:
            self.learn(model, 0, 30)
            self.everything("learned", model)
            return
        self.threads(model)
        self.observed(model)
        self.learned(model)
        self.unfitted()

    def pickled(self, model: Any) -> None:
        """Record what a pickle predicts, before and after it learns."""
        twin = pickle.loads(pickle.dumps(model))
        self.predictions("pickled", twin)
        self.learn(twin, 0, FEW_ROWS)
        self.predictions("pickled_learned", twin)

    def threads(self, model: Any) -> None:
        """Record two threads, which must not change lists, nor a fit where that is promised."""
        if "n_jobs" not in model.get_params():
            return
        tag = f"{self.case.name}/two_jobs"
        twin = copy.deepcopy(model).set_params(n_jobs=2)
        many = self.users if self.case.n_users < 40 else (self.users * 8)[:300]
        self.lists(f"{tag}/recommend", twin, many, n_recommendations=5)
        self.store.put(f"{tag}/predict", twin.predict(self.queried))
        if self.case.fit_in_threads:
            twin = self.fitted(n_jobs=2)
            self.predictions("fit_two_jobs", twin)
            self.store.put_fitted(f"{self.case.name}/fit_two_jobs", twin)

    def one_pass(self, model: Any) -> None:
        """Record rows that are predicted and learned in one call, by a copy and from nothing."""
        n = min(self.case.n_one_pass, self.case.n_stream)
        for verb in (verb for verb in ONE_PASS if hasattr(model, verb)):
            twin, tag = copy.deepcopy(model), f"{self.case.name}/one_pass"
            self.store.put(f"{tag}/{verb}", getattr(twin, verb)(*self.stream(0, n)))
            if self.case.brief:
                continue
            self.predictions("one_pass", twin)
            self.store.put_fitted(tag, twin)
            twin, tag = self.build(), f"{self.case.name}/one_pass_unfitted"
            self.store.put(f"{tag}/{verb}", getattr(twin, verb)(*self.rows(slice(0, n))))
            self.store.put(f"{tag}/predict", twin.predict(self.queried))

    def observed(self, model: Any) -> None:
        """Record events that are observed, then learned; and observed while predicted."""
        if not hasattr(model, "observe"):
            return
        n = min(self.case.n_one_pass, self.case.n_stream)
        twin = copy.deepcopy(model)
        for start, stop in ((0, 1), (1, n // 2), (n // 2, n), (0, 20)):
            twin.observe(*self.stream(start, stop))
        self.everything("observed", twin)
        self.learn(twin, 0, FEW_ROWS)
        self.predictions("observed_learned", twin)
        verb = "observe_predict_proba"
        if hasattr(model, verb):
            twin = copy.deepcopy(model)
            found = getattr(twin, verb)(*self.stream(0, n))
            self.store.put(f"{self.case.name}/{verb}/{verb}", found)
            self.predictions(verb, twin)

    def learned(self, model: Any) -> None:
        """Record updates by more and more rows, with new users and items."""
        n = self.case.n_stream
        bounds = [0, 1, 2, 9, n // 4, n // 2, n]
        for nth, (start, stop) in enumerate(pairwise(bounds)):
            given = {}
            if self.items is not None and nth == 3:
                given["items"] = take(self.items, slice(6, 12))
            self.learn(model, start, stop, **given)
            if nth in (0, 2):
                self.predictions(f"learned_{stop}", model)
        self.everything("learned", model)
        self.predictions("learned_pickled", pickle.loads(pickle.dumps(model)))

    def unfitted(self) -> None:
        """Record `partial_fit` of an unfitted estimator."""
        twin = self.build()
        twin.partial_fit(*self.rows(slice(0, FIRST_ROWS)))
        self.store.put(f"{self.case.name}/first_partial_fit/predict", twin.predict(self.queried))
