r"""Anthropometric measurements from named landmarks: distances in mm, ratios in percent, angles in degrees.

A measurement says which landmarks it is read from, so the same functions serve the synthetic head and any scanned mesh whose landmarks
have names. Everything is batched torch and differentiable; measurements without a value (a length of zero below a ratio) are NaN.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

LandmarkTable = Mapping[str, Float[Tensor, "batch 3"]]
KINDS = ("distance", "ratio", "angle", "tilt", "taper")
TINY_MM = 1e-6  # shorter than this, a length has no direction and is no denominator
# Landmarks of the synthetic head that exist on both sides, as name_l and name_r.
PAIRED = frozenset(
    [
        "tmp",
        "bm",
        "bc",
        "bl",
        "ft",
        "en",
        "ps",
        "pi",
        "ex",
        "oc",
        "zy",
        "t",
        "ck",
        "ala",
        "cph",
        "us",
        "ch",
        "ckl",
        "li2",
        "go",
        "cj",
        "md",
        "go2",
    ]
)
SHORT = {"al": "ala"}  # customary short names

Readings = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Measurement:
    """One number to read off a face.

    Parameters
    ----------
    name
        As reported.
    kind
        "distance" (mm), "ratio" (percent), "angle" (degrees, at the middle landmark), "tilt" (degrees that the second landmark lies
        above the first, against the horizontal), "taper" (degrees by which the face narrows from the first down to the second
        landmark, against the vertical).
    readings
        Landmark names, two (three for an angle) for each side; the value is the mean over the sides.
    over
        Landmarks of the denominator of a ratio.

    Raises
    ------
    ValueError
        If the kind is unknown or the landmarks do not fit it.
    """

    name: str
    kind: str
    readings: Readings
    over: Readings = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.name}: kind must be one of {', '.join(KINDS)}; found {self.kind!r}")
        wanted = 3 if self.kind == "angle" else 2
        if not self.readings or any(len(names) != wanted for names in self.readings):
            raise ValueError(f"{self.name}: {self.kind} needs {wanted} landmarks a side, found {self.readings}")
        if bool(self.over) != (self.kind == "ratio") or any(len(names) != 2 for names in self.over):
            raise ValueError(
                f"{self.name}: a ratio, and only a ratio, has a denominator of two landmarks; found {self.over}"
            )


def _readings(text: str) -> Readings:
    names, _, side = text.partition(" ")
    parts = [SHORT.get(part, part) for part in names.split("-")]
    if parts[0] == parts[-1]:  # al-al, al-prn-al: from left to right
        return ((f"{parts[0]}_l", *parts[1:-1], f"{parts[0]}_r"),)
    sides = {"": "lr", "left": "l", "right": "r"}[side]
    return tuple(
        dict.fromkeys(tuple(part + (f"_{which}" if part in PAIRED else "") for part in parts) for which in sides)
    )


def measurement(text: str, name: str | None = None) -> Measurement:
    """A measurement of the synthetic head by its customary notation.

    Parameters
    ----------
    text
        ``"n-gn"`` a distance; ``"al-al"`` from left to right; ``"en-ex"`` the mean of both sides, ``"en-ex left"`` one of them;
        ``"al-al/n-sn"`` a ratio; ``"gl-n-prn"`` an angle.
    name
        As reported; the text itself by default.

    Raises
    ------
    ValueError
        If the text is none of these.

    Examples
    --------
    >>> measurement("t-n").readings
    (('t_l', 'n'), ('t_r', 'n'))
    >>> measurement("al-prn-al").readings
    (('ala_l', 'prn', 'ala_r'),)
    """
    if not re.fullmatch(r"\w+-\w+(-\w+)?( left| right)?|\w+-\w+/\w+-\w+", text):
        raise ValueError(f"text: expected 'n-gn', 'en-ex left', 'al-al/n-sn' or 'gl-n-prn', found {text!r}")
    if "/" in text:
        above, below = text.split("/")
        return Measurement(name or text, "ratio", _readings(above), _readings(below))
    return Measurement(name or text, "angle" if text.split(" ")[0].count("-") == 2 else "distance", _readings(text))


# The usual measurements of the neutral face (Farkas' notation).
DISTANCES = tuple(
    map(
        measurement,
        (
            "n-gn", "n-sn", "n-sto", "sn-gn", "sn-sto", "sto-sl", "sl-gn", "sn-prn", "al-al", "en-en", "ex-ex", "en-ex left", "en-ex right",
            "en-ex", "ps-pi left", "ps-pi right", "ps-pi", "ch-ch", "cph-cph", "ls-sto", "sto-li", "zy-zy", "go-go", "ft-ft", "tr-n", "tr-gn",
            "t-n", "t-sn", "t-gn", "go-gn",
        ),
    )
)  # fmt: skip
RATIOS = (
    measurement("n-gn/zy-zy", "facial"),
    measurement("go-go/zy-zy", "mandible"),
    measurement("al-al/n-sn", "nasal"),
    measurement("sn-prn/al-al", "nose protrusion"),
    measurement("ch-ch/al-al", "mouth-nose"),
    measurement("en-en/ex-ex", "intercanthal"),
    measurement("ps-pi/en-ex", "eye fissure"),
    measurement("sn-sto/ch-ch", "upper lip"),
    measurement("ls-sto/sto-li", "vermilion"),
    measurement("sl-gn/sn-gn", "chin"),
    measurement("sn-gn/n-gn", "lower face"),
    measurement("n-sto/zy-zy", "upper face"),
)
ANGLES = (
    measurement("gl-n-prn", "nasofrontal"),
    measurement("n-prn-sn", "nasal tip"),
    measurement("prn-sn-ls", "nasolabial"),
    measurement("li-sl-pog", "mentolabial"),
    measurement("gl-sn-pog", "facial convexity"),
    measurement("t-go-gn", "jaw"),
    Measurement("canthal tilt", "tilt", (("en_l", "ex_l"), ("en_r", "ex_r"))),
    Measurement("face taper", "taper", (("zy_l", "go_l"), ("zy_r", "go_r"))),
)
MEASUREMENTS = DISTANCES + RATIOS + ANGLES

# Counterparts on the synthetic head of paper 10's measurements, by their number in its released table.
PAPER_10: dict[int, Measurement] = {
    number: measurement(text)
    for number, text in {
        1: "en-ex left", 2: "en-ex right", 3: "en-en", 4: "ex-ex", 9: "zy-zy", 11: "go-go", 13: "al-al", 17: "cph-cph", 20: "ch-ch",
        23: "ls-li", 24: "ps-pi left", 25: "ps-pi right", 26: "tr-n", 31: "tr-gn", 32: "n-prn", 33: "gl-sn", 34: "prn-sn", 37: "prn-gn",
        41: "pog-gn", 42: "sn-gn", 51: "al-al/n-prn", 57: "ch-ch/n-prn", 58: "al-al/tr-gn", 60: "zy-zy/tr-gn", 62: "go-go/tr-gn",
        64: "ch-ch/tr-gn", 69: "zy-zy/al-al", 71: "go-go/al-al", 74: "ch-ch/al-al", 75: "tr-gn/n-prn", 78: "n-prn/n-gn", 89: "al-prn-al",
        90: "n-prn-sn",
    }.items()
}  # fmt: skip


def measure(
    landmarks: LandmarkTable, measurements: Sequence[Measurement] = MEASUREMENTS
) -> Float[Tensor, "batch measurements"]:
    r"""Read measurements off faces.

    Distances :math:`|a - b|`, ratios in percent, angles :math:`\arccos \frac{(a-b)\cdot(c-b)}{|a-b||c-b|}` in degrees.

    Parameters
    ----------
    landmarks
        Position in mm of each landmark by name, for every face of the batch; x to the left, y up, z forward.
    measurements
        Which, and in which order.

    Returns
    -------
    One column a measurement; NaN where a ratio has no denominator or an angle no direction.

    Raises
    ------
    ValueError
        If there is nothing to measure, a landmark is missing, landmarks differ in shape, or positions are not finite.
    """
    if not measurements:
        raise ValueError("measurements: none given; pass at least one")
    needed = sorted({name for m in measurements for names in (*m.readings, *m.over) for name in names})
    missing = [name for name in needed if name not in landmarks]
    if missing:
        raise ValueError(f"landmarks: {', '.join(missing)} missing; the table has {', '.join(sorted(landmarks))}")
    shape = landmarks[needed[0]].shape
    for name in needed:
        if landmarks[name].shape != shape or landmarks[name].ndim != 2 or shape[1] != 3:
            raise ValueError(
                f"landmarks: expected (batch, 3) for each, found {tuple(landmarks[name].shape)} for {name}"
            )
        if not torch.isfinite(landmarks[name]).all():
            raise ValueError(f"landmarks: {name} holds NaN or infinite positions")
    return torch.stack([_value(landmarks, m) for m in measurements], dim=1)


def noisy_landmarks(
    landmarks: LandmarkTable, sd_mm: float, generator: torch.Generator | None = None
) -> dict[str, Float[Tensor, "batch 3"]]:
    r"""Landmarks as an observer places them: each is off by Gaussian noise of the given standard deviation along every axis.

    Careful manual placement is about 0.5 mm, an automatic detector about 1 mm (choice of ours). A distance then gets an error of
    standard deviation :math:`\sqrt 2\,\tau`.

    Raises
    ------
    ValueError
        If the standard deviation is negative or not finite.
    """
    if not 0 <= sd_mm < float("inf"):
        raise ValueError(f"sd_mm: expected a finite number of millimetres from 0 up, found {sd_mm}")
    return {
        name: point + sd_mm * torch.randn(point.shape, generator=generator, dtype=point.dtype, device=point.device)
        for name, point in landmarks.items()
    }


def _value(landmarks: LandmarkTable, wanted: Measurement) -> Float[Tensor, " batch"]:
    if wanted.kind == "ratio":
        above, below = (_mean_distance(landmarks, readings) for readings in (wanted.readings, wanted.over))
        valid = below > TINY_MM
        return torch.where(valid, 100 * above / torch.where(valid, below, 1), torch.nan)
    if wanted.kind == "distance":
        return _mean_distance(landmarks, wanted.readings)
    read = {"angle": _angle, "tilt": _tilt, "taper": _taper}[wanted.kind]
    return torch.stack([read(*(landmarks[name] for name in names)) for names in wanted.readings]).mean(0)


def _mean_distance(landmarks: LandmarkTable, readings: Readings) -> Float[Tensor, " batch"]:
    return torch.stack([torch.linalg.vector_norm(landmarks[a] - landmarks[b], dim=-1) for a, b in readings]).mean(0)


def _angle(a: Tensor, b: Tensor, c: Tensor) -> Float[Tensor, " batch"]:
    first, second = a - b, c - b
    lengths = torch.linalg.vector_norm(first, dim=-1) * torch.linalg.vector_norm(second, dim=-1)
    valid = lengths > TINY_MM**2
    cosine = (first * second).sum(-1) / torch.where(valid, lengths, 1)
    # arccos has no slope at 1: the last digits are given up there.
    limit = 1 - 4 * torch.finfo(cosine.dtype).eps
    return torch.where(valid, torch.rad2deg(torch.arccos(cosine.clamp(-limit, limit))), torch.nan)


def _tilt(inner: Tensor, outer: Tensor) -> Float[Tensor, " batch"]:
    return torch.rad2deg(torch.atan2(outer[:, 1] - inner[:, 1], (outer[:, 0] - inner[:, 0]).abs()))


def _taper(upper: Tensor, lower: Tensor) -> Float[Tensor, " batch"]:
    return torch.rad2deg(torch.atan2(upper[:, 0].abs() - lower[:, 0].abs(), upper[:, 1] - lower[:, 1]))
