"""Examples of TALLRec's task (ten judged films, does the next one please?), and their features."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

LIKED_ABOVE, LENGTH, N_RECORDS = 3, 10, 10_000
SHARES = 0.8, 0.9  # training examples, then validation, then test
RECENT = 0.8  # weight of a judgement relative to that of the next one
PRIOR_COUNT = 4.0  # of the mean of a film's residuals
YEARS = 5.0  # films so many years apart are related by a weight of 1 / e
GROUPS = {
    "rate": ("rate", "recent"),
    "counts": ("residual", "mentions"),
    "words": ("similar", "text"),
    "years": ("age", "same years"),
}


@dataclass(frozen=True)
class Examples:
    """Examples of the task; films are codes of rows of ``titles``.

    Parameters
    ----------
    user, film, like, time : ndarray of shape (n,)
        Whose example it is, the film in question, whether it is liked, and when, in seconds.
    past, past_like : ndarray of shape (n, 10)
        The films that the user judged before, the oldest first, and whether they were liked.
    """

    user: np.ndarray
    film: np.ndarray
    like: np.ndarray
    time: np.ndarray
    past: np.ndarray
    past_like: np.ndarray

    def __len__(self) -> int:
        return len(self.film)

    def take(self, rows: np.ndarray) -> "Examples":
        """Return some of the examples."""
        return Examples(**{name: column[rows] for name, column in vars(self).items()})

    def parts(self) -> tuple["Examples", "Examples", "Examples"]:
        """Return the first 80 %, the next 10 % and the last 10 %."""
        cuts = [int(share * len(self)) for share in SHARES]
        train, validation, test = np.split(np.arange(len(self)), cuts)
        return self.take(train), self.take(validation), self.take(test)


@dataclass(frozen=True)
class Films:
    """Titles with their years, as the task writes them, and the years."""

    titles: list[str]
    year: np.ndarray


def load() -> tuple[pd.DataFrame, Films]:
    """Read MovieLens 100K in the order of its file: columns user_id, film, like, timestamp."""
    folder = Path(os.environ["SKLEARN_RECFT_DATA"], "ml-100k")
    films = pd.read_parquet(folder / "items.parquet")
    year = pd.to_numeric(films["release_year"], errors="coerce")
    words = [
        title if np.isnan(its) else f"{title} ({its:.0f})"
        for title, its in zip(films["title"].fillna(""), year, strict=True)
    ]
    ratings = pd.read_parquet(folder / "interactions.parquet")
    code = pd.Series(np.arange(len(films)), index=films["item_id"].to_numpy())
    events = pd.DataFrame(
        {
            "user_id": ratings["user_id"].to_numpy(),
            "film": code.loc[ratings["item_id"]].to_numpy(),
            "like": (ratings["rating"] > LIKED_ABOVE).to_numpy(int),
            "timestamp": ratings["timestamp"].to_numpy(),
        }
    )
    return events, Films(words, year.fillna(year.median()).to_numpy(float))


def examples_of(events: pd.DataFrame, split: str) -> Examples:
    """Return the examples in the order in which they are split.

    "records": users in the order of the file, each one's ratings in the order of time, of which the
    last 10,000 examples are kept, as in the published code. "time": all examples in the order of
    time.
    """
    found = [_of_user(own) for _, own in events.groupby("user_id", sort=False)]
    columns = {
        name: np.concatenate([vars(one)[name] for one in found if len(one)])
        for name in Examples.__dataclass_fields__
    }
    examples = Examples(**columns)
    if split == "records":
        return examples.take(np.arange(len(examples))[-N_RECORDS:])
    return examples.take(np.argsort(examples.time, kind="stable"))


def _of_user(own: pd.DataFrame) -> Examples:
    own = own.sort_values("timestamp", kind="stable")
    last = np.arange(LENGTH, len(own))
    past = last[:, None] - np.arange(LENGTH, 0, -1)
    user, film, like, time = (
        own[name].to_numpy() for name in ("user_id", "film", "like", "timestamp")
    )
    return Examples(user[last], film[last], like[last], time[last], film[past], like[past])


# ---------------------------------------------------------------------- features


class Head:
    """Logistic regression on what the words of k examples say; ``vectors`` are of titles.

    The residual of a judgement is what it has above the mean of its example. The mean residual of a
    film leaves the example itself out, so it says nothing of the label of a training row. The
    weights have a normal prior, whose mean is 1 for the log-odds of the user's like rate and 0
    otherwise.
    """

    def __init__(
        self, films: Films, vectors: np.ndarray, groups: tuple[str, ...], deviation: float
    ) -> None:
        self.films, self.vectors, self.deviation = films, vectors, deviation
        self.names = [name for group in groups for name in GROUPS[group]]

    def fit(self, examples: Examples) -> "Head":
        """Sum the residuals of films, and fit the weights."""
        n, mean = len(self.films.titles), examples.past_like.mean(1)
        residual = np.column_stack(
            [examples.past_like - mean[:, None], examples.like - mean]
        )  # (k, 11)
        film = np.column_stack([examples.past, examples.film])
        self.sums = np.bincount(film.ravel(), residual.ravel(), n)
        self.counts = np.bincount(film.ravel(), minlength=n)
        self.text = _ridge(self.vectors[film.ravel()], residual.ravel())
        own = residual[:, -1]
        inputs = self._inputs(examples, own)
        self.scale = np.maximum(inputs.std(0), 1e-9)
        self.scale[0] = 1.0
        start = np.zeros(inputs.shape[1] + 1)
        start[0] = 1.0
        deviation = np.append(np.full(inputs.shape[1], self.deviation), 10.0)
        inputs = np.column_stack([inputs / self.scale, np.ones(len(inputs))])
        self.weights = map_logistic(inputs, examples.like, start, deviation)
        return self

    def decision(self, examples: Examples) -> np.ndarray:
        """Return the log-odds (n,) of a like."""
        inputs = self._inputs(examples, None) / self.scale
        found: np.ndarray = inputs @ self.weights[:-1] + self.weights[-1]
        return found

    def _inputs(self, examples: Examples, own: np.ndarray | None) -> np.ndarray:
        film, past, likes = examples.film, examples.past, examples.past_like
        used = 0 if own is None else 1
        counts = self.counts[film] - used
        sums = self.sums[film] - (0 if own is None else own)
        cosine = np.einsum("nkd,nd->nk", self.vectors[past], self.vectors[film])
        near = np.exp(-np.abs(self.films.year[past] - self.films.year[film][:, None]) / YEARS)
        above = likes - likes.mean(1, keepdims=True)
        columns = {
            "rate": like_odds(examples),
            "recent": recent_rate(examples) - likes.mean(1),
            "residual": sums / (counts + PRIOR_COUNT),
            "mentions": np.log1p(counts),
            "similar": (cosine * above).sum(1),
            "text": self.vectors[film] @ self.text,
            "age": np.clip(self.films.year.max() - self.films.year[film], 0, 60),
            "same years": (near * above).sum(1) / (near.sum(1) + 1),
        }
        return np.column_stack([columns[name] for name in self.names])


def like_odds(examples: Examples) -> np.ndarray:
    """Log-odds of the share of likes among the ten films, with one like and one dislike more."""
    likes = examples.past_like.sum(1)
    return np.log((likes + 1) / (LENGTH + 1 - likes))


def recent_rate(examples: Examples) -> np.ndarray:
    """Share of likes, where a judgement weighs 0.8 times the next one."""
    weights = RECENT ** np.arange(LENGTH)[::-1]
    rate: np.ndarray = examples.past_like @ weights / weights.sum()
    return rate


def film_rate(train: Examples, examples: Examples, n_films: int) -> np.ndarray:
    """Share of likes of the film in all judgements of the training examples, shrunk to the mean."""
    film = np.append(train.past, train.film)
    like = np.append(train.past_like, train.like)
    sums = np.bincount(film, like, n_films) + PRIOR_COUNT * like.mean()
    rate: np.ndarray = sums / (np.bincount(film, minlength=n_films) + PRIOR_COUNT)
    return rate[examples.film]


def earlier_film_rate(events: pd.DataFrame, examples: Examples) -> np.ndarray:
    """Share of likes of the film in ratings of anyone before the example's second, shrunk."""
    found = np.empty(len(examples))
    of_film = dict(iter(events.groupby("film")))
    mean = events["like"].mean()  # a constant; it changes no order of films
    for row, (film, time) in enumerate(zip(examples.film, examples.time, strict=True)):
        own = of_film[film]
        likes = own["like"].to_numpy()[own["timestamp"].to_numpy() < time]
        found[row] = (likes.sum() + PRIOR_COUNT * mean) / (len(likes) + PRIOR_COUNT)
    return found


def map_logistic(
    inputs: np.ndarray, label: np.ndarray, start: np.ndarray, deviation: np.ndarray
) -> np.ndarray:
    """Return the mode of logistic regression with a normal prior, by Newton's method."""
    weights, precision = start.copy(), 1 / deviation**2
    for _ in range(50):
        chance = expit(inputs @ weights)
        gradient = inputs.T @ (chance - label) + precision * (weights - start)
        curvature = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + np.diag(precision)
        step = np.linalg.solve(curvature, gradient)
        weights -= step
        if np.abs(step).max() < 1e-8:
            break
    return weights


def whitened(vectors: np.ndarray, size: int = 64) -> np.ndarray:
    """Center and whiten vectors on their first axes, and scale them to length 1."""
    left, _, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    kept = left[:, : min(size, left.shape[1])]
    scaled: np.ndarray = kept / np.maximum(np.linalg.norm(kept, axis=1, keepdims=True), 1e-12)
    return scaled


def _ridge(inputs: np.ndarray, target: np.ndarray, penalty: float = 30.0) -> np.ndarray:
    matrix = inputs.T @ inputs + penalty * np.eye(inputs.shape[1])
    solution: np.ndarray = np.linalg.solve(matrix, inputs.T @ target)
    return solution
