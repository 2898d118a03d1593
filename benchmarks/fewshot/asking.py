"""Which item to ask a new user about: `--task asking`, on answers that were logged.

The users are those of the MetaRec split with at least 25 support rows. A rule chooses one support
item of each user after the other and sees its rating. The error is that on the ten query rows.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.common.report import row
from benchmarks.fewshot import score
from benchmarks.fewshot.contenders import BayesAll
from benchmarks.fewshot.data import Ratings, load
from benchmarks.fewshot.protocols import Task, metarec

N_SUPPORT = 25
ANSWERS = (1, 3, 5, 10)
Rule = Callable[[Any, np.ndarray, np.random.Generator], np.ndarray]


def at_random(model: Any, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a random row of each user."""
    return _best(left, rng.random(len(left)))


def most_popular(model: Any, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the row of each user whose item has most training rows."""
    return _best(left, np.array([model.popularity_[item] for item in left[:, 1].tolist()]))


def least_sure(model: Any, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the row of each user whose prediction has the largest standard deviation."""
    return _best(left, model.predict(left, return_std=True)[1])


def ask(model: Any, left: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the row of each user that the estimator asks for.

    What it asks does not depend on the answers, so that all questions are asked for beforehand.
    """
    rank = [model.questions_[user].get(item, len(left)) for user, item in left.tolist()]
    return _best(left, -np.array(rank, dtype=float))


def questions(model: Any, rows: np.ndarray) -> dict[int, dict[int, int]]:
    """Return the place of each item among the questions to each user."""
    found = {}
    for user in np.unique(rows[:, 0]).tolist():
        its = rows[rows[:, 0] == user, 1]
        [items] = model.ask([user], n_items=ANSWERS[-1], candidates=its)
        found[user] = {item: place for place, item in enumerate(items.tolist())}
    return found


RULES: dict[str, Rule] = {
    "random": at_random,
    "popular": most_popular,
    "largest variance": least_sure,
    "ask": ask,
}


def run(seeds: list[int]) -> None:
    """Print RMSE and nDCG@5 after each number of answers, and differences to random ones."""
    ratings, found = load("ml-1m"), {}
    for seed in seeds:
        task = answerable(ratings, metarec(ratings, seed))
        contender = BayesAll(ratings, seed)
        contender.fit(*ratings.rows(task.train))
        items, counts = np.unique(ratings.X[task.train, 1], return_counts=True)
        contender.model.popularity_ = dict(zip(items.tolist(), counts.tolist(), strict=True))
        for name, rule in RULES.items():
            for k, part in interview(contender, task, rule, np.random.default_rng(seed)):
                found.setdefault((name, k), []).append(part.assign(seed=seed))
    lines: dict[str, list[str]] = {}
    for (name, k), parts in found.items():
        mine = pd.concat(parts, ignore_index=True)
        figures: dict[str, Any] = score.summary(mine)
        theirs = pd.concat(found["random", k], ignore_index=True)
        for metric in ("mse", "best") if name != "random" else ():
            figures[f"{metric} less random"] = score.paired(mine, theirs, metric)
        row("asking", "ml-1m", name, k=k, n=len(mine), **figures)
        lines.setdefault(name, []).append(f"{figures['rmse']:.4f} / {figures['best']:.4f}")
    print(f"| RMSE / nDCG@5 after | {' | '.join(map(str, ANSWERS))} |")
    print("|---" * (len(ANSWERS) + 1) + "|")
    for name, cells in lines.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def answerable(ratings: Ratings, task: Task) -> Task:
    """Keep the users with enough support rows; drop items without a training row."""
    known = np.isin(ratings.X[task.support, 1], ratings.X[task.train, 1])
    support, place = task.support[known], task.place[known]
    users, counts = np.unique(ratings.X[support, 0], return_counts=True)
    users = users[counts >= N_SUPPORT]
    rows, query = np.isin(ratings.X[support, 0], users), np.isin(task.owner, users)
    return Task(task.train, support[rows], place[rows], task.query[query], task.owner[query])


def interview(contender: BayesAll, task: Task, rule: Rule, rng: np.random.Generator) -> Any:
    """Yield the metrics of each user after some answers."""
    ratings = contender.ratings
    left, answers = ratings.rows(task.support)
    query, truth = ratings.rows(task.query)
    given = np.empty(0, np.int64)
    model = contender.model
    wanted = questions(model, left) if rule is ask else {}
    for k in range(1, ANSWERS[-1] + 1):
        rest = np.setdiff1d(np.arange(len(left)), given)
        model.questions_ = wanted
        given = np.concatenate([given, rest[rule(model, left[rest], rng)]])
        model = contender.adapted(left[given], answers[given])
        model.popularity_ = contender.model.popularity_
        if k in ANSWERS:
            answer = model.predict(query, return_std=True)
            yield k, score.metrics(truth, answer, task.owner, ("best",))


def _best(left: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the row with the largest value of each user."""
    order = np.lexsort((values, left[:, 0]))
    last = np.r_[left[order[1:], 0] != left[order[:-1], 0], True]
    return order[last]
