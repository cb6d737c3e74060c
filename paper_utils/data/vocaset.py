"""VOCASET: 12 people, 40 sentences each, FLAME topology at 60 frames a second; as published for VOCA, and as follow-ups convert it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int

from paper_utils import safe_files, safe_pickle
from paper_utils.audio_files import RATES, resample
from paper_utils.data.clip_files import ClipFiles, fill_dropped
from paper_utils.data.face_lists import first_few
from paper_utils.data.mesh_masks import region_of
from paper_utils.data.talking_faces import SAMPLE_RATE, FaceMesh, TalkingClip
from paper_utils.data.vertex_folders import VertexLayout, bare_mesh, read_templates, read_vertex_folder, split_rows

VERTICES, FPS = 5023, 60.0
# Subjects as VOCA and all follow-ups divide them (commands in the README of FaceFormer).
SUBJECTS = {
    "train": (
        "FaceTalk_170728_03272_TA", "FaceTalk_170904_00128_TA", "FaceTalk_170725_00137_TA", "FaceTalk_170915_00223_TA",
        "FaceTalk_170811_03274_TA", "FaceTalk_170913_03279_TA", "FaceTalk_170904_03276_TA", "FaceTalk_170912_03278_TA",
    ),
    "val": ("FaceTalk_170811_03275_TA", "FaceTalk_170908_03277_TA"),
    "test": ("FaceTalk_170809_00138_TA", "FaceTalk_170731_00024_TA"),
}  # fmt: skip
# Sentences by number (loader of FaceFormer): those of validation and test are the 20 that no training subject shares with the others.
SENTENCES = {"train": range(1, 41), "val": range(21, 41), "test": range(21, 41)}
_METRE = 1000.0
_LARGEST_PICKLE = 8 << 30  # bytes; the recordings are one pickle of about a gigabyte


def _layout(vertices: int) -> VertexLayout:
    return VertexLayout("VOCASET", vertices, FPS, lambda metres: metres * _METRE)


def read_vocaset(
    root: str | Path, *, mesh: FaceMesh | None = None, fps: float = 30.0, vertices: int = VERTICES
) -> ClipFiles:
    """Clips of the converted layout: ``vertices_npy/<subject>_sentence<nn>.npy`` in metres, ``wav/``, ``templates.pkl``.

    Parameters
    ----------
    root
        The folder.
    mesh
        Triangles and regions of FLAME, see `flame_mesh`; None: without them.
    fps
        60, or 30 for every second frame, as follow-ups take it.
    vertices
        Another number for tests.

    Raises
    ------
    ValueError
        If `fps` is neither, or as `read_vertex_folder`.
    """
    return read_vertex_folder(root, _layout(vertices), mesh=mesh, step=_step(fps))


def _step(fps: float) -> int:
    if fps not in (30.0, 60.0):
        raise ValueError(f"fps: VOCASET has 60 frames a second and is used at 60 or 30, found {fps}")
    return int(FPS / fps)


def split(files: ClipFiles) -> dict[str, list[int]]:
    """Rows of train, val and test as in FaceFormer."""
    return split_rows(files, {name: (SUBJECTS[name], SENTENCES[name]) for name in SUBJECTS})


def flame_mesh(
    faces: Int[torch.Tensor, "triangles 3"],
    regions: Mapping[str, Int[np.ndarray, " members"]],
    *,
    vertices: int = VERTICES,
) -> FaceMesh:
    """FLAME's topology with regions from `paper_utils.mesh.flame_files.read_flame_masks`.

    Raises
    ------
    ValueError
        If a region names a vertex that is not there.
    """
    hard = {name: region_of(members, vertices, name=f"FLAME region {name!r}") for name, members in regions.items()}
    return FaceMesh("FLAME", vertices, faces, regions=hard)


def read_voca(
    root: str | Path, *, mesh: FaceMesh | None = None, fps: float = 30.0, vertices: int = VERTICES
) -> ClipFiles:
    """Clips of the training data as published for VOCA.

    ``data_verts.npy`` (all frames, 5023, 3) in metres, ``subj_seq_to_idx.pkl`` (subject, sequence, frame -> row),
    ``raw_audio_fixed.pkl`` (subject, sequence -> audio and sample_rate) and ``templates.pkl``. The pickles are read without running them.

    Parameters
    ----------
    root, mesh, fps, vertices
        As for `read_vocaset`.

    Returns
    -------
    ClipFiles
        Frames in the order of their numbers; one that is missing between others is filled by a straight line and marked as not tracked.
        ``skipped`` names sequences that have meshes or sound only.

    Raises
    ------
    FileNotFoundError, UnsafePickleError
        As `paper_utils.safe_pickle.load`.
    ValueError
        If a table has another form, or names rows that are not there.
    """
    root, step = Path(root), _step(fps)
    layout = _layout(vertices)
    templates = read_templates(root / "templates.pkl", layout)
    rows = _nested(root / "subj_seq_to_idx.pkl", "row numbers")
    sounds = _nested(root / "raw_audio_fixed.pkl", "recordings")
    path = root / "data_verts.npy"
    stored = safe_files.npy(path, "all frames of the data set", mmap=True)
    if stored.shape[1:] != (vertices, 3) or stored.dtype.kind != "f":
        raise ValueError(f"{path}: expected (frames, {vertices}, 3) numbers, found {stored.dtype} {stored.shape}")
    clips = sorted(set(rows) & set(sounds))
    if not clips:
        raise ValueError(f"{root}: no sequence has both meshes ({len(rows)}) and sound ({len(sounds)})")
    for clip in clips:
        _check_rows(f"{root / 'subj_seq_to_idx.pkl'}: {'/'.join(clip)}", rows[clip], len(stored))
    if missing := sorted({subject for subject, _ in clips} - set(templates)):
        raise ValueError(f"{root / 'templates.pkl'}: no template of {first_few(missing)}")

    def load(index: int) -> TalkingClip:
        subject, sequence = clips[index]
        table = rows[subject, sequence]
        numbers = np.array(sorted(table), dtype=np.int64)
        frames = np.asarray(stored[[table[number] for number in numbers.tolist()]], dtype=np.float32)
        sound = _voca_sound(f"{root / 'raw_audio_fixed.pkl'}: {subject}/{sequence}", sounds[subject, sequence])
        with safe_files.prefixed(path):
            filled, tracked = fill_dropped(frames, numbers - numbers[0])
            return TalkingClip(
                template=templates[subject],
                vertices=torch.from_numpy(filled[::step] * np.float32(_METRE)),
                tracked=torch.from_numpy(tracked[::step].copy()),
                fps=FPS / step,
                audio=sound,
                sample_rate=SAMPLE_RATE,
                subject=subject,
                sentence=sequence,
            )

    return ClipFiles(
        name="VOCASET",
        mesh=bare_mesh(layout) if mesh is None else mesh,
        subjects=tuple(subject for subject, _ in clips),
        sentences=tuple(sequence for _, sequence in clips),
        load=load,
        skipped=(
            *(f"{subject}/{sequence}: meshes without sound" for subject, sequence in sorted(set(rows) - set(sounds))),
            *(f"{subject}/{sequence}: sound without meshes" for subject, sequence in sorted(set(sounds) - set(rows))),
        ),
    )


def _nested(path: Path, what: str) -> dict[tuple[str, str], dict]:
    """Subject -> sequence -> dictionary, flattened."""
    content = safe_pickle.load(path, allowed=safe_pickle.ARRAYS, max_bytes=_LARGEST_PICKLE)
    flat = {}
    if isinstance(content, Mapping):
        for subject, sequences in content.items():
            for sequence, value in sequences.items() if isinstance(sequences, Mapping) else ():
                flat[str(subject), str(sequence)] = value
    wrong = [key for key, value in flat.items() if not isinstance(value, Mapping) or not value]
    if not flat or wrong:
        raise ValueError(
            f"{path}: expected subject -> sequence -> {what}, found something else at {first_few(wrong) or 'the top'}"
        )
    return flat


def _check_rows(where: str, table: Mapping, count: int) -> None:
    try:
        np.array(sorted(table), dtype=np.int64)
        rows = np.array(list(table.values()), dtype=np.int64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: expected frame number -> row, found {first_few(list(table.items()))}") from error
    if rows.min() < 0 or rows.max() >= count:
        raise ValueError(f"{where}: rows {rows.min()} to {rows.max()} of an array of {count} frames")


def _voca_sound(where: str, entry: Mapping) -> torch.Tensor:
    if not {"audio", "sample_rate"} <= set(entry):
        raise ValueError(f"{where}: expected audio and sample_rate, found {first_few(list(entry))}")
    samples = np.asarray(entry["audio"])
    if samples.ndim != 1 or samples.dtype.kind not in "if" or not len(samples):
        raise ValueError(f"{where}: expected one row of samples, found {samples.dtype} {samples.shape}")
    rate = entry["sample_rate"]
    if not isinstance(rate, (int, np.integer)) or not RATES[0] <= rate <= RATES[1]:
        raise ValueError(f"{where}: expected a sample rate of {RATES[0]} to {RATES[1]} Hz, found {rate!r:.40}")
    scale = 1.0 if samples.dtype.kind == "f" else float(np.iinfo(samples.dtype).max) + 1
    with safe_files.prefixed(where):
        sound = torch.from_numpy((samples / scale).astype(np.float32))
        return resample(sound, int(rate), SAMPLE_RATE).clamp(-1, 1)
