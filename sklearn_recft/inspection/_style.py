"""How models are told apart, in print and without seeing colours."""

import itertools

import numpy as np

# The palette of Okabe and Ito, which colour-blind readers can tell apart, darkest first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_LINES = ("-", "--", "-.", ":", (0, (3, 1, 1, 1, 1, 1)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_LABEL_HEIGHT = 0.06  # of the height of the axes


def styles():
    """Yield line styles without end; colours, dashes and markers turn at their own pace."""
    turning = zip(
        itertools.cycle(_COLOURS), itertools.cycle(_LINES), itertools.cycle(_MARKERS), strict=False
    )
    for colour, line, marker in turning:
        yield {"color": colour, "linestyle": line, "marker": marker, "markersize": 4.5}


def new_axes(display, **subplot_kw):
    """Make a figure with one pair of axes; say which extra is missing where that fails."""
    try:
        from matplotlib import pyplot
    except ImportError as exc:
        raise ImportError(
            f"{type(display).__name__}.plot needs matplotlib: pip install 'sklearn-recft[plot]'"
        ) from exc
    return pyplot.subplots(layout="constrained", **subplot_kw)[1]


def label_ends(ax, lines):
    """Write the name of each line beside its last finite value, none over another."""
    ends = {}
    for line in lines:
        values = np.asarray(line.get_ydata(), np.float64)
        finite = np.flatnonzero(np.isfinite(values))
        if len(finite):
            ends[line] = values[finite[-1]]
    if not ends:
        return
    low, high = ax.get_ylim()
    room, floor = _LABEL_HEIGHT * (high - low), -np.inf
    # From the lowest up, each label at its line's end, or as far above it as the one below needs.
    for line, y in sorted(ends.items(), key=lambda pair: pair[1]):
        place = max(y, floor)
        floor = place + room
        ax.annotate(
            line.get_label(),
            (1.0, place),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            color=line.get_color(),
            va="center",
            annotation_clip=False,
        )
    ax.set_ylim(low, high)
