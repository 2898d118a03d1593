"""Ways to follow drift: two speeds, and those that lose against it."""

import time

import numpy as np
from river.drift import ADWIN

from sklearn_recft import IncrementalMFRecommender

CHUNK, WINDOW = 1000, 10_000


def _fitted(stream, seed, **params):
    model = IncrementalMFRecommender(random_state=seed, **params)
    return model.fit(stream.X[: stream.warm_up], stream.y[: stream.warm_up])


def never(stream, seed):
    return _fitted(stream, seed).predict(stream.X[stream.warm_up :])


def by_event(stream, seed, **params):
    rows = slice(stream.warm_up, None)
    return _fitted(stream, seed, **params).partial_fit_predict(stream.X[rows], stream.y[rows])


def follow(stream, seed):
    return by_event(stream, seed, drift="follow")


def by_chunk(stream, seed, **params):
    model, found = _fitted(stream, seed, **params), []
    for start in range(stream.warm_up, len(stream.y), CHUNK):
        rows = slice(start, start + CHUNK)
        found.append(model.predict(stream.X[rows]))
        model.partial_fit(stream.X[rows], stream.y[rows])
    return np.concatenate(found)


def follow_by_chunk(stream, seed):
    return by_chunk(stream, seed, drift="follow")


def window(stream, seed):
    """Refit on the last 10,000 rows before every chunk."""
    return _refitted(stream, seed, lambda start: max(0, start - WINDOW))


def refit_since_turn(stream, seed):
    """Refit on the rows since the shift before every chunk: it knows of the shift."""
    turn = stream.turn
    return _refitted(stream, seed, lambda start: turn if start > turn else 0)


def _refitted(stream, seed, first):
    found = []
    for start in range(stream.warm_up, len(stream.y), CHUNK):
        known = slice(first(start), start)
        model = IncrementalMFRecommender(random_state=seed).fit(stream.X[known], stream.y[known])
        found.append(model.predict(stream.X[start : start + CHUNK]))
    return np.concatenate(found)


def adwin_reset(stream, seed):
    """Learn by event; at an alarm of ADWIN on the error, refit on the last 3,000 rows."""
    model, found = _fitted(stream, seed), []
    detector = ADWIN(delta=0.002)
    for start in range(stream.warm_up, len(stream.y), 100):
        rows = slice(start, start + 100)
        predictions = model.partial_fit_predict(stream.X[rows], stream.y[rows])
        found.append(predictions)
        alarm = False
        for error in np.abs(predictions - stream.y[rows]).tolist():
            detector.update(error)
            alarm |= detector.drift_detected
        if alarm:
            last = slice(max(0, start - 2900), start + 100)
            model = IncrementalMFRecommender(random_state=seed).fit(stream.X[last], stream.y[last])
    return np.concatenate(found)


FOLLOWERS = {
    "never updated": never,
    "partial_fit, chunks": by_chunk,
    "partial_fit, chunks, drift='follow'": follow_by_chunk,
    "event by event": by_event,
    "event by event, drift='follow'": follow,
    "refit on a window of 10,000": window,
    "event by event, refit at alarms": adwin_reset,
}


def timed(follower, stream, seed):
    """Return squared errors against the truth after the warm-up, and CPU seconds."""
    clock = time.process_time()
    predictions = follower(stream, seed)
    seconds = time.process_time() - clock
    return (predictions - stream.truth[stream.warm_up :]) ** 2, seconds
