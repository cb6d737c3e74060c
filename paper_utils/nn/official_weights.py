"""Reads the checkpoints that OpenSphere, the official code of papers 05 and 06, writes, and loads them into `backbones`.

Three branches wrote three layouts; all come out alike: a backbone state with the official names and class proxies as rows.
Only plain tensors are read, nothing in a file is ever run, and what does not fit is refused with a list of what is wrong.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paper_utils import safe_checkpoints
from paper_utils.nn import backbones

PREFIX = "module."  # of DistributedDataParallel, whose state dictionary v0 and iclr store
SHOWN = 5  # names listed for each kind of fault

LAYOUTS = (
    "expected v0 `backbone_<iter>.pth` with `head_<iter>.pth` (state dictionaries, names begin with `module.`), "
    "iclr `checkpoint_<iter>.pth` ({backbone, head}, names begin with `module.`) "
    "or main `model_<step>.pth` ({backbone, head}, plain names)"
)


class OfficialCheckpointError(ValueError):
    """A checkpoint that cannot be used; the subclasses say why."""


class UnreadableCheckpointError(OfficialCheckpointError):
    """Not a file of tensors: cut off, damaged, or something else altogether."""


class UnsafeCheckpointError(OfficialCheckpointError):
    """The file asks for objects other than plain tensors, which could run code; nothing was run."""


class CheckpointLayoutError(OfficialCheckpointError):
    """Readable tensors, but in none of the official layouts."""


class StateMismatchError(OfficialCheckpointError):
    """The names or shapes of a state are not those of the network."""


@dataclass(frozen=True)
class OfficialWeights:
    """What an official checkpoint holds, whichever branch wrote it.

    Parameters
    ----------
    branch
        ``"v0"``, ``"iclr"`` or ``"main"``: the layout of the file.
    iteration
        Training step by the file's name, None if the name tells none.
    backbone
        State dictionary without prefix; strict loading is `load_backbone_state`'s task.
    proxies
        One row a class, as stored, so not necessarily of unit length. None if a v0 backbone came without its head.
    bias
        One number for all classes (SphereFace2), one a class (softmax), or None.
    source
        Files read, for messages and captions.
    """

    branch: str
    iteration: int | None
    backbone: dict[str, Tensor]
    proxies: Float[Tensor, "classes dim"] | None
    bias: Float[Tensor, " one_or_classes"] | None
    source: str


# --------------------------------------------------------------------------------------------------------------- reading


def read_checkpoint(path: str | Path, *, head_path: str | Path | None = None) -> OfficialWeights:
    """Read an official checkpoint of any branch; the layout is told by the content, not by the file's name.

    Parameters
    ----------
    path
        v0 ``backbone_<iter>.pth``, iclr ``checkpoint_<iter>.pth``, main ``model_<step>.pth`` or its training state
        ``ckpt_<step>.pth``.
    head_path
        v0 only: the file of the head. By default ``head_<iter>.pth`` beside the backbone, if there is one.

    Returns
    -------
    OfficialWeights
        On the CPU, with the stored number type.

    Raises
    ------
    FileNotFoundError
        If `path` or a given `head_path` does not exist.
    UnreadableCheckpointError, UnsafeCheckpointError, CheckpointLayoutError
        See there.

    Notes
    -----
    Proxies are stored as columns by v0 and iclr, as rows by main, except for main's plain softmax head, which keeps columns.
    The width of the embedding decides in main; a head with as many classes as dimensions is taken as rows.
    """
    path = Path(path)
    stored = _load(path)
    if isinstance(stored, Mapping) and isinstance(stored.get("model"), Mapping):
        stored = stored["model"]  # main's training state also holds optimiser, schedule and loss scale
    if isinstance(stored, Mapping) and {"backbone", "head"} <= set(stored):
        if head_path is not None:
            raise CheckpointLayoutError(f"{path}: holds backbone and head; leave head_path={head_path} out")
        backbone, prefixed = _state(stored["backbone"], f"{path}: 'backbone'")
        head, head_prefixed = _state(stored["head"], f"{path}: 'head'")
        if prefixed != head_prefixed:
            raise CheckpointLayoutError(f"{path}: only one of backbone and head has names with `{PREFIX}`; {LAYOUTS}")
        branch, source = ("iclr" if prefixed else "main"), str(path)
    else:
        backbone, prefixed = _state(stored, str(path))
        if not prefixed:
            raise CheckpointLayoutError(
                f"{path}: a lone state dictionary whose names ({_some(backbone)}) lack `{PREFIX}`; {LAYOUTS}"
            )
        found = _head_beside(path) if head_path is None else Path(head_path)
        head = None if found is None else _v0_head(path, found)
        branch, source = "v0", str(path) if found is None else f"{path}, {found}"
    dim = _embedding_width(backbone, path)
    proxies, bias = (None, None) if head is None else _proxies(head, dim, branch, source)
    return OfficialWeights(branch, _iteration(path), backbone, proxies, bias, source)


def _load(path: Path) -> Any:
    """Whatever tensors and containers the file holds."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; {LAYOUTS}")
    try:
        return safe_checkpoints.load(path)
    except safe_checkpoints.UnsafeCheckpointError as error:
        raise UnsafeCheckpointError(
            f"{error}. Save the state dictionary of the network instead of the network, and do not open this file otherwise "
            "unless you trust who made it"
        ) from error
    except safe_checkpoints.UnreadableCheckpointError as error:
        raise UnreadableCheckpointError(f"{error}; {LAYOUTS}") from error


def _state(stored: Any, where: str) -> tuple[dict[str, Tensor], bool]:
    """A state dictionary without prefix, and whether it had one."""
    if not isinstance(stored, Mapping) or not stored:
        kind = "nothing" if isinstance(stored, Mapping) else f"a {type(stored).__name__}"
        raise CheckpointLayoutError(f"{where}: expected a state dictionary, found {kind}; {LAYOUTS}")
    odd = [str(name) for name, value in stored.items() if not (isinstance(name, str) and isinstance(value, Tensor))]
    if odd:
        raise CheckpointLayoutError(f"{where}: {len(odd)} entries are no named tensors ({_some(odd)}); {LAYOUTS}")
    prefixed = [name.startswith(PREFIX) for name in stored]
    if any(prefixed) and not all(prefixed):
        bare = [name for name in stored if not name.startswith(PREFIX)]
        raise CheckpointLayoutError(f"{where}: {len(bare)} of {len(stored)} names lack `{PREFIX}` ({_some(bare)})")
    broken = [name for name, value in stored.items() if value.is_floating_point() and not torch.isfinite(value).all()]
    if broken:
        raise OfficialCheckpointError(
            f"{where}: {len(broken)} tensors hold NaN or infinity ({_some(broken)}); the run had diverged, take an earlier file"
        )
    return {name.removeprefix(PREFIX): value for name, value in stored.items()}, all(prefixed)


def _iteration(path: Path) -> int | None:
    found = re.fullmatch(r"(?:backbone|head|checkpoint|model|ckpt)_(\d+)", path.stem)
    return int(found[1]) if found else None


def _head_beside(path: Path) -> Path | None:
    beside = path.with_name(re.sub("^backbone_", "head_", path.name))
    return beside if beside != path and beside.is_file() else None


def _v0_head(path: Path, head_path: Path) -> dict[str, Tensor]:
    ours, other = _iteration(path), _iteration(head_path)
    if ours is not None and other is not None and ours != other:
        raise CheckpointLayoutError(
            f"head_path: {head_path} is of iteration {other}, {path} of {ours}; pair equal ones"
        )
    head, prefixed = _state(_load(head_path), str(head_path))
    if not prefixed:
        raise CheckpointLayoutError(f"{head_path}: names ({_some(head)}) lack `{PREFIX}`; {LAYOUTS}")
    return head


def _embedding_width(backbone: Mapping[str, Tensor], path: Path) -> int:
    last = backbone.get("fc.weight")
    if last is None or last.ndim != 2:
        what = "this is a head, pass its backbone" if set(backbone) <= {"w", "b"} else "this is no SFNet or IResNet"
        raise CheckpointLayoutError(f"{path}: no matrix `fc.weight` among {_some(backbone)}: {what}; {LAYOUTS}")
    return last.shape[0]


def _proxies(head: Mapping[str, Tensor], dim: int, branch: str, source: str) -> tuple[Tensor, Tensor | None]:
    """Rows of class proxies, and the bias as a vector of one number or one a class."""
    weight, bias = head.get("w"), head.get("b")
    if weight is None or set(head) - {"w", "b"} or weight.ndim != 2 or not weight.is_floating_point():
        held = ", ".join(f"{name} {tuple(value.shape)}" for name, value in list(head.items())[:SHOWN])
        raise CheckpointLayoutError(f"{source}: expected a head with a matrix `w` and perhaps `b`, found {held}")
    rows = branch == "main" and weight.shape[1] == dim
    if not rows and weight.shape[0] != dim:
        order = "(classes, dim) or (dim, classes)" if branch == "main" else "(dim, classes)"
        raise CheckpointLayoutError(
            f"{source}: head `w` has shape {tuple(weight.shape)}, expected {order} with dim {dim}, the backbone's width; "
            f"are backbone and head of one run, and is the file of branch {branch}?"
        )
    proxies = weight if rows else weight.T.contiguous()
    if bias is not None and not (bias.is_floating_point() and bias.numel() in (1, len(proxies))):
        raise CheckpointLayoutError(
            f"{source}: head `b` is {tuple(bias.shape)} of {bias.dtype}, expected 1 number or one for each of {len(proxies)} classes"
        )
    return proxies, None if bias is None else bias.reshape(-1)


def _some(names: Any) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:SHOWN]) + (f", ... {len(names) - SHOWN} more" if len(names) > SHOWN else "")


# --------------------------------------------------------------------------------------------------------------- loading


def check_state(network: nn.Module, state: Mapping[str, Tensor], source: str = "state") -> None:
    """Raise unless `state` has exactly the names and shapes of `network`.

    Parameters
    ----------
    network
        May be on the meta device.
    state
        Names without prefix.
    source
        Named in the message.

    Raises
    ------
    StateMismatchError
        Counts and first names of what is missing, unexpected, or of another shape, and which known networks would fit.
    """
    own = network.state_dict()
    shapes = [
        f"{name} (network {tuple(own[name].shape)}, file {tuple(value.shape)})"
        for name, value in state.items()
        if name in own and own[name].shape != value.shape
    ]
    faults = {
        "missing": [name for name in own if name not in state],
        "unexpected": [name for name in state if name not in own],
        "of another shape": shapes,
    }
    if not any(faults.values()):
        return
    text = "; ".join(f"{len(names)} {fault}: {_some(names)}" for fault, names in faults.items() if names)
    fitting = candidates(state)
    names_fit = not faults["missing"] and not faults["unexpected"]
    if names_fit:
        hint = "the names fit, so give the network the file's channels, features and image_size"
    elif fitting:
        hint = "the names fit " + " or ".join(f"{name} (branch {branch})" for name, branch in fitting)
    else:
        hint = "the names fit no network of paper_utils.nn.backbones"
    raise StateMismatchError(f"{source}: does not fit the network. {text}. Hint: {hint}")


def candidates(state: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Networks, as pairs of name and branch, whose parameter names are those of `state`; shapes are not compared.

    A state does not tell where its ReLUs were: ``sfnet20`` and ``sfnet20v2`` have the same names, so both are listed.
    The official configuration ``ms1m_sfnet64bn`` trained a network without normalisation, in spite of its name.
    """
    pairs = [(name, branch) for name in backbones.names() for branch in backbones.branches(name)]
    return [pair for pair in pairs if _parameter_names(*pair) == state.keys()]


@functools.lru_cache(maxsize=64)
def _parameter_names(name: str, branch: str) -> frozenset[str]:
    return frozenset(backbones.build_backbone(name, branch=branch, device="meta").state_dict())


def load_backbone_state(network: nn.Module, weights: OfficialWeights) -> None:
    """Copy the backbone of an official checkpoint into `network`, names and shapes checked strictly.

    Raises
    ------
    StateMismatchError
        As `check_state`; the network is unchanged then.
    """
    check_state(network, weights.backbone, weights.source)
    network.load_state_dict(weights.backbone)


def load_backbone(
    name: str, path: str | Path, *, head_path: str | Path | None = None, **changes: Any
) -> tuple[backbones.SFNet | backbones.IResNet, OfficialWeights]:
    """The network `name` with the weights of an official checkpoint, in evaluation mode, and the checkpoint.

    Parameters
    ----------
    name, changes
        As for `backbones.backbone_config`; ``branch`` is the file's own unless given.
    path, head_path
        As for `read_checkpoint`.

    Raises
    ------
    FileNotFoundError, OfficialCheckpointError
        As `read_checkpoint` and `check_state`.
    ValueError
        For an unknown name, or one that the file's branch does not have.
    """
    weights = read_checkpoint(path, head_path=head_path)
    network = backbones.build_backbone(name, device="meta", **({"branch": weights.branch} | changes))
    check_state(network, weights.backbone, weights.source)
    network.to_empty(device="cpu").load_state_dict(weights.backbone)  # copies: training it leaves `weights` as read
    return network.eval(), weights
