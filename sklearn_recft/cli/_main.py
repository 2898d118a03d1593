"""Parse, call one function, print."""

import json
import os
import sys
import warnings
from importlib import import_module
from time import perf_counter

from sklearn_recft.cli._candidates import CANDIDATES, DEMO, Facts, best_model
from sklearn_recft.cli._compare import compare
from sklearn_recft.cli._household import busiest_user, recommendations
from sklearn_recft.cli._log import DATASETS, read_log
from sklearn_recft.cli._parser import DEMO_PLOT, OF_A_LOG, check_usage, make_parser
from sklearn_recft.cli._saved import (
    described,
    key_of,
    save_compressed,
    save_fitted,
    saved_recommendations,
)
from sklearn_recft.cli._text import as_text
from sklearn_recft.datasets import HeaderWarning
from sklearn_recft.times import TimeUnitWarning

_WORTH_TELLING = (UserWarning, TimeUnitWarning, HeaderWarning)


def main(argv=None):
    r"""Run the console script.

    Parameters
    ----------
    argv : list of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    int
        Exit status: 0, or 1 if something is wrong with the data, reported in one line on the
        standard error stream. Wrong usage exits with 2.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from sklearn_recft.cli import main
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = pathlib.Path(folder, "log.csv")
    ...     _ = log.write_text("user_id,item_id\nann,tea\nbob,tea\nbob,rye\ncem,rye\n")
    ...     main(["recommend", str(log), "--user", "ann"])
    Top 1 for user ann:
      1. rye  new, taken by 2 users
    0
    """
    parser = make_parser(_demo, _evaluate, _recommend, _save, _inspect, _compress)
    args = parser.parse_args(argv)
    check_usage(parser, args)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("default")
            report = args.run(args)
        text = json.dumps(report, indent=2, allow_nan=False) if args.json else as_text(report)
    except Exception as error:  # any error is reported in one line
        return _fail(error)
    except KeyboardInterrupt:
        sys.stderr.write("recft: interrupted\n")
        return 130
    if not args.quiet:
        _tell(caught)
    try:
        _write(text)
    except BrokenPipeError:  # as of `recft ... | head`; nothing more can be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _fail(error)
    return 0


def _fail(error):
    message = " ".join(str(error).split()) or type(error).__name__
    if not isinstance(error, (ImportError, OSError, ValueError)):
        message = f"{type(error).__name__}: {message}"
    sys.stderr.write(f"recft: error: {message}\n")
    return 1


def _tell(caught):
    """Say in one line each what a file was taken for, and the like."""
    messages = {" ".join(str(w.message).split()) for w in caught if w.category in _WORTH_TELLING}
    for text in sorted(messages):
        sys.stderr.write(f"recft: note: {text}\n")


def _write(text):
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding) + "\n")
    sys.stdout.flush()


# ---------------------------------------------------------------------- call one function


def _demo(args):
    clock = perf_counter()
    if args.plot:
        _check_can_plot()
    log = DATASETS[args.dataset]()
    named = [c for c in CANDIDATES if c.name in DEMO] if log.y is None and log.repeat else None
    compared = compare(log, named, quiet=args.quiet)
    report = compared.report()
    report["best"] = compared.best.name
    model = compared.best.estimator
    if hasattr(model, "recommend"):
        report["recommendations"] = recommendations(model, log, busiest_user(log), 10)
    try:
        report["plot"] = compared.plot(args.plot or DEMO_PLOT)
    except ImportError as error:
        if args.plot:
            raise
        report["plot"] = None
        sys.stderr.write(f"recft: no plot: {error}\n")
    return report | {"seconds": perf_counter() - clock}


def _evaluate(args):
    clock = perf_counter()
    if args.plot:
        _check_can_plot()
    log = _read(args)
    compared = compare(log, args.models, deep=args.deep, quiet=args.quiet)
    report = compared.report() | {"show_candidates": True, "best": compared.best.name}
    report["plot"] = compared.plot(args.plot) if args.plot else None
    return report | {"seconds": perf_counter() - clock}


def _save(args):
    key = key_of(args.key_file)
    log = _read(args)
    model = best_model(Facts.of(log)).fit(log.X, log.y)
    return {"saved": save_fitted(model, log, args.folder, key, args.feedback)}


def _inspect(args):
    return {"saved": described(args.folder, key_of(args.key_file))}


def _compress(args):
    return {"saved": save_compressed(args.folder, args.to, args.tables, key_of(args.key_file))}


def _recommend(args):
    if args.model is not None:
        key = key_of(args.key_file)
        found = saved_recommendations(args.model, args.user, args.n, args.repeat, key)
        if not found["items"]:
            raise ValueError(
                f"User {args.user} has had every item; --repeat recommends them again."
            )
        return {"log": args.model, "recommendations": found}
    log = _read(args)
    user = log.user(args.user)
    model = best_model(Facts.of(log)).fit(log.X, log.y)
    found = recommendations(model, log, user, args.n)
    if not found["items"]:
        raise ValueError(f"User {args.user} has had every item; --repeat recommends them again.")
    return {"log": log.name, "recommendations": found}


def _read(args):
    given = {name: vars(args)[name] for name in OF_A_LOG if vars(args)[name] is not None}
    return read_log(args.data, given.pop("feedback", None), args.repeat, **given)


def _check_can_plot():
    """Fail before a long replay, not after it."""
    try:
        import_module("matplotlib")
    except ImportError as error:
        raise ImportError("--plot needs matplotlib: pip install 'sklearn-recft[plot]'") from error
