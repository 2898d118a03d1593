"""Other processes, forked from a fresh one that imported the package once: an import takes long."""

import io
import os
import sys
from contextlib import redirect_stdout
from functools import cache
from multiprocessing import get_context
from traceback import format_exc

# What the forked processes have imported.
from sklearn_recft import EASERecommender, HabitRecommender, IncrementalMFRecommender
from sklearn_recft.persistence import ModelStore, load, save

PRELOADED = (
    EASERecommender, HabitRecommender, IncrementalMFRecommender, ModelStore, load, save,
)  # fmt: skip
PATIENCE = 240  # seconds that nothing here takes, unless it hangs


@cache
def _context():
    """Return how processes start: none of them shares memory with this one."""
    if not hasattr(os, "fork"):
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


class Started:
    """A process that runs code."""

    def __init__(self, code, *args):
        self._receiver, sender = _context().Pipe(duplex=False)
        args = [code, sender, *map(str, args)]
        self._process = _context().Process(target=_run, args=args, daemon=True)
        self._process.start()
        sender.close()

    def output(self):
        """Return what the code has printed."""
        try:
            assert self._receiver.poll(PATIENCE), "the process hangs"
            output, error = self._receiver.recv()
            self._process.join(PATIENCE)
        finally:
            self._process.kill()
            self._process.join(PATIENCE)
            self._receiver.close()
        assert error is None, error
        return output


def _run(code, sender, *args):
    sys.argv, error, printed = ["-c", *args], None, io.StringIO()
    try:
        with redirect_stdout(printed):
            exec(compile(code, "<code>", "exec"), {"__name__": "__main__"})
    except BaseException:
        error = format_exc()
    sender.send((printed.getvalue(), error))
