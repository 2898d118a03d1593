"""Sampled softmax of the item taken, given a decayed sum of what the user took before."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit

_one, _half = np.float32(1.0), np.float32(0.5)
# Squared gradients that Adagrad starts from: steps of unit gradients begin at ten times the rate.
_SQUARES = np.float32(0.01)
# A candidate of a smaller gradient, or an earlier event of a smaller weight, is left as it is.
_LEAST_GRADIENT, _LEAST_WEIGHT = np.float32(1e-4), np.float32(1e-3)
_EXCLUDED = np.float32(-1e30)
# Half-lives after which decayed counts are given a new unit.
_REBASE = 64.0


@jit
def draw_negatives(items, weight, draws, n_items, sample, n_sampled, out):
    """Draw the negatives of events that arrive online, and keep a uniform sample of all events.

    Parameters
    ----------
    items, weight : (n,) codes of what was taken; rows of weight 0 do not count.
    draws : (n_counted, m + 1) uint32, random, for the rows that count; the last one of a row
        chooses a place in the sample.
    n_items : number of items known before the first event.
    sample : (size,) items of a uniform sample of events, updated in place.
    n_sampled : number of events that the sample is of.
    out : (n, m), overwritten: half of a row is uniform over the items known at its event, the rest
        are items of earlier events.
    """
    shift, m, size, counted = np.uint64(32), out.shape[1], sample.shape[0], 0
    for row in range(items.shape[0]):
        n_items = max(n_items, items[row] + 1)
        if weight[row] == 0:
            out[row] = items[row]
            continue
        n_kept = min(n_sampled, size)
        for j in range(m):
            draw = np.uint64(draws[counted, j])
            if j < m // 2 or n_kept == 0:
                out[row, j] = np.int32((draw * np.uint64(n_items)) >> shift)
            else:
                out[row, j] = sample[np.int64((draw * np.uint64(n_kept)) >> shift)]
        n_sampled += 1
        place = n_sampled - 1
        if place >= size:
            place = np.int64((np.uint64(draws[counted, m]) * np.uint64(n_sampled)) >> shift)
        if place < size:
            sample[place] = items[row]
        counted += 1


@inlined
def _softmax_step(state, codes, scores, weight, rate, reg, item_factors, item_squares, pulls, row):
    """Move the candidates' factors; return what is left of the probability of the first one.

    ``scores`` holds the candidates' offsets, and is overwritten. ``pulls[row]`` is set to the
    gradient of the state.
    """
    n_factors, top = state.shape[0], _EXCLUDED
    for j in range(codes.shape[0]):
        score, code = scores[j], codes[j]
        for k in range(n_factors):
            score += state[k] * item_factors[code, k]
        if j > 0 and code == codes[0]:
            score = _EXCLUDED
        scores[j] = score
        top = max(top, score)
    total, size = np.float32(0), np.float32(0)
    for j in range(codes.shape[0]):
        scores[j] = np.exp(scores[j] - top)
        total += scores[j]
    for k in range(n_factors):  # no store beside the sum: see `_compile.jit`
        size += state[k] * state[k]
    pulls[row] = 0
    size /= np.float32(n_factors)
    for j in range(codes.shape[0]):
        gradient, code = -scores[j] / total, codes[j]
        if j == 0:
            gradient += _one
        if abs(gradient) < _LEAST_GRADIENT:
            continue
        gradient *= weight
        item_squares[code] += gradient * gradient * size
        step = rate / np.sqrt(_SQUARES + item_squares[code])
        keep = max(_one - step * abs(gradient) * reg, np.float32(0))
        gain = step * gradient
        for k in range(n_factors):
            q = item_factors[code, k]
            pulls[row, k] += gradient * q
            item_factors[code, k] = keep * q + gain * state[k]
    return weight * (_one - scores[0] / total)


@inlined
def _mean_square(table, row):
    total = np.float32(0)
    for k in range(table.shape[1]):
        total += table[row, k] * table[row, k]
    return total / np.float32(max(table.shape[1], 1))


@inlined
def _user_step(user, pulls, row, gap, size, rate, reg, user_factors, user_squares):
    """Move the factors of a user, if there are any."""
    if user_factors.shape[1] == 0:
        return
    user_squares[user] += size
    step = rate / np.sqrt(_SQUARES + user_squares[user])
    keep = max(_one - step * gap * reg, np.float32(0))
    for k in range(user_factors.shape[1]):
        user_factors[user, k] = keep * user_factors[user, k] + step * pulls[row, k]


@jit
def softmax_epoch(
    starts,
    users,
    items,
    weight,
    negatives,
    offset,
    decay,
    rate,
    reg,
    user_factors,
    user_squares,
    input_factors,
    input_squares,
    item_factors,
    item_squares,
):
    """Run one epoch of sampled softmax over pieces of users' events.

    Parameters
    ----------
    starts : (n_pieces + 1,) first row of each piece; a piece holds events of one user in order.
    users, items, weight : (n,) rows.
    negatives : (n, m) items drawn.
    offset : (n_items,) logarithm of the popularity less that of the probability to be drawn.
    decay : weight of an event beside the one after it.
    rate, reg : learning rate and L2 penalty.
    user_factors : (n_users, f), or (n_users, 0) if users have no factors of their own.
    input_factors, item_factors : (n_items, f) of an item as taken before, and as candidate.
    user_squares, input_squares, item_squares : sums of mean squared gradients, by row (Adagrad).

    Notes
    -----
    The state of the t-th event of a piece is ``h_t = p_u + S_t / sqrt(W_t)`` with ``S_(t+1) =
    decay S_t + v_(i_t)`` and ``W_(t+1) = decay W_t + 1``. Let ``g_j = weight ([j taken] -
    softmax_j)``. The gradients are ``g_j h`` of candidates and ``d_t = sum_j g_j q_j`` of the
    state. The penalty of each is scaled by ``|g_j|`` or ``weight (1 - softmax)``. The inputs of a
    piece are moved once, after its last event, from back to front: ``G_t = decay G_(t+1) +
    d_(t+1) / sqrt(W_(t+1))`` is the gradient of ``v_(i_t)``. So a piece takes linear time.
    """
    n_factors, m, longest = item_factors.shape[1], negatives.shape[1], 0
    for piece in range(starts.shape[0] - 1):
        longest = max(longest, starts[piece + 1] - starts[piece])
    past, state = np.empty(n_factors, np.float32), np.empty(n_factors, np.float32)
    pulls, sizes = np.empty((longest, n_factors), np.float32), np.empty(longest, np.float32)
    norms, gaps = np.empty(longest, np.float32), np.empty(longest, np.float32)
    codes, scores = np.empty(m + 1, np.int32), np.empty(m + 1, np.float32)
    own = user_factors.shape[1] > 0
    for piece in range(starts.shape[0] - 1):
        first, last = starts[piece], starts[piece + 1]
        total = np.float32(0)
        past[:] = 0
        for row in range(first, last):
            user, item, t = users[row], items[row], row - first
            norms[t] = _one / np.sqrt(total) if total > 0 else np.float32(0)
            for k in range(n_factors):
                state[k] = past[k] * norms[t]
            if own:
                for k in range(n_factors):
                    state[k] += user_factors[user, k]
            codes[0] = item
            for j in range(m):
                codes[j + 1] = negatives[row, j]
            for j in range(m + 1):
                scores[j] = offset[codes[j]]
            gaps[t] = _softmax_step(
                state, codes, scores, weight[row], rate, reg, item_factors, item_squares, pulls, t
            )
            sizes[t] = _mean_square(pulls, t)
            _user_step(user, pulls, t, gaps[t], sizes[t], rate, reg, user_factors, user_squares)
            total = total * decay + _one
            for k in range(n_factors):
                past[k] = past[k] * decay + input_factors[item, k]
        past[:] = 0
        gap, squares = np.float32(0), np.float32(0)
        for row in range(last - 1, first - 1, -1):
            item, t = items[row], row - first
            if squares > 0:
                input_squares[item] += squares
                step = rate / np.sqrt(_SQUARES + input_squares[item])
                keep = max(_one - step * reg * gap, np.float32(0))
                for k in range(n_factors):
                    input_factors[item, k] = keep * input_factors[item, k] + step * past[k]
            for k in range(n_factors):
                past[k] = past[k] * decay + norms[t] * pulls[t, k]
            gap = gap * decay + norms[t] * gaps[t]
            squares = squares * decay * decay + norms[t] * norms[t] * sizes[t]


@inlined
def _set_state(user, recent, weights, user_factors, input_factors, states, row):
    """Set ``states[row]`` to the state of a user; return what each weight is multiplied by."""
    total = np.float32(0)
    for k in range(states.shape[1]):
        states[row, k] = 0
    for place in range(recent.shape[1]):
        code, weight = recent[user, place] - 1, weights[place]
        if code < 0:
            break
        total += weight
        for k in range(states.shape[1]):
            states[row, k] += weight * input_factors[code, k]
    norm = _one / np.sqrt(total) if total > 0 else np.float32(0)
    for k in range(states.shape[1]):
        states[row, k] *= norm
    if user_factors.shape[1] > 0:
        for k in range(states.shape[1]):
            states[row, k] += user_factors[user, k]
    return norm


@jit
def softmax_states(users, recent, weights, user_factors, input_factors, states):
    """Write the state (n, f) of each user; zeros for unknown users (-1)."""
    for row in range(users.shape[0]):
        if users[row] >= 0:
            _set_state(users[row], recent, weights, user_factors, input_factors, states, row)
        else:
            for k in range(states.shape[1]):
                states[row, k] = 0


@inlined
def _list_items(
    state, n_items, bias, item_factors, last, previous, logged, seen_at, row, out, best
):
    """Write the best known items to ``out[row]``, -1 behind the end; ties by lower code."""
    while last >= 0:
        seen_at[logged[last]] = row
        last = previous[last]
    size, length = 0, out.shape[1]
    for j in range(n_items):
        if seen_at[j] == row:
            continue
        score = bias[j]
        for k in range(state.shape[0]):
            score += state[k] * item_factors[j, k]
        if size == length and not score > best[length - 1]:
            continue
        place = size if size < length else length - 1
        while place > 0 and score > best[place - 1]:
            best[place], out[row, place] = best[place - 1], out[row, place - 1]
            place -= 1
        best[place], out[row, place] = score, j
        size = min(size + 1, length)
    for place in range(size, length):
        out[row, place] = -1


@jit
def softmax_pass(
    users,
    items,
    times,
    weight,
    negatives,
    scored,
    n_items,
    n_events,
    half_life,
    popularity_weight,
    rate,
    reg,
    clock,
    recent,
    weights,
    user_factors,
    user_squares,
    input_factors,
    input_squares,
    item_factors,
    item_squares,
    item_count,
    item_popularity,
    lists,
    begin,
    previous,
    logged,
):
    """Predict each event, write the score to ``scored``, then learn it. All is updated in place.

    Parameters
    ----------
    times : (n,) float64, seconds.
    n_items, n_events : known items, and events learned, before the first of these.
    half_life : seconds; infinity for no decay.
    popularity_weight : weight of ``log(1/2 + n)`` in ``scored``; in the loss it is 1.
    clock : (2,) float64, seconds: at which ``item_popularity`` is in units of one event, and of
        the newest event; -infinity before the first one.
    recent : (n_users, size) int32, item codes plus 1 of a user's events, newest first, then 0.
    weights : (size,) of the events in ``recent``.
    item_count : (n_items,) number of events.
    item_popularity : (n_items,) decayed sum of the weights of events.
    lists : (n, k) int32, overwritten by the best items for each event's user, just before the
        event is learned; -1 behind the end. k = 0 lists nothing.
    begin, previous, logged : a linked log of seen items, which are not listed. Entry ``begin + t``
        is of row t. ``previous`` points to the last earlier entry of its user, -1 for none, and
        ``logged`` has the items.

    The other parameters are those of `softmax_epoch`. Rows of weight 0 are predicted only.

    Notes
    -----
    An event is counted. Then the state, the candidates and the inputs of the user's events move by
    one step. Then the item becomes the user's newest event.
    """
    m, n_factors = negatives.shape[1], item_factors.shape[1]
    states, pulls = np.empty((1, n_factors), np.float32), np.empty((1, n_factors), np.float32)
    codes, scores = np.empty(m + 1, np.int32), np.empty(m + 1, np.float32)
    n_listed = item_popularity.shape[0] if lists.shape[1] > 0 else 0
    bias, bias_unit, changed = np.empty(n_listed, np.float32), np.float32(-1), 0
    seen_at, best = np.full(n_listed, -1, np.int64), np.empty(lists.shape[1], np.float32)
    for row in range(users.shape[0]):
        user, item, w = users[row], items[row], weight[row]
        unit = np.float32(1)
        if clock[1] > clock[0]:
            unit = np.float32(2.0 ** ((clock[0] - clock[1]) / half_life))
        norm = _set_state(user, recent, weights, user_factors, input_factors, states, 0)
        dot = np.float32(0)
        for k in range(n_factors):
            dot += states[0, k] * item_factors[item, k]
        popularity = np.log(_half + unit * item_popularity[item])
        scored[row] = dot + popularity_weight * popularity
        if n_listed > 0:
            first, stop = (0, n_listed) if unit != bias_unit else (changed, changed + 1)
            for j in range(first, stop):
                bias[j] = popularity_weight * np.log(_half + unit * item_popularity[j])
            bias_unit, changed = unit, item
            last = previous[begin + row]
            _list_items(
                states[0], n_items, bias, item_factors, last, previous, logged, seen_at, row,
                lists, best,
            )  # fmt: skip
        n_items = max(n_items, item + 1)
        if w == 0:
            continue
        if not np.isfinite(clock[0]):
            clock[0] = times[row]
        if (times[row] - clock[0]) / half_life > _REBASE:
            unit = np.float32(2.0 ** ((clock[0] - times[row]) / half_life))
            for j in range(item_popularity.shape[0]):
                item_popularity[j] *= unit
            clock[0], bias_unit = times[row], np.float32(-1)
        clock[1] = max(clock[1], times[row])
        n_events += 1
        item_count[item] += _one
        item_popularity[item] += w * np.float32(2.0 ** ((times[row] - clock[0]) / half_life))
        unit = np.float32(2.0 ** ((clock[0] - clock[1]) / half_life))
        uniform, share = _half / np.float32(n_items), _half / np.float32(n_events)
        codes[0] = item
        for j in range(m):
            codes[j + 1] = negatives[row, j]
        for j in range(m + 1):
            drawn = uniform + share * item_count[codes[j]]
            scores[j] = np.log((_half + unit * item_popularity[codes[j]]) / drawn)
        gap = _softmax_step(
            states[0], codes, scores, w, rate, reg, item_factors, item_squares, pulls, 0
        )
        size = _mean_square(pulls, 0)
        _user_step(user, pulls, 0, gap, size, rate, reg, user_factors, user_squares)
        for place in range(recent.shape[1]):
            share = weights[place] * norm
            if recent[user, place] == 0 or share < _LEAST_WEIGHT:
                break
            other = recent[user, place] - 1
            input_squares[other] += share * share * size
            step = rate / np.sqrt(_SQUARES + input_squares[other])
            keep = max(_one - step * reg * share * gap, np.float32(0))
            gain = step * share
            for k in range(n_factors):
                input_factors[other, k] = keep * input_factors[other, k] + gain * pulls[0, k]
        for place in range(recent.shape[1] - 1, 0, -1):
            recent[user, place] = recent[user, place - 1]
        recent[user, 0] = item + 1
