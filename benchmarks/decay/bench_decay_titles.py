"""Measure few-shot likes from titles, the task of TALLRec, one JSON line per row.

    python benchmarks/decay/bench_decay_titles.py

An example is a user's ten judged films and the next one: "liked: ..., disliked: ..., does the user
like ...?". A like is a rating above 3. Models learn from k examples alone, drawn from the training
part, and from all 11 judgements in each. AUC of the test part, mean over ten draws (``--seeds``).

``--split records`` (default) is the split of the published code: users in the order of the file,
each one's ratings in the order of time, the last 10,000 examples, cut 8:1:1. So most test users
have no training example, and training examples may be later than those of the test part.
``--split time`` cuts all 90,570 examples in the order of time. Settings are chosen on the
validation part, for each k, by the mean over the draws.

"Linear head": logistic regression on the log-odds of the user's like rate and, by groups, on
recency, counts of the films in the k examples, title vectors, and years in the titles.
"Vectors alone": logistic regression on the vectors of the film, of the mean of the liked and of
the mean of the disliked. Both use the frozen encoder all-MiniLM-L6-v2. "all": the whole training
part. "earlier": another protocol, that also reads the ratings of anyone before the second of the
example. TALLRec's published figures are AUC of other draws.
"""

import argparse
import copy
import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.common.report import row
from benchmarks.decay.liked_titles import (
    LENGTH,
    Examples,
    Films,
    Head,
    earlier_film_rate,
    examples_of,
    film_rate,
    like_odds,
    load,
    map_logistic,
    recent_rate,
    whitened,
)
from sklearn_recft import DecayBertRecommender
from sklearn_recft.text import load_encoder

SIZES = (16, 64, 256)
GROUPS = ("counts", "words", "years")
DEVIATIONS = (0.1, 0.3, 1.0)
PENALTIES = (0.01, 0.1, 1.0)
EPOCHS = (2, 10, 40)  # of DecayBert
MODELS = ("film's like rate in the examples", "vectors alone", "linear head", "DecayBert")
Scorer = Callable[[Examples], np.ndarray]
Contender = Callable[[Examples, Any, int], Scorer]


def head_settings() -> list[tuple[tuple[str, ...], float]]:
    """Every set of groups of features beside the rate, and every deviation of the prior."""
    some = [c for n in range(len(GROUPS) + 1) for c in itertools.combinations(GROUPS, n)]
    return [(("rate", *groups), deviation) for groups in some for deviation in DEVIATIONS]


class Contenders:
    """The models of the table. Each takes training examples, a setting and a seed."""

    def __init__(self, films: Films, backbone: str) -> None:
        self.films, self.backbone = films, backbone
        encoder = load_encoder(backbone, texts=films.titles)
        self.vectors = whitened(encoder.encode(films.titles))

    def rows(self) -> dict[str, tuple[Contender, list[Any]]]:
        """Return the contenders by name, with their settings."""
        return dict(
            zip(
                MODELS,
                (
                    (self.film_rate, [None]),
                    (self.vectors_alone, list(PENALTIES)),
                    (self.head, head_settings()),
                    (self.decay_bert, list(EPOCHS)),
                ),
                strict=True,
            )
        )

    def film_rate(self, train: Examples, setting: Any, seed: int) -> Scorer:
        """Rank by the shrunk like rate of the film."""
        return lambda examples: film_rate(train, examples, len(self.films.titles))

    def head(self, train: Examples, setting: Any, seed: int) -> Scorer:
        """Fit the linear head."""
        groups, deviation = setting
        return Head(self.films, self.vectors, groups, deviation).fit(train).decision

    def vectors_alone(self, train: Examples, setting: Any, seed: int) -> Scorer:
        """Fit logistic regression to vectors of the film and of the two lists."""
        model = LogisticRegression(C=setting, max_iter=1000)
        model.fit(self._side_by_side(train), train.like)
        return lambda examples: model.decision_function(self._side_by_side(examples))

    def _side_by_side(self, examples: Examples) -> np.ndarray:
        likes = examples.past_like[..., None]
        past = self.vectors[examples.past]
        liked = (past * likes).sum(1) / np.maximum(likes.sum(1), 1)
        others = (past * (1 - likes)).sum(1) / np.maximum((1 - likes).sum(1), 1)
        return np.hstack([self.vectors[examples.film], liked, others])

    def decay_bert(self, train: Examples, setting: Any, seed: int) -> Scorer:
        """Fit the estimator to the judgements of training examples, each a user of its own.

        Examples overlap: the film of one is a judged film of the next. If they shared items, a
        label would reach its own row through the counts of the item. So each scored example has
        items of its own, which the model knows by their titles alone.
        """
        model = DecayBertRecommender(
            backbone=self.backbone, max_epochs=setting, random_state=seed, n_jobs=1
        )
        judged = [f"film {code}" for code in train.past.ravel().tolist()]
        asked = [f"film {code}" for code in train.film.tolist()]
        past, now = self._past(train, judged), self._now(train, asked)
        rows = pd.concat([past, now], ignore_index=True)
        model.fit(rows, np.append(train.past_like.ravel(), train.like))

        def scores(examples: Examples) -> np.ndarray:
            alone = copy.deepcopy(model)
            judged = [f"judged {number}" for number in range(examples.past.size)]
            alone.forget(alone.user_ids_)  # the training users, whose numbers come again
            alone.observe(self._past(examples, judged), examples.past_like.ravel())
            asked = [f"asked {number}" for number in range(len(examples))]
            found: np.ndarray = alone.decision_function(self._now(examples, asked))
            return found

        return scores

    def _past(self, examples: Examples, ids: list[str]) -> pd.DataFrame:
        user = np.repeat(np.arange(len(examples)), LENGTH)
        step = np.tile(np.arange(LENGTH), len(examples))
        return self._events(user, examples.past.ravel(), ids, step)

    def _now(self, examples: Examples, ids: list[str]) -> pd.DataFrame:
        user = np.arange(len(examples))
        return self._events(user, examples.film, ids, np.full(len(user), LENGTH))

    def _events(
        self, user: np.ndarray, film: np.ndarray, ids: list[str], step: np.ndarray
    ) -> pd.DataFrame:
        # The prompt has no times: judgements are a minute apart, and all examples begin at once.
        return pd.DataFrame(
            {
                "user_id": user,
                "item_id": ids,
                "timestamp": 60.0 * step,
                "text": [self.films.titles[code] for code in film.tolist()],
            }
        )


def few_shot(parts: tuple[Examples, ...], contenders: Contenders, options: Any) -> None:
    """Print a row for each contender and k, and for the whole training part."""
    train, validation, test = parts
    for name, (make, settings) in contenders.rows().items():
        if name not in options.models:
            continue
        for size in options.sizes:
            aucs = np.array(
                [
                    [
                        _aucs(make(_drawn(train, size, seed), setting, seed), validation, test)
                        for seed in options.seeds
                    ]
                    for setting in settings
                ]
            )  # (settings, seeds, parts)
            best = int(aucs[..., 0].mean(1).argmax())
            _report(options.split, name, size, aucs[best], settings[best])
        if name != "DecayBert":
            aucs = np.array([_aucs(make(train, one, 0), validation, test) for one in settings])
            best = int(aucs[:, 0].argmax())
            _report(options.split, name, "all", aucs[best : best + 1], settings[best])


def _drawn(train: Examples, size: int, seed: int) -> Examples:
    return train.take(np.random.default_rng(seed).choice(len(train), size, replace=False))


def _aucs(scores: Scorer, validation: Examples, test: Examples) -> tuple[float, float]:
    return auc(validation, scores(validation)), auc(test, scores(test))


def _report(split: str, name: str, size: Any, aucs: np.ndarray, setting: Any) -> None:
    figures = dict(zip(("validation_auc", "auc"), aucs.mean(0), strict=True))
    deviation = float(aucs[:, 1].std(ddof=1)) if len(aucs) > 1 else 0.0
    row("titles", split, name, k=size, **figures, deviation=deviation,
        n_seeds=len(aucs), setting=str(setting))  # fmt: skip


def without_training(parts: tuple[Examples, ...], events: pd.DataFrame, split: str) -> None:
    """Print rows that need no training, and those that read the earlier ratings of anyone."""
    _, validation, test = parts
    for name, scores in {"like rate": like_odds, "recent like rate": recent_rate}.items():
        _report(split, name, 0, np.array([_aucs(scores, validation, test)]), None)
    rates = {id(part): earlier_film_rate(events, part) for part in (validation, test)}
    scores = {
        "film's like rate": lambda part: rates[id(part)],
        "recent like rate and film's like rate": _both(validation, rates),
    }
    for name, its in scores.items():
        _report(split, name, "earlier", np.array([_aucs(its, validation, test)]), None)


def _both(validation: Examples, rates: dict[int, np.ndarray]) -> Scorer:
    """Logistic regression on both, fitted to the validation part."""

    def inputs(part: Examples) -> np.ndarray:
        rate = rates[id(part)]
        return np.column_stack([recent_rate(part), np.log(rate / (1 - rate)), np.ones(len(part))])

    weights = map_logistic(inputs(validation), validation.like, np.zeros(3), np.full(3, 10.0))
    return lambda part: inputs(part) @ weights


def auc(examples: Examples, scores: np.ndarray) -> float:
    """Return the AUC of scores of examples."""
    return float(roc_auc_score(examples.like, scores))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("records", "time"), default="records")
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--backbone", default="auto", help="a folder, a name, 'auto' or 'scratch'")
    options = parser.parse_args(argv)
    events, films = load()
    parts = examples_of(events, options.split).parts()
    row("titles", options.split, "parts", n=[len(p) for p in parts],
        n_users=[len(np.unique(p.user)) for p in parts])  # fmt: skip
    without_training(parts, events, options.split)
    few_shot(parts, Contenders(films, options.backbone), options)


if __name__ == "__main__":
    main()
