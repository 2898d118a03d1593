"""The leaderboard's protocol: training rows, queries, settings and metrics."""

import inspect
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.common import events as data
from benchmarks.leaderboard import bench_leaderboard as leaderboard
from benchmarks.leaderboard import grid, intervals, jobs, table, worker
from benchmarks.leaderboard import libraries as peers
from benchmarks.leaderboard.log import Log
from sklearn_recft.datasets import make_checkerboard

DAY = 86_400


@pytest.fixture
def events():
    """Forty users and thirty items over 600 minutes, ids as strings, times tied in pairs."""
    rng = np.random.default_rng(0)
    pairs = rng.choice(40 * 30, 600, replace=False)
    return pd.DataFrame(
        {
            "user_id": [f"u{pair // 30}" for pair in pairs],
            "item_id": [f"i{pair % 30}" for pair in pairs],
            "timestamp": np.repeat(np.arange(300), 2) * 60 + DAY,
        }
    ).sample(frac=1, random_state=0, ignore_index=True)


def pairs_of(frame):
    return set(zip(frame["user_id"], frame["item_id"], strict=True))


def relevant_pairs(task):
    taken = zip(task.queries, task.relevant, strict=True)
    return {(user, item) for user, items in taken for item in items}


def test_timeline_learns_the_past_only(events):
    validation, test = data.tasks(events, "timeline", exclude_seen=True)
    ordered = events.sort_values("timestamp", kind="stable")
    assert pairs_of(test.train) == pairs_of(ordered[:540])
    assert pairs_of(validation.train) == pairs_of(ordered[:486])
    when = events.set_index(["user_id", "item_id"])["timestamp"]
    for task in (validation, test):
        times = [when[pair] for pair in relevant_pairs(task)]
        assert min(times) > task.train["timestamp"].max()
    # What chooses never sees what is reported.
    assert max(when[p] for p in relevant_pairs(validation)) <= test.train["timestamp"].max()
    assert not relevant_pairs(test) & pairs_of(test.train)


def test_windows_are_tenths_before_the_test_part(events):
    ordered = events.sort_values("timestamp", kind="stable")
    first, second, last = data.windows(events, 3, exclude_seen=True)
    for part, n in ((first, 378), (second, 432), (last, 486)):
        assert pairs_of(part.train) == pairs_of(ordered[:n])
        assert relevant_pairs(part) <= pairs_of(ordered[n : n + 54])
    validation, _ = data.tasks(events, "timeline", exclude_seen=True)
    assert relevant_pairs(last) == relevant_pairs(validation)


def test_timeline_never_parts_what_happened_at_once(events):
    events["timestamp"] = events["timestamp"] // DAY * DAY + np.arange(600) // 100 * DAY
    _, test = data.tasks(events, "timeline", exclude_seen=True)
    assert len(test.train) == 500


def test_timeline_asks_users_of_both_sides(events):
    late = pd.DataFrame(
        {"user_id": ["new"], "item_id": ["i0"], "timestamp": [events["timestamp"].max() + 1]}
    )
    _, test = data.tasks(pd.concat([events, late]), "timeline", exclude_seen=True)
    assert "new" not in test.queries
    assert set(test.queries) <= set(test.train["user_id"])


def test_leave_last_out_tests_the_last_and_validates_the_one_before():
    events = pd.DataFrame(
        {
            "user_id": ["ann", "ann", "ann", "bob", "bob", "cem"],
            "item_id": ["tea", "milk", "rice", "milk", "tea", "salt"],
            "timestamp": [30, 10, 30, 1, 1, 5],
        }
    )
    validation, test = data.tasks(events, "leave-last-out", exclude_seen=True)
    # Ann's tea and rice are of one second: the order of the rows decides.
    assert relevant_pairs(test) == {("ann", "rice"), ("bob", "tea")}
    assert relevant_pairs(validation) == {("ann", "tea")}
    assert pairs_of(validation.train) == {("ann", "milk"), ("bob", "milk"), ("cem", "salt")}


def test_seen_items_are_relevant_only_where_they_stay_eligible():
    events = pd.DataFrame(
        {"user_id": ["ann"] * 4, "item_id": ["tea", "milk", "salt", "tea"], "timestamp": range(4)}
    )
    assert data.tasks(events, "leave-last-out", exclude_seen=True)[1].relevant == []
    [items] = data.tasks(events, "leave-last-out", exclude_seen=False)[1].relevant
    assert list(items) == ["tea"]


def test_purchases_leave_out_returns_unknown_customers_and_charges():
    rows = [
        (1, "85123A", 6, "a"),
        (1, "85123A", 2, "a"),  # a second line of the same invoice
        (1, "85123A", 1, "b"),  # bought again
        (1, "71053", -1, "c"),
        (None, "71053", 1, "d"),
        (2, "POST", 1, "e"),
    ]
    frame = pd.DataFrame(rows, columns=["user_id", "item_id", "quantity", "invoice_no"])
    kept = data.purchases(frame)
    assert kept["invoice_no"].tolist() == ["a", "b"]
    assert kept["item_id"].tolist() == ["85123A", "85123A"]


def test_judging_knows_the_answer():
    train = pd.DataFrame({"user_id": [1, 2], "item_id": ["tea", "milk"]})
    relevant = [np.array(["tea"]), np.array(["rice", "milk"])]
    task = data.Task(train, np.array([1, 2]), relevant, exclude_seen=True)
    scores = data.evaluate(task, [np.array(["milk", "tea"]), np.array([], dtype="<U4")])
    # Ann's tea stands second; bob was offered nothing.
    assert scores == pytest.approx(
        {"ndcg": 1 / np.log2(3) / 2, "recall": 0.5, "hit_rate": 0.5, "coverage": 1.0}
    )


@pytest.mark.parametrize("repeating", [False, True])
@pytest.mark.parametrize("model", grid.MODELS, ids=lambda model: f"{model.library} {model.name}")
def test_every_model_has_the_same_budget_and_a_function(model, repeating):
    tried = grid.settings(model, repeating)
    assert 1 <= len(tried) <= grid.BUDGET
    assert len({json.dumps(setting, sort_keys=True) for setting in tried}) == len(tried)
    assert tried == grid.settings(model, repeating)
    assert callable(getattr(peers, model.fit))
    if model.grid:
        assert len(tried) == grid.BUDGET
        for name, values in model.grid.items():
            assert {setting[name] for setting in tried} == set(values)
            known = inspect.signature(getattr(peers, model.fit)).parameters
            assert "setting" in known or name in known
        extra = {"once"} if repeating else set()
        assert all(set(setting) == {*model.grid, *extra} for setting in tried)


def test_cells_have_names_of_their_own():
    names = [(model.library, model.name) for model in grid.MODELS]
    assert len(set(names)) == len(names)


def test_edges_are_reported():
    tried = [
        {"reg": reg, "fade": fade, "bias": reg > 1}
        for reg, fade in zip((0, 1, 9), (None, 7, 30), strict=True)
    ]
    assert grid.at_edge({"reg": 9, "fade": 7, "bias": True}, tried) == ["reg"]
    assert grid.at_edge({"reg": 1, "fade": None, "bias": True}, tried) == []
    assert grid.at_edge({"reg": 0, "fade": None, "bias": False}, tried) == []


def log_of(exclude_seen):
    user, item = ["ann", "ann", "bob", "ann"], ["tea", "milk", "tea", "tea"]
    return Log.of(np.array(user), np.array(item), np.arange(4), exclude_seen, threads=1)


def test_log_counts_and_keeps_the_last_of_each_pair():
    log = log_of(exclude_seen=True)
    assert log.counts.toarray().tolist() == [[1, 2], [0, 1]]
    once = log.once()
    assert once.counts.toarray().tolist() == [[1, 1], [0, 1]]
    assert once.time.tolist() == [1, 2, 3]


def test_best_leaves_out_the_seen_and_ends_in_nothing():
    scores = np.array([[1.0, 1.0], [np.nan, 3.0]])
    users = np.array([0, 1])
    seen_out = log_of(exclude_seen=True).best(lambda block: scores[block], users, 3)
    assert seen_out.tolist() == [[-1, -1, -1], [-1, -1, -1]]
    seen_in = log_of(exclude_seen=False).best(lambda block: scores[block], users, 3)
    assert seen_in.tolist() == [[0, 1, -1], [1, -1, -1]]


@pytest.fixture
def checkerboard(monkeypatch):
    """Put users who like every second item, in the place of a data set."""
    X, y = make_checkerboard(20, 60, return_X_y=True)
    frame = pd.DataFrame(X[y > 0][:, :2], columns=["user_id", "item_id"])
    frame = frame.sample(frac=1, random_state=0, ignore_index=True)
    frame["timestamp"] = np.arange(len(frame)) * 60
    monkeypatch.setattr(leaderboard, "load", lambda name: frame)
    return ["--data", "ml-100k", "--protocol", "timeline", "--library", grid.OURS, "--threads", "1"]


@pytest.fixture
def in_this_process(monkeypatch):
    """Let the worker run here: to start a process takes longer than its work."""

    def finishes(command, options):
        worker.main(Path(command[-1]))
        return True

    monkeypatch.setattr(jobs, "finishes", finishes)


def test_a_cell_is_measured_once_and_shown(checkerboard, tmp_path, capsys):
    """Also after a run that was out of time, which costs that cell only."""
    command = [*checkerboard, "--model", "Popularity", "--output", str(tmp_path)]
    assert leaderboard.main([*command, "--limit", "0.001"]) == 1
    assert leaderboard.read(tmp_path)[0]["status"] == "timeout"
    assert leaderboard.main([*command, "--again"]) == 0
    assert leaderboard.main(command) == 0
    [file] = tmp_path.iterdir()
    _, line = [json.loads(text) for text in file.read_text().splitlines()]
    assert line["status"] == "done"
    assert table.latest(leaderboard.read(tmp_path)) == [line]
    assert line["test"][0]["ndcg"] > 0
    capsys.readouterr()
    assert leaderboard.main(["--table", "--output", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "## ml-100k, timeline" in shown
    assert f"{line['test'][0]['recall']:.4f}".removeprefix("0") in shown


@pytest.mark.usefixtures("in_this_process")
def test_what_wins_on_validation_is_reported(checkerboard, tmp_path, monkeypatch):
    # Eight factors learn the checkerboard; a single one that hardly moves does not.
    model = grid.Model(
        grid.OURS, "two", "ours_mf", stochastic=True,
        listed=({"n_factors": 1, "learning_rate": 1e-9, "max_epochs": 1}, {"n_factors": 8}),
    )  # fmt: skip
    monkeypatch.setattr(leaderboard, "MODELS", (model,))
    assert leaderboard.main([*checkerboard, "--output", str(tmp_path)]) == 0
    [line] = leaderboard.read(tmp_path)
    assert line["chosen"] == {"n_factors": 8}
    assert len(line["tried"]) == 2
    assert line["tried"][1]["ndcg"] > line["tried"][0]["ndcg"]
    assert [run["seed"] for run in line["test"]] == [0, 1, 2]


@pytest.mark.usefixtures("in_this_process")
def test_a_failing_library_is_reported(checkerboard, tmp_path, monkeypatch, capsys):
    model = grid.Model(grid.OURS, "wrong", "ours_popularity", listed=({"window": -1},))
    monkeypatch.setattr(leaderboard, "MODELS", (model,))
    assert leaderboard.main([*checkerboard, "--output", str(tmp_path)]) == 1
    [line] = leaderboard.read(tmp_path)
    assert (line["status"], "window" in line["error"]) == ("failed", True)
    capsys.readouterr()
    leaderboard.main(["--table", "--output", str(tmp_path)])
    assert "InvalidParameterError" in capsys.readouterr().out


def test_what_is_not_installed_leaves_no_line(checkerboard, tmp_path, monkeypatch):
    model = grid.Model(grid.OURS, "absent", "ours_absent")
    monkeypatch.setattr(leaderboard, "MODELS", (model,))
    monkeypatch.setattr(
        leaderboard, "work", lambda *arguments, **more: ([{"absent": "No module"}], False)
    )
    assert leaderboard.main([*checkerboard, "--output", str(tmp_path)]) == 0
    assert list(tmp_path.iterdir()) == []


def test_the_page_shows_the_tables_of_the_lines():
    lines = leaderboard.read(leaderboard.HERE)
    page = (leaderboard.HERE / "TABLES.md").read_text(encoding="utf-8")
    assert lines
    assert page == table.page(lines, intervals.table(intervals.read(leaderboard.HERE)))


def test_the_intervals_are_of_the_best_lines():
    """A new line that leads its table needs a new interval."""
    found = {intervals.cell(one): one for one in intervals.read(leaderboard.HERE)}
    pairs = intervals.leaders(leaderboard.read(leaderboard.HERE))
    assert set(found) == set(pairs)
    for cell, pair in pairs.items():
        assert intervals.is_of(pair, found[cell])
        for side in ("ours", "peer"):
            assert found[cell][side]["ndcg"] == pytest.approx(
                found[cell][side]["ndcg_of_the_line"], abs=1e-4
            )
        assert found[cell]["low"] < found[cell]["difference"] < found[cell]["high"]


def test_leaders_are_the_last_and_best_lines():
    def line(library, model, ndcg, status="done"):
        head = {"data": "toy", "protocol": "timeline", "library": library, "model": model}
        return head | {"status": status, "test": [{"ndcg": value} for value in ndcg]}

    lines = [
        line(grid.OURS, "a", [0.9]), line(grid.OURS, "a", [0.1, 0.3]), line(grid.OURS, "b", [0.15]),
        line("other", "c", [0.1]), line("other", "d", []) | {"status": "timeout"},
    ]  # fmt: skip
    [(ours, peer)] = intervals.leaders(lines).values()
    assert (ours["model"], peer["model"]) == ("a", "c")
    assert intervals.leaders(lines[:3]) == {}


def test_an_interval_is_that_of_the_mean_over_users():
    difference = np.random.default_rng(0).normal(0.1, 1, 400)
    low, high = intervals.of_users(difference)
    error = difference.std() / 20
    assert low == pytest.approx(difference.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(difference.mean() + 1.96 * error, abs=0.1 * error)


@pytest.mark.usefixtures("in_this_process")
def test_our_best_is_compared_with_the_best_peer(checkerboard, tmp_path, monkeypatch, capsys):
    """The peer is a model of ours here: its library needs no installation."""
    best = grid.Model(grid.OURS, "best", "ours_mf", listed=({"n_factors": 4},), stochastic=True)
    other = grid.Model("other", "popular", "ours_popularity", listed=({"window": 1},))
    for module in (leaderboard, intervals):
        monkeypatch.setattr(module, "MODELS", (best, other))
    monkeypatch.setattr(worker, "version", lambda distribution: "0")
    command = [*checkerboard[:4], "--threads", "1", "--output", str(tmp_path), "--seeds", "0", "1"]
    assert leaderboard.main(command) == 0
    capsys.readouterr()
    assert leaderboard.main([*command, "--intervals"]) == 0
    [found] = intervals.read(tmp_path)
    lines = {line["model"]: line for line in leaderboard.read(tmp_path)}
    assert [run["seed"] for run in lines["best"]["test"]] == [0, 1]
    for side, name in (("ours", "best"), ("peer", "popular")):
        assert found[side]["ndcg"] == pytest.approx(table.mean_of(lines[name], "ndcg"), abs=2e-5)
    gap = found["ours"]["ndcg"] - found["peer"]["ndcg"]
    assert found["difference"] == pytest.approx(gap, abs=2e-5)
    assert json.loads(capsys.readouterr().out) == found
    assert leaderboard.main([*command, "--intervals"]) == 0  # nothing is missing
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(leaderboard, "work", lambda *a, **more: ([{"absent": "No module"}], False))
    assert leaderboard.main([*command, "--intervals", "--again"]) == 1
    assert intervals.read(tmp_path) == [found]


@pytest.mark.usefixtures("in_this_process")
def test_a_blend_has_the_settings_of_its_members(checkerboard, tmp_path, monkeypatch, capsys):
    names = ("Popularity, recent", "ItemKNN, BM25")
    members = (
        grid.Model(grid.OURS, names[0], "ours_popularity", listed=({"half_life": 7},)),
        grid.Model(
            grid.OURS, names[1], "ours_bm25", listed=({"n_neighbors": 5}, {"n_neighbors": 9})
        ),
    )
    blend = grid.Model(
        grid.OURS, "Adaptive", "ours_adaptive", members=names, listed=({"learning_rate": 0.01},)
    )
    command = [*checkerboard, "--output", str(tmp_path)]
    monkeypatch.setattr(leaderboard, "MODELS", (blend,))
    assert leaderboard.main(command) == 0
    assert "members without a line" in capsys.readouterr().out
    monkeypatch.setattr(leaderboard, "MODELS", (*members, blend))
    assert leaderboard.main(command) == 0
    *singles, line = leaderboard.read(tmp_path)
    assert line["status"] == "done"
    assert line["members"] == {single["model"]: single["chosen"] for single in singles}
    assert line["chosen"] == {"learning_rate": 0.01}


@pytest.mark.usefixtures("in_this_process")
def test_the_mean_of_windows_chooses(checkerboard, tmp_path, monkeypatch):
    listed = ({"window": 1}, {"half_life": 1})
    model = grid.Model(grid.OURS, "popular", "ours_popularity", listed=listed)
    monkeypatch.setattr(leaderboard, "MODELS", (model,))
    command = [*checkerboard, "--windows", "3"]
    with pytest.raises(SystemExit, match="--output"):
        leaderboard.main(command)
    assert leaderboard.main([*command, "--output", str(tmp_path)]) == 0
    [line] = leaderboard.read(tmp_path)
    for run in line["tried"]:
        assert len(run["ndcg_by_window"]) == 3
        assert run["ndcg"] == pytest.approx(np.mean(run["ndcg_by_window"]), abs=1e-5)


@pytest.mark.parametrize("name", ["ItemKNN, cosine", "ItemKNN, BM25"])
def test_neighbours_have_the_similarity_of_their_name(name):
    setting = {"n_neighbors": 5}
    made = peers.estimator(name, log_of(exclude_seen=True), 0, setting)
    assert made.similarity == name.split(", ")[1].lower()
