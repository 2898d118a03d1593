"""Mixture of a slow and a fast copy of a model by fixed share, event by event."""

import numpy as np

from sklearn_recft.kernels._compile import jit
from sklearn_recft.kernels._factorization import LOG_LOSS

# Slots of the state of `mix_pass`.
FAST_WEIGHT, SLOW_SUM, FAST_SUM, N_IN_BLOCK, N_BLOCKS, N_STATE = 0, 1, 2, 3, 4, 5


@jit
def mix_pass(slow, fast, target, weight, moments, rates, loss, state, means, scored):
    """Mix two scores of each row, write the prediction to ``scored``, then learn the mixture.

    Let v be the weight of the fast copy. The score is ``(1 - v) slow + v fast``. After a row with
    losses l_slow and l_fast, ``v := v exp(-eta w l_fast) / Z`` and then, by fixed share,
    ``v := (1 - share) v + share / 2``.

    Parameters
    ----------
    slow, fast : (n,) float32
        Scores before the link.
    moments : (5,) float64
        Of the targets before the first row, as in `online_pass`; updated. The squared error is
        in units of their variance.
    rates : (3,) float64
        ``eta``, ``share``, and the number of events of a mean loss.
    state : (5,) float64
        Weight of the fast copy, sums of both losses and number of events of the open block, number
        of closed blocks; updated.
    means : (m, 2) float32
        Ring of the mean losses of closed blocks; updated.

    References
    ----------
    Herbster, M., & Warmuth, M. K. (1998). Tracking the best expert. Machine Learning 32(2).
    """
    for row in range(target.shape[0]):
        z_slow, z_fast = np.float64(slow[row]), np.float64(fast[row])
        y, w = np.float64(target[row]), np.float64(weight[row])
        share = state[FAST_WEIGHT]
        score = (1.0 - share) * z_slow + share * z_fast
        if loss == LOG_LOSS:
            scored[row] = 1.0 / (1.0 + np.exp(-score))
        else:
            scored[row] = min(max(score, moments[3]), moments[4]) if moments[0] > 0 else score
        if w == 0:
            continue
        if loss == LOG_LOSS:
            l_slow = max(z_slow, 0.0) + np.log1p(np.exp(-abs(z_slow))) - y * z_slow
            l_fast = max(z_fast, 0.0) + np.log1p(np.exp(-abs(z_fast))) - y * z_fast
        else:
            variance = 1.0
            if moments[0] > 1 and moments[2] > 0:
                variance = moments[2] / moments[0]
            l_slow = (y - z_slow) * (y - z_slow) / variance
            l_fast = (y - z_fast) * (y - z_fast) / variance
        moments[0] += w
        gap = y - moments[1]
        moments[1] += gap * w / moments[0]
        moments[2] += w * gap * (y - moments[1])
        moments[3] = min(moments[3], y)
        moments[4] = max(moments[4], y)
        # The odds of the slow copy; bounded, so that no loss makes them infinite.
        odds = min(max(rates[0] * w * (l_fast - l_slow), -500.0), 500.0)
        share = share / (share + (1.0 - share) * np.exp(odds))
        state[FAST_WEIGHT] = (1.0 - rates[1]) * share + rates[1] / 2.0
        state[SLOW_SUM] += l_slow
        state[FAST_SUM] += l_fast
        state[N_IN_BLOCK] += 1.0
        if state[N_IN_BLOCK] == rates[2]:
            place = np.int64(state[N_BLOCKS]) % means.shape[0]
            means[place, 0] = state[SLOW_SUM] / rates[2]
            means[place, 1] = state[FAST_SUM] / rates[2]
            state[N_BLOCKS] += 1.0
            state[SLOW_SUM], state[FAST_SUM], state[N_IN_BLOCK] = 0.0, 0.0, 0.0
