"""Read users' events before a given time from a linked log."""

import numpy as np

from sklearn_recft.kernels._compile import jit

_DAYS = 1 / 86_400  # of a second


@jit
def gather_past(
    users,
    times,
    last,
    previous,
    item,
    feedback,
    time,
    max_history,
    out_items,
    out_feedback,
    out_age,
):
    """Write the last events of each row's user before the row, newest first; return counts.

    Parameters
    ----------
    users, times : (n,) user codes, -1 if unknown, and times in seconds.
    last, previous, item, feedback, time : a linked log. ``last`` (n_users,) holds the index of
        each user's latest entry. For each entry, ``previous`` holds the index of the user's entry
        before it (-1: none); the others hold item code, feedback and time in seconds.
    max_history : maximal number of events of a row. Only the user's last ``2 * max_history``
        arrivals are read, even if the log holds more.
    out_items, out_feedback, out_age : (n, max_history), overwritten: item codes, feedback and
        age in days at the time of the row, padded with -1, 0 and 0.

    Returns the number of events of each row, (n,). Events are sorted by time, then by arrival,
    newest first. Events that arrive in time order cost one step each; others are inserted.
    """
    n_rows = users.shape[0]
    counts = np.zeros(n_rows, np.int64)
    found = np.empty(max_history, np.float64)  # times of the row's events so far
    for r in range(n_rows):
        now = times[r]
        place = last[users[r]] if 0 <= users[r] < last.shape[0] else -1
        size, left = 0, 2 * max_history
        while place >= 0 and left > 0:
            then = time[place]
            if then < now and (size < max_history or then > found[max_history - 1]):
                # If the row is full, drop its oldest event.
                j = size if size < max_history else max_history - 1
                size = j + 1
                while j > 0 and found[j - 1] < then:
                    found[j] = found[j - 1]
                    out_items[r, j] = out_items[r, j - 1]
                    out_feedback[r, j] = out_feedback[r, j - 1]
                    out_age[r, j] = out_age[r, j - 1]
                    j -= 1
                found[j] = then
                out_items[r, j] = item[place]
                out_feedback[r, j] = feedback[place]
                out_age[r, j] = (now - then) * _DAYS
            place = previous[place]
            left -= 1
        for j in range(size, max_history):
            out_items[r, j] = -1
            out_feedback[r, j] = 0
            out_age[r, j] = 0
        counts[r] = size
    return counts


@jit
def count_past(owners, times, items, start, stop, item, time, out):
    """Count the events that each query sees: those before its time.

    Parameters
    ----------
    owners, times, items : (n,) index of the query's user, query time in seconds, and item code of
        the query, -1 for none.
    start, stop : (n_owners,) range of each user's events in the log.
    item, time : (n_events,) the log, with each user's events in time order.
    out : (n,), overwritten: number of the user's events before the query.

    Events at the query time count as earlier, up to the first event of the query's item. A row of
    the log that is scored itself therefore sees exactly the events before it.
    """
    for r in range(owners.shape[0]):
        first, last = start[owners[r]], stop[owners[r]]
        low, high = first, last
        while low < high:
            middle = (low + high) // 2
            if time[middle] <= times[r]:
                low = middle + 1
            else:
                high = middle
        place = low - 1
        while place >= first and time[place] == times[r]:
            if item[place] == items[r]:
                low = place
            place -= 1
        out[r] = low - first


@jit
def latest_events(users, last, previous, limit, counts, places):
    """Write the log indices of the last events of users, in order of arrival.

    Parameters
    ----------
    users : (n,) codes, -1 if unknown.
    last, previous : a linked log, as in `gather_past`.
    limit : maximal number of events per user.
    counts : (n,), overwritten: number of events of each user.
    places : (m,), overwritten: indices in the log, one user after the other. If m is 0, events
        are only counted.
    """
    end = 0
    for r in range(users.shape[0]):
        place = last[users[r]] if 0 <= users[r] < last.shape[0] else -1
        size, walk = 0, place
        while walk >= 0 and size < limit:
            size += 1
            walk = previous[walk]
        counts[r] = size
        end += size
        if places.shape[0]:
            for j in range(size):
                places[end - 1 - j] = place
                place = previous[place]
