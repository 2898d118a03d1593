"""Meta-learning by gradients on the MetaRec split: `--task losers`. None of it is in the package.

Meta-SGD on the user vector (ANIL): item vectors, a linear map from the user's profile to the first
vector, and a step size for each of its elements are learned, so that three gradient steps on the
support rows predict the query rows. A neural process: a small net reads each support pair, the mean
of what it finds is the user, a second net predicts. Both draw the number of support rows anew for
each user and step, and both start the item biases at the shrunk item means.
"""

import time
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

import sklearn_recft
from benchmarks.common.report import row
from benchmarks.fewshot import score
from benchmarks.fewshot.contenders import BayesAll, Bias, Ridge
from benchmarks.fewshot.data import Ratings, load
from benchmarks.fewshot.protocols import Task, metarec

SHOTS = (1, 3, 10, None)
EPOCHS = 24
BATCH = 64
STEPS = 3  # of gradient, on the user vector
N_SUPPORT = (0, 1, 2, 3, 5, 8, 10, 20, 40, 90)  # drawn for each step


class Episodes:
    """Rows of users as padded tensors: items, ratings, and which places are rows."""

    def __init__(self, ratings: Ratings, rows: np.ndarray, items: dict[int, int], mean: float):
        X, y = ratings.rows(rows)
        users, code = np.unique(X[:, 0], return_inverse=True)
        order = np.argsort(code, kind="stable")
        counts = np.bincount(code)
        place = np.arange(len(code)) - np.repeat(np.cumsum(counts) - counts, counts)
        self.users = users
        self.item = torch.zeros(len(users), counts.max(), dtype=torch.long)  # (U, L)
        self.rating, self.mask = torch.zeros(2, len(users), counts.max())
        known = [items.get(item, -1) for item in X[order, 1].tolist()]
        at = torch.as_tensor(code[order]), torch.as_tensor(place)
        self.item[at] = torch.as_tensor(known).clamp(min=0)
        self.rating[at] = torch.as_tensor(y[order] - mean, dtype=torch.float32)
        self.mask[at] = torch.as_tensor(np.array(known) >= 0, dtype=torch.float32)


class MetaSGD(nn.Module):
    """Three gradient steps on the user vector, with a step size for each element."""

    def __init__(self, vectors: np.ndarray, n_profile: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.as_tensor(vectors[:, 0], dtype=torch.float32))
        self.vectors = nn.Parameter(torch.as_tensor(vectors[:, 1:], dtype=torch.float32))
        self.first = nn.Linear(n_profile, vectors.shape[1], bias=False)
        step = np.log(np.r_[1.0, np.full(vectors.shape[1] - 1, 4.0)])  # scales of 1 and x x^T
        self.step = nn.Parameter(torch.as_tensor(step, dtype=torch.float32))  # its logarithm
        nn.init.zeros_(self.first.weight)

    def forward(self, profile: Tensor, given: tuple[Tensor, ...], asked: Tensor) -> Tensor:
        item, rating, mask = given  # (B, L) each
        x, w = self._design(item), self.first(profile)  # (B, L, D), (B, D)
        target = rating - self.bias[item]
        for _ in range(STEPS):
            error = ((x * w[:, None]).sum(-1) - target) * mask  # (B, L)
            w = w - self.step.exp() * (error[..., None] * x).sum(1) / (mask.sum(1)[:, None] + 3)
        return self.bias[asked] + (self._design(asked) * w[:, None]).sum(-1)  # (B, Q)

    def _design(self, item: Tensor) -> Tensor:
        vectors = self.vectors[item]
        return torch.cat([torch.ones_like(vectors[..., :1]), vectors], -1)


class NeuralProcess(nn.Module):
    """The user is the mean of what a net reads in the support pairs."""

    def __init__(self, vectors: np.ndarray, n_profile: int, width: int = 64) -> None:
        super().__init__()
        n_items, d = vectors.shape
        self.bias = nn.Parameter(torch.as_tensor(vectors[:, 0], dtype=torch.float32))
        self.vectors = nn.Embedding(n_items, d)
        nn.init.normal_(self.vectors.weight, std=0.1)
        self.read = _net(d + 2, width, width)
        self.answer = _net(d + width + n_profile, width, 1)

    def forward(self, profile: Tensor, given: tuple[Tensor, ...], asked: Tensor) -> Tensor:
        item, rating, mask = given
        rest = (rating - self.bias[item])[..., None]
        pairs = torch.cat([self.vectors(item), rest, torch.ones_like(rest)], -1)  # (B, L, d + 2)
        found = (self.read(pairs) * mask[..., None]).sum(1) / (mask.sum(1)[:, None] + 1)
        user = torch.cat([found, profile], -1)[:, None].expand(-1, asked.shape[1], -1)
        seen = torch.cat([self.vectors(asked), user], -1)  # (B, Q, d + width + n_profile)
        return self.bias[asked] + self.answer(seen)[..., 0]


def _net(n_in: int, width: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, n_out),
    )


def run(seed: int = 0) -> None:
    """Print nDCG@5 and RMSE of the nets, and of what they are compared with."""
    ratings = load("ml-1m")
    task, check = metarec(ratings, seed), metarec(ratings, seed, part="validation")
    X, y = ratings.rows(task.train)
    bayes = BayesAll(ratings, seed)
    bayes.fit(X, y)
    item_ids = np.asarray(bayes.model.item_ids_)
    known = np.isin(item_ids, X[:, 1])
    start = np.asarray(bayes.model.item_means_)[known]
    items = {one: n for n, one in enumerate(item_ids[known].tolist())}
    plain = sklearn_recft.BayesianMFRecommender(n_factors=1, max_epochs=3, random_state=0)
    plain.fit(X, y)
    fresh = start * 0
    fresh[:, 0] = np.asarray(plain.item_means_)[np.isin(plain.item_ids_, item_ids[known]), 0]
    profiles = _profiles(ratings)
    n_profile = len(next(iter(profiles.values())))
    for name, vectors, kind in (
        ("Meta-SGD, from the items of Bayes", start, MetaSGD),
        ("neural process", fresh, NeuralProcess),
    ):
        torch.manual_seed(seed)
        began = time.process_time()
        net = _trained(kind(vectors, n_profile), ratings, (task, check), items, profiles)
        seconds = time.process_time() - began
        for k in SHOTS:
            answer = _answers(net, ratings, task, items, profiles, k)
            _print(name, ratings, task, k, answer, seconds)
    others: dict[str, Any] = {"bias": Bias(ratings, seed), "ridge": Ridge(ratings, seed)}
    others = {name: one.fit(X, y) for name, one in others.items()}
    for name, contender in (others | {"Bayes + items, profile": bayes}).items():
        for k in SHOTS:
            query, _ = ratings.rows(task.query)
            answer = contender.answer(*ratings.rows(task.first(k)), query)[0]
            _print(name, ratings, task, k, answer, None)


def _trained(
    net: nn.Module,
    ratings: Ratings,
    tasks: tuple[Task, Task],
    items: dict[int, int],
    profiles: dict[int, np.ndarray],
) -> nn.Module:
    """Train; keep the epoch with the lowest error on the validation users."""
    task, check = tasks
    mean = float(ratings.y[task.train].mean())
    log = Episodes(ratings, task.train, items, mean)
    profile = torch.as_tensor(np.stack([profiles[u] for u in log.users.tolist()]))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    rng = np.random.default_rng(0)
    truth, best = ratings.y[check.query], (np.inf, net.state_dict())
    for _ in range(EPOCHS):
        for batch in np.array_split(rng.permutation(len(log.users)), len(log.users) // BATCH):
            item, rating, mask = log.item[batch], log.rating[batch], log.mask[batch]
            draw = torch.as_tensor(rng.random(mask.shape)) * mask
            rank = (-draw).argsort(1).argsort(1)  # of each place in a random order, rows first
            n_support = torch.as_tensor(rng.choice(N_SUPPORT, len(batch)))[:, None]
            support = mask * (rank < torch.minimum(n_support, mask.sum(1)[:, None] - 5))
            found = net(profile[batch], (item, rating, support), item)
            asked = mask - support
            loss = ((found - rating) ** 2 * asked).sum() / asked.sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors = [_answers(net, ratings, check, items, profiles, k) - truth for k in (3, None)]
        error = float(np.mean(np.square(errors)))
        if error < best[0]:
            best = error, {name: one.clone() for name, one in net.state_dict().items()}
    net.load_state_dict(best[1])
    return net


def _answers(
    net: nn.Module,
    ratings: Ratings,
    task: Task,
    items: dict[int, int],
    profiles: dict[int, np.ndarray],
    k: int | None,
) -> np.ndarray:
    """Return predictions of the query rows; an unknown item has the mean."""
    mean = float(ratings.y[task.train].mean())
    given, asked = (Episodes(ratings, r, items, mean) for r in (task.first(k), task.query))
    if not np.array_equal(given.users, asked.users):
        raise ValueError("A user has no support row.")
    profile = torch.as_tensor(np.stack([profiles[u] for u in asked.users.tolist()]))
    with torch.no_grad():
        found = net(profile, (given.item, given.rating, given.mask), asked.item) * asked.mask
    users = ratings.X[task.query, 0]
    order = np.argsort(users, kind="stable")
    counts = np.unique(users, return_counts=True)[1]
    filled = np.arange(found.shape[1]) < counts[:, None]
    predicted = np.empty(len(users))
    predicted[order] = found.numpy()[filled]
    return np.clip(predicted + mean, 1, 5)


def _profiles(ratings: Ratings) -> dict[int, np.ndarray]:
    """Return a constant and one-hot codes of each user."""
    codes = pd.get_dummies(ratings.users.set_index("user_id")).to_numpy(np.float32)
    codes = np.column_stack([np.ones(len(codes), np.float32), codes])
    return dict(zip(ratings.users["user_id"].tolist(), codes, strict=True))


def _print(
    name: str,
    ratings: Ratings,
    task: Task,
    k: int | None,
    answer: np.ndarray,
    seconds: float | None,
) -> None:
    found = score.metrics(ratings.y[task.query], (answer, None), task.owner, ("best",))
    figures = score.summary(found)
    wanted = {metric: figures[metric] for metric in ("best", "rmse")}
    row("losers", "ml-1m", name, k=str(k or "all"), fit_s=seconds, **wanted)
