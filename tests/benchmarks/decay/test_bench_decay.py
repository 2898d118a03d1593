"""The benchmark of the decay model on a few hundred rows: what each may know, what it prints."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.decay import baselines, bench_decay, cost
from benchmarks.decay import log as logs
from sklearn_recft.datasets import make_interactions

DAY = 86_400


def make_model(backbone, seed, *settings):
    """Make the model of the benchmark, which learns in fewer steps."""
    return logs.make_model(backbone, seed, {"net_params": {"batch_size": 256}}, *settings)


@pytest.fixture(scope="module", autouse=True)
def few_steps():
    with pytest.MonkeyPatch.context() as patch:
        for room in (bench_decay, cost):
            patch.setattr(room, "make_model", make_model)
        yield


@pytest.fixture(scope="module")
def log():
    """Six hundred ratings of 30 items by 20 users, times tied in pairs."""
    drawn = make_interactions(20, 30, 600, noise=0.5, random_state=0)
    users, items, _ = drawn.data.T
    rating = np.clip(np.round(drawn.target + 0.7), 1, 5)
    colours = ["red", "green", "blue"]
    texts = np.array([f"number {i} of {colours[i % 3]}" for i in range(30)], object)
    X = pd.DataFrame(
        {
            "user_id": users, "item_id": items, "timestamp": np.repeat(np.arange(300), 2) * DAY,
            "text": texts[items], "rating": rating,
        }
    )  # fmt: skip
    catalogue = pd.DataFrame({"item_id": np.arange(30), "text": texts})
    return logs.Log("tiny", X, (rating >= 4).astype(np.int64), catalogue)


@pytest.fixture(scope="module")
def short_log(log):
    """Its first half, where many models are trained."""
    return logs.Log(log.name, log.X[:300], log.y[:300], log.catalogue)


def changed(log, rows):
    """Return the log with other ratings and labels in these rows."""
    X, y = log.X.copy(), log.y.copy()
    y[rows] = 1 - y[rows]
    X.loc[X.index[rows], "rating"] = np.where(y[rows] == 1, 5.0, 1.0)
    return logs.Log(log.name, X, y, log.catalogue)


def printed(capsys):
    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    lines = capsys.readouterr().out.splitlines()
    return [json.loads(line, parse_constant=refuse) for line in lines]


def test_user_aucs_are_those_of_each_user_with_both_labels():
    rng = np.random.default_rng(0)
    users, y = rng.integers(0, 30, 200), rng.integers(0, 2, 200)
    scores = rng.integers(0, 5, 200).astype(float)
    groups = [users == user for user in np.unique(users)]
    wanted = [roc_auc_score(y[own], scores[own]) for own in groups if len(set(y[own])) == 2]
    assert 0 < len(wanted) < len(groups) + 1
    np.testing.assert_allclose(logs.user_aucs(users, y, scores), wanted)


def test_the_judge_tells_validation_from_test(log):
    rest = log.y[log.start :]
    n = log.middle - log.start
    predicted = np.r_[rest[:n], 1 - rest[n:]] * 0.8 + 0.1
    found = logs.evaluate(log, predicted)
    assert (found["validation_auc"], found["auc"], found["user_auc"]) == (1, 0, 0)


BASELINES = ["rates", "trees", "factorizations", "factorizations_of_ratings", "words"]
BASELINES += ["factorization_in_chunks"]


@pytest.mark.parametrize("baseline", [*BASELINES, "ours"])
def test_no_contender_knows_a_label_before_its_time(log, baseline):
    """Labels from a row on are turned round: nothing predicted of rows up to it may change."""
    from_row = log.start + 40
    if baseline == "ours":

        def contender(log, seed):
            return bench_decay.ours(log, seed, None)
    else:
        contender = getattr(baselines, baseline)
    first = dict(contender(log, 0))
    other = dict(contender(changed(log, slice(from_row, None)), 0))
    n = from_row - log.start
    moved = 0
    for label, predicted in first.items():
        assert predicted.shape == (len(log.y) - log.start,), label
        assert ((predicted > 0) & (predicted < 1)).all(), label
        np.testing.assert_array_equal(predicted[: n + 1], other[label][: n + 1], err_msg=label)
        moved += (predicted != other[label]).any()
    assert moved > 0


def test_of_one_time_no_row_knows_another_where_ties_are_excluded(log):
    first = log.start + 40  # of a pair
    other = changed(log, slice(first, first + 1))
    for name in ("rates", "factorizations", "factorizations_of_ratings"):
        before, after = (dict(getattr(baselines, name)(these, 0)) for these in (log, other))
        for label, predicted in before.items():
            if "excluded" in label or "rate, streaming" in label:
                np.testing.assert_array_equal(predicted[:42], after[label][:42])
                assert (predicted[42:] != after[label][42:]).any()
            elif "ties" in label:
                assert predicted[41] != after[label][41]


def test_without_the_outcome_nobody_reads_ratings(log):
    assert "rating" not in log.columns(None)
    assert "rating" in log.columns("rating")


def test_quality_prints_a_line_a_model(short_log, capsys):
    bench_decay.quality(short_log, (0, 1), "scratch")
    lines = {line["model"]: line for line in printed(capsys)}
    assert len(lines) == 28
    assert lines["ours, partial_fit"]["n_seeds"] == 2
    assert lines["item like-rate, frozen"]["n_seeds"] == 1
    assert all(0 < line["auc"] < 1 and line["log_loss"] > 0 for line in lines.values())


def test_hidden_items_are_asked_and_never_learned(log, capsys, monkeypatch):
    hidden_ids = np.random.default_rng(0).permutation(30)[:3]
    queried, learned = [], []
    make = bench_decay.make_model

    def spied(*args, **params):
        model = make(*args, **params)
        for verb, rows in (("predict_proba", queried), ("partial_fit", learned), ("fit", learned)):
            monkeypatch.setattr(model, verb, spy(getattr(model, verb), rows), raising=False)
        return model

    def spy(verb, rows):
        def call(X, *args, **named):
            rows.append((X, verb.__self__))
            return verb(X, *args, **named)

        return call

    monkeypatch.setattr(bench_decay, "make_model", spied)
    bench_decay.cold(log, (0,), "scratch")
    assert all(not X["item_id"].isin(hidden_ids).any() for X, _ in learned)
    tested = log.X[log.middle :]
    tested = tested[tested["item_id"].isin(hidden_ids)]
    for model in {id(model): model for _, model in queried}.values():
        own = pd.concat([X for X, its in queried if its is model])
        pd.testing.assert_frame_equal(own, tested)
        codes = model._model.items.encode(hidden_ids)
        assert (codes >= 0).all()  # registered
        assert not model._model.features.tables.arrays()["items"][codes].any()  # not counted
    lines = printed(capsys)
    assert [line["n_rows"] for line in lines] == [len(tested)] * 5


def test_labels_of_hidden_items_teach_no_baseline(log):
    hidden = log.X["item_id"].isin([0, 1, 2]).to_numpy()
    first = dict(baselines.cold_baselines(log, hidden))
    other = dict(baselines.cold_baselines(changed(log, hidden), hidden))
    seen = dict(baselines.cold_baselines(changed(log, ~hidden), hidden))
    for label, predicted in first.items():
        np.testing.assert_array_equal(predicted, other[label])
        assert (predicted != seen[label]).any()


def test_ablation_changes_what_it_says(short_log, capsys):
    bench_decay.ablation(short_log, (0,), "scratch")
    lines = {line["model"]: line for line in printed(capsys)}
    assert len(lines) == 15
    assert lines["decay: none"]["half_lives"] == [None] * 4
    assert len(lines["n_heads=8"]["half_lives"]) == 8
    fixed = lines["decay: fixed half-lives"]["half_lives"]
    assert fixed[0] == 0.02
    assert fixed != lines["default"]["half_lives"]
    assert "1 epoch, top 2 of 2 layers trained" in lines


def test_planted_stands_beside_the_truth(capsys, monkeypatch):
    assert len(bench_decay.RULES) == 4
    rules = {name: bench_decay.RULES[name] for name in ("exponential", "none")}
    monkeypatch.setattr(bench_decay, "RULES", rules)
    bench_decay.planted((0,), half_lives=(3,), n_interactions=1500)
    lines = {line["model"]: line for line in printed(capsys)}
    assert len(lines) == 2 + 2 * 2
    least = min(line["log_loss"] for line in lines.values())
    assert lines["truth"]["log_loss"] == least
    assert len(lines["exponential"]["half_lives"]) == 4


def test_cost_is_counted(log):
    found = cost.measure(log, "scratch", 0)
    assert found["n_rows"] == 480
    assert found["n_items"] == 30
    epoch = np.median(found["epoch_seconds"])
    assert found["rows_per_second_training"] == pytest.approx(480 / epoch)
    assert all(np.min(figure) > 0 for figure in found.values())


def test_a_recipe_without_a_folder_is_refused():
    with pytest.raises(SystemExit, match="folder"):
        cost.cost("ml-100k", 100, "scratch", 5.0, 0)


def test_a_grid_counts_the_texts_that_are_read(short_log, capsys, monkeypatch):
    monkeypatch.setattr(cost, "in_fresh_process", lambda function, *args: function(*args))
    cost.grid(short_log, "scratch", 0, n_jobs=None)
    frozen, both = printed(capsys)
    assert (frozen["n_fits"], both["n_fits"]) == (8, 16)
    assert frozen["n_processes"] == 1
    # In one process the fits count with the refit; a random backbone is read anew by each.
    assert frozen["n_encoded_by_refit"] == frozen["n_encoded_frozen"] + frozen["n_texts"]
    assert frozen["n_fits_frozen_that_read"] == both["n_fits_frozen_that_read"] == 8
    assert both["n_encoded_frozen"] == frozen["n_encoded_frozen"]
    assert both["n_encoded_trained"] > 0
