"""Write the API reference and the README's table of estimators from the code."""

import importlib
import inspect
import re
from pathlib import Path

import sklearn_recft
from sklearn_recft.tags import recommender_tags, verbs_of

# Public rooms in the order of the reference, and what their section is called.
ROOMS = {
    "sklearn_recft": "Estimators",
    "sklearn_recft.pipeline": "Pipelines",
    "sklearn_recft.lists": "Lists",
    "sklearn_recft.preprocessing": "Preprocessing",
    "sklearn_recft.metrics": "Metrics",
    "sklearn_recft.model_selection": "Model selection",
    "sklearn_recft.datasets": "Datasets",
    "sklearn_recft.inspection": "Inspection",
    "sklearn_recft.text": "Texts",
    "sklearn_recft.persistence": "Persistence",
    "sklearn_recft.compression": "Compression",
    "sklearn_recft.scale": "Scale",
    "sklearn_recft.serving": "Serving",
}

# What `RecommenderTags.predicts` and `RecommenderTags.lists_by` mean to a reader.
PREDICTS = {
    "feedback": "expected feedback",
    "probability": "labels; `predict_proba` a probability",
    "order": "a score that only orders items",
}
LISTS_BY = {"predictions": "its prediction", "own score": "a score of its own"}


def public_names(room):
    """Return the names that a room exports, in alphabetical order, dunder names left out."""
    names = importlib.import_module(room).__all__
    return sorted((name for name in names if not name.startswith("__")), key=str.lower)


def recommenders():
    """Return every public recommender, unfitted, with its default parameters."""
    found = (getattr(sklearn_recft, name) for name in public_names("sklearn_recft"))
    arguments = {"AdaptiveRecommender": [[("popularity", sklearn_recft.PopularityRecommender())]]}
    return [cls(*arguments.get(cls.__name__, ())) for cls in found if hasattr(cls, "recommend")]


def estimator_rows():
    """Return the README's table of estimators, one Markdown line a row, from their tags."""
    lines = [
        "| estimator | learns | `predict` returns | `partial_fit` | further methods |",
        "|---|---|---|---|---|",
    ]
    for estimator in recommenders():
        tags, name = recommender_tags(estimator), type(estimator).__name__
        verbs = [v for v in verbs_of(estimator) if v not in ("partial_fit", "recommend")]
        further = ", ".join(f"`{verb}`" for verb in verbs)
        cells = [f"`{name}`", tags.learns, PREDICTS[tags.predicts], tags.partial_fit, further]
        lines.append(f"| {' | '.join(cells).rstrip()} |")
    return lines


def tags_table():
    """Return the reference's table of estimators, from their tags."""
    heads = ["estimator", "``predict`` returns", "``recommend`` ranks by", "``partial_fit``"]
    heads += ["``adapt`` changes", "reads beside ids and feedback", "keeps", "``forget``"]
    rows = [heads]
    for estimator in recommenders():
        tags = recommender_tags(estimator)
        cells = [PREDICTS[tags.predicts], LISTS_BY[tags.lists_by], tags.partial_fit]
        cells += [tags.adapts or "–", ", ".join(tags.reads) or "nothing", tags.keeps]
        cells.append(tags.forget)
        name = f":obj:`{type(estimator).__name__}`"
        rows.append([name, *(re.sub("`", "``", cell) for cell in cells)])
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in rows:
        lines += [f"   * - {first}", *(f"     - {cell}" for cell in others)]
    return [*lines, ""]


def own_methods(cls):
    """Return public methods that this package writes, then those that are inherited."""
    own, inherited = [], []
    for name, member in inspect.getmembers(cls):
        if name.startswith("_") or not callable(member):
            continue
        home = next(c for c in cls.__mro__ if name in vars(c))
        ours = home.__module__.split(".")[0] == "sklearn_recft"
        generated = name.startswith("set_") and name.endswith("_request")
        (own if ours and not generated else inherited).append(name)
    return own, inherited


def object_page(room, name):
    """Return the page of one public name."""
    thing = getattr(importlib.import_module(room), name)
    lines = [name, "=" * len(name), "", f".. currentmodule:: {room}", ""]
    if inspect.isclass(thing):
        kind = "autoexception" if issubclass(thing, BaseException) else "autoclass"
        lines += [f".. {kind}:: {name}", ""]
        if kind == "autoclass":
            lines += _methods(thing, name)
    elif callable(thing):
        lines += [f".. autofunction:: {name}", ""]
    else:
        lines += [f".. autodata:: {name}", ""]
    lines += [f".. minigallery:: {room}.{name}", "   :add-heading: Examples that use it", ""]
    return "\n".join(lines)


def _methods(cls, name):
    own, inherited = own_methods(cls)
    lines = []
    for method in own:
        lines += [f"   .. automethod:: {name}.{method}", ""]
    if inherited:
        listed = ", ".join(f"``{method}``" for method in inherited)
        lines += ["", f"Inherited from scikit-learn or the standard library: {listed}.", ""]
    return lines


def summary(thing):
    """Return the first paragraph of a docstring as one line, without marks of footnotes."""
    first = inspect.getdoc(thing).split("\n\n")[0]
    return re.sub(r"\s*\[\d+\]_", "", " ".join(first.split()))


def room_table(room):
    """Return the table of the public names of a room, each with its summary."""
    module = importlib.import_module(room)
    lines = [f".. currentmodule:: {room}", "", ".. list-table::", "   :widths: 35 65", ""]
    for name in public_names(room):
        lines += [f"   * - :obj:`{name}`", f"     - {summary(getattr(module, name))}"]
    return [*lines, ""]


def room_page(room):
    """Return the page of a room, the parent of the pages of its names."""
    title, about = ROOMS[room], summary(importlib.import_module(room))
    lines = [title, "=" * len(title), "", f"``{room}``: {about}", "", *room_table(room)]
    if room == "sklearn_recft":
        lines += ["What they return, read and keep, with default parameters:", "", *tags_table()]
    lines += [".. toctree::", "   :hidden:", ""]
    return "\n".join([*lines, *(f"   {room}.{name}" for name in public_names(room)), ""])


def index_page():
    """Return the page that lists every public name under its room."""
    lines = ["API reference", "=============", "", ".. toctree::", "   :hidden:", ""]
    lines += [f"   {room}" for room in ROOMS]
    for room, title in ROOMS.items():
        lines += ["", title, "-" * len(title), "", *room_table(room)]
    return "\n".join(lines)


def reference_pages():
    """Return every page of the reference: file name to content."""
    pages = {"index.rst": index_page()}
    for room in ROOMS:
        pages[f"{room}.rst"] = room_page(room)
        for name in public_names(room):
            pages[f"{room}.{name}.rst"] = object_page(room, name)
    return pages


def write_reference(folder):
    """Write the reference; leave unchanged pages alone and remove those of names that are gone."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    pages = reference_pages()
    for stale in set(folder.glob("*.rst")) - {folder / name for name in pages}:
        stale.unlink()
    for name, content in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != content:
            path.write_text(content, encoding="utf-8")
