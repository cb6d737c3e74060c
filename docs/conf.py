"""How Sphinx draws the book; `paper_utils.book` writes the pages and calls it. Nothing here runs a notebook or needs a network."""

import jaxtyping  # noqa: F401  (imported before autodoc reads signatures, so that shapes are shown as written)

project = "Ten face, voice and speech papers"
html_title = project
author = ""
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx.ext.mathjax",
]
exclude_patterns = ["site"]

# Notebooks are shown as they are stored.
nb_execution_mode = "off"
nb_merge_streams = True
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
# Pages start at different levels of heading, and cells end in the middle of a section.
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]

# Docstrings are NumPy's, with names in single quotes; a name that is no object of ours is shown as text.
default_role = "py:obj"
napoleon_google_docstring = False
napoleon_use_rtype = False
# Types stand in signatures; repeated in lists of parameters, the star of "*batch dim" would begin an emphasis.
napoleon_attr_annotations = False
# A list of attributes is a list of names with texts; those that autodoc finds by itself are not said twice.
napoleon_custom_sections = [("Attributes", "params_style")]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
add_module_names = False

# One file without fonts beside it: equations are drawn from a folder as well as from a server.
mathjax_path = "mathjax/tex-svg.js"

html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_extra_path: list[str] = []
html_css_files = ["book.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_show_copyright = False
html_last_updated_fmt = None
html_theme_options = {
    "show_toc_level": 2,
    "use_download_button": False,
    "use_fullscreen_button": False,
    "navigation_with_keys": False,
    "show_navbar_depth": 1,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}


SENTENCES: dict[str, list[str]] = {}


def keep_sentences(_app, what, name, _obj, _options, lines):
    """Remember a property's text before napoleon takes "Hash of the files: part of a key" for a type and a text."""
    if what in ("attribute", "property") and not any(line.startswith("---") for line in lines):
        SENTENCES[name] = list(lines)


def restore_sentences(_app, _what, name, _obj, _options, lines):
    """Put it back."""
    lines[:] = SENTENCES.pop(name, lines)


def setup(app):
    """Take pictures and MathJax from the folder that `paper_utils.book` filled; read docstrings as they are meant."""
    app.connect("config-inited", lambda app, config: config.html_extra_path.append(str(app.srcdir / "site")))
    app.connect("autodoc-process-docstring", keep_sentences, priority=400)
    app.connect("autodoc-process-docstring", restore_sentences, priority=600)
