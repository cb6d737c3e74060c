"""What a page of the book shows of figures: a text for those who cannot see them, and widgets as they were stored."""

from __future__ import annotations

import ast
import html
from collections.abc import Iterator, Sequence
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


def captions(cells: Sequence[NotebookNode]) -> dict[int, list[tuple[str, str]]]:
    """Names and captions of the pictures that each code cell shows, as far as they have any.

    A notebook opens with a figure that only a later cell, which has an experiment, can save: a figure that is saved where none is shown
    is the earliest one that is still without a caption.
    """
    found: dict[int, list[tuple[str, str]]] = {}
    waiting: list[int] = []
    for index, cell in enumerate(cells):
        if cell.cell_type != "code":
            continue
        saved, shown = saved_figures(cell.source), len(pictures(cell))
        found[index] = saved[:shown]
        for late in saved[shown:]:
            if waiting:
                found[waiting.pop(0)].append(late)
        waiting += [index] * (shown - len(found[index]))
    return found


def pictures(cell: NotebookNode) -> list[NotebookNode]:
    """Outputs of a cell that are pictures; those beside a widget stand for it and are not counted."""
    kinds = [(output, output.get("data", {})) for output in cell.get("outputs", [])]
    return [output for output, data in kinds if "image/png" in data and not any("widget-view" in kind for kind in data)]


def stored_alt(output: NotebookNode) -> str:
    """Alternative text that a picture was stored with; `figure_text` writes it.

    Raises
    ------
    BookError
        If it has none that says anything.
    """
    alt = output.metadata.get("image/png", {}).get("alt", "")
    if len(alt) < SHORTEST_ALT:
        raise BookError(
            f"a picture has no alternative text (found {alt!r}); give the figure a title or a caption with "
            "exp.save_figure(fig, name, caption), and run `make outputs`"
        )
    return alt


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
