r"""Do the lips meet where P, B and M need them to? Told by the gap between them, against how wide each person opens the mouth (paper 09)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

CLOSED_SHARE = 0.1  # of the person's median open gap; below it the lips count as closed


class Closure(NamedTuple):
    """Bilabial closure at one intensity.

    Parameters
    ----------
    share
        Of the frames of P, B and M, how many have closed lips; NaN without such frames.
    closed, frames
        How many those are, and of how many.
    """

    share: float
    closed: int
    frames: int


def inner_lip_gap(
    vertices: Float[Tensor, "*batch time vertices 3"], upper: Int[Tensor, " pairs"], lower: Int[Tensor, " pairs"]
) -> Float[Tensor, "*batch time"]:
    r"""Gap between the lips in every frame, in the unit of the meshes: :math:`g_t = \frac1P \sum_p \lVert x_{t u_p} - x_{t l_p} \rVert`.

    Parameters
    ----------
    vertices
        Meshes.
    upper, lower
        Vertices of the inner rim of either lip, in pairs that meet when the mouth is closed.

    Raises
    ------
    ValueError
        If there are no pairs, or one names a vertex that does not exist.
    """
    count = vertices.shape[-2]
    for name, rows in (("upper", upper), ("lower", lower)):
        if not len(rows) or int(rows.min()) < 0 or int(rows.max()) >= count:
            raise ValueError(f"{name}: expected at least one vertex, each from 0 to {count - 1}, found {rows.tolist()}")
    return (vertices[..., upper, :] - vertices[..., lower, :]).norm(dim=-1).mean(-1)


def median_open_gap(
    gaps: Float[Tensor, "clips time"], opened: Bool[Tensor, "rows frames"], person: Int[Tensor, " persons"]
) -> Float[Tensor, " people"]:
    """How wide each person's mouth usually opens: the median gap over all frames of the person in which it is open.

    Take the true gaps and give the result to `bilabial_closure` for every method, so that none sets its own yardstick.

    Parameters
    ----------
    gaps
        From `inner_lip_gap`.
    opened
        Which frames count as open, such as those that sound and are no P, B or M; frames that were not tracked are False.
    person
        Whose clip it is, 0 to people - 1.

    Raises
    ------
    ValueError
        If a number is missing or not finite, or a person has no open frame or a median of 0.
    """
    _check(gaps, opened, person)
    people = int(person.max()) + 1
    found = []
    for number in range(people):
        of_person = person == number
        wide = gaps[of_person][opened[of_person]]
        # Of an even number of frames the mean of the two in the middle.
        found.append(wide.quantile(0.5) if len(wide) else wide.new_zeros(()))
        if not found[-1] > 0:
            raise ValueError(
                f"person {number}: expected open frames with a median gap above 0, found {len(wide)} frames with {float(found[-1]):g}"
            )
    return torch.stack(found)


def bilabial_closure(
    gaps: Float[Tensor, "clips time"],
    bilabial: Bool[Tensor, "rows frames"],
    person: Int[Tensor, " persons"],
    intensity: Int[Tensor, " levels"],
    open_gap: Float[Tensor, " people"],
    *,
    closed_share: float = CLOSED_SHARE,
) -> dict[int, Closure]:
    r"""Share of the frames of P, B and M in which the lips are closed, by the intensity of the emotion.

    .. math:: \frac{\sum_{t \in \mathrm{PBM}} [\,g_t < 0.1\,m_p\,]}{|\mathrm{PBM}|}

    with the median open gap :math:`m_p` of the person. All frames of all clips of an intensity count alike.

    Parameters
    ----------
    gaps
        From `inner_lip_gap`, of the truth or of a prediction.
    bilabial
        Frames of P, B and M; frames that shall not count are False.
    person, intensity
        Of each clip; whose, and which level.
    open_gap
        From `median_open_gap`.
    closed_share
        Below this share of it lips are closed.

    Returns
    -------
    By intensity, rising; levels that no clip has are not there.

    Raises
    ------
    ValueError
        If shapes do not fit each other, numbers are not finite, a person has no open gap, or the share is not above 0.
    """
    _check(gaps, bilabial, person)
    if len(intensity) != len(gaps) or int(person.max()) >= len(open_gap):
        raise ValueError(
            f"expected an intensity for each of {len(gaps)} clips and an open gap for each of {int(person.max()) + 1} people, "
            f"found {len(intensity)} and {len(open_gap)}"
        )
    if not (closed_share > 0 and open_gap.isfinite().all() and (open_gap > 0).all()):
        raise ValueError(
            f"expected a closed share and open gaps above 0, found {closed_share:g} and {open_gap.tolist()}"
        )
    closed = gaps < closed_share * open_gap[person][:, None]
    result = {}
    for level in sorted(set(intensity.tolist())):
        where = bilabial & (intensity == level)[:, None]
        frames, shut = int(where.sum()), int((closed & where).sum())
        result[level] = Closure(shut / frames if frames else float("nan"), shut, frames)
    return result


def _check(gaps: Tensor, marks: Tensor, person: Tensor) -> None:
    if marks.shape != gaps.shape or len(person) != len(gaps) or not len(gaps) or int(person.min()) < 0:
        raise ValueError(
            f"gaps: expected a mark for each frame and a person from 0 for each clip, found gaps {tuple(gaps.shape)}, "
            f"marks {tuple(marks.shape)} and people {person.tolist()[:5]} ({len(person)} in all)"
        )
    if not gaps.isfinite().all():
        raise ValueError(f"gaps: {int((~gaps.isfinite()).sum())} of {gaps.numel()} are NaN or infinite")
