"""What users did before a moment, read off a linked log."""

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
    """Write each row's last events strictly earlier in time, newest first; return how many.

    Parameters
    ----------
    users, times : (n,) who asks, -1 for a stranger, and when, in seconds.
    last, previous, item, feedback, time : a log whose entries point at the user's entry
        before them: (n_users,) place of each user's latest entry, and for each entry that of
        the one before (-1: none), item code, feedback and seconds.
    max_history : events of a row at most. They are looked for among the user's last
        ``2 * max_history`` arrivals, however many more the log still holds.
    out_items, out_feedback, out_age : (n, max_history), overwritten: item codes, feedback and
        age in days at the time of the row; -1, 0 and 0 behind a row's events.

    Returns the number of events of each row, (n,). Newest first means by time and, at one
    time, by arrival. Rows that arrive in the order of time cost one step an event; a late
    one is sorted in.
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
                # Full: the oldest of the row makes room.
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
    """Count the events that each query knows: those that came before it was asked.

    Parameters
    ----------
    owners, times, items : (n,) whose events a query looks at, when it asks, in seconds, and the
        item code it asks for, -1 for none in particular.
    start, stop : (n_owners,) places of an owner's events in the log.
    item, time : (n_events,) the log, each owner's events in order of time.
    out : (n,), overwritten: how many of the owner's events lie before the query.

    Events at the very time of a query count as before it, but for those from the query's own
    item on: a row of the log that is asked for itself knows what stands before it.
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
    """Write where in the log the last events of users are, in order of arrival.

    Parameters
    ----------
    users : (n,) codes, -1 for a stranger.
    last, previous : a log whose entries point at the user's entry before them, -1 for none.
    limit : events of a user at most.
    counts : (n,), overwritten: events of each.
    places : (m,), overwritten: places in the log, one user after the other. Where m is 0,
        events are only counted.
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
