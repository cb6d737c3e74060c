"""One door to the official files of morphable models, from Python and from the command line.

`read_model` finds out what a file is; the readers of each format can be called directly for their options. All give a `MorphableModel` in
millimetres, with directions for one standard deviation and triangles that count from 0.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from paper_utils.mesh.bfm_files import deviations_3ddfa, read_3ddfa, read_bfm2009, read_bfm_h5, read_deep3d
from paper_utils.mesh.flame_files import (
    convert_flame,
    convert_flame_landmarks,
    read_flame,
    read_flame_landmarks,
    read_flame_masks,
    read_mediapipe_landmarks,
)
from paper_utils.mesh.ict_files import expression_names, read_ict
from paper_utils.mesh.model_layouts import LAYOUTS, container_of, identify, keys_of
from paper_utils.mesh.morphable import MorphableModel, load_model, save_model

__all__ = [
    "LAYOUTS", "READERS", "convert_flame", "convert_flame_landmarks", "deviations_3ddfa", "expression_names", "identify",
    "load_model", "read_3ddfa", "read_bfm2009", "read_bfm_h5", "read_deep3d", "read_flame", "read_flame_landmarks",
    "read_flame_masks", "read_ict", "read_mediapipe_landmarks", "read_model", "save_model",
]  # fmt: skip

READERS: dict[str, Callable[..., MorphableModel]] = {
    "bfm2009": read_bfm2009,
    "deep3d": read_deep3d,
    "3ddfa": read_3ddfa,
    "bfm_h5": read_bfm_h5,
    "flame": read_flame,
    "ict": read_ict,
}


def read_model(path: str | Path, *, check_size: bool = True) -> MorphableModel:
    """Read a morphable model, whichever of the known formats it has.

    Parameters
    ----------
    path
        File or folder: BFM 2009, 2017, 2019, Deep3D's and 3DDFA's forms of it, FLAME converted to ``.npz``, ICT-FaceKit, or a model
        written by `save_model`.
    check_size
        Refuse a mean face that has not the size of a head.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If the format is not known (says what was found), or the file is damaged or inconsistent.
    """
    name = identify(path)
    if name == "own":
        return load_model(path)
    if name is not None and name in READERS:
        return READERS[name](path, check_size=check_size)
    if container_of(path) == "pickle":
        raise ValueError(
            f"{path}: found a pickle; if it is FLAME, convert it once: python -m paper_utils.mesh.model_files flame {path} flame.npz"
        )
    known = "; ".join(layout.title for layout in LAYOUTS.values())
    raise ValueError(
        f"{path}: found kind {container_of(path)} with {', '.join(keys_of(path)[:20]) or 'no arrays'}; expected one of: {known}"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: ``flame SOURCE TARGET``, ``landmarks SOURCE TARGET [--dynamic FILE]`` or ``model SOURCE TARGET``."""
    parser = argparse.ArgumentParser(
        prog="python -m paper_utils.mesh.model_files",
        description="Turn official files of morphable models into plain .npz arrays.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    texts = {
        "flame": "FLAME pickle to the same arrays without pickle, read by read_flame",
        "landmarks": "FLAME landmark tables (.npy or .pkl) to plain arrays, read by read_flame_landmarks",
        "model": "any model to one file in millimetres, read by load_model",
    }
    for name, text in texts.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("source", type=Path)
        command.add_argument("target", type=Path)
    commands.choices["landmarks"].add_argument("--dynamic", type=Path, help="flame_dynamic_embedding.npy")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "flame":
            convert_flame(chosen.source, chosen.target)
        elif chosen.command == "landmarks":
            convert_flame_landmarks(chosen.source, chosen.target, dynamic=chosen.dynamic)
        else:
            save_model(read_model(chosen.source), chosen.target)
    except (OSError, ValueError, ImportError) as error:
        parser.exit(1, f"{error}\n")
    print(f"{chosen.source} -> {chosen.target}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
