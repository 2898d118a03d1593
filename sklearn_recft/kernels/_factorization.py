"""Matrix factorization: SGD epochs, online updates, BPR ranking, and fold-in of new rows."""

import numpy as np

from sklearn_recft.kernels._compile import inlined, jit

_one = np.float32(1.0)

# Integer codes of the losses for compiled loops.
SQUARED_ERROR, LOG_LOSS = 0, 1


@inlined
def _sigmoid(score):
    return _one / (_one + np.exp(-score))


@jit
def sgd_epoch(
    users,
    items,
    target,
    weight,
    context,
    learning_rate,
    bias_rate,
    user_reg,
    item_reg,
    bias_reg,
    loss,
    mean,
    user_bias,
    item_bias,
    user_factors,
    item_factors,
    context_weight,
):
    """Run one epoch of stochastic gradient descent over the rows, in the given order.

    Let ``e = target - inverse_link(mean + b_u + b_i + p_u . q_i + w . context)``. The updates,
    scaled by the row's weight, are ``b += bias_rate (e - bias_reg b)``, ``p += learning_rate (e q -
    user_reg[u] p)``, the same for ``q``, and ``w += bias_rate e context / (1 + |context|^2)``.
    The last one is stable for any scale of a column. Two threads may run on disjoint rows of the
    same tables (lock-free SGD, Niu et al. 2011): rare lost updates have no measurable effect.
    """
    n_factors, n_context = user_factors.shape[1], context.shape[1]
    for row in range(users.shape[0]):
        u, i = users[row], items[row]
        p, q = user_factors[u], item_factors[i]
        dot = np.float32(0.0)
        for k in range(n_factors):
            dot += p[k] * q[k]
        score = mean[0] + user_bias[u] + item_bias[i] + dot
        for c in range(n_context):
            score += context[row, c] * context_weight[c]
        error = target[row] - (_sigmoid(score) if loss == LOG_LOSS else score)
        step, rate = weight[row] * bias_rate, weight[row] * learning_rate
        user_bias[u] += step * (error - bias_reg * user_bias[u])
        item_bias[i] += step * (error - bias_reg * item_bias[i])
        if n_context:
            size = _one
            for c in range(n_context):
                size += context[row, c] * context[row, c]
            for c in range(n_context):
                context_weight[c] += step * error / size * context[row, c]
        gain = rate * error
        keep_u, keep_i = _one - rate * user_reg[u], _one - rate * item_reg[i]
        for k in range(n_factors):
            a, b = p[k], q[k]
            p[k] = keep_u * a + gain * b
            q[k] = keep_i * b + gain * a


@inlined
def _start_bias(bias, code, newest):
    """Initialize a new bias with the mean of the ``newest`` biases before it."""
    first = max(0, code - newest)
    total = np.float32(0.0)
    for other in range(first, code):
        total += bias[other]
    bias[code] = total / np.float32(max(code - first, 1))


@inlined
def _start_user(factors, bias, code, newest):
    """Initialize a new user with the mean of the ``newest`` users before it."""
    _start_bias(bias, code, newest)
    first = max(0, code - newest)
    share = _one / np.float32(max(code - first, 1))
    for k in range(factors.shape[1]):
        factors[code, k] = 0
    for other in range(first, code):
        for k in range(factors.shape[1]):
            factors[code, k] += share * factors[other, k]


@jit
def online_pass(
    users,
    items,
    target,
    weight,
    context,
    scored,
    moments,
    rates,
    loss,
    newest,
    raw,
    mean,
    user_bias,
    item_bias,
    user_factors,
    item_factors,
    context_weight,
    user_count,
    item_count,
):
    """Predict each row, write the prediction to ``scored``, then learn the row.

    Parameters
    ----------
    moments : (5,) float64
        Count, mean and sum of squared deviations of the targets so far, their minimum and
        maximum. They are updated row by row, so no row is scaled by later targets.
    rates : (11,) float32
        User bias, then item bias: offset and floor of the step ``max(1 / (n + offset), floor)``.
        Factors: floor, extra and half-count of the step ``floor + extra / (1 + n / half)``, then
        ``eps`` and ``reg``. Then ``reg`` of the biases, and the largest n that the
        steps of a user use.
    newest : int
        A new user is initialized with the mean of that many previous users, and the bias of a new
        item with that of previous items.
    raw : bool
        Whether to write scores before the link, and not clipped to the range of the targets.

    Notes
    -----
    The step size decreases with the number of events n of an id, so new ids learn fast and
    frequent ids change little. Factor updates are normalised (NLMS): ``p += step e q / (eps s +
    |q|^2) - step reg p``, where s is the standard deviation of the targets so far. Together with
    the running mean, this makes predictions equivariant to a shift or scaling of all targets,
    after two different targets. For the logistic loss, e is the working response ``4 (y - p)`` of
    Newton's method at p = 1/2.
    """
    n_factors, n_context = user_factors.shape[1], context.shape[1]
    for row in range(users.shape[0]):
        u, i, w = users[row], items[row], weight[row]
        p, q = user_factors[u], item_factors[i]
        n_u, n_i = min(user_count[u], rates[10]), item_count[i]
        scale = _one
        if loss == LOG_LOSS:
            scale = np.float32(2.0)  # of the working response 4 (y - p), at p = 1/2
        elif moments[0] > 1 and moments[2] > 0:
            scale = np.float32(np.sqrt(moments[2] / moments[0]))
        # `_start_user`, written out: to inline it takes a quarter of the time of compiling.
        if n_u == 0:
            first = max(0, u - newest)
            n_before = np.float32(max(u - first, 1))
            share = _one / n_before
            total = np.float32(0.0)
            for other in range(first, u):
                total += user_bias[other]
            user_bias[u] = total / n_before
            for k in range(n_factors):
                user_factors[u, k] = 0
            for other in range(first, u):
                for k in range(n_factors):
                    user_factors[u, k] += share * user_factors[other, k]
        if n_i == 0:
            _start_bias(item_bias, i, newest)
            if w > 0:
                for k in range(n_factors):
                    q[k] *= np.sqrt(
                        scale
                    )  # before its first event it holds random numbers of unit scale
        dot, p_size, q_size = np.float32(0.0), np.float32(0.0), np.float32(0.0)
        for k in range(n_factors):
            dot += p[k] * q[k]
            p_size += p[k] * p[k]
            q_size += q[k] * q[k]
        score = mean[0] + user_bias[u] + item_bias[i] + dot
        for c in range(n_context):
            score += context[row, c] * context_weight[c]
        scored[row] = score
        if loss == LOG_LOSS:
            score = _one / (_one + np.exp(-score))
            if not raw:
                scored[row] = score
        elif not raw:
            scored[row] = min(max(score, moments[3]), moments[4]) if moments[0] > 0 else score
        if w == 0:
            continue
        error = target[row] - score
        moments[0] += w
        gap = target[row] - moments[1]
        moments[1] += gap * w / moments[0]
        moments[2] += w * gap * (target[row] - moments[1])
        moments[3] = min(moments[3], target[row])
        moments[4] = max(moments[4], target[row])
        if loss == LOG_LOSS:
            error *= np.float32(4.0)
            share = (moments[0] * moments[1] + 0.5) / (moments[0] + 1.0)
            mean[0] = np.log(share / max(1.0 - share, 1e-17))  # a large weight rounds it to 1
        else:
            error -= np.float32(moments[1]) - mean[0]
            mean[0] = moments[1]
        step_u = min(w * max(_one / (n_u + rates[0]), rates[1]), _one)
        step_i = min(w * max(_one / (n_i + rates[2]), rates[3]), _one)
        user_bias[u] += step_u * (error - rates[9] * user_bias[u])
        item_bias[i] += step_i * (error - rates[9] * item_bias[i])
        if n_context:
            size = _one
            for c in range(n_context):
                size += context[row, c] * context[row, c]
            for c in range(n_context):
                context_weight[c] += step_u * error / size * context[row, c]
        rate_u = min(w * (rates[4] + rates[5] / (_one + n_u / rates[6])), _one)
        rate_i = min(w * (rates[4] + rates[5] / (_one + n_i / rates[6])), _one)
        keep_u, keep_i = _one - rate_u * rates[8], _one - rate_i * rates[8]
        gain_u = rate_u * error / (rates[7] * scale + q_size)
        gain_i = rate_i * error / (rates[7] * scale + p_size)
        for k in range(n_factors):
            a, b = p[k], q[k]
            p[k] = keep_u * a + gain_u * b
            q[k] = keep_i * b + gain_i * a
        user_count[u] += w
        item_count[i] += w


@jit
def bpr_pass(
    users,
    items,
    negatives,
    weight,
    scored,
    counting,
    keep,
    rates,
    newest,
    user_bias,
    item_bias,
    user_factors,
    item_factors,
    user_count,
    item_count,
):
    """Run Bayesian personalised ranking of each row's item against ``negatives`` (n, m).

    Let ``g = weight sigmoid(s_uj - s_ui)``. The updates are ``p += user_rate g (q_i - q_j -
    user_reg p)``, ``q_i += item_rate g (p - item_reg q_i)`` and ``q_j += item_rate g (-p -
    item_reg q_j)``; ``rates`` holds the four constants. The factor g scales the penalty as well as
    the gradient, so one setting works for easy and for hard negatives.

    Item biases are not learned, but set to ``log(1 + n_i)``: the fixed point of BPR without
    factors under uniform negatives. With ``counting``, rows are events that arrive online: each
    row is scored first, then its item is counted, and the user's factors decay by ``p *= keep``
    before the update.
    """
    for row in range(users.shape[0]):
        u, i = users[row], items[row]
        p, q = user_factors[u], item_factors[i]
        w = weight[row]
        if counting:
            if user_count[u] == 0:
                _start_user(user_factors, user_bias, u, newest)
            dot = item_bias[i]
            for k in range(p.shape[0]):
                dot += p[k] * q[k]
            scored[row] = dot
            if w == 0:
                continue
            for k in range(p.shape[0]):
                p[k] *= keep
            user_count[u] += w
            item_count[i] += w
            item_bias[i] = np.log(_one + item_count[i])
        for s in range(negatives.shape[1]):
            j = negatives[row, s]
            if j == i:
                continue
            other = item_factors[j]
            margin = item_bias[i] - item_bias[j]
            for k in range(p.shape[0]):
                margin += p[k] * (q[k] - other[k])
            g = w * _sigmoid(-margin)
            gain_p, gain_q = rates[0] * g, rates[1] * g
            keep_p, keep_q = _one - gain_p * rates[2], _one - gain_q * rates[3]
            for k in range(p.shape[0]):
                a, gap = p[k], q[k] - other[k]
                p[k] = keep_p * a + gain_p * gap
                q[k] = keep_q * q[k] + gain_q * a
                other[k] = keep_q * other[k] - gain_q * a


@inlined
def _dot(a, b):
    total = 0.0
    for k in range(a.shape[0]):
        total += a[k] * b[k]
    return total


@jit
def fold_in(
    starts,
    rows,
    codes,
    others,
    residual,
    weight,
    reg_n,
    reg_0,
    bias_reg_n,
    bias_reg_0,
    earlier,
    newest,
    users,
    bias,
    factors,
    other_factors,
):
    """Initialize or update rows by ridge regression on the factors of the other side.

    Row ``codes[j]`` minimises, over its factors p and bias b, ``sum_e w_e (r_e - b - p .
    q_e)^2 + (reg_n (n + m) + reg_0) |p - p0|^2 + (bias_reg_n n + bias_reg_0 + m) (b - b0)^2`` over
    its events ``rows[starts[j]:starts[j + 1]]``. Here n is their total weight, and m is
    ``earlier[j]``, the weight of earlier events. (p0, b0) are the initial values of a new id; if
    ``newest`` is -1, they are the values in the tables. Conjugate gradients solve it without
    forming the matrix. They need few steps, because the penalty is strong.
    """
    n_factors = factors.shape[1]
    solution, gradient = np.empty(n_factors + 1), np.empty(n_factors + 1)
    ridge = np.empty(n_factors + 1)
    for j in range(codes.shape[0]):
        code = codes[j]
        if newest >= 0 and users:
            _start_user(factors, bias, code, newest)
        elif newest >= 0:
            _start_bias(bias, code, newest)
        total = 0.0
        solution[:] = 0.0
        gradient[:] = 0.0
        for s in range(starts[j], starts[j + 1]):
            row = rows[s]
            q, w = other_factors[others[row]], weight[row]
            gap = np.float64(residual[row] - bias[code])
            for k in range(n_factors):
                gap -= factors[code, k] * q[k]
            for k in range(n_factors):
                gradient[k] += w * gap * q[k]
            gradient[n_factors] += w * gap
            total += w
        ridge[:] = reg_n * (total + earlier[j]) + reg_0
        ridge[n_factors] = bias_reg_n * total + bias_reg_0 + earlier[j]
        direction = gradient.copy()
        size = _dot(gradient, gradient)
        goal = 1e-12 * size
        for _ in range(n_factors + 1):
            if size <= goal:
                break
            image = ridge * direction
            for s in range(starts[j], starts[j + 1]):
                q, w = other_factors[others[rows[s]]], weight[rows[s]]
                product = direction[n_factors]
                for k in range(n_factors):
                    product += direction[k] * q[k]
                product *= w
                for k in range(n_factors):
                    image[k] += product * q[k]
                image[n_factors] += product
            step = size / _dot(direction, image)
            solution += step * direction
            gradient -= step * image
            before = size
            size = _dot(gradient, gradient)
            direction = gradient + size / before * direction
        for k in range(n_factors):
            factors[code, k] += solution[k]
        bias[code] += solution[n_factors]
