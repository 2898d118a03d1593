"""Dense sums of feedback as a reference for user-item models."""

import numpy as np

DAY = 86_400


def dense_sums(X, y=None, weight=None, half_life=None, history_half_life=None, floor=0.0):
    """Sum weights, and weighted feedback, by user and item in order of appearance."""
    rows = np.asarray(X).tolist()
    users = {user: code for code, user in enumerate(dict.fromkeys(row[0] for row in rows))}
    items = {item: code for code, item in enumerate(dict.fromkeys(row[1] for row in rows))}
    weights, totals = np.zeros((2, len(users), len(items)))
    newest, n_after = max(row[2] for row in rows), dict.fromkeys(users, 0)
    for place in np.argsort([row[2] for row in rows], kind="stable")[::-1].tolist():
        user, item, time = rows[place]
        left = 1.0 if weight is None else weight[place]
        if half_life is not None:
            left *= floor + (1 - floor) * 2 ** (-(newest - time) / DAY / half_life)
        if history_half_life is not None:
            left *= 2 ** (-n_after[user] / history_half_life)
        n_after[user] += 1
        weights[users[user], items[item]] += left
        totals[users[user], items[item]] += left * (1.0 if y is None else y[place])
    return weights, totals


def known_pairs(model):
    """Return every pair of a known user and item, user by user, with a time."""
    users, items = model.user_ids_, model.item_ids_
    pairs = [np.repeat(users, len(items)), np.tile(items, len(users))]
    return np.column_stack([*pairs, np.zeros(len(pairs[0]), int)])


def best_scores(scores, met, n):
    """Return the n largest scores of each row over unseen items."""
    return -np.sort(-np.where(met, -np.inf, scores), axis=1)[:, :n]
