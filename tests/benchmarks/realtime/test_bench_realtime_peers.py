"""The benchmark beside RecTools' SASRec: what is learned and queried, what the clock counts."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import sklearn_recft
from benchmarks.realtime import bench_realtime_peers as bench
from benchmarks.realtime import curve_worker

N_ITEMS = 40


@pytest.fixture
def events():
    """Twenty users take 6 to 25 of forty items, one takes two; times tied, ids as strings."""
    rng = np.random.default_rng(0)
    sizes = [*rng.integers(6, 26, 20), 2]
    users = np.repeat([f"u{user:02}" for user in range(21)], sizes)
    items = np.concatenate([rng.permutation(N_ITEMS)[:size] for size in sizes])
    frame = pd.DataFrame({"user_id": users, "item_id": [f"i{item:02}" for item in items]})
    frame["timestamp"] = rng.integers(0, 8, len(frame)) * 86_400
    return frame.sample(frac=1, random_state=0, ignore_index=True)


@pytest.fixture
def split(events):
    return bench.leave_two_out(bench.encode(events, None))


def rows(frame):
    return list(frame[bench.COLUMNS].itertuples(index=False, name=None))


def test_the_last_two_events_of_each_user_are_not_learned(events, split):
    log, truth = split
    codes = bench.encode(events, None)
    learned, next_one, tested, when = [], [], [], []
    for user in range(21):
        own = rows(codes[codes["user_id"] == user].sort_values("timestamp", kind="stable"))
        if len(own) < 3:
            learned += own
            continue
        learned += own[:-2]
        next_one.append(own[-2])
        tested.append(own[-1][1])
        when.append(own[-1][2])
    assert sorted(rows(log.learned)) == sorted(learned)
    assert log.learned["timestamp"].is_monotonic_increasing
    assert rows(log.next_one) == next_one
    assert truth["validation"].tolist() == [item for _, item, _ in next_one]
    assert truth["test"].tolist() == tested
    assert log.queries("test")["timestamp"].tolist() == when
    assert log.queries("validation")["timestamp"].tolist() == [t for _, _, t in next_one]


def test_the_process_does_not_get_the_test_items(split, tmp_path):
    log, truth = split
    log.write(tmp_path)
    with np.load(tmp_path / "log.npz") as saved:
        given = {(user, item) for name in ("learned", "next_one") for user, item, _ in saved[name]}
        assert set(saved) == {"learned", "next_one", "test_time"}
    pairs = set(zip(log.next_one["user_id"], truth["test"], strict=True))
    assert len(pairs) == 20
    assert not pairs & given
    read = curve_worker.Log.read(tmp_path)
    assert rows(read.learned) == rows(log.learned)
    assert rows(read.queries("test").assign(item_id=0)) == rows(
        log.queries("test").assign(item_id=0)
    )


def test_few_users_are_the_first_with_all_their_events(events):
    few = bench.encode(events, 3)
    whole = events[events["user_id"].isin(["u00", "u01", "u02"])]
    assert few["user_id"].tolist() == whole["user_id"].str[1:].astype(int).tolist()
    names = np.unique(whole["item_id"])
    assert names[few["item_id"]].tolist() == whole["item_id"].tolist()
    log, _ = bench.leave_two_out(few)
    assert set(log.few(2).learned["user_id"]) == set(log.few(2).next_one["user_id"]) == {0, 1}


def test_judging_knows_the_answer():
    lists = np.array([[3, 7, -1], [-1, -1, -1], [5, 1, 0]])
    # Second, never, first.
    assert bench.evaluate(np.array([7, 2, 5]), lists) == pytest.approx((1 / np.log2(3) + 1) / 3)


def test_batches_hold_the_events_of_as_many_users():
    users = [0] * 5 + [1] * 2 + [2] * 1
    log = curve_worker.Log(pd.DataFrame({"user_id": users}), None, None)
    assert bench.batch_of_events(log, 4) == round(128 * (4 + 2 + 1) / 3)


class Hours:
    """A clock that moves when it is given to."""

    now = 0.0

    def __call__(self):
        return self.now


def test_the_clock_stands_still_while_weights_are_copied():
    hours = Hours()
    layer = torch.nn.Linear(1, 1)
    copied = layer.state_dict

    def slowly():
        hours.now += 100
        return copied()

    layer.state_dict = slowly
    clock = curve_worker.Clock(hours)
    hours.now = 7.0
    clock.start()
    for value in (1.0, 2.0):
        hours.now += 3
        with torch.no_grad():
            layer.weight.fill_(value)
        clock.lap(layer)
    assert [seconds for seconds, _ in clock.laps] == [3, 6]
    assert [float(weights["weight"]) for _, weights in clock.laps] == [1, 2]
    assert clock.prepared == 7
    assert clock.n_weights == 2


class Epoch(torch.nn.Linear):
    """Has one weight, the epoch; a table of items that is made of it goes stale like any other."""

    def __init__(self):
        super().__init__(1, 1, bias=False)

    def catalogue(self):
        return int(self.weight)


class Standin:
    """Ranks unseen items from the one whose code is the epoch; knows no more."""

    fitted = []

    def __init__(self, *, n_jobs, random_state, net_params, max_epochs=3):
        self.callbacks, self.max_epochs = dict(net_params["callbacks"]), max_epochs

    def fit(self, X):
        Standin.fitted.append(rows(X))
        self.seen, self.module_ = X, Epoch()
        net = SimpleNamespace(module_=self.module_)
        curve = self.callbacks["curve"]
        curve.on_train_begin(net)
        for epoch in range(1, self.max_epochs + 1):
            with torch.no_grad():
                self.module_.weight.fill_(epoch)
            curve.on_epoch_end(net)
        network = SimpleNamespace(catalogue=self.module_.catalogue())
        self._model = SimpleNamespace(network=network)

    def observe(self, X):
        self.seen = pd.concat([self.seen, X])

    def recommend(self, X, *, n_recommendations):
        lists = [ranked(self._model.network.catalogue, self.seen, user) for user in X["user_id"]]
        return np.array([items[:n_recommendations] for items in lists]), None


def ranked(first, seen, user):
    """Items from ``first`` on, round the catalogue, without those the user has taken."""
    taken = set(seen.loc[seen["user_id"] == user, "item_id"])
    order = [(first + place) % N_ITEMS for place in range(N_ITEMS)]
    return [item for item in order if item not in taken]


def test_each_epoch_is_asked_with_its_own_weights_and_history(split, tmp_path, monkeypatch):
    monkeypatch.setattr(sklearn_recft, "RealtimeTransformerRecommender", Standin)
    monkeypatch.setattr(Standin, "fitted", [])
    log, truth = split
    options = bench.parse(["--only", "defaults", "--threads", "1"])
    job = bench.job_of("defaults", log, options)
    head, *lines = curve_worker.run(job, log, tmp_path)
    assert head["n_weights"] == 1
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert Standin.fitted == [rows(log.few(curve_worker.WARM_UP).learned), rows(log.learned)]
    known = {"validation": log.learned, "test": pd.concat([log.learned, log.next_one])}
    for line in lines:
        scores = {}
        with np.load(tmp_path / f"{line['epoch']}.npz") as saved:
            for part, seen in known.items():
                lists = [ranked(line["epoch"], seen, user)[:10] for user in range(20)]
                assert saved[part].tolist() == lists
                scores[f"ndcg_{part}"] = round(bench.evaluate(truth[part], np.array(lists)), 5)
        assert bench.evaluated(line, truth, tmp_path) == line | scores


def test_weights_of_an_epoch_are_those_of_a_fit_that_ends_there(split):
    log, _ = split
    lists = {}
    for epochs in (1, 2):
        options = bench.parse(["--epochs", str(epochs), "--threads", "1", "--length", "8"])
        clock = curve_worker.Clock()
        query = curve_worker.ours(log, bench.job_of("matched", log, options), clock)
        assert len(clock.laps) == epochs
        for part in curve_worker.PARTS:
            lists[epochs, part] = [query(weights, part) for _, weights in clock.laps]
    for part in curve_worker.PARTS:
        assert lists[1, part][0].tolist() == lists[2, part][0].tolist()
        assert lists[2, part][0].tolist() != lists[2, part][1].tolist()


def test_the_validation_event_is_known_to_the_test_query_alone(split):
    log, _ = split
    options = bench.parse(["--epochs", "1", "--threads", "1", "--length", "8"])
    job = bench.job_of("matched", log, options)
    moved = log.next_one.assign(item_id=log.next_one["item_id"].to_numpy()[::-1])
    lists = {}
    for name, next_one in (("true", log.next_one), ("moved", moved)):
        given = curve_worker.Log(log.learned, next_one, log.test_time)
        clock = curve_worker.Clock()
        query = curve_worker.ours(given, job, clock)
        for part in curve_worker.PARTS:
            lists[name, part] = query(clock.laps[-1][1], part)
    assert lists["true", "validation"].tolist() == lists["moved", "validation"].tolist()
    assert lists["true", "test"].tolist() != lists["moved", "test"].tolist()
    own = log.next_one["item_id"].to_numpy()[:, None]
    assert not (lists["true", "test"] == own).any()


@pytest.mark.parametrize(("model", "given"), [("matched", False), ("defaults", True)])
def test_only_the_defaults_use_times(split, model, given):
    log, _ = split
    job = bench.job_of(model, log, bench.parse(["--epochs", "1", "--threads", "1"]))
    # Of the same order.
    learned = log.learned.assign(timestamp=np.arange(len(log.learned)) ** 2 * 60)
    late = learned["timestamp"].max() + 60
    other = curve_worker.Log(learned, log.next_one.assign(timestamp=late), log.test_time + late)
    lists = []
    for known in (log, other):
        clock = curve_worker.Clock()
        query = curve_worker.ours(known, job, clock)
        lists.append([query(clock.laps[-1][1], part).tolist() for part in curve_worker.PARTS])
    assert (lists[0] != lists[1]) == given


def test_a_level_costs_the_seconds_of_the_first_epoch_that_has_it():
    def line(seconds, validation, test):
        return {"train_seconds": seconds, "ndcg_validation": validation, "ndcg_test": test}

    curves = {
        "matched": [line(2, 0.04, 0.04), line(4, 0.12, 0.1), line(6, 0.11, 0.11)],
        "defaults": [line(8, 0.01, 0.01)],
        "rectools": [line(20, 0.06, 0.02), line(40, 0.1, 0.1)],
    }
    given = bench.summary(curves, 0.1, "test")
    assert given["seconds"] == {"matched": 4, "defaults": None, "rectools": 40}
    assert given["times_as_fast"] == {"matched": 10.0, "defaults": None}
    given = bench.summary(curves, 0.12, "validation")
    assert given["seconds"] == {"matched": 4, "defaults": None, "rectools": None}
    assert given["times_as_fast"] == {"matched": None, "defaults": None}
    # Without the peer there is nothing to be faster than.
    del curves["rectools"]
    assert bench.summary(curves, 0.1, "test")["times_as_fast"] == {
        "matched": None,
        "defaults": None,
    }


def test_sizes_are_the_same_for_both(split):
    log, _ = split
    options = bench.parse(["--length", "50", "--epochs", "4"])
    ours, theirs = (bench.job_of(model, log, options) for model in ("matched", "rectools"))
    mine, peers = ours["setting"], theirs["setting"]
    names = {
        "n_layers": "n_blocks", "n_heads": "n_heads", "width": "n_factors",
        "dropout": "dropout_rate",
    }  # fmt: skip
    assert all(mine[name] == peers[theirs] for name, theirs in names.items())
    assert mine["training"]["learning_rate"] == peers["lr"]
    assert mine["max_history"] == peers["session_max_len"] == 50
    assert mine["max_epochs"] == peers["epochs"] == 4
    assert bench.job_of("defaults", log, options)["setting"] == {"max_epochs": 4}
    assert bench.job_of("defaults", log, bench.parse([]))["setting"] == {}


@pytest.fixture
def shop(events, monkeypatch):
    monkeypatch.setattr(bench, "load", lambda name: events)


def printed(capfd):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    lines = capfd.readouterr().out.splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def script_of(folder, *lines):
    """Write what stands in for an interpreter of Python; its fifth argument is the folder."""
    script = folder / "interpreter"
    script.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    script.chmod(0o755)
    return str(script)


def test_the_process_answers_with_the_curve(shop, split, capfd, tmp_path):
    options = ["--only", "matched", "--epochs", "2", "--threads", "1", "--length", "8"]
    log, _ = split
    log.write(tmp_path)
    (tmp_path / "job.json").write_text(
        json.dumps(bench.job_of("matched", log, bench.parse(options)))
    )
    assert curve_worker.main(tmp_path) == 0  # in this process, which has imported everything
    (tmp_path / "said").write_text(capfd.readouterr().out)
    script = script_of(
        tmp_path,
        f'cmp "$5/job.json" {tmp_path}/job.json && cmp "$5/log.npz" {tmp_path}/log.npz || exit 9',
        f'cp {tmp_path}/1.npz {tmp_path}/2.npz "$5"; exec cat {tmp_path}/said',
    )
    assert bench.main([*options, "--python", f"sklearn-recft={script}"]) == 0
    _, head, first, second, *levels = printed(capfd)
    assert (head["library"], head["version"] != "") == ("sklearn-recft", True)
    assert head["setting"]["max_epochs"] == 2
    assert head["setting"]["training"]["clip"] == "Infinity"
    assert [line["epoch"] for line in (first, second)] == [1, 2]
    assert 0 < first["train_seconds"] < second["train_seconds"]
    assert all(0 <= line[f"ndcg_{part}"] <= 1 for line in (first, second) for part in bench.PARTS)
    assert len(levels) == 2 * len(bench.LEVELS)


def test_a_failing_library_is_reported(shop, capfd, tmp_path):
    # Without torch it fails, where it is there at all; and the process starts quickly.
    (tmp_path / "torch.py").write_text("def set_num_threads(n_threads): pass")
    options = ["--only", "rectools", "--threads", "1"]
    command = f'PYTHONPATH="{tmp_path}:$PYTHONPATH" exec {sys.executable} "$@"'
    script = script_of(tmp_path, command)
    assert bench.main([*options, "--python", f"rectools={script}"]) == 1
    head, line, *levels = printed(capfd)
    assert head["n_users"] == 20
    assert line["model"] == "rectools"
    assert "Error" in line["failed"]
    assert len(levels) == 2 * len(bench.LEVELS)
    assert levels[0]["seconds"] == {"rectools": None}


def test_a_process_that_dies_is_reported(shop, split, tmp_path):
    log, truth = split
    job = bench.job_of("rectools", log, bench.parse([]))
    [line] = bench.curve(job, log, truth, script_of(tmp_path, "exit 9"))
    assert line == {"failed": "the process died with 9"}
