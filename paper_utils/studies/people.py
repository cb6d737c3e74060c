"""People for the open-set notebooks (05 and 06): what the networks see of them, and pictures of them.

Both notebooks take the same people, as many pictures of each and the same seed, so the faces are rendered once for both.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from paper_utils.data import digits, lfw, photographs
from paper_utils.data.samples import LabelledImages
from paper_utils.experiment import Experiment
from paper_utils.world.recognition import degraded, recognition_faces, through_front_end

# LFW's people are too few to fix numbers: they are shared out. Choices of ours: the shares of the quick profile, pictures of each (as many
# as `lfw.MIN_IMAGES` promises), the fewest people a verification at a false accept rate of 1e-3 makes sense with, people of the front end.
LFW_SHARES = (10 / 19, 6 / 19)
LFW_FEWEST = 24
LFW_FRONT_END_PEOPLE = 600


@dataclass(frozen=True)
class Counts:
    """How many people there are to choose from, and pictures of each.

    Parameters
    ----------
    learned, unseen
        People that a run learns, and other people that it is tested on.
    strangers
        People beyond these.
    views
        Pictures of each.
    """

    learned: int
    unseen: int
    strangers: int
    views: int

    @property
    def people(self) -> int:
        """All of them."""
        return self.learned + self.unseen + self.strangers


def counts(exp: Experiment) -> Counts:
    """Numbers of a profile, the same in both notebooks; choices of ours (the papers' training set has 8,631 people).

    Raises
    ------
    ValueError
        For ``"lfw"``, if too few people have enough pictures.
    """
    if exp.data == "lfw":
        found = lfw.count_people(exp.data_root)
        if found < LFW_FEWEST:
            raise ValueError(
                f"LFW in {exp.data_root}: {found} people have {lfw.MIN_IMAGES} pictures or more, expected at least {LFW_FEWEST} "
                "to learn some and be tested on others; the whole set has enough"
            )
        learned, unseen = (int(share * found) for share in LFW_SHARES)
        return Counts(learned, unseen, found - learned - unseen, lfw.MIN_IMAGES)
    everybody = Counts(2000, 500, 300, 30) if exp.data != "digits" else Counts(1200, 400, 197, 30)  # 1,797 digits
    return exp.scale(smoke=Counts(24, 16, 6, 8), quick=Counts(200, 120, 60, 20), full=everybody)


def load(
    exp: Experiment, people: int, views: int, *, quality: Float[Tensor, " pictures"] | None = None
) -> tuple[LabelledImages, LabelledImages]:
    """What networks see of people, and pictures of them, in the same order.

    Parameters
    ----------
    exp
        ``exp.data`` says who they are: ``"world"`` synthetic faces, ``"digits"`` handwritten digits, see `drawn_people`, ``"lfw"`` real
        faces, see `lfw_people`.
    people, views
        How many people, and pictures of each.
    quality
        Of each picture, 1 (clean) to 0, person by person. If it is not given, faces are clean and photographs of digits of mixed quality.
    """
    if exp.data == "lfw":
        return lfw_people(exp, people, views, quality=quality)
    if exp.data == "digits":
        drawn = drawn_people(exp, people, views, quality=quality)
        return drawn, drawn
    return recognition_faces(people, views, seed=exp.seed, quality=quality)


def drawn_people(
    exp: Experiment, people: int, views: int, *, quality: Float[Tensor, " pictures"] | None = None
) -> LabelledImages:
    """Real pixels without a download: each handwritten digit is photographed as if the drawing were a person.

    Raises
    ------
    ValueError
        If there are fewer drawings than people asked for.
    """
    drawings = digits.load()
    if people > len(drawings):
        raise ValueError(f"people: expected at most {len(drawings)}, one a drawn digit, found {people}")
    few = LabelledImages(drawings.images[:people], drawings.identities[:people], drawings.name)
    return photographs.photograph(few, views, generator=exp.generator("camera"), quality=quality)[0]


def lfw_people(
    exp: Experiment, people: int, views: int, *, quality: Float[Tensor, " pictures"] | None = None
) -> tuple[LabelledImages, LabelledImages]:
    """Labeled Faces in the Wild: the first pictures of people who have enough of them, through a front end learned on people who have not."""
    faces = lfw.load(exp.data_root, people=people, first=views)
    others = lfw.load(exp.data_root, min_images=1, max_images=lfw.MIN_IMAGES - 1, first=1, people=LFW_FRONT_END_PEOPLE)
    if quality is not None:
        name = f"{faces.name}, of planted quality"
        faces = LabelledImages(degraded(faces.images, quality, seed=exp.seed), faces.identities, name)
    return through_front_end(faces, others, 128), faces
