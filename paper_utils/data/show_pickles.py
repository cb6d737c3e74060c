"""The pickles of SHOW's clips, read without running anything in them, and what turns them into frames of 265 columns."""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils import safe_checkpoints, safe_files, safe_pickle

BETAS = 300
HAND_COEFFICIENTS = 12
# Key and width of what a frame is made of, in the order of the vector; hands are coefficients of the body model's hand components.
FIELDS = {
    "jaw_pose": 3,
    "leye_pose": 3,
    "reye_pose": 3,
    "global_orient": 3,
    "body_pose_axis": 63,
    "left_hand_pose": HAND_COEFFICIENTS,
    "right_hand_pose": HAND_COEFFICIENTS,
    "expression": 100,
}


def _storage(args: tuple[Any, ...], _: Any) -> Any:
    if len(args) != 1 or not isinstance(args[0], bytes):
        raise ValueError("torch.storage._load_from_bytes: expected bytes")
    with warnings.catch_warnings():  # old storages are deprecated, but that is what such files hold
        warnings.simplefilter("ignore", UserWarning)
        return safe_checkpoints.loads(args[0], "torch.storage._load_from_bytes")


def _tensor(args: tuple[Any, ...], _: Any) -> Tensor:
    """A tensor as a view of its storage; the view must lie inside."""
    storage, offset, size, stride = args[:4]
    with warnings.catch_warnings():  # as above
        warnings.simplefilter("ignore", UserWarning)
        plain = storage.untyped()
    tensor = torch.empty(0, dtype=storage.dtype).set_(plain, 0, (len(plain) // storage.dtype.itemsize,), (1,))
    counts = (*size, *stride, offset)
    if not all(isinstance(n, int) and n >= 0 for n in counts) or len(size) != len(stride):
        raise ValueError(f"tensor: expected counts as offset, size and stride, found {offset}, {size}, {stride}")
    reached = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) + 1
    if 0 not in size and reached > len(tensor):
        raise ValueError(f"tensor of {tuple(size)}: its storage has {len(tensor)} numbers, {reached} are needed")
    return tensor.as_strided(size, stride, offset).clone()


# Tensors occur among the fitting losses that every clip carries along; nothing of them is used.
PICKLED = safe_pickle.NUMPY | {
    "torch.storage._load_from_bytes": _storage,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "collections.OrderedDict": lambda _, items: OrderedDict(items or {}),
}


def read_pickle(path: str | Path) -> dict[str, Float[np.ndarray, ...]]:
    """The fields of a clip's pickle that make up its motion, and its ``betas``, as float32 with one row a frame.

    Nothing in the file is run.

    Parameters
    ----------
    path
        ``{clip}.pkl``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    paper_utils.safe_pickle.UnsafePickleError
        If it asks for something other than arrays and tensors.
    ValueError
        If it is damaged, keys are missing, shapes disagree, or numbers are NaN.
    """
    stored = safe_pickle.load(path, allowed=PICKLED)
    if not isinstance(stored, dict):
        raise ValueError(f"{path}: expected a dictionary of SMPL-X parameters, found a {type(stored).__name__}")
    missing = [key for key in (*FIELDS, "betas") if key not in stored]
    if missing:
        raise ValueError(
            f"{path}: {', '.join(missing)} missing; expected {', '.join(FIELDS)} and betas, found {', '.join(map(str, stored))}"
        )
    fields = {}
    for key in (*FIELDS, "betas"):
        value = stored[key].detach().numpy() if isinstance(stored[key], Tensor) else np.asarray(stored[key])
        width = FIELDS.get(key, BETAS)
        if value.dtype.kind not in "fiu" or value.size == 0 or value.size % width:
            raise ValueError(f"{path}: {key}: expected (frames, {width}) numbers, found {value.shape} of {value.dtype}")
        fields[key] = value.reshape(-1, width).astype(np.float32)
    frames = {key: len(value) for key, value in fields.items() if key != "betas"}
    if len(set(frames.values())) != 1:
        raise ValueError(f"{path}: the fields have different numbers of frames: {frames}")
    for key, value in fields.items():
        if not np.isfinite(value).all():
            raise ValueError(
                f"{path}: {key}: {int((~np.isfinite(value)).sum())} of {value.size} numbers are NaN or infinite; leave the clip out"
            )
    return fields


@dataclass(frozen=True)
class HandComponents:
    """What turns the hand coefficients of SHOW into angles; comes with SMPL-X, whose licence does not allow to ship it here.

    Parameters
    ----------
    left, right
        One row a coefficient: offsets of the 45 angles of a hand from the model's mean hand, which the body model adds.
    """

    left: Float[np.ndarray, "12 45"]
    right: Float[np.ndarray, "12 45"]


def read_hand_components(path: str | Path) -> HandComponents:
    """The first twelve hand components from the user's SMPL-X file, ``SMPLX_NEUTRAL.npz`` or ``.pkl``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no hand components.
    """
    path = Path(path)
    names = ("hands_componentsl", "hands_componentsr")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: no such file; expected SMPLX_NEUTRAL.npz, which registered users of SMPL-X download"
        )
    if path.suffix == ".pkl":
        stored = safe_pickle.load(path, allowed=safe_pickle.ARRAYS)
    else:
        stored = safe_files.npz(path, "SMPLX_NEUTRAL.npz", names=names)
    parts = [np.asarray(stored[name]) if name in stored else np.empty(0) for name in names]
    for name, part in zip(names, parts, strict=True):
        if part.ndim != 2 or part.shape[0] < HAND_COEFFICIENTS or part.shape[1] != 45:
            raise ValueError(f"{path}: {name}: expected (12 or more, 45), found {part.shape}; is it a SMPL-X model?")
        if part.dtype.kind not in "fiu" or not np.isfinite(part.astype(np.float32)).all():
            raise ValueError(
                f"{path}: {name}: expected finite numbers, found {part.dtype} with NaN, infinity or no numbers"
            )
    return HandComponents(*(part[:HAND_COEFFICIENTS].astype(np.float32) for part in parts))


def motion_vector(
    fields: Mapping[str, Float[np.ndarray, "frames width"]], hands: HandComponents
) -> Float[Tensor, "frames 265"]:
    r"""Full frames from the fields of a pickle.

    .. math:: h = c\,C, \qquad x = [\text{jaw, eyes, root, body}, h_l, h_r, \text{expression}]

    with coefficients c and the first twelve components C; the mean hand is not added.

    Parameters
    ----------
    fields
        From `read_pickle`.
    hands
        From `read_hand_components`.
    """
    parts = dict(fields)
    parts["left_hand_pose"] = parts["left_hand_pose"] @ hands.left
    parts["right_hand_pose"] = parts["right_hand_pose"] @ hands.right
    return torch.from_numpy(np.concatenate([parts[key] for key in FIELDS], axis=1))
