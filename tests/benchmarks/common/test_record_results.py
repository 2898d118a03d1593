"""The script that records results: what it records, and which differences it finds."""

import inspect

import numpy as np
import pytest

import sklearn_recft
from benchmarks.common import record_results
from benchmarks.common.record_arrays import Store, compare
from benchmarks.common.record_cases import Case
from benchmarks.common.record_stages import record_case

SMALL = {"n_fit": 300, "n_stream": 60, "n_late": 20, "n_users": 5}
TINY = Case("tiny", "BiasRecommender", {"damping": 5.0}, **SMALL)


@pytest.fixture(scope="module")
def arrays():
    return record_case(TINY)


def test_every_estimator_has_cases_and_every_parameter_is_given():
    cases = record_results.cases()
    names = [case.name for case in cases]
    assert len(set(names)) == len(names)
    estimators = {name for name in sklearn_recft.__all__ if name.endswith("Recommender")}
    assert {case.estimator for case in cases} == estimators
    nested = {"training", "net_params"}  # of a net alone
    for case in cases:
        known = inspect.signature(getattr(sklearn_recft, case.estimator)).parameters
        assert set(known) - nested == set(case.params) - nested, case.name


def test_a_second_record_is_identical(arrays, capsys):
    assert compare(arrays, record_case(TINY)) == 0
    assert f"{len(arrays)} identical" in capsys.readouterr().out
    stages = {key.split("/")[1] for key in arrays}
    assert {"fit", "pickled", "learned", "first_partial_fit", "global"} <= stages


def test_another_parameter_is_a_difference(arrays, capsys):
    other = record_case(Case("tiny", "BiasRecommender", {"damping": 6.0}, **SMALL))
    assert compare(arrays, other, quiet=True) == 1
    out = capsys.readouterr().out
    assert "different: tiny/fit/predict: max abs difference" in out
    assert "identical: " not in out


def test_the_last_digit_is_a_difference(arrays, capsys):
    key = "tiny/fit/predict"
    moved = arrays | {key: np.nextafter(arrays[key], np.inf)}
    assert compare(arrays, moved, quiet=True) == 1
    assert f"different: {key}" in capsys.readouterr().out


def test_a_renamed_array_is_one_unless_it_is_allowed(arrays, capsys):
    other = {key.replace("fit/predict_one", "fit/single"): array for key, array in arrays.items()}
    assert compare(arrays, other) == 1
    assert compare(arrays, other, allow_renamed=True) == 0
    assert "renamed: tiny/fit/predict_one -> tiny/fit/single" in capsys.readouterr().out
    del other["tiny/fit/single"]
    assert compare(arrays, other, allow_renamed=True) == 1
    assert "only in A: tiny/fit/predict_one" in capsys.readouterr().out


def test_large_arrays_are_kept_as_digest_and_sample():
    first, second = Store(), Store()
    values = np.arange(100_000.0)
    first.put("case/fit/table", values)
    values[77_777] += 1e-9
    second.put("case/fit/table", values)
    assert sum(array.size for array in first.arrays.values()) < 10_000
    assert compare(first.arrays, second.arrays) == 1
    with pytest.raises(KeyError, match="twice"):
        first.put("case/fit/table", values)


def test_a_failing_case_is_recorded_and_a_difference(tmp_path, capsys, monkeypatch):
    wrong = Case("wrong", "BiasRecommender", {"damping": -1.0}, **SMALL)
    monkeypatch.setattr(record_results, "cases", lambda: [TINY, wrong])
    path = str(tmp_path / "record.npz")
    assert record_results.main([path]) == 1
    assert record_results.main(["--compare", path, path]) == 1
    assert "error: wrong/ERROR: InvalidParameterError" in capsys.readouterr().out
    assert record_results.main([path, "--only", "ti*"]) == 0
    assert record_results.main(["--compare", path, path]) == 0
