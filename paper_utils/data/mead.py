"""MEAD: 47 people, 8 emotions, 3 intensities; the released videos, and the FLAME reconstructions that EMOTE learns from.

The processed layout is that of EMOTE's repository; what the clips' names say, and the splits, stand in `data.mead_names`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from paper_utils import safe_files, safe_pickle
from paper_utils.data.clip_files import ClipFiles, read_speech
from paper_utils.data.face_lists import first_few
from paper_utils.data.mead_names import SPLIT_OF_EMOTE, VIEWS, ClipName, parse_name, split
from paper_utils.data.talking_faces import SAMPLE_RATE, FaceMesh, TalkingClip, check_fps
from paper_utils.mesh.model_layouts import import_h5py
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.mesh.skinning import FLAME_JOINTS

FPS = 25.0
SAMPLES_PER_FRAME = 640  # at 16 kHz
# Reconstructions of the release, and those behind the paper's figures.
RECONSTRUCTIONS = ("EMICA-MEAD_flame2020", "EMICA_mead_mp_lr_mse_15")
EXPRESSIONS, OLD_EXPRESSIONS = 100, 50  # coefficients a frame: of the release, of the older reconstructions


# ---------------------------------------------------------------------------------------------------------------- files


def list_videos(root: str | Path, *, view: str = "front") -> tuple[list[str], list[str]]:
    """Videos of the release below `root`, as paths relative to it, sorted; and what lies there and is no clip, with the reason.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no clip of this view.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; expected <person>/video/<view>/<emotion>/level_<n>/<nnn>.mp4")
    if view not in VIEWS:
        raise ValueError(f"view: expected one of {', '.join(VIEWS)}; found {view!r}")
    videos, skipped = [], []
    for path in sorted(root.rglob("*.mp4")):
        relative = path.relative_to(root)
        seen = [part for part in relative.parts if part in VIEWS]
        if seen and seen != [view]:
            continue  # another camera
        try:
            parse_name(relative)
        except ValueError as error:
            skipped.append(str(error))
            continue
        videos.append(relative.as_posix())
    if not videos:
        raise ValueError(
            f"{root}: no clip of view {view!r} ({len(skipped)} .mp4 files elsewhere: {first_few(skipped, 2) or 'none'})"
        )
    return videos, skipped


def _path(args: tuple[Any, ...], _: Any) -> str:
    if not args or not all(isinstance(part, str) for part in args):
        raise ValueError("a path whose parts are no strings")
    return "/".join(args)


# What the official metadata holds beside arrays.
_METADATA = safe_pickle.ARRAYS | {
    **{f"pathlib.{name}": _path for name in ("PosixPath", "PurePosixPath", "Path", "WindowsPath")},
}


@dataclass(frozen=True)
class Metadata:
    """``metadata.pkl`` of the processed data.

    Parameters
    ----------
    version
        Of the format; 3 in the release.
    videos
        Paths relative to the folder of videos.
    metas
        One dictionary a video, with ``fps`` such as ``"25/1"`` and ``num_frames``.
    """

    version: int
    videos: tuple[str, ...]
    metas: tuple[Mapping[str, Any], ...]


def read_metadata(path: str | Path) -> Metadata:
    """Read ``metadata.pkl`` (several pickles one after the other) without running it.

    Raises
    ------
    FileNotFoundError, UnsafePickleError
        As `paper_utils.safe_pickle.load`.
    ValueError
        If it has another form, or a video has not 25 frames a second.
    """
    objects = safe_pickle.load_all(path, allowed=_METADATA)
    if len(objects) < 3 or not isinstance(objects[1], list) or not isinstance(objects[2], list):
        raise ValueError(
            f"{path}: expected version, list of videos and list of their properties as first pickles, found {len(objects)} objects"
        )
    version, videos, metas = objects[0], [str(video) for video in objects[1]], objects[2]
    if len(videos) != len(metas) or not all(isinstance(meta, Mapping) for meta in metas):
        raise ValueError(f"{path}: {len(videos)} videos, but properties of {len(metas)}")
    for video, meta in zip(videos, metas, strict=True):
        if "fps" in meta:
            check_fps(_rate(meta["fps"]), FPS, f"{path}: {video}")
    return Metadata(int(version) if isinstance(version, int) else 0, tuple(videos), tuple(metas))


def _rate(fps: object) -> float:
    """25.0 of ``"25/1"``."""
    above, _, below = str(fps).partition("/")
    try:
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise ValueError(f"fps: expected a rate such as 25/1, found {fps!r}") from error


# ------------------------------------------------------------------------------------------------------ reconstructions


@dataclass(frozen=True)
class MeadClip:
    """FLAME coefficients and sound of one clip, or of one window of it.

    Parameters
    ----------
    name
        Who, which emotion, which take.
    shape
        Identity of every frame.
    expression
        100 coefficients, 50 in the older reconstructions.
    jaw, global_pose
        Axis-angle, radians.
    audio
        Sound of each frame, 640 samples at 16 kHz in [-1, 1].
    valid
        Whether landmarks were found; invalid frames count in no loss.
    """

    name: ClipName
    shape: Float[Tensor, "time identity"]
    expression: Float[Tensor, "time coefficients"]
    jaw: Float[Tensor, "time 3"]
    global_pose: Float[Tensor, "time 3"]
    audio: Float[Tensor, "time 640"]
    valid: Bool[Tensor, " time"]

    def __len__(self) -> int:
        return len(self.jaw)

    def mean_shape(self) -> Float[Tensor, " identity"]:
        r"""Identity of the clip: mean over the valid frames, :math:`\sum_t w_t \beta_t` with :math:`w_t = m_t / \sum m`.

        Raises
        ------
        ValueError
            If no frame is valid, as in a window that shows no face. (`read_processed` leaves out clips that nowhere show one.)
        """
        if not self.valid.any():
            raise ValueError(
                f"MEAD clip {self.name.folder}: landmarks were found in none of its {len(self)} frames; leave this window or clip out"
            )
        weights = self.valid.double() / self.valid.sum()
        return (weights @ self.shape.double()).to(self.shape)

    def window(self, start: int, length: int) -> MeadClip:
        """Frames `start` to ``start + length``; what lies beyond the end is zero and invalid.

        Raises
        ------
        ValueError
            If the window begins outside the clip or is empty.
        """
        if not 0 <= start < len(self) or length < 1:
            raise ValueError(
                f"MEAD clip {self.name.folder}: a window of {length} frames from {start} does not begin within its {len(self)} frames"
            )
        arrays = {}
        for field in ("shape", "expression", "jaw", "global_pose", "audio", "valid"):
            part = getattr(self, field)[start : start + length]
            empty = part.new_zeros(length - len(part), *part.shape[1:])
            arrays[field] = torch.cat([part, empty])
        return dataclasses.replace(self, **arrays)

    def random_window(self, length: int, rng: np.random.Generator) -> MeadClip:
        """A window whose start is uniform in [0, T - length), as EMOTE draws it; a clip that is not longer begins at 0."""
        spare = len(self) - length
        return self.window(int(rng.integers(spare)) if spare > 0 else 0, length)

    def talking(self, model: MorphableModel) -> TalkingClip:
        """The clip as a mesh in mm: one identity throughout, neck, eyes and head pose at zero.

        Parameters
        ----------
        model
            FLAME, see `paper_utils.mesh.flame_files.read_flame`.

        Raises
        ------
        ValueError
            If the model has no joints of FLAME, or fewer directions than coefficients.
        """
        if model.skinning is None or len(model.skinning.parents) != len(FLAME_JOINTS):
            raise ValueError(
                f"{model.name}: expected FLAME with its {len(FLAME_JOINTS)} joints ({', '.join(FLAME_JOINTS)})"
            )
        identity = self.mean_shape()[None]
        pose = torch.zeros(len(self), len(FLAME_JOINTS), 3)
        pose[:, FLAME_JOINTS.index("jaw")] = self.jaw
        return TalkingClip(
            template=model.vertices(identity)[0],
            vertices=model.vertices(identity, self.expression, pose),
            fps=FPS,
            audio=self.audio.flatten(),
            sample_rate=SAMPLE_RATE,
            subject=self.name.person,
            sentence=self.name.folder.partition("/")[2],
            emotion=self.name.emotion,
            intensity=self.name.intensity,
            tracked=self.valid,
        )


@dataclass(frozen=True)
class MeadFiles:
    """Clips of the processed layout: listed now, read when asked for. ``files[i]`` is a `MeadClip`.

    Parameters
    ----------
    root
        Folder ``processed``.
    reconstruction
        Folder below ``reconstructions``.
    names
        Of the clips.
    landmarks
        Whether the folder says in which frames landmarks were found; otherwise all frames count as valid.
    skipped
        Clips that are listed but not complete, or without a single valid frame, and what they lack.
    listed
        Folders of all clips in order, the skipped ones too: what the official splits count. Empty: those of `names`.
    """

    root: Path
    reconstruction: str
    names: tuple[ClipName, ...]
    landmarks: bool
    skipped: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> MeadClip:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.root}: clip {index} of {len(self)}")
        name = self.names[index]
        folder = self.root / "reconstructions" / self.reconstruction / name.folder
        arrays = _coefficients(folder / "shape_pose_cam.hdf5")
        frames = len(arrays["jaw"])
        valid = torch.ones(frames, dtype=torch.bool)
        if self.landmarks:
            valid = _valid_frames(_landmark_file(self.root, name), frames)
        return MeadClip(
            name=name,
            shape=arrays["shape"],
            expression=arrays["exp"],
            jaw=arrays["jaw"],
            global_pose=arrays["global_pose"],
            audio=frame_audio(self.root / "audio" / f"{name.folder}.wav", frames),
            valid=valid,
        )

    def split(self, name: str = SPLIT_OF_EMOTE) -> dict[str, list[int]]:
        """Official split of the clips that are here, see `split`; skipped ones are counted too, so that they move no other clip to another part."""
        here = {clip.folder: row for row, clip in enumerate(self.names)}
        listed = self.listed or tuple(here)
        return {
            part: [here[listed[place]] for place in places if listed[place] in here]
            for part, places in split(listed, name).items()
        }

    def clips(self, model: MorphableModel) -> ClipFiles:
        """The clips as meshes of a FLAME model, each made when asked for."""
        return ClipFiles(
            name="MEAD",
            mesh=FaceMesh(model.name, len(model.mean), model.faces),
            subjects=tuple(name.person for name in self.names),
            sentences=tuple(name.folder.partition("/")[2] for name in self.names),
            load=lambda index: self[index].talking(model),
            skipped=self.skipped,
        )


def read_processed(root: str | Path, *, reconstruction: str = RECONSTRUCTIONS[0]) -> MeadFiles:
    """List the clips of the processed layout.

    A clip in which landmarks were found in no frame is skipped and named with the reason: it has no identity, and no loss counts it. (The
    official loader replaces it by a random other clip while it trains.) So landmark files are all read here, and a damaged one is refused
    now rather than days into a training.

    Parameters
    ----------
    root
        Folder ``processed``: ``reconstructions/<reconstruction>/<clip>/shape_pose_cam.hdf5``, ``audio/<clip>.wav``, and if there
        ``metadata.pkl`` and ``landmarks_original/mediapipe/<clip>/landmarks_alignment_used_frame_indices.pkl``; a clip is
        ``<person>/<view>/<emotion>/level_<n>/<nnn>``.
    reconstruction
        One of the folders below ``reconstructions``.

    Returns
    -------
    MeadFiles
        In the order of the metadata, which the splits count, or sorted without them.

    Raises
    ------
    FileNotFoundError
        If the folder of reconstructions is missing; those that are there are listed.
    ValueError
        If there is no complete clip, or metadata or landmarks are not readable, or of another frame rate.
    """
    root = Path(root)
    base = root / "reconstructions" / reconstruction
    if not base.is_dir():
        others = sorted(path.name for path in (root / "reconstructions").glob("*") if path.is_dir())
        raise FileNotFoundError(
            f"{base}: no such folder; below {root / 'reconstructions'} there are {first_few(others) or 'none'}"
        )
    if (root / "metadata.pkl").is_file():
        listed = [parse_name(video) for video in read_metadata(root / "metadata.pkl").videos]
    else:
        listed = [parse_name(path.parent.relative_to(base)) for path in sorted(base.rglob("shape_pose_cam.hdf5"))]
    landmarks = (root / "landmarks_original").is_dir()
    names, skipped = [], []
    for name in listed:
        needed = [base / name.folder / "shape_pose_cam.hdf5", root / "audio" / f"{name.folder}.wav"]
        needed += [_landmark_file(root, name)] if landmarks else []
        missing = [str(path.relative_to(root)) for path in needed if not path.is_file()]
        if missing:
            skipped.append(f"{name.folder}: no {', '.join(missing)}")
        elif landmarks and not len(_frame_numbers(_landmark_file(root, name))):
            skipped.append(f"{name.folder}: landmarks were found in none of its frames")
        else:
            names.append(name)
    if not names:
        raise ValueError(
            f"{root}: none of {len(listed)} clips is complete ({first_few(skipped, 2) or 'no reconstructions'})"
        )
    folders = tuple(name.folder for name in listed)
    return MeadFiles(root, reconstruction, tuple(names), landmarks, tuple(skipped), folders)


def _landmark_file(root: Path, name: ClipName) -> Path:
    return root / "landmarks_original" / "mediapipe" / name.folder / "landmarks_alignment_used_frame_indices.pkl"


def _coefficients(path: Path) -> dict[str, Tensor]:
    """Arrays of a reconstruction without their leading axis of one."""
    widths = {"shape": None, "exp": None, "jaw": 3, "global_pose": 3}
    h5py = import_h5py("reconstructions of MEAD in .hdf5 files")
    expected = f"an HDF5 file with {', '.join(widths)}"
    with safe_files.named(path, expected), h5py.File(path) as file:
        arrays = {key: value.astype(np.float32) for key, value in safe_files.h5(file, list(widths), expected).items()}
        found = list(file)
    missing = [key for key in widths if key not in arrays]
    if missing:
        raise ValueError(f"{path}: missing {', '.join(missing)}; found {first_few(found) or 'nothing'}")
    frames = arrays["jaw"].shape[1] if arrays["jaw"].ndim == 3 else 0
    for key, width in widths.items():
        shape = arrays[key].shape
        if len(shape) != 3 or shape[0] != 1 or shape[1] != frames or not frames or width not in (None, shape[2]):
            raise ValueError(
                f"{path}: {key}: expected (1, frames, {width or 'coefficients'}), {frames} frames as jaw, found {shape}"
            )
        if not np.isfinite(arrays[key]).all():
            raise ValueError(f"{path}: {key}: {int((~np.isfinite(arrays[key])).sum())} values are NaN or infinite")
    return {key: torch.from_numpy(array[0]) for key, array in arrays.items()}


def _frame_numbers(path: Path) -> Int[np.ndarray, " valid"]:
    """Frames in which landmarks were found."""
    numbers = np.asarray(safe_pickle.load(path, allowed=safe_pickle.ARRAYS))
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        raise ValueError(f"{path}: expected a list of frame numbers, found {numbers.dtype} {numbers.shape}")
    return numbers.astype(np.int64)


def _valid_frames(path: Path, frames: int) -> Bool[Tensor, " frames"]:
    numbers = _frame_numbers(path)
    if numbers.size and (numbers.min() < 0 or numbers.max() >= frames):
        raise ValueError(f"{path}: names frames {numbers.min()} to {numbers.max()}, the clip has {frames}")
    valid = torch.zeros(frames, dtype=torch.bool)
    valid[torch.from_numpy(numbers)] = True
    return valid


def frame_audio(path: str | Path, frames: int) -> Float[Tensor, "frames 640"]:
    """Sound of each frame: 16-bit samples at 16 kHz over 32767, cut to the frames, zeros where it ends before them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or shorter than half of the pictures.
    """
    samples = read_speech(path, expected_rate=None)
    wanted = frames * SAMPLES_PER_FRAME
    if 2 * len(samples) < wanted:
        raise ValueError(
            f"{path}: lasts {len(samples) / SAMPLE_RATE:.2f} s, its {frames} frames {frames / FPS:.2f} s; the sound is cut off or of another clip"
        )
    whole = (samples.double() * 32768).round().clamp(-32768, 32767)[:wanted]
    return torch.nn.functional.pad(whole / 32767, (0, wanted - len(whole))).float().view(frames, SAMPLES_PER_FRAME)
