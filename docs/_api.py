"""The API reference as reStructuredText, from what each public room says is public."""

import importlib
import inspect
import re
from pathlib import Path

# Public rooms in the order of the reference, and what their section is called.
ROOMS = {
    "sklearn_recft": "Estimators",
    "sklearn_recft.preprocessing": "Preprocessing",
    "sklearn_recft.metrics": "Metrics",
    "sklearn_recft.model_selection": "Model selection",
    "sklearn_recft.datasets": "Datasets",
    "sklearn_recft.inspection": "Inspection",
}


def public_names(room):
    """Names that a room exports, in alphabetical order, dunder names left out."""
    names = importlib.import_module(room).__all__
    return sorted((name for name in names if not name.startswith("__")), key=str.lower)


def own_methods(cls):
    """Public methods that are written in this package, then those that are inherited."""
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
    """Return the table of the public names of a room, each beside what it says of itself."""
    module = importlib.import_module(room)
    lines = [f".. currentmodule:: {room}", "", ".. list-table::", "   :widths: 35 65", ""]
    for name in public_names(room):
        lines += [f"   * - :obj:`{name}`", f"     - {summary(getattr(module, name))}"]
    return [*lines, ""]


def room_page(room):
    """Return the page of a room, under which the pages of its names hang."""
    title, said = ROOMS[room], summary(importlib.import_module(room))
    lines = [title, "=" * len(title), "", f"``{room}``: {said}", "", *room_table(room)]
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
