"""Small logs with many ties, and the slow and obvious way to compute features of them."""

import numpy as np
import pandas as pd
from hypothesis import strategies as st

HOUR, DAY = 3600.0, 86_400.0
HALF_LIVES = (0.1, 30.0)
KINDS = ("buy", "view")
GENRES = ["a", "a|b", " b | c ", "", None]
# Few users, items and times: ties and repeats are the rule.
rows = st.tuples(
    st.integers(0, 2), st.integers(0, 3), st.integers(0, 6), st.sampled_from(KINDS),
    st.sampled_from(GENRES), st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([1.0, 2.5]),
)  # fmt: skip
logs = st.lists(rows, min_size=1, max_size=14)


def table(log):
    """Return X and y of a log."""
    columns = ["user_id", "item_id", "timestamp", "behavior", "genre", "y", "price"]
    frame = pd.DataFrame(log, columns=columns)
    frame["timestamp"] = frame["timestamp"] * 1.7 * HOUR
    return frame.drop(columns="y"), frame["y"].to_numpy()


def dicts(X, y):
    """Return rows as dicts with a place, by which parts of a log can be left out."""
    return X.assign(y=y).to_dict("records")


def earlier(row, log):
    return [event for event in log if event["timestamp"] < row["timestamp"]]


def damped(events, average, weight=lambda event: 1.0, damping=5.0, value=lambda event: event["y"]):
    if not events:
        return average
    total = sum(weight(event) * value(event) for event in events) + damping * average
    return total / (sum(map(weight, events)) + damping)


def repeats(event, log):
    """Whether the user took the item before."""
    pair = event["user_id"], event["item_id"]
    return any((e["user_id"], e["item_id"]) == pair for e in earlier(event, log))


def activity_of(row, log, by=(("user_id",), ("item_id",), ("user_id", "item_id"))):
    """Features of `row`, by looking through all of `log`."""
    past, found = earlier(row, log), []
    average = np.mean([event["y"] for event in past]) if past else np.nan
    repeated = np.mean([repeats(event, log) for event in past]) if past else np.nan
    for columns in by:
        own = [event for event in past if all(event[name] == row[name] for name in columns)]
        days = [(row["timestamp"] - event["timestamp"]) / DAY for event in own]
        found += [len(own), min(days, default=np.nan), max(days, default=np.nan)]
        for half_life in (np.inf, *HALF_LIVES):

            def weight(event, half_life=half_life):
                return 0.5 ** ((row["timestamp"] - event["timestamp"]) / DAY / half_life)

            if half_life < np.inf:
                found.append(sum(map(weight, own)))
            found.append(damped(own, average, weight))
            found.append(sum(weight(event) * event["price"] for event in own))
            kinds = [[event for event in own if event["behavior"] == kind] for kind in KINDS]
            found += [sum(map(weight, events)) for events in kinds]
            if len(columns) == 1:
                found.append(damped(own, repeated, weight, value=lambda e: repeats(e, log)))
    return found


def genres_of(row):
    if not isinstance(row["genre"], str):
        return []
    return sorted({part.strip() for part in row["genre"].split("|")} - {""})


def residual_of(row, log, damping=5.0):
    """Feedback minus the item's damped mean before it."""
    past = earlier(row, log)
    average = np.mean([event["y"] for event in past]) if past else 0.0
    own = [event for event in past if event["item_id"] == row["item_id"]]
    return row["y"] - damped(own, average, damping=damping)


def pair_means_of(row, log, damping=5.0):
    """Means and counts of user and genre, and of item and behavior."""
    past, found = earlier(row, log), []
    for first, values_of in (
        ("user_id", genres_of),
        ("item_id", lambda event: [event["behavior"]]),
    ):
        means, counts = [], []
        for value in values_of(row):
            own = [e for e in past if e[first] == row[first] and value in values_of(e)]
            means.append(sum(residual_of(e, log, damping) for e in own) / (len(own) + damping))
            counts.append(len(own))
        found += [np.mean(means), np.mean(counts)] if means else [0.0, 0.0]
    return found
