"""What a page of the book shows of figures: a text for those who cannot see them, and widgets as they were stored."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nbformat import NotebookNode

SHORTEST_ALT = 15  # letters; shorter texts say nothing


class BookError(RuntimeError):
    """A book that cannot be made from what is there."""


def saved_figures(source: str) -> list[tuple[str, str]]:
    """Names and captions of the figures that a cell saves, in order; what only a run knows becomes an ellipsis.

    Examples
    --------
    >>> saved_figures('exp.save_figure(fig, "slopes", "Slopes of both heads.")')
    [('slopes', 'Slopes of both heads.')]
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "save_figure":
            named = {keyword.arg: keyword.value for keyword in node.keywords}
            name, caption = (
                _text(node.args[place]) if len(node.args) > place else _text(named[key]) if key in named else ""
                for place, key in ((1, "name"), (2, "caption"))
            )
            found.append((node.lineno, name, caption))
    return [(name, caption) for _, name, caption in sorted(found, key=lambda entry: entry[0]) if caption]


def _text(node: ast.expr) -> str:
    """A string as it is written in code."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left) + _text(node.right)
    return ""


def describe(cells: Sequence[NotebookNode], index: int) -> list[str]:
    """Alternative texts of the pictures of a cell: its captions; else the titles in its code and what the text below says to see.

    Parameters
    ----------
    cells
        All cells of the notebook.
    index
        A code cell with pictures.

    Returns
    -------
    list of str
        One text a picture.

    Raises
    ------
    BookError
        If neither code nor text says anything about a picture.
    """
    cell = cells[index]
    count = sum("image/png" in output.get("data", {}) for output in cell.outputs)
    given = [caption for _, caption in saved_figures(cell.source)]
    if len(given) >= count:
        return given[:count]
    titles = [
        _text(value)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call)
        for value in [
            *(k.value for k in node.keywords if k.arg in ("title", "titles", "suptitle")),
            *(
                node.args[:1]
                if isinstance(node.func, ast.Attribute) and node.func.attr in ("set_title", "suptitle")
                else []
            ),
        ]
    ]
    words = "; ".join(title.replace("\n", " ") for title in titles if title)
    below, above = (
        _paragraphs(cells[index + 1 : index + 2], until_heading=True),
        _paragraphs(cells[max(index - 1, 0) : index]),
    )
    seen = below[0] if below else above[-1] if above else ""
    alt = ". ".join(part.rstrip(".") for part in (words, seen) if part)
    if len(alt) < SHORTEST_ALT:
        raise BookError(
            f"cell {index} draws a picture that nothing describes: give it a caption with exp.save_figure(fig, name, caption), "
            "or a sentence in the text cell below it"
        )
    return [*given, *([alt + "."] * (count - len(given)))]


def _plain(markdown: str) -> str:
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", markdown)
    return re.sub(r"[*`$]|\s+", lambda m: " " if m[0].isspace() else "", text).strip()


def _paragraphs(cells: Iterable[NotebookNode], *, until_heading: bool = False) -> list[str]:
    texts = [cell.source for cell in cells if cell.cell_type == "markdown"]
    if until_heading:
        texts = [re.split(r"^#", text, maxsplit=1, flags=re.MULTILINE)[0] for text in texts]
    parts = [part for text in texts for part in re.split(r"\n\s*\n", text)]
    return [_plain(part) for part in parts if part.strip() and not part.startswith(("#", "|", "$$"))]


_MEDIA = {"ImageModel": "image", "AudioModel": "audio", "VideoModel": "video"}
_VIEWS = {*_MEDIA, "HTMLModel", "HTMLMathModel", "OutputModel"}


def frozen_widget(state: dict[str, Any], model: str) -> str:
    """HTML of a widget as it was stored: its pictures and sounds, and where its controls stood.

    Parameters
    ----------
    state
        The widget models of a notebook by id.
    model
        Id of the widget that is shown.
    """
    models = list(_models(state, model, set()))
    labelled = [
        (str(values.get("description") or ""), _setting(values)) for name, values, _ in models if name not in _VIEWS
    ]
    settings = html.escape(", ".join(f"{label} = {setting}" for label, setting in labelled if label), quote=True)
    alt = f"Interactive figure at {settings}" if settings else "Interactive figure"
    shown = []
    for name, values, buffers in models:
        if name in _MEDIA and "value" in buffers:
            kind = _MEDIA[name]
            data = f"data:{kind}/{values.get('format', 'png')};base64,{buffers['value']}"
            named = f'alt="{alt}"' if kind == "image" else f'controls aria-label="{kind} of: {alt}"'
            shown.append(
                f'<{"img" if kind == "image" else kind} {named} src="{data}">'
                + ("" if kind == "image" else f"</{kind}>")
            )
        elif name in ("HTMLModel", "HTMLMathModel"):
            shown.append(f"<div>{values.get('value', '')}</div>")
        elif name == "OutputModel":
            shown += [_first_html(output, alt) for output in values.get("outputs", [])]
    note = "Moves in JupyterLab (<code>make lab</code>)" + (f"; here: {settings}" if settings else "")
    return f'<figure class="frozen-widget">{"".join(shown)}<figcaption>{note}.</figcaption></figure>'


def _models(state: dict[str, Any], model: str, done: set[str]) -> Iterator[tuple[str, dict[str, Any], dict[str, str]]]:
    key = model.removeprefix("IPY_MODEL_")
    if key in done or key not in state:
        return
    done.add(key)
    entry = state[key]
    buffers = {
        "".join(map(str, b["path"])): b["data"] for b in entry.get("buffers", []) if b.get("encoding") == "base64"
    }
    yield entry["model_name"], entry["state"], buffers
    for child in entry["state"].get("children", []):
        yield from _models(state, child, done)


def _setting(values: dict[str, Any]) -> str:
    options, index = values.get("_options_labels"), values.get("index")
    if options and isinstance(index, int):
        return str(options[index])
    value = values.get("value", "")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _first_html(output: dict[str, Any], alt: str) -> str:
    data = output.get("data", {})
    if "image/png" in data:
        return f'<img alt="{alt}" src="data:image/png;base64,{data["image/png"]}">'
    return data.get("text/html") or f"<pre>{html.escape(output.get('text', '') or data.get('text/plain', ''))}</pre>"
