"""Small face data in the official layouts, a recipe small enough to train on it, and the processes that the tests start.

    python face_fixtures.py RANK SIZE PORT ARGUMENT...

runs ``paper_utils.train`` with the small recipes as one of SIZE processes; after an argument ``--then`` once more. An argument
``--kill-at=N`` sends the process SIGKILL when iteration N begins.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import signal
import struct
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paper_utils import train
from paper_utils.methods import sphereface2, sphereface_r
from paper_utils.recipes import face_recognition, published

SIDE, PEOPLE, PICTURES = 32, 8, 5
SMALL = {"channels": (4, 6, 8, 8), "features": 12, "image_size": (SIDE, SIDE)}
SMALL_C = dataclasses.replace(sphereface2.PUBLISHED["v0 C"], scale=16.0, margin=0.2)
HEADS = {
    "sphereface2": SMALL_C,
    "spherefacer": sphereface_r.HeadConfig("v2", 1.4, scale=16.0, loss_weight=8.0),
    "arcface": sphereface_r.HeadConfig("arcface", 0.3, scale=16.0, loss_weight=None),
    "spherefaceplus": sphereface_r.HeadConfig("v0", 1.5, scale=16.0, loss_weight=None, energy_weight=0.1),
}


def tiny(head: str = "sphereface2", **changes) -> published.Recipe:
    """SFNet-4 on pictures of 32 pixels, six iterations of eight pictures."""
    small = {
        "name": f"tiny_{head}",
        "papers": ("05",),
        "backbone": "sfnet4",
        "train_set": "small",
        "head": HEADS[head],
        "steps": 6,
        "decay_at": (4,),
        "batch_size": 8,
        "learning_rate": 0.02,
        "clip_norm": 2.0,
        "backbone_changes": SMALL,
    }
    return dataclasses.replace(published.RECIPES["vggface2_sfnet20_sphereface2"], **(small | changes))


def register() -> None:
    """Make the small recipes known to the command line."""
    recipes = [tiny(name) for name in HEADS]
    recipes.append(tiny(name="tiny_iclr", branch="iclr"))
    recipes.append(tiny(name="tiny_main", backbone="iresnet18", branch="main"))
    recipes.append(tiny(name="tiny_noise", noise_ratio=0.6))
    published.RECIPES.update({recipe.name: recipe for recipe in recipes})


# -------------------------------------------------------------------------------------------------------------- pictures


def face(person: int, view: int, side: int = SIDE) -> Image.Image:
    """A blocky pattern of the person with noise of the view."""
    pattern = np.random.default_rng(person).uniform(40, 215, (4, 4, 3)).repeat(side // 4, 0).repeat(side // 4, 1)
    noise = np.random.default_rng([person, view]).normal(0, 25, pattern.shape)
    return Image.fromarray((pattern + noise).clip(0, 255).astype(np.uint8))


def encoded(person: int, view: int, side: int = SIDE) -> bytes:
    """The picture as a PNG file."""
    file = io.BytesIO()
    face(person, view, side).save(file, "PNG")
    return file.getvalue()


def write_people(folder: Path, people: range, views: int, side: int = SIDE) -> list[tuple[str, str]]:
    """Pictures in a folder for each person; relative path and name of each."""
    rows = []
    for person in people:
        for view in range(views):
            path = folder / f"p{person:02d}" / f"{view}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(person, view, side))
            rows.append((f"{path.parent.name}/{path.name}", path.parent.name))
    return rows


def write_training_list(root: Path, people: int = PEOPLE) -> Path:
    """OpenSphere's layout: ``train/small_train_ann.txt`` and the pictures beside it."""
    rows = write_people(root / "train" / "small", range(people), PICTURES)
    path = root / "train" / "small_train_ann.txt"
    path.write_text("".join(f"small/{file} {name}\n" for file, name in rows))
    return path


def write_records(folder: Path) -> Path:
    """InsightFace's layout: ``train.rec`` with ``train.idx``, the same pictures in the same order."""
    folder.mkdir(parents=True, exist_ok=True)
    data, index = b"", ""
    for key, (person, view) in enumerate((p, v) for p in range(PEOPLE) for v in range(PICTURES)):
        content = struct.pack("<IfQQ", 0, float(person), key, 0) + encoded(person, view)
        index += f"{key}\t{len(data)}\n"
        data += struct.pack("<II", 0xCED7230A, len(content)) + content + bytes(-len(content) % 4)
    (folder / "train.rec").write_bytes(data)
    (folder / "train.idx").write_text(index)
    return folder / "train.rec"


def pairs(count: int = 20) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """Same and different pairs of (person, view), people that are not trained on, one kind after the other."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(count):
        first, other = rng.choice(np.arange(PEOPLE, PEOPLE + 6), 2, replace=False).tolist()
        made.append((1, (first, 0), (first, 1)) if number % 2 == 0 else (0, (first, 0), (other, 1)))
    return made


def write_validation(root: Path) -> None:
    """The same pairs as a list of v0, a list of main and a ``.bin``; and LFW's own layout."""
    write_people(root / "val" / "faces", range(PEOPLE, PEOPLE + 6), 3)
    lines = "".join(f"{same} faces/p{a:02d}/{i}.png faces/p{b:02d}/{j}.png\n" for same, (a, i), (b, j) in pairs())
    (root / "val" / "first_ann.txt").write_text(lines)
    (root / "val" / "second_pairs.lst").write_text(lines)
    images = [encoded(*one) for _, *both in pairs() for one in both]
    (root / "third.bin").write_bytes(pickle.dumps((images, [bool(same) for same, *_ in pairs()]), protocol=4))
    for person in range(PEOPLE, PEOPLE + 4):
        for view in (1, 2):
            path = root / "lfw" / f"P{person}" / f"P{person}_{view:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(encoded(person, view))
    same = "".join(f"P{PEOPLE + i}\t1\t2\n" for i in range(2))
    different = "".join(f"P{PEOPLE + i}\t1\tP{PEOPLE + i + 1}\t2\n" for i in range(2))
    (root / "lfw" / "pairs.txt").write_text("2\t2\n" + (same + different) * 2)


# ------------------------------------------------------------------------------------------------------------- processes


def main(rank: int, size: int, port: str, arguments: list[str]) -> int:
    """One process of several, or the only one."""
    torch.set_num_threads(1)
    if size > 1:
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test",
        }  # fmt: skip
    kill_at = [int(each.split("=")[1]) for each in arguments if each.startswith("--kill-at=")]
    if kill_at:
        flips = face_recognition.Batches.flips

        def flips_until(batches: face_recognition.Batches, step: int) -> torch.Tensor:
            if step == kill_at[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return flips(batches, step)

        face_recognition.Batches.flips = flips_until
    register()
    commands, code = [[]], 0
    for each in arguments:
        if each == "--then":
            commands.append([])
        elif not each.startswith("--kill-at="):
            commands[-1].append(each)
    for command in filter(None, commands):
        code = code or train.main(command)
    return code


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
