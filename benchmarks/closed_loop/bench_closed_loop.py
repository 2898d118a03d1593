"""Clicks of models that are frozen, refitted nightly, online or adaptive, in a closed loop.

    python benchmarks/closed_loop/bench_closed_loop.py --task simulated
    python benchmarks/closed_loop/bench_closed_loop.py --task off-policy
    python benchmarks/closed_loop/bench_closed_loop.py --task replay --data ml-100k ml-1m

A JSON line for each figure. ``--curves FILE`` also appends the clicks of each day as JSON lines.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import softmax

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the repository root

from benchmarks.closed_loop.loop import (
    EVENT,
    Learner,
    Setting,
    random_lists,
    recovery,
    replay,
    simulate,
)
from benchmarks.common.events import cut, load
from benchmarks.common.report import row
from sklearn_recft import (
    AdaptiveRecommender,
    EASERecommender,
    IncrementalMFRecommender,
    ItemKNNRecommender,
    PopularityRecommender,
)
from sklearn_recft.metrics import (
    doubly_robust_value,
    ips_value,
    item_position_value,
    snips_value,
)

SEEDS = (0, 1, 2)
LOG_SIZES = (300, 1000, 3000)
N_LOGS = 200


def click_model(seed: int, **params: Any) -> IncrementalMFRecommender:
    """Make the factorization of clicks and skips of the simulated loop."""
    defaults = {"n_factors": 16, "reg": 0.02, "random_state": seed}
    return IncrementalMFRecommender(**(defaults | params))


def simulated_learners(seed: int) -> dict[str, Learner]:
    members = [
        ("slow", click_model(seed)),
        ("fast", click_model(seed, learning_rate=0.1)),
    ]
    four = [
        *members,
        ("neighbours", ItemKNNRecommender(half_life=5)),
        ("popular", PopularityRecommender(half_life=5)),
    ]
    return {
        "frozen": Learner(click_model(seed)),
        "nightly": Learner(click_model(seed), "nightly"),
        "nightly, last 10 days": Learner(click_model(seed), "nightly", window=10),
        "nightly, half-life 5 days": Learner(click_model(seed, half_life=5), "nightly"),
        "online": Learner(click_model(seed), "online"),
        "online, larger steps": Learner(click_model(seed, learning_rate=0.1), "online"),
        "adaptive": Learner(AdaptiveRecommender(members, random_state=seed), "shown"),
        "adaptive, four members": Learner(AdaptiveRecommender(four, random_state=seed), "shown"),
    }


def run_simulated(options: argparse.Namespace) -> None:
    setting = Setting()
    turn = setting.n_days // 2
    for seed in options.seeds:
        for name, learner in simulated_learners(seed).items():
            if options.only and name not in options.only:
                continue
            days = simulate(learner, setting, seed)
            clicks = days["clicks"].to_numpy()
            keep(options, task="simulated", model=name, seed=seed, clicks=clicks)
            row(
                "simulated",
                "planted",
                name,
                seed=seed,
                before=clicks[:turn].mean(),
                last_before=clicks[turn - 5 : turn].mean(),
                after=clicks[turn:].mean(),
                last_after=clicks[-5:].mean(),
                best=days["best"].mean(),
                regret=(days["best"] - clicks).sum() * setting.n_lists,
                recovery_days=recovery(clicks),
                seconds=learner.seconds,
            )


def run_off_policy(options: argparse.Namespace) -> None:
    """Estimate a policy from logs of another, many times; compare with the truth."""
    for seed in options.seeds:
        _lists_of_another(seed)
        _slots_of_another(seed)


def _models(seed: int, setting: Setting) -> tuple[Any, Any, Any]:
    """Return a simulator, a model of a short first log, and one of ten times as many lists."""
    simulator = setting.simulator(seed)
    models = []
    for n_lists in (setting.n_first // 2, 5 * setting.n_first):
        visits = simulator.visits(n_lists, day=-5, n_days=5)
        shown = simulator.show(visits, random_lists(n_lists, setting.n_items, seed))
        models.append(click_model(seed).fit(shown[EVENT], shown["clicked"]))
    return simulator, *models


def _lists_of_another(seed: int) -> None:
    setting = Setting(exploration=0.3)
    simulator, logging, target = _models(seed, setting)
    for size in LOG_SIZES:
        visits = simulator.visits(size * N_LOGS // 4, day=0)
        theirs, ours = (
            model.recommend(visits, exclude_seen=False)[0].astype(int)
            for model in (logging, target)
        )
        truth = simulator.expected_clicks(visits, ours).mean()
        shown = simulator.show(visits, theirs)
        shown["target"] = simulator.examined_in(ours, shown)
        found: dict[str, list] = {"mean of the log": [], "item position": [], "clipped at 100": []}
        for _, log in shown.groupby((shown["list_id"] - shown["list_id"].min()) // size):
            ids, clicked = log["list_id"], log["clicked"]
            columns = ids, log["propensity"], log["target"]
            found["item position"].append(item_position_value(clicked, *columns))
            found["clipped at 100"].append(item_position_value(clicked, *columns, clip=100))
            same = log["propensity"]
            found["mean of the log"].append(item_position_value(clicked, ids, same, same))
        report("off-policy lists", found, truth, seed, size)


def _slots_of_another(seed: int) -> None:
    """Show lists of one item, drawn from a softmax of predicted clicks."""
    setting = Setting(n_items=50, exploration=0.0)
    simulator, logging, target = _models(seed, setting)
    rng = np.random.default_rng(seed)
    users, items = np.arange(setting.n_users), np.arange(setting.n_items)
    pairs = pd.DataFrame({"user_id": np.repeat(users, len(items))})
    pairs["item_id"] = np.tile(items, len(users))
    pairs["timestamp"] = simulator.visits(1, day=0)["timestamp"].iloc[0]
    tables = [model.predict(pairs).reshape(len(users), -1) for model in (logging, target)]
    behaviour, policy = softmax(5 * tables[0], axis=1), softmax(10 * tables[1], axis=1)
    for size in LOG_SIZES:
        visits = simulator.visits(size * N_LOGS, day=0)
        who = visits["user_id"].to_numpy()
        drawn = (behaviour.cumsum(1)[who] < rng.random((len(who), 1))).sum(1)
        drawn = drawn.clip(max=setting.n_items - 1)
        clicked = simulator.show(visits, drawn[:, None])["clicked"].to_numpy()
        every = pairs.assign(timestamp=visits["timestamp"].iloc[0])
        chance = simulator.click_probability(every, every[["item_id"]].to_numpy())
        truth = (policy * chance.reshape(policy.shape))[who].sum(1).mean()
        predicted = {"dr, model of the log": tables[0], "dr, better model": tables[1]}
        direct = {name: (policy * table).sum(1) for name, table in predicted.items()}
        names = ["mean of the log", "ips", "snips", *predicted]
        found: dict[str, list] = {name: [] for name in names}
        for rows in np.arange(len(who)).reshape(N_LOGS, size):
            user, item = who[rows], drawn[rows]
            log = clicked[rows], behaviour[user, item], policy[user, item]
            found["mean of the log"].append(ips_value(log[0], log[1], log[1]))
            found["ips"].append(ips_value(*log))
            found["snips"].append(snips_value(*log))
            for name, table in predicted.items():
                predictions = table[user, item], direct[name][user]
                found[name].append(doubly_robust_value(*log, predictions))
        report("off-policy slots", found, truth, seed, size)


def report(task: str, found: dict[str, list], truth: float, seed: int, size: int) -> None:
    """Print bias, root mean squared error and coverage of the intervals over logs."""
    for name, estimates in found.items():
        values = np.array([estimate.value for estimate in estimates])
        bounds = np.array([estimate.interval() for estimate in estimates])
        row(
            task,
            "planted",
            name,
            seed=seed,
            n_lists=size,
            truth=truth,
            bias=values.mean() - truth,
            rmse=np.sqrt(np.mean((values - truth) ** 2)),
            coverage=np.mean((bounds[:, 0] <= truth) & (truth <= bounds[:, 1])),
        )


def replay_learners(seed: int) -> dict[str, Learner]:
    popular, ease = PopularityRecommender(half_life=30), EASERecommender(half_life=365)
    factors = IncrementalMFRecommender(loss="softmax", half_life=30, random_state=seed)
    members = [("ease", ease), ("factors", factors), ("popular", popular)]
    return {
        "popularity, frozen": Learner(popular, positives=True),
        "popularity, online": Learner(popular, "online", positives=True),
        "EASE, frozen": Learner(ease, positives=True),
        "EASE, nightly": Learner(ease, "nightly", positives=True),
        "EASE, observe": Learner(ease, "observe", positives=True),
        "factors, frozen": Learner(factors, positives=True),
        "factors, nightly": Learner(factors, "nightly", positives=True),
        "factors, online": Learner(factors, "online", positives=True),
        "adaptive": Learner(
            AdaptiveRecommender(members, random_state=seed), "shown", positives=True
        ),
    }


def run_replay(options: argparse.Namespace) -> None:
    for data in options.data:
        log = cut(load(data), every=options.every)
        log = log.sort_values("timestamp", kind="stable").reset_index(drop=True)
        start = len(log) // 2
        for seed in options.seeds:
            for name, learner in replay_learners(seed).items():
                if options.only and name not in options.only:
                    continue
                clicks = replay(
                    learner, log, seed=seed, start=start, size=options.size, night=options.night
                )
                tenths = [part.mean() for part in np.array_split(clicks, 10)]
                keep(options, task=f"replay {data}", model=name, seed=seed, clicks=tenths)
                figures = {"clicks": clicks.mean(), "last_half": clicks[len(clicks) // 2 :].mean()}
                figures["seconds"] = learner.seconds
                row("replay", data, name, seed=seed, n_lists=len(clicks), **figures)


def keep(options: argparse.Namespace, *, clicks: Any, **names: Any) -> None:
    """Append a curve to the file of curves."""
    if options.curves is not None:
        with options.curves.open("a", encoding="utf-8") as file:
            file.write(json.dumps(names | {"clicks": [round(float(c), 4) for c in clicks]}) + "\n")


TASKS = {"simulated": run_simulated, "off-policy": run_off_policy, "replay": run_replay}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--data", nargs="+", default=["ml-100k"])
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--only", nargs="+", help="names of learners")
    parser.add_argument("--size", type=int, default=20, help="visits of a round of the replay")
    parser.add_argument("--every", type=int, default=1, help="every k-th user of the replay")
    parser.add_argument("--night", type=int, default=50, help="rounds between two nights there")
    parser.add_argument("--curves", type=Path)
    options = parser.parse_args(arguments)
    for task in options.task:
        TASKS[task](options)


if __name__ == "__main__":
    main()
