"""Texts of behaviour against the slow and obvious way, and against time running backwards."""

import pickle
import zlib

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from sklearn_recft.preprocessing import BehaviorText

HOUR, DAY = 3600, 86_400
WORDS = ["", "  ", "tea", "oat  milk", "rice\n"]
# Few users, items and instants: ties and repeats are the rule.
events = st.tuples(
    st.integers(0, 2), st.integers(0, 4), st.integers(0, 6), st.sampled_from(WORDS), st.booleans()
)
logs = st.lists(events, min_size=1, max_size=25)


def table(log):
    columns = ["user_id", "item_id", "timestamp", "text", "liked"]
    frame = pd.DataFrame(log, columns=columns)
    frame["timestamp"] *= 1.7 * HOUR  # a few hours, some of which make a day only together
    return frame.drop(columns="liked"), frame["liked"].astype(int)


def age(seconds):
    days = seconds / DAY
    for unit, length in {"year": 365, "month": 30, "week": 7, "day": 1, "hour": 1 / 24}.items():
        if days + 1e-9 >= length:
            count = int(days / length + 1e-9)
            return f"{count} {unit}s ago" if count > 1 else f"1 {unit} ago"
    minutes = int(seconds / 60 + 1e-9)
    return f"{minutes} minutes ago" if minutes > 1 else "1 minute ago" if minutes else "moments ago"


def item_text(row, rows):
    """Words of a row's item: its own, or the first ever met before it, or the id."""
    if row["text"].strip():
        return " ".join(row["text"].split())
    earlier = [r for r in rows if r["timestamp"] < row["timestamp"] and r["text"].strip()]
    of_item = [r for r in earlier if r["item_id"] == row["item_id"]]
    of_item.sort(key=lambda r: r["timestamp"])
    return " ".join(of_item[0]["text"].split()) if of_item else str(row["item_id"])


def slow(row, rows, max_history):
    """Text of `row` after `rows` (dicts with "y"), by looking through all of them."""
    past = [r for r in rows if r["user_id"] == row["user_id"]]
    past = [r for r in past if r["timestamp"] < row["timestamp"]]
    past.sort(key=lambda r: r["timestamp"])
    said = []
    for event in past[::-1][:max_history]:
        how = "liked" if event["y"] else "disliked"
        ago = age(row["timestamp"] - event["timestamp"])
        said.append(f"{how} {ago}: {item_text(event, rows)}")
    return "; ".join([*said, f"now: {item_text(row, rows)}"])


def dicts(X, y):
    return X.assign(y=y).to_dict("records")


@given(logs, st.integers(1, 4))
@settings(deadline=None)
def test_every_row_is_told_what_was_strictly_before_it(log, max_history):
    X, y = table(log)
    rows = dicts(X, y)
    told = BehaviorText(max_history=max_history).fit_transform(X, y)
    assert told.tolist() == [slow(row, rows, max_history) for row in rows]


@given(logs, st.integers(1, 4), st.integers(0, 25), st.integers(0, 25), st.integers(0, 3))
@settings(deadline=None)
def test_bounded_memory_forgets_nothing_that_is_asked(log, max_history, cut, cut_2, later):
    """Whatever parts the log arrives in, late or not, for every instant from the latest on."""
    log = [(user, item, time, "tea", liked) for user, item, time, _, liked in log]
    X, y = table(log)
    model = BehaviorText(max_history=max_history)
    first, last = sorted((cut, cut_2))
    for part in (slice(0, first), slice(first, last), slice(last, None)):
        if len(X[part]):
            model.partial_fit(X[part], y[part])
    asked = X.groupby("user_id", as_index=False)["timestamp"].max()
    asked["timestamp"] += later * 0.9 * DAY
    asked = asked.assign(item_id=9, text="rice")
    rows = [slow(row, dicts(X, y), max_history) for row in asked.to_dict("records")]
    assert model.transform(asked).tolist() == rows


@given(logs, st.integers(1, 3), st.integers(0, 7))
@settings(deadline=None)
def test_rows_further_back_are_told_less_and_nothing_from_later(log, max_history, time):
    log = [(0, item, at, "tea", liked) for _, item, at, _, liked in log]
    X, y = table(log)
    asked = table([(0, 9, time, "rice", True)])[0]
    told = BehaviorText(max_history=max_history).fit(X, y).transform(asked)[0].split("; ")
    (row,) = asked.to_dict("records")
    all_of_it = slow(row, dicts(X, y), max_history).split("; ")
    assert told == [*all_of_it[: len(told) - 1], "now: rice"]


@given(logs, st.data())
@settings(deadline=None)
def test_nothing_at_or_after_a_row_changes_its_text(log, data):
    X, y = table(log)
    row = data.draw(st.integers(0, len(X) - 1))
    told = BehaviorText().fit_transform(X, y)[row]
    other_X, other_y = table([(0, 0, 0, "another", not liked) for *_, liked in log])
    other_X["timestamp"] = X["timestamp"]
    free = (X["timestamp"] >= X.loc[row, "timestamp"]) & (X.index != row)
    changed = X.where(~free, other_X)
    feedback = y.where(~(free | (X.index == row)), other_y)  # its own feedback too
    assert BehaviorText().fit_transform(changed, feedback)[row] == told


@given(logs, logs)
@settings(deadline=None)
def test_a_row_is_told_the_same_alone_and_among_others(log, asked):
    model = BehaviorText().fit(*table(log))
    X, _ = table(asked)
    state = pickle.dumps(model)
    together = model.transform(X)
    assert together.tolist() == [model.transform(X[i : i + 1])[0] for i in range(len(X))]
    assert pickle.dumps(model) == state


@given(logs)
@settings(deadline=None)
def test_memory_is_bounded(log):
    model = BehaviorText(max_history=2)
    for _ in range(3):
        model.partial_fit(*table(log))
    for past in model._memory.past.values():
        assert len(past.before) <= 2
        assert 1 <= len(past.latest) <= 2


class AsNumbers(BehaviorText, auto_wrap_output_keys=None):
    """The same with a number for each text, because scikit-learn compares by subtraction."""

    def fit_transform(self, X, y=None):
        return as_numbers(super().fit_transform(X, y))

    def transform(self, X):
        return as_numbers(super().transform(X))


def as_numbers(texts):
    return np.array([[zlib.crc32(text.encode())] for text in texts], float)


@pytest.mark.parametrize("model", [AsNumbers(), AsNumbers(max_history=1, liked_from=None)])
def test_all_of_scikit_learns_checks_pass_where_texts_can_be_compared(model):
    results = check_estimator(model, on_skip=None)
    assert {result["status"] for result in results} == {"passed"}
    assert len(results) >= 45


def test_ages_in_words():
    seconds = [0.0, 59, 60, 150, HOUR, 47 * HOUR, 2 * DAY, 7 * DAY, 29 * DAY, 30 * DAY, 800 * DAY]
    words = [
        "moments ago", "1 minute ago", "2 minutes ago", "1 hour ago", "1 day ago", "2 days ago",
        "1 week ago", "4 weeks ago", "1 month ago", "2 years ago",
    ]  # fmt: skip
    model = BehaviorText().fit([["ann", "tea", 0]])
    told = model.transform([["ann", "rice", s] for s in seconds])
    assert told[0] == "now: rice"  # the same instant is not before
    assert [text.split(":")[0] for text in told[1:]] == words


def test_feedback_in_words():
    X = [["ann", "tea", 0], ["ann", "rice", DAY], ["ann", "milk", 2 * DAY]]
    row = [["ann", "oats", 3 * DAY]]
    stars = BehaviorText(liked_from=4).fit(X, [4, 3, 5]).transform(row)
    assert stars == ["liked 1 day ago: milk; disliked 2 days ago: rice; liked 3 days ago: tea; "
                     "now: oats"]  # fmt: skip
    without = ["1 day ago: milk; 2 days ago: rice; 3 days ago: tea; now: oats"]
    assert BehaviorText().fit(X).transform(row) == without
    assert BehaviorText(liked_from=None).fit(X, ["yes", "no", "yes"]).transform(row) == without
    some = BehaviorText().fit(X[:2], [1, 0]).partial_fit(X[2:]).transform(row)
    assert some == ["1 day ago: milk; disliked 2 days ago: rice; liked 3 days ago: tea; now: oats"]


def test_without_timestamps_the_order_of_rows_is_that_of_time():
    X = [["ann", "tea"], ["bob", "rice"], ["ann", "milk"]]
    model = BehaviorText()
    told = model.fit_transform(X, [1, 0, 1])
    assert told.tolist() == ["now: tea", "now: rice", "liked: tea; now: milk"]
    model.partial_fit([["ann", "oats"]])
    assert model.transform([["ann", "tea"], ["cem", "tea"]]).tolist() == [
        "before: oats; liked: milk; liked: tea; now: tea",
        "now: tea",
    ]


def test_timestamps_may_be_left_out_of_what_is_asked_but_not_of_what_is_learned():
    X = pd.DataFrame({"user_id": ["ann"], "item_id": ["tea"], "timestamp": [5.0]})
    model = BehaviorText().fit(X)
    assert model.transform(X.drop(columns="timestamp")) == ["before: tea; now: tea"]
    with pytest.raises(ValueError, match="timestamp: fit had it, this X has none"):
        model.partial_fit(X.drop(columns="timestamp"))
    model = BehaviorText().fit(X.drop(columns="timestamp"))
    assert model.transform(X) == ["before: tea; now: tea"]
    with pytest.raises(ValueError, match="timestamp: fit had none, this X has it"):
        model.partial_fit(X)


def frame(texts, users=None, start=0):
    n = len(texts)
    times = np.arange(start, start + n) * float(DAY)
    return pd.DataFrame(
        {"user_id": users or ["ann"] * n, "item_id": range(n), "timestamp": times, "text": texts}
    )


@pytest.mark.parametrize("missing", [None, float("nan"), "", " \n\t "])
def test_missing_and_blank_texts(missing):
    model = BehaviorText()
    assert model.fit_transform(frame([missing, "tea"])).tolist() == [
        "now: 0",
        "1 day ago: 0; now: tea",
    ]
    again = frame(["tea", missing], start=2).assign(item_id=[0, 1])
    assert model.transform(again).tolist()[1].endswith("; now: tea")  # item 1 was met as tea


def test_an_item_without_text_is_told_as_when_first_met():
    model = BehaviorText().fit(frame(["green tea", "rice"]))
    later = frame(["black tea"], start=2)
    assert model.transform(later)[0].endswith("now: black tea")
    model.partial_fit(later)
    asked = later.drop(columns="text").assign(timestamp=9.0 * DAY)
    assert model.transform(asked)[0].endswith("now: green tea")
    assert model.transform(asked.assign(item_id=77))[0].endswith("now: 77")


def test_an_endless_text_leaves_room_for_the_row_itself():
    model = BehaviorText(max_characters=30)
    told = model.fit_transform(frame(["tea " * 2500, "x" * 10_000, "rice"]))
    assert told[1] == f"1 day ago: {'tea ' * 7}te; now: {'x' * 30}"
    assert told[2] == f"1 day ago: {'x' * 30}; 2 days ago: {'tea ' * 7}te; now: rice"


def test_any_script():
    texts = ["绿茶", "شاي أخضر", "зелёный чай", "🍵 é"]
    told = BehaviorText().fit_transform(frame(texts))
    assert told[3] == f"1 day ago: {texts[2]}; 2 days ago: {texts[1]}; 3 days ago: {texts[0]}; " \
                      f"now: {texts[3]}"  # fmt: skip


@pytest.mark.parametrize("ids", [[1, 1], ["ann", "ann"], [("a", 1), ("a", 1)], [1.5, 1.5]])
def test_any_hashable_id(ids):
    X = np.empty((2, 3), object)
    X[:, 1], X[:, 2] = "tea", [0, HOUR]
    for row, user in enumerate(ids):
        X[row, 0] = user  # one by one, or numpy would look into a tuple
    assert BehaviorText().fit_transform(X)[1] == "1 hour ago: tea; now: tea"


def test_frames_of_any_kind_and_datetimes():
    X = frame(["tea", "rice", "milk"])
    X["timestamp"] = pd.to_datetime(X["timestamp"], unit="s")
    expected = BehaviorText().fit_transform(X)
    assert expected[1] == "1 day ago: tea; now: rice"
    assert BehaviorText().fit_transform(pl.from_pandas(X)).tolist() == expected.tolist()
    assert BehaviorText().fit_transform(X[X.columns[::-1]]).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        ([["ann", "tea", "soon"]], None, "timestamp: neither numbers nor datetimes"),
        ([["ann", "tea", float("nan")]], None, "timestamp: 1 of 1 rows are NaN"),
        ([["ann", None, 1]], None, "item_id: 1 of 1 rows are missing"),
        ([["ann", "tea", 1]], [float("nan")], "Input y: 1 of 1 rows are NaN"),
        ([["ann", "tea", 1]], ["yes"], "Input y: not numeric"),
        ([["ann", "tea"]], None, "features"),
        ([["ann", "tea", 1]], [1, 0], "inconsistent numbers of samples"),
    ],
)
def test_a_failing_partial_fit_leaves_no_trace(X, y, message):
    model = BehaviorText().fit([["ann", "tea", 0], ["bob", "rice", 0]], [1, 0])
    state = pickle.dumps(model)
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y)
    assert pickle.dumps(model) == state


def test_an_interrupted_partial_fit_leaves_no_trace(monkeypatch):
    model = BehaviorText().fit(frame(["tea"]))
    state, steps = pickle.dumps(model), iter(range(2))

    def fails_at_the_second(self, event, bound):
        if next(steps):
            raise KeyboardInterrupt
        return type(self)(self.before, (event,))

    past = type(next(iter(model._memory.past.values())))
    monkeypatch.setattr(past, "and_then", fails_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        model.partial_fit(frame(["rice", "milk", "oats"], start=1))
    assert pickle.dumps(model) == state


def test_first_partial_fit_is_a_fit_and_fit_starts_anew():
    X, y = frame(["tea", "rice"]), [1, 0]
    asked = frame(["milk"], start=5)
    expected = BehaviorText().fit(X, y).transform(asked)
    assert BehaviorText().partial_fit(X, y).transform(asked) == expected
    model = BehaviorText().fit(frame(["oats"]))
    twin = clone(model).fit(X, y)
    assert model.fit(X, y).transform(asked) == twin.transform(asked) == expected


@pytest.mark.parametrize("output", ["default", "pandas"])
def test_a_pipeline_learns_what_only_the_history_tells(output):
    """A user likes what the one before was not: no row says so by itself."""
    rng = np.random.default_rng(0)
    texts = rng.choice(["tea", "rice"], 600).tolist()
    users = rng.integers(0, 30, 600).tolist()
    X = frame(texts, users).assign(item_id=[WORDS.index(t) if t in WORDS else 9 for t in texts])
    before = X.groupby("user_id")["text"].shift()
    y = (before != X["text"]).astype(int)
    words = TfidfVectorizer(ngram_range=(1, 4), token_pattern=r"\w+")
    model = make_pipeline(
        BehaviorText(max_history=1, liked_from=None), words, LogisticRegression(C=100)
    )
    with config_context(transform_output=output):
        model.fit(X[:500], y[:500])
        assert model[:1].transform(X[:1]).shape == (1,)
    latest = X[500:].drop_duplicates("user_id")  # the history of all of them is known
    expected = [slow(r, dicts(X[:500], y[:500]), 1) for r in latest.to_dict("records")]
    told = model[0].transform(latest)
    assert [t.split("ago")[-1] for t in told] == [t.split("ago")[-1] for t in expected]
    assert model.score(latest, y[latest.index]) > 0.9


def test_feature_names_out():
    model = BehaviorText().fit(frame(["tea"]))
    assert model.get_feature_names_out().tolist() == ["behavior_text"]
    with pytest.raises(ValueError, match="input_features"):
        model.get_feature_names_out(["a"])


def test_limits_that_are_set_after_fit_count_from_the_next_call():
    X = [["ann", "a long name", 1], ["ann", "tea", 2], ["ann", "rye", 3]]
    behavior = BehaviorText().fit(X)
    before = behavior.transform(X).tolist()
    assert behavior.set_params(max_history=1, max_characters=2).transform(X).tolist() == before
    assert behavior.fit(X).transform(X).tolist() != before
