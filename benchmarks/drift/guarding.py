"""Updates that are clean, or damaged in one of three ways, and what `Guard` says of them."""

import copy

import numpy as np

from sklearn_recft import IncrementalMFRecommender
from sklearn_recft.model_selection import Guard

UPDATE, NEXT, PIECE = 1000, 2000, 250


def reversed_labels(y, rng):
    return y.min() + y.max() - y


def all_best(y, rng):
    return np.full(len(y), y.max())


def shuffled(y, rng):
    return rng.permutation(y)


KINDS = {
    "clean": lambda y, rng: y,
    "reversed": reversed_labels,
    "all five": all_best,
    "shuffled": shuffled,
}


def verdicts(X, y, kinds, n_updates, seed):
    """Yield kind, verdict, reason and events of updates at even places of the log."""
    rng = np.random.default_rng(seed)
    start = int(0.3 * len(y))
    places = np.linspace(start, len(y) - UPDATE - NEXT - 1, n_updates).astype(int)
    model = IncrementalMFRecommender(random_state=seed).fit(X[:start], y[:start])
    known, guard = start, Guard()
    for place in places:
        model.partial_fit_predict(X[known:place], y[known:place]) if place > known else None
        known = place
        rows = slice(place, place + UPDATE)
        for kind in kinds:
            labels = KINDS[kind](y[rows], rng)
            after = copy.deepcopy(model).partial_fit(X[rows], labels)
            guard.begin(model, after, X[rows], labels)
            for a in range(place + UPDATE, place + UPDATE + NEXT, PIECE):
                if guard.update(X[a : a + PIECE], y[a : a + PIECE]) != "watch":
                    break
            yield kind, guard.verdict_, guard.reason_, guard.n_events_, guard.warnings_
