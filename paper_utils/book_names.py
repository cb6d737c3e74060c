"""Which names of this package a notebook uses, and links from its text and code to their documentation."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass

from nbformat import NotebookNode

from paper_utils import files


@dataclass(frozen=True)
class Documented:
    """A public name of the package.

    Parameters
    ----------
    kind
        ``"mod"``, ``"func"``, ``"class"`` or ``"meth"``, as Sphinx calls them.
    module
        Where it stands.
    returns
        For a function that makes a class of its own module: that class.
    """

    kind: str
    module: str
    returns: str = ""


@functools.cache
def documented() -> dict[str, Documented]:
    """Every public module, function, class and method of the package, read from its source."""
    package = files.project_root() / "paper_utils"
    found: dict[str, Documented] = {}
    for path in package.rglob("*.py"):
        module = ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        found[module] = Documented("mod", module)
        body = ast.parse(path.read_text(encoding="utf-8")).body
        classes = {node.name for node in body if isinstance(node, ast.ClassDef)}
        for node in body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                made = ast.unparse(node.returns) if node.returns else ""
                returns = f"{module}.{made}" if made in classes else ""
                found[f"{module}.{node.name}"] = Documented("func", module, returns)
            elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[f"{module}.{node.name}"] = Documented("class", module, f"{module}.{node.name}")
                methods = (m.name for m in node.body if isinstance(m, ast.FunctionDef) and not m.name.startswith("_"))
                found.update({f"{module}.{node.name}.{name}": Documented("meth", module) for name in methods})
    return found


def imported(cells: Iterable[NotebookNode]) -> dict[str, str]:
    """What a notebook's names mean in this package: imports, and objects that an imported function makes."""
    names: dict[str, str] = {}
    for cell in cells:
        if cell.cell_type != "code":
            continue
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "paper_utils":
                names.update({a.asname or a.name: f"{node.module}.{a.name}" for a in node.names})
            elif isinstance(node, ast.Import):
                names.update({a.asname: a.name for a in node.names if a.asname and a.name.startswith("paper_utils.")})
            elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = documented().get(meaning(ast.unparse(node.value.func), names) or "")
                if made and made.returns:
                    names.update({t.id: made.returns for t in node.targets if isinstance(t, ast.Name)})
    return names


def meaning(dotted: str, names: dict[str, str]) -> str | None:
    """Full name of what ``sf2.balanced_bias`` stands for in a notebook, or ``None`` if that is not documented here."""
    first, _, rest = dotted.partition(".")
    full = names.get(first, first) + ("." if rest else "") + rest
    return full if full in documented() else None


def link_names(text: str, names: dict[str, str]) -> str:
    """Markdown with names of this package in code quotes turned into links to their documentation.

    Examples
    --------
    >>> link_names("See `papers.find(n)` and `other`.", {"papers": "paper_utils.papers"})
    'See {py:func}`papers.find(n) <paper_utils.papers.find>` and `other`.'
    """

    def link(match: re.Match[str]) -> str:
        shown = match[1]
        dotted = re.match(r"[A-Za-z_][\w.]*", shown)
        if dotted is None or not re.fullmatch(r"(\([^<>`]*\))?", shown[dotted.end() :]):
            return match[0]
        target = meaning(dotted[0], names)
        return f"{{py:{documented()[target].kind}}}`{shown} <{target}>`" if target else match[0]

    # Fenced code stays as it is.
    parts = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    return "".join(p if p.startswith("```") else re.sub(r"(?<![`}])`([^`\n]+)`(?!`)", link, p) for p in parts)


_NAME = r'<span class="n[a-z]?">([\w.]+)</span>'
_CHAIN = re.compile(rf'{_NAME}(?:<span class="o">\.</span>{_NAME})*')
_BLOCK = re.compile(r'<div class="highlight-ipython3.*?</pre>', re.DOTALL)


def link_code(html_page: str, names: dict[str, str]) -> str:
    """A finished page whose code cells link names of this package to their documentation, which leads to their source."""

    def link(match: re.Match[str]) -> str:
        spans = re.findall(_NAME, match[0])
        for length in range(len(spans), 0, -1):
            target = meaning(".".join(spans[:length]), names)
            if target:
                entry = documented()[target]
                place = f"module-{target}" if entry.kind == "mod" else target
                end = [m.end() for m in re.finditer(_NAME, match[0])][length - 1]
                opening = f'<a class="of-this-package" href="../api/{entry.module}.html#{place}" title="{target}">'
                return f"{opening}{match[0][:end]}</a>{match[0][end:]}"
        return match[0]

    return _BLOCK.sub(lambda block: _CHAIN.sub(link, block[0]), html_page)
