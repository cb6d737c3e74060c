"""Nothing is fetched from a network without a check sum, and nothing at all unless a user asks for it."""

from __future__ import annotations

import ast
import re

import nbformat
from conftest import ROOT

# Modules that fetch. pooch, which compares check sums, would be the one to use: with known_hash, and listed here.
FETCHERS = {
    "urllib.request", "urllib3", "requests", "httpx", "aiohttp", "http.client", "ftplib", "socket", "pooch", "wget", "gdown", "huggingface_hub",
    "torch.hub", "torch.utils.model_zoo", "kaggle", "fsspec", "boto3",
}  # fmt: skip
CALLS = re.compile(
    r"fetch_\w+|from_pretrained|load_state_dict_from_url|download_url_to_file|urlopen|urlretrieve|hf_hub_download|snapshot_download"
)
# Where one of the calls stands, and what keeps it honest.
ALLOWED = {
    "paper_utils/data/lfw.py: fetch_lfw_pairs": "scikit-learn compares SHA-256; asked for with download=True only",
    "paper_utils/nn/speech_features.py: from_pretrained": "local_files_only=True",
}


def trees() -> dict[str, ast.Module]:
    """All code of the package and of the notebooks."""
    found = {}
    for path in sorted((ROOT / "paper_utils").rglob("*.py")):
        found[path.relative_to(ROOT).as_posix()] = ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert not [cell for cell in cells if re.search(r"^\s*[!%]", cell, re.MULTILINE)], (
            f"{path.name}: a shell or magic command"
        )
        found[path.relative_to(ROOT).as_posix()] = ast.parse("\n".join(cells))
    return found


def imported(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_no_module_imports_a_downloader():
    for place, tree in trees().items():
        fetching = {name for name in imported(tree) if any(name == f or name.startswith(f"{f}.") for f in FETCHERS)}
        assert not fetching, f"{place} imports {fetching}; fetch with pooch and a known_hash, and say so here"


def test_every_call_that_may_fetch_is_known_and_guarded():
    found = {}
    for place, tree in trees().items():
        for node in ast.walk(tree):
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            name = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else name
            if CALLS.fullmatch(name):
                found[f"{place}: {name}"] = node
    assert found.keys() == ALLOWED.keys()
    local = {
        keyword.arg: keyword.value for keyword in found["paper_utils/nn/speech_features.py: from_pretrained"].keywords
    }
    assert local["local_files_only"].value is True


def test_the_one_download_is_checked_by_the_library():
    """scikit-learn's fetcher names a SHA-256 for each file of LFW."""
    from sklearn.datasets import _lfw

    files = (_lfw.ARCHIVE, _lfw.FUNNELED_ARCHIVE, *_lfw.TARGETS)
    assert all(re.fullmatch("[0-9a-f]{64}", file.checksum) for file in files)
