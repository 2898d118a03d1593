"""How the documentation is built: `sphinx-build -W -b html docs docs/_build/html`, offline."""

import os
import re
import sys
from pathlib import Path

os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from _api import write_reference  # noqa: E402
from docutils import nodes  # noqa: E402

import sklearn_recft  # noqa: E402

# The reference follows what is public, so its pages are written anew at every build.
write_reference(HERE / "api")


def escape_fitted_names(app, what, name, thing, options, lines):
    """Keep `(n_items_,)` in the type of an attribute from being read as a link to `n_items`."""
    for i, line in enumerate(lines):
        if re.match(r"\w[\w, ]* : ", line):
            lines[i] = re.sub(r"(?<=\w)_(?=[,) ])", r"\\_", line)


def unlink_addresses(app, doctree):
    """Keep `NDCG@10` from being read as the address of someone's post box."""
    for node in list(doctree.findall(nodes.reference)):
        if node.get("refuri", "").startswith("mailto:"):
            node.replace_self(nodes.Text(node.astext()))


def setup(app):
    """Read docstrings before numpydoc does, and pages before they are written."""
    app.connect("autodoc-process-docstring", escape_fitted_names, priority=100)
    app.connect("doctree-read", unlink_addresses)


project = "sklearn_recft"
copyright = "The sklearn_recft developers, BSD-3-Clause"
version = release = sklearn_recft.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx-mathjax-offline",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "myst_parser",
]
exclude_patterns = ["_build", "examples"]
source_suffix = {".rst": "restructuredtext", ".md": "markdown"}
default_role = "literal"

autodoc_typehints = "none"
numpydoc_show_class_members = False
myst_heading_anchors = 3

sphinx_gallery_conf = {
    "examples_dirs": ["examples"],
    "gallery_dirs": ["auto_examples"],
    "doc_module": ("sklearn_recft",),
    "backreferences_dir": "api/backreferences",
    "reference_url": {"sklearn_recft": None},
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1,
    "write_computation_times": False,
    "remove_config_comments": True,
    "within_subsection_order": "FileNameSortKey",
}

# "On this page" is narrow: list `fit()`, not `IncrementalMFRecommender.fit()`.
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = f"sklearn_recft {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
html_sidebars = {
    "index": [],
    "benchmarks": [],
    "changelog": [],
    "contributing": [],
    "getting_started": [],
}
