"""Pictures of faces: decoding, five-point alignment to the official template, and sets that decode only what a batch asks for.

Every loader of face data ends here, whether the encoded images lie in files, in a RecordIO file or in memory; what a picture becomes
(RGB, 112 x 112, values in [-1, 1]) is decided in this one place.
"""

from __future__ import annotations

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from paper_utils.data.samples import LabelledImages

# Pixel positions (right, down) of left eye, right eye, nose and mouth corners in an aligned 112 x 112 picture: the official code
# (OpenSphere, all branches; InsightFace uses the same).
TEMPLATE_112 = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
SIZE = (112, 112)

FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")  # 8 bits a channel at most
MAX_PIXELS = 64_000_000  # choice of ours: no photograph of the data sets comes near; a compressed bomb does
MAX_EAGER_BYTES = 2 << 30  # choice of ours

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageError(ValueError):
    """An image that cannot be used; the message names it."""


# ----------------------------------------------------------------------------------------------------------- decoding


def decode(data: bytes, where: str) -> UInt8[np.ndarray, "height width 3"]:
    """One encoded image as RGB, turned upright if its EXIF says so (as OpenCV does, with which the official code reads).

    Parameters
    ----------
    data
        A whole JPEG, PNG, BMP or WebP file. Transparency is dropped, grey becomes three equal channels.
    where
        What to call the image in messages.

    Raises
    ------
    ImageError
        If there are no bytes, they are no image of a known format, the image is cut off or damaged, has more than 8 bits a channel or
        more than `MAX_PIXELS` pixels.
    """
    if not data:
        raise ImageError(f"{where}: is empty (0 bytes); expected an encoded image, download it again")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise ImageError(f"{where}: {image.width} x {image.height} pixels, more than the {MAX_PIXELS} allowed")
        if image.mode not in MODES:
            raise ImageError(f"{where}: image mode {image.mode}, expected 8 bits a channel ({', '.join(MODES)})")
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except ImageError:
        raise
    except Exception as error:  # a damaged image raises many kinds
        raise ImageError(
            f"{where}: not a whole {', '.join(FORMATS)} image ({type(error).__name__}: {error}); found {len(data)} bytes "
            f"that begin with {data[:4]!r}"
        ) from error


# ---------------------------------------------------------------------------------------------------------- alignment


def similarity_transform(
    source: Float[np.ndarray, "*batch points 2"], target: Float[np.ndarray, "*#batch points 2"]
) -> Float[np.ndarray, "*batch 2 3"]:
    r"""Turn, zoom and shift that bring `source` nearest to `target` in the least-squares sense.

    With points as complex numbers :math:`x_k, y_k` and means :math:`\bar x, \bar y` the best :math:`y \approx a x + b` has

    .. math:: a = \frac{\sum_k \overline{(x_k - \bar x)} (y_k - \bar y)}{\sum_k |x_k - \bar x|^2}, \quad b = \bar y - a \bar x,

    which is Umeyama's solution in the plane without reflection (the one that the official code asks scikit-image for).

    Parameters
    ----------
    source, target
        Points (right, down) in pixels, at least two of them different.

    Returns
    -------
    Matrices M with ``target = M[:, :2] @ source + M[:, 2]``.

    Raises
    ------
    ValueError
        If points are not finite or all points of one source coincide.
    """
    source, target = np.asarray(source, dtype=float), np.asarray(target, dtype=float)
    if not (np.isfinite(source).all() and np.isfinite(target).all()):
        raise ValueError("landmarks hold NaN or infinite values; expected pixel positions")
    x, y = source[..., 0] + 1j * source[..., 1], target[..., 0] + 1j * target[..., 1]
    x_mean, y_mean = x.mean(axis=-1, keepdims=True), y.mean(axis=-1, keepdims=True)
    spread = (np.abs(x - x_mean) ** 2).sum(axis=-1)
    if (spread <= 1e-12 * (1 + np.abs(x_mean[..., 0]) ** 2)).any():
        raise ValueError(
            "all landmarks of a face coincide, so they fix neither turn nor zoom; was the detector's output read in order?"
        )
    a = ((x - x_mean).conj() * (y - y_mean)).sum(axis=-1) / spread
    b = y_mean[..., 0] - a * x_mean[..., 0]
    rows = [np.stack([a.real, -a.imag, b.real], axis=-1), np.stack([a.imag, a.real, b.imag], axis=-1)]
    return np.stack(rows, axis=-2)


def warp(
    image: Float[Tensor, "channel height width"], transform: Float[np.ndarray, "2 3"], size: tuple[int, int] = SIZE
) -> Float[Tensor, "channel new_height new_width"]:
    """Move a picture by `transform` (old pixel positions to new ones), bilinear, 0 where the old picture does not reach.

    Pixel centres are at whole numbers, as in OpenCV. Nothing is rounded; OpenCV rounds weights to 1/32 and values to whole grey levels.

    Parameters
    ----------
    image
        On the scale where 0 is black.
    transform
        From `similarity_transform`.
    size
        Height and width of the result.

    Raises
    ------
    ValueError
        If the transform cannot be inverted.
    """
    matrix = np.vstack([transform, [0.0, 0.0, 1.0]])
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-12:
        raise ValueError(f"transform: expected an invertible 2 x 3 matrix, found {np.asarray(transform).tolist()}")
    back = np.linalg.inv(matrix)[:2]
    down, right = torch.arange(size[0], dtype=torch.float64)[:, None], torch.arange(size[1], dtype=torch.float64)
    # A picture one pixel wide or high has no span to measure in; its only row then lies at -1.
    spans = (max(image.shape[2] - 1, 1), max(image.shape[1] - 1, 1))
    old = [
        2 / span * (float(a) * right + float(b) * down + float(c)) - 1
        for (a, b, c), span in zip(back, spans, strict=True)
    ]
    grid = torch.stack(old, dim=-1).to(image.dtype)
    return functional.grid_sample(image[None], grid[None], padding_mode="zeros", align_corners=True)[0]


def align(
    image: UInt8[np.ndarray, "height width 3"],
    landmarks: Float[np.ndarray, "5 2"],
    *,
    template: Sequence[Sequence[float]] = TEMPLATE_112,
    size: tuple[int, int] = SIZE,
) -> Float[Tensor, "3 new_height new_width"]:
    """The picture moved so that its five landmarks lie nearest to the template; grey levels in [0, 255].

    Parameters
    ----------
    image
        RGB, as `decode` returns it.
    landmarks
        Left eye, right eye, nose, left and right mouth corner (left as seen in the picture): (right, down) in pixels.
    template, size
        Where they shall lie, and height and width of the result.

    References
    ----------
    Alignment of the official code (OpenSphere, IJB data set); there the result is rounded to whole grey levels.
    """
    transform = similarity_transform(landmarks, np.asarray(template, dtype=float))
    # Rounding may pass the ends of the scale by a hair.
    return warp(torch.from_numpy(image.copy()).permute(2, 0, 1).float(), transform, size).clamp_(0, 255)


def mirrored(images: Float[Tensor, "*batch width"]) -> Float[Tensor, "*batch width"]:
    """Left and right swapped."""
    return images.flip(-1)


def randomly_mirrored(
    images: Float[Tensor, "n channel height width"], *, generator: torch.Generator, probability: float = 0.5
) -> Float[Tensor, "n channel height width"]:
    """Each image mirrored with the given probability: the only augmentation of the official recipes (OpenSphere, p = 1/2)."""
    if not 0 <= probability <= 1:
        raise ValueError(f"probability: expected a number in [0, 1], found {probability}")
    chosen = torch.rand(len(images), generator=generator) < probability
    return torch.where(chosen.to(images.device).view(-1, 1, 1, 1), mirrored(images), images)


# -------------------------------------------------------------------------------------------------------- image sets


@runtime_checkable
class EncodedImages(Protocol):
    """Where encoded images come from; ``len`` of it is their number."""

    def __len__(self) -> int: ...

    def encoded(self, row: int) -> bytes:
        """The file content of one image."""
        ...

    def where(self, row: int) -> str:
        """What to call the image in messages."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the list of images."""
        ...


def string_array(values: Sequence[str], what: str) -> np.ndarray:
    """Strings of any length, compactly: millions of paths cost their bytes, not a Python object each."""
    try:
        return np.array(values, dtype=np.dtypes.StringDType())
    except UnicodeEncodeError as error:
        raise ValueError(f"{what}: a name is not valid Unicode ({error}); rename it in UTF-8") from error


@dataclass(frozen=True)
class ImageFiles:
    """Images in files below one folder.

    Parameters
    ----------
    root
        The folder.
    paths
        Relative to it, with ``/``; an array from `string_array`.
    """

    root: Path
    paths: np.ndarray

    def __len__(self) -> int:
        return len(self.paths)

    def encoded(self, row: int) -> bytes:
        """Content of the file."""
        with open(self.where(row), "rb") as file:
            return file.read()

    def where(self, row: int) -> str:
        """Path of the file."""
        return f"{self.root}/{self.paths[row]}"

    @property
    def fingerprint(self) -> str:
        """Hash of the relative paths in their order, not of the pixels."""
        return hashlib.sha256("\n".join(self.paths.tolist()).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ImageBytes:
    """Encoded images in memory.

    Parameters
    ----------
    contents
        One file content an image.
    origin
        The file they were read from, for messages.
    """

    contents: tuple[bytes, ...]
    origin: str

    def __len__(self) -> int:
        return len(self.contents)

    def encoded(self, row: int) -> bytes:
        """The stored bytes."""
        return self.contents[row]

    def where(self, row: int) -> str:
        """File and number of the image in it, from 0."""
        return f"{self.origin}: image {row}"

    @property
    def fingerprint(self) -> str:
        """Hash of all bytes."""
        digest = hashlib.sha256()
        for content in self.contents:
            digest.update(len(content).to_bytes(8, "little") + content)
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class FaceImages:
    """Images that are read and decoded when a batch asks for them.

    Parameters
    ----------
    source
        Where the encoded images are.
    name
        For captions and results files.
    size
        Height and width that every image must have (without landmarks), or is aligned to (with them).
    landmarks
        Five points (right, down) in pixels for each image, if the stored images are not yet aligned.
    """

    source: EncodedImages
    name: str
    size: tuple[int, int] = SIZE
    landmarks: Float[np.ndarray, "n 5 2"] | None = None

    def __post_init__(self) -> None:
        if len(self.source) == 0:
            raise ValueError(f"{self.name}: there are no images")
        if self.landmarks is not None and len(self.landmarks) != len(self.source):
            raise ValueError(
                f"{self.name}: expected landmarks for each of {len(self.source)} images, found {len(self.landmarks)}"
            )

    def __len__(self) -> int:
        return len(self.source)

    def images(
        self, rows: Int[Tensor, " rows"], *, mirror: Bool[Tensor, " rows"] | None = None
    ) -> Float[Tensor, "rows 3 height width"]:
        """Decode the chosen images, in the order given; values in [-1, 1], black is -1.

        Parameters
        ----------
        rows
            Numbers in ``[0, len)``; any order, repeats allowed.
        mirror
            Which of them to mirror.

        Raises
        ------
        ImageError
            If an image is damaged or has another size; the message names it.
        FileNotFoundError
            If a file has gone since the list was read.
        ValueError
            If a row number is out of range.
        """
        if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= len(self)):
            raise ValueError(
                f"{self.name}: rows {int(rows.min())}..{int(rows.max())} were asked for, there are {len(self)} images"
            )
        out = torch.empty(len(rows), 3, *self.size)
        for place, row in enumerate(rows.tolist()):
            out[place] = self._levels(row)
        out.sub_(127.5).div_(127.5)  # the official scaling
        return out if mirror is None else torch.where(mirror.view(-1, 1, 1, 1), mirrored(out), out)

    def _levels(self, row: int) -> Tensor:
        """Grey levels of one image, in the shape of the set."""
        where = self.source.where(row)
        pixels = decode(self.source.encoded(row), where)
        if self.landmarks is not None:
            try:
                return align(pixels, self.landmarks[row].astype(float), size=self.size)
            except ValueError as error:
                raise ImageError(f"{where}: {error}") from error
        if pixels.shape[:2] != self.size:
            raise ImageError(
                f"{where}: {pixels.shape[0]} x {pixels.shape[1]} pixels (height x width), expected {self.size[0]} x {self.size[1]}; "
                "align the pictures first or state their size"
            )
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    @property
    def fingerprint(self) -> str:
        """Hash of the list of images, the size and the landmarks: the data's part of a cache key."""
        digest = hashlib.sha256(f"{self.source.fingerprint} {self.size}".encode())
        if self.landmarks is not None:
            digest.update(np.ascontiguousarray(self.landmarks, dtype="<f8").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True, kw_only=True)
class LabelledFaces(FaceImages):
    """Lazily decoded images with the person on each: the large sibling of `samples.LabelledImages`.

    Parameters
    ----------
    identities
        For each image the index of its person in `identity_names`.
    identity_names
        Distinct names, sorted.
    skipped
        Entries of the folder that are no images, so that nobody wonders where they went.
    """

    identities: Int[Tensor, " n"]
    identity_names: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.identities) != len(self.source):
            raise ValueError(f"{self.name}: {len(self.source)} images but {len(self.identities)} identities")
        if len(self.identity_names) < 2:
            raise ValueError(
                f"{self.name}: expected at least two identities, found only {list(self.identity_names)}; "
                "one person cannot be told from others. Is the folder one level too deep?"
            )
        if int(self.identities.min()) < 0 or int(self.identities.max()) >= len(self.identity_names):
            raise ValueError(
                f"{self.name}: identities must lie in 0..{len(self.identity_names) - 1}, "
                f"found {int(self.identities.min())}..{int(self.identities.max())}"
            )

    @classmethod
    def from_names(
        cls,
        source: EncodedImages,
        names: Sequence[str],
        name: str,
        *,
        size: tuple[int, int] = SIZE,
        skipped: Sequence[str] = (),
    ) -> LabelledFaces:
        """Number the people as the official code does: by place in the sorted list of distinct names."""
        distinct = sorted(set(names))
        number = {person: index for index, person in enumerate(distinct)}
        identities = torch.from_numpy(np.fromiter((number[person] for person in names), np.int64, len(names)))
        return cls(
            source=source,
            name=name,
            size=size,
            identities=identities,
            identity_names=tuple(distinct),
            skipped=tuple(skipped),
        )

    def with_identities(self, identities: Int[Tensor, " n"], name: str) -> LabelledFaces:
        """The same images under other labels."""
        return replace(self, identities=identities, name=name)

    def load(self, rows: Int[Tensor, " rows"] | None = None, *, max_bytes: int = MAX_EAGER_BYTES) -> LabelledImages:
        """Decode all images, or the chosen ones, into memory.

        Raises
        ------
        ValueError
            If they would take more than `max_bytes`.
        """
        rows = torch.arange(len(self)) if rows is None else rows
        needed = len(rows) * 3 * self.size[0] * self.size[1] * 4
        if needed > max_bytes:
            raise ValueError(
                f"{self.name}: {len(rows)} images take {needed} bytes, more than the {max_bytes} allowed; "
                "fetch batches with `images(rows)` or raise max_bytes"
            )
        return LabelledImages(self.images(rows), self.identities[rows], self.name)

    @property
    def fingerprint(self) -> str:
        """Hash of the list of images and their identities."""
        digest = hashlib.sha256(super().fingerprint.encode())
        digest.update(self.identities.contiguous().numpy().astype("<i8").tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class FacePairs:
    """Pairs of images for verification.

    Parameters
    ----------
    faces
        The distinct images.
    first, second
        Rows of `faces`.
    same
        Whether both show one person.
    name
        For captions and results files.
    folds
        Equal contiguous parts that the list is made of; 1 if it states none.
    """

    faces: FaceImages
    first: Int[np.ndarray, " pairs"]
    second: Int[np.ndarray, " pairs"]
    same: Bool[np.ndarray, " pairs"]
    name: str
    folds: int = 1

    def __post_init__(self) -> None:
        if not len(self.first) == len(self.second) == len(self.same) or len(self.same) == 0:
            raise ValueError(
                f"{self.name}: expected equally many first and second images and labels, at least one pair, "
                f"found {len(self.first)}, {len(self.second)} and {len(self.same)}"
            )
        rows = np.concatenate([self.first, self.second])
        if rows.min() < 0 or rows.max() >= len(self.faces):
            raise ValueError(
                f"{self.name}: pairs refer to images {rows.min()}..{rows.max()}, there are {len(self.faces)}"
            )
        if self.same.all() or not self.same.any():
            raise ValueError(
                f"{self.name}: all {len(self.same)} pairs are {'same' if self.same.all() else 'different'}; verification needs both kinds"
            )
        if self.folds < 1 or len(self.same) % self.folds:
            raise ValueError(f"{self.name}: {len(self.same)} pairs cannot be cut into {self.folds} equal folds")

    def __len__(self) -> int:
        return len(self.same)


def computed_ahead(work: Callable[[Item], Result], items: Iterable[Item], *, threads: int = 4) -> Iterator[Result]:
    """What `work` makes of each item, in order, while `threads` later items are being worked on in the background.

    Parameters
    ----------
    work
        Called in threads: worth it where it waits for files or runs outside Python's lock, as decoders and array operations do.
    items
        Taken from only as far ahead as needed.
    threads
        Items worked on at once, and results held in memory.

    Raises
    ------
    ValueError
        If `threads` is below 1.
    """
    if threads < 1:
        raise ValueError(f"threads: expected at least 1, found {threads}")
    waiting: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def decoded_ahead(
    faces: FaceImages, batches: Iterable[Int[Tensor, " rows"]], *, threads: int = 4
) -> Iterator[Float[Tensor, "rows 3 height width"]]:
    """Images of each batch of row numbers, decoded by `computed_ahead`: the same pictures as without threads."""
    return computed_ahead(faces.images, batches, threads=threads)
