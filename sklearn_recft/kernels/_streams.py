"""Online features: state of user and item just before each event of a log."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit
from sklearn_recft.kernels._pass_call import address_of_pass, call_pass

# Statistics of a user: weight and sum of labels; fast and slow moving averages of labels minus the
# average label; time of the last event; number of events in the current session.
USER_STATISTICS = 6
# Statistics of an item: weight, sum of labels, decayed popularity and the time it refers to.
ITEM_STATISTICS = 4
# Number of features that `update_statistics` and `update_factorization` write per row.
N_STATISTICS, N_SCORES = 9, 4

_FAST, _SLOW = 0.3, 0.1  # weights of the newest label in the moving averages
_SESSION_GAP = 3600.0  # seconds without an event that end a session
_DAMPING = 5.0  # number of pseudo-events with the average label in each rate
_LEAST_SHARE = 1e-17  # of labels of 0: beside a large weight, it is rounded to 0
_DAY = 86_400.0


@inlined
def _log_odds(label_sum, weight, average):
    rate = (label_sum + _DAMPING * average) / (weight + _DAMPING)
    rest, others = max(1.0 - rate, _LEAST_SHARE), max(1.0 - average, _LEAST_SHARE)
    return np.log(rate / rest) - np.log(average / others)


@inlined
def _transform(user, item, now, users, items, totals, half_life, out):
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
        out[5] = np.log1p(users[user, 5]) / 3.0 if gap < _SESSION_GAP else 0.0
    if item >= 0 and items[item, 0] > 0.0:
        left = 0.5 ** (max(now - items[item, 3], 0.0) / (half_life * _DAY))
        out[6] = _log_odds(items[item, 1], items[item, 0], average)
        out[7] = np.log1p(items[item, 0]) / 5.0
        out[8] = np.log1p(items[item, 2] * left) / 3.0


def transform_statistics(users, items, times, user_table, item_table, totals, half_life, out):
    """Write the statistics features of each row's user and item to ``out`` (n, 9).

    Unknown ids (-1) and ids without events get zeros. Features of the user: log-odds of the damped
    label rate relative to the average, log weight, fast and slow moving averages of labels minus
    the average, log seconds since the last event, and log number of events in the session.
    Features of the item: log-odds, log weight, and log decayed popularity.
    """
    label, weight = np.zeros(len(users), np.float32), np.zeros(len(users))
    # Rows of weight 0 are transformed alone.
    update_statistics(
        users, items, times, label, weight, user_table, item_table, totals, half_life, out
    )


@jit
def update_statistics(
    users, items, times, label, weight, user_table, item_table, totals, half_life, out
):
    """Transform each row like `transform_statistics`, then count it; rows ascend in time.

    All rows with equal times are transformed before any of them is counted. Rows of weight 0 are
    transformed, but not counted.
    """
    n = users.shape[0]
    first = 0
    while first < n:
        end = first + 1
        while end < n and times[end] == times[first]:
            end += 1
        for row in range(first, end):
            _transform(
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
            # The average of all earlier rows, which does not depend on how calls split the log.
            average = (totals[1] + 1.0) / (totals[0] + 2.0)
            user, item = user_table[users[row]], item_table[items[row]]
            above = label[row] - average
            fast, slow = min(_FAST * w, 1.0), min(_SLOW * w, 1.0)
            same_session = user[0] > 0.0 and times[row] - user[4] < _SESSION_GAP
            user[2] += fast * (above - user[2])
            user[3] += slow * (above - user[3])
            user[5] = user[5] + 1.0 if same_session else 1.0
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


def transform_factorization(users, items, moments, unit, tables, out):
    """Write the terms of each row's score to ``out`` (n, 4): b_u, b_i, p_u . q_i and the mean.

    Terms of unknown ids (-1) and of ids without events are zero. ``unit`` divides by the standard
    deviation of the targets so far, and omits the mean. ``tables`` are mean, user_bias, item_bias,
    user_factors, item_factors, context_weight, user_count and item_count, as in `online_pass`.
    """
    n, rates = len(users), np.zeros(11, np.float32)
    nothing = np.zeros(n, np.float32)  # rows of weight 0 are transformed alone
    update_factorization(
        users, items, np.zeros(n), nothing, nothing, moments, rates, 0, 0, unit, True, tables, out
    )


def update_factorization(
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
    """Transform each row like `transform_factorization`, then learn it by `online_pass`.

    Rows ascend in time. All rows with equal times are transformed before any of them is learned.
    Without ``items_learn``, only user parameters are updated: item parameters and the mean stay.
    """
    # What `online_pass` gets: allocated here, since it takes long to compile.
    row = (
        np.zeros(1, np.int32),
        np.zeros(1, np.int32),
        np.zeros(1, np.float32),
        np.zeros(1, np.float32),
        np.zeros((1, 0), np.float32),
        np.zeros(1, np.float32),
    )
    before = np.zeros(tables[4].shape[1], np.float32)
    columns = (users, items, times, target, weight)
    rates_of_pass = (moments, rates, loss, newest)
    scratch = (row, before, moments.copy())
    _update_factorization(
        address_of_pass(), *columns, *rates_of_pass, unit, items_learn, tables, *scratch, out
    )


@jit
def _update_factorization(
    address,
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
    row_of_pass,
    before,
    frozen_moments,
    out,
):
    (mean, user_bias, item_bias, user_factors, item_factors, no_context, user_count, item_count) = (
        tables
    )
    one_user, one_item, one_target, one_weight, context, scored = row_of_pass
    n = users.shape[0]
    first = 0
    while first < n:
        end = first + 1
        while end < n and times[end] == times[first]:
            end += 1
        for row in range(first, end):
            user, item = users[row], items[row]
            known_user = user >= 0 and user_count[user] > 0.0
            known_item = item >= 0 and item_count[item] > 0.0
            for j in range(out.shape[1]):
                out[row, j] = 0.0
            scale = 1.0
            if unit and moments[0] > 1.0 and moments[2] > 0.0:
                scale = 1.0 / np.sqrt(moments[2] / moments[0])
            if known_user:
                out[row, 0] = user_bias[user] * scale
            if known_item:
                out[row, 1] = item_bias[item] * scale
            if known_user and known_item:
                dot = 0.0
                for k in range(user_factors.shape[1]):
                    dot += user_factors[user, k] * item_factors[item, k]
                out[row, 2] = dot * scale
            out[row, 3] = 0.0 if unit else mean[0]
        for row in range(first, end):
            if weight[row] == 0.0:
                continue
            item = items[row]
            if not items_learn:
                for k in range(before.shape[0]):
                    before[k] = item_factors[item, k]
                old_mean, old_bias, old_count = mean[0], item_bias[item], item_count[item]
            one_user[0], one_item[0] = users[row], item
            one_target[0], one_weight[0] = target[row], weight[row]
            call_pass(
                address,
                (
                    one_user,
                    one_item,
                    one_target,
                    one_weight,
                    context,
                    scored,
                    moments,
                    rates,
                    loss,
                    newest,
                    False,
                    mean,
                    user_bias,
                    item_bias,
                    user_factors,
                    item_factors,
                    no_context,
                    user_count,
                    item_count,
                ),
            )
            if not items_learn:
                for k in range(before.shape[0]):
                    item_factors[item, k] = before[k]
                mean[0], item_bias[item], item_count[item] = old_mean, old_bias, old_count
                for k in range(moments.shape[0]):
                    moments[k] = frozen_moments[k]
        first = end
