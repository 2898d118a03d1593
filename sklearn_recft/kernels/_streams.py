"""What is known of a user and an item just before an event, for every event of a log in turn."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit
from sklearn_recft.kernels._factorization import online_pass

# Columns of the statistics of a user: weight and sum of labels; quick and slow means of what
# labels were above the average; time of the last event; events since the last pause.
USER_STATISTICS = 6
# Of an item: weight, sum of labels, fading popularity and the time it was brought up to.
ITEM_STATISTICS = 4
# What `follow_statistics` and `follow_factorization` write of each row.
N_STATISTICS, N_SCORES = 9, 4

_QUICK, _SLOW = 0.3, 0.1  # shares of the newest label in the running means
_PAUSE = 3600.0  # seconds without an event that end a session
_DAMPING = 5.0  # events' worth of the average that a rate begins with
_DAY = 86_400.0

_online_pass = inlined(online_pass.py_func)


@inlined
def _log_odds(label_sum, weight, average):
    rate = (label_sum + _DAMPING * average) / (weight + _DAMPING)
    return np.log(rate / (1.0 - rate)) - np.log(average / (1.0 - average))


@inlined
def _describe(user, item, now, users, items, totals, half_life, out):
    average = (totals[1] + 1.0) / (totals[0] + 2.0)
    for j in range(out.shape[0]):
        out[j] = 0.0
    if user >= 0 and users[user, 0] > 0.0:
        gap = max(now - users[user, 4], 0.0)
        out[0] = _log_odds(users[user, 1], users[user, 0], average)
        out[1] = np.log1p(users[user, 0]) / 3.0
        out[2] = users[user, 2]
        out[3] = users[user, 3]
        out[4] = np.log1p(gap) / 5.0
        out[5] = np.log1p(users[user, 5]) / 3.0 if gap < _PAUSE else 0.0
    if item >= 0 and items[item, 0] > 0.0:
        left = 0.5 ** (max(now - items[item, 3], 0.0) / (half_life * _DAY))
        out[6] = _log_odds(items[item, 1], items[item, 0], average)
        out[7] = np.log1p(items[item, 0]) / 5.0
        out[8] = np.log1p(items[item, 2] * left) / 3.0


@jit
def describe_statistics(users, items, times, user_table, item_table, totals, half_life, out):
    """Write to ``out`` (n, 9) what is known of each row's user and item.

    An unknown id (-1) and one without events have zeros. Of the user: log-odds of the damped
    label rate above the average, log of weight, quick and slow running means of labels above
    the average, log of seconds since the last event and of events in this session; of the item:
    log-odds, log of weight, log of fading popularity.
    """
    for row in range(users.shape[0]):
        _describe(
            users[row], items[row], times[row], user_table, item_table, totals, half_life, out[row]
        )


@jit
def follow_statistics(
    users, items, times, label, weight, user_table, item_table, totals, half_life, out
):
    """Describe each row as `describe_statistics` does, then count it; rows ascend in time.

    Rows of one time are all described before any of them is counted. Rows of weight 0 are
    described alone.
    """
    n = users.shape[0]
    first = 0
    while first < n:
        end = first + 1
        while end < n and times[end] == times[first]:
            end += 1
        for row in range(first, end):
            _describe(
                users[row],
                items[row],
                times[row],
                user_table,
                item_table,
                totals,
                half_life,
                out[row],
            )
        for row in range(first, end):
            w = weight[row]
            if w == 0.0:
                continue
            # Of the rows before this one: the same, wherever a call may end.
            average = (totals[1] + 1.0) / (totals[0] + 2.0)
            user, item = user_table[users[row]], item_table[items[row]]
            above = label[row] - average
            quick, slow = min(_QUICK * w, 1.0), min(_SLOW * w, 1.0)
            again = user[0] > 0.0 and times[row] - user[4] < _PAUSE
            user[2] += quick * (above - user[2])
            user[3] += slow * (above - user[3])
            user[5] = user[5] + 1.0 if again else 1.0
            user[4] = max(user[4], times[row]) if user[0] > 0.0 else times[row]
            user[0] += w
            user[1] += w * label[row]
            later = times[row] >= item[3] or item[0] == 0.0
            days = abs(times[row] - item[3]) / _DAY
            if item[0] == 0.0:
                item[2] = w
            elif later:
                item[2] = item[2] * 0.5 ** (days / half_life) + w
            else:
                item[2] += w * 0.5 ** (days / half_life)
            if later:
                item[3] = times[row]
            item[0] += w
            item[1] += w * label[row]
            totals[0] += w
            totals[1] += w * label[row]
        first = end


@inlined
def _score(user, item, moments, unit, tables, out):
    mean, user_bias, item_bias, user_factors, item_factors, _, user_count, item_count = tables
    met_user = user >= 0 and user_count[user] > 0.0
    met_item = item >= 0 and item_count[item] > 0.0
    for j in range(out.shape[0]):
        out[j] = 0.0
    scale = 1.0
    if unit and moments[0] > 1.0 and moments[2] > 0.0:
        scale = 1.0 / np.sqrt(moments[2] / moments[0])
    if met_user:
        out[0] = user_bias[user] * scale
    if met_item:
        out[1] = item_bias[item] * scale
    if met_user and met_item:
        dot = 0.0
        for k in range(user_factors.shape[1]):
            dot += user_factors[user, k] * item_factors[item, k]
        out[2] = dot * scale
    out[3] = 0.0 if unit else mean[0]


@jit
def describe_factorization(users, items, moments, unit, tables, out):
    """Write to ``out`` (n, 4) the parts of each row's score: b_u, b_i, p_u . q_i and the mean.

    An id that is unknown (-1) or without an event has no part. ``unit``: in standard deviations
    of the targets so far, without their mean. ``tables`` are mean, user_bias, item_bias,
    user_factors, item_factors, context_weight, user_count and item_count, as in `online_pass`.
    """
    for row in range(users.shape[0]):
        _score(users[row], items[row], moments, unit, tables, out[row])


@jit
def follow_factorization(
    users,
    items,
    times,
    target,
    weight,
    moments,
    rates,
    loss,
    newest,
    unit,
    items_learn,
    tables,
    out,
):
    """Describe each row as `describe_factorization` does, then learn it by `online_pass`.

    Rows ascend in time; those of one time are all described before any of them is learned.
    Without ``items_learn`` only the rows' users learn: what an item is, and the mean, stay.
    """
    (mean, user_bias, item_bias, user_factors, item_factors, no_context, user_count, item_count) = (
        tables
    )
    n = users.shape[0]
    context, scored = np.zeros((1, 0), np.float32), np.zeros(1, np.float32)
    before, frozen_moments = np.empty(item_factors.shape[1], np.float32), moments.copy()
    first = 0
    while first < n:
        end = first + 1
        while end < n and times[end] == times[first]:
            end += 1
        for row in range(first, end):
            _score(users[row], items[row], moments, unit, tables, out[row])
        for row in range(first, end):
            if weight[row] == 0.0:
                continue
            item = items[row]
            if not items_learn:
                before[:] = item_factors[item]
                old_mean, old_bias, old_count = mean[0], item_bias[item], item_count[item]
            _online_pass(
                users[row : row + 1],
                items[row : row + 1],
                target[row : row + 1],
                weight[row : row + 1],
                context,
                scored,
                moments,
                rates,
                loss,
                newest,
                mean,
                user_bias,
                item_bias,
                user_factors,
                item_factors,
                no_context,
                user_count,
                item_count,
            )
            if not items_learn:
                item_factors[item] = before
                mean[0], item_bias[item], item_count[item] = old_mean, old_bias, old_count
                moments[:] = frozen_moments
        first = end
