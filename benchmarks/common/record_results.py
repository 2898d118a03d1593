"""Record what every estimator predicts, to the bit, and compare two records.

    python benchmarks/common/record_results.py before.npz
    python benchmarks/common/record_results.py after.npz --only 'als*' realtime
    python benchmarks/common/record_results.py --compare before.npz after.npz

Record before a refactoring and after it; no array may differ. Cases do not depend on each other. A
case that fails is recorded as an error. Records of two machines differ in the last digits.
`--compare` prints every difference, and the exit status is 1 if there is any.
"""

import argparse
import fnmatch
import hashlib
import importlib.util
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

for prefix in ("OMP", "OPENBLAS", "MKL"):
    os.environ.setdefault(f"{prefix}_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def kernels_cache() -> str:
    """Name a folder for compiled code after its sources, so that no stale code is run."""
    spec = importlib.util.find_spec("sklearn_recft")
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted((Path(spec.origin).parent / "kernels").glob("*.py")):
        digest.update(str(file).encode() + file.read_bytes())
    return str(Path(tempfile.gettempdir(), f"recft_kernels_{digest.hexdigest()}"))


os.environ.setdefault("NUMBA_CACHE_DIR", kernels_cache())  # before numba is imported

import numpy as np

from benchmarks.common.process import in_fresh_process
from benchmarks.common.record_arrays import Record, compare, read
from benchmarks.common.record_cases import (
    Case,
    counts,
    factorizations,
    matrices,
    posteriors,
)
from benchmarks.common.record_net_cases import blends, crosses, decays, transformers
from benchmarks.common.record_stages import is_pretrained, record_case


def cases() -> list[Case]:
    """List the cases of every estimator."""
    groups = (factorizations, decays, transformers, matrices, counts, posteriors)
    groups += (crosses, blends)
    return [case for group in groups for case in group()]


def record(chosen: list[Case]) -> tuple[Record, list[str]]:
    """Record cases; return the arrays, and the names of cases that failed."""
    arrays: Record = {}
    failed = []
    for case in chosen:
        start = time.perf_counter()
        try:
            # A process keeps the vectors that a pretrained encoder computed for other cases.
            alone = is_pretrained(case)
            found = in_fresh_process(record_case, case) if alone else record_case(case)
        except Exception as error:  # a failing case is a difference
            traceback.print_exc()
            failed.append(case.name)
            found = {f"{case.name}/ERROR": np.array(f"{type(error).__name__}: {error}")}
        arrays |= found
        print(f"{case.name}: {len(found)} arrays, {time.perf_counter() - start:.1f} s", flush=True)
    return arrays, failed


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", nargs="?", type=Path, help="the .npz file to write")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="cases alone")
    parser.add_argument("--list", action="store_true", help="print the cases")
    parser.add_argument("--compare", nargs=2, type=Path, metavar=("A", "B"), help="two records")
    parser.add_argument("--quiet", action="store_true", help="do not print identical arrays")
    parser.add_argument(
        "--allow-renamed", action="store_true", help="an array with another name is no difference"
    )
    options = parser.parse_args(arguments)
    if not (options.out or options.list or options.compare):
        parser.error("give a file to write, --list, or --compare with two records")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Record or compare; 1 if a case failed or records differ."""
    options = parse(arguments)
    if options.compare:
        a, b = map(read, options.compare)
        return compare(a, b, quiet=options.quiet, allow_renamed=options.allow_renamed)
    chosen = [c for c in cases() if any(fnmatch.fnmatch(c.name, p) for p in options.only)]
    if options.list:
        for case in chosen:
            print(case)
        return 0
    arrays, failed = record(chosen)
    np.savez_compressed(options.out, **arrays)
    print(f"{len(chosen)} cases, {len(arrays)} arrays, failed: {failed}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
