"""Pictures of synthetic people: first the scene (pose, light, expression, camera, what stands in front), then the photograph.

The scene is the truth that papers about faces in pictures are measured against; each nuisance has one number for its strength.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from paper_utils.data.samples import LabelledImages
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.renderer import composite, visible_surface
from paper_utils.mesh.shading import directional_light, shade
from paper_utils.mesh.topology import Topology
from paper_utils.world.cache import cached
from paper_utils.world.face import EMOTIONS, EXPRESSION_UNITS, Head, emotion_pose, head
from paper_utils.world.people import People, Population
from paper_utils.world.reflectance import Skin, pixel_reflectance, reflectance_maps, vertex_colours

# What a head fills: 285 mm of height for a whole head, 225 mm for the face alone, centred a little below the eyes. Choices of ours.
VIEW_MM = {True: 285.0, False: 225.0}
VIEW_CENTRE_MM = {True: -22.0, False: -24.0}
# At strength 1. Pose, light and noise follow our prototype; expression, framing and occlusion are choices of ours.
YAW_SD, PITCH_SD, ROLL_SD = (math.radians(degrees) for degrees in (18.0, 8.0, 4.0))
SHIFT_SD, ZOOM_SD = 0.02, 0.03  # share of the picture's side; log
AMBIENT, IRRADIANCE = (0.35, 0.70), (0.5, 1.3)
NOISE_SD = 0.01
OCCLUDED = 0.3  # share of pictures with something in front of the face
BATCH = 32
PIECE = 2048  # pictures held as floats at once


@dataclass(frozen=True)
class ImageNuisance:
    """How much pictures of one person differ. Each number is a strength: 0 off, 1 the default spread.

    Parameters
    ----------
    pose
        Turning of the head and framing.
    light
        Spread of direction and strength of the light around an even one from the front.
    expression
        How far faces are from rest, and how wide the mouth opens.
    occlusion
        Share of pictures with a plain block in front of the face, in units of 0.3.
    noise
        Noise of the pixels, in units of 0.01 on the scale 0 to 1.
    """

    pose: float = 1.0
    light: float = 1.0
    expression: float = 0.5
    occlusion: float = 0.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0):
                raise ValueError(f"nuisance {field.name}: expected a strength of at least 0, found {value}")
        if self.occlusion * OCCLUDED > 1:
            raise ValueError(f"nuisance occlusion: at most {1 / OCCLUDED:.2f} (every picture), found {self.occlusion}")

    @classmethod
    def of(cls, severity: float) -> ImageNuisance:
        """All nuisances at one strength; 0 is a clean frontal passport picture."""
        return cls(*([severity] * len(dataclasses.fields(cls))))


@dataclass(frozen=True)
class Scenes:
    """What stood before the camera, one entry a picture.

    Parameters
    ----------
    person
        Row of the person in the `People` that are photographed.
    rotation
        Pitch, yaw, roll of the head in radians.
    scale, shift
        Size on the picture, as a factor on the standard framing, and displacement as a share of the side (right, down).
    light
        Nine coefficients of white light, plain basis, in the camera frame.
    expression, jaw
        Weights of the expression units; opening of the jaw in radians.
    background
        Colour in [0, 1].
    occluder
        Centre (right, down), half width and half height of a block in front, as shares of the side, and its colour; size 0 if there is none.
    noise
        Standard deviation of the pixel noise.
    seed
        Of the pixel noise.
    """

    person: Int[Tensor, " pictures"]
    rotation: Float[Tensor, "pictures 3"]
    scale: Float[Tensor, " pictures"]
    shift: Float[Tensor, "pictures 2"]
    light: Float[Tensor, "pictures 9"]
    expression: Float[Tensor, "pictures 16"]
    jaw: Float[Tensor, " pictures"]
    background: Float[Tensor, "pictures 3"]
    occluder: Float[Tensor, "pictures 7"]
    noise: Float[Tensor, " pictures"]
    seed: Int[Tensor, " pictures"]

    def __len__(self) -> int:
        return len(self.person)

    def take(self, rows: Int[Tensor, " rows"]) -> Scenes:
        """The scenes of the chosen rows, in that order."""
        return Scenes(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})


def scenes(
    people: int,
    per_person: int,
    rng: np.random.Generator,
    nuisance: ImageNuisance = ImageNuisance(),
    *,
    same_light: bool = False,
    same_pose: bool = False,
    midplane_light: bool = False,
) -> Scenes:
    """Draw scenes, `per_person` in a row for each person: pictures of a person, or the frames of one clip.

    Parameters
    ----------
    people, per_person
        Number of people, and of pictures of each.
    rng
        Source of everything in the scenes.
    nuisance
        Strength of each nuisance.
    same_light, same_pose
        Light, or the head's pose and framing, are the same in all pictures of a person.
    midplane_light
        Light comes from above, below or the front only, never from a side.

    Raises
    ------
    ValueError
        If a count is below one.
    """
    if people < 1 or per_person < 1:
        raise ValueError(f"scenes: expected at least one person and one picture each, found {people} and {per_person}")
    count = people * per_person

    def normal(*shape: int, same: bool = False) -> np.ndarray:
        """One draw a picture, or the same for all pictures of a person."""
        drawn = rng.standard_normal((people, per_person, *shape))
        return (
            np.broadcast_to(drawn[:, :1], drawn.shape).reshape(count, *shape) if same else drawn.reshape(count, *shape)
        )

    rotation = nuisance.pose * normal(3, same=same_pose) * [PITCH_SD, YAW_SD, ROLL_SD]
    framing = nuisance.pose * normal(3, same=same_pose)
    expression, jaw = _expressions(nuisance.expression, rng, count)
    real = {
        "rotation": rotation,
        "scale": np.exp(ZOOM_SD * framing[:, 0]),
        "shift": SHIFT_SD * framing[:, 1:],
        "light": _lights(nuisance.light, normal(5, same=same_light), midplane_light),
        "expression": expression,
        "jaw": jaw,
        "background": np.clip(0.5 + 0.12 * normal(1) + 0.05 * normal(3), 0, 1),
        "occluder": _occluders(nuisance.occlusion, rng, count),
        "noise": np.full(count, NOISE_SD * nuisance.noise),
    }
    return Scenes(
        person=torch.arange(people).repeat_interleave(per_person),
        seed=torch.from_numpy(rng.integers(2**31, size=count)),
        **{name: torch.tensor(np.asarray(value), dtype=torch.float32) for name, value in real.items()},
    )


def _lights(strength: float, draws: np.ndarray, midplane: bool) -> Float[np.ndarray, "pictures 9"]:
    """At strength 0 an even light from the front; the spread grows with the strength, the side it comes from with it."""
    side = np.zeros(len(draws)) if midplane else draws[:, 0]
    direction = np.column_stack(
        [strength * side, 0.3 + strength * draws[:, 1], 1 + 0.5 * np.abs(strength * draws[:, 2])]
    )
    ambient, irradiance = (
        np.clip((low + high) / 2 + strength * (high - low) / 2 * np.tanh(draw), 0.1, None)
        for (low, high), draw in ((AMBIENT, draws[:, 3]), (IRRADIANCE, draws[:, 4]))
    )
    return directional_light(*(torch.tensor(value) for value in (direction, irradiance, ambient))).numpy()


def _expressions(strength: float, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A random emotion at a random intensity, and a mouth that may be open."""
    poses = [emotion_pose(name) for name in EMOTIONS]
    which, intensity = rng.integers(len(EMOTIONS), size=count), np.minimum(strength * rng.random(count), 1.0)
    weights = np.stack([pose.numpy() for pose, _ in poses])[which] * intensity[:, None]
    jaw = np.array([angle for _, angle in poses])[which] * intensity
    speaking = strength * np.abs(rng.standard_normal(count)) * math.radians(4)
    return weights.reshape(count, len(EXPRESSION_UNITS)), jaw + np.minimum(speaking, math.radians(14))


def _occluders(strength: float, rng: np.random.Generator, count: int) -> Float[np.ndarray, "pictures 7"]:
    there = rng.random(count) < strength * OCCLUDED
    centre, half = rng.uniform(0.25, 0.75, (count, 2)), rng.uniform(0.06, 0.18, (count, 2))
    return np.column_stack([centre, half * there[:, None], rng.random((count, 3))])


def photograph(
    people: People,
    setting: Scenes,
    size: int = 64,
    *,
    full: bool = True,
    points_per_cell: int = 2,
    map_size: int = 64,
    supersample: int = 1,
) -> Float[Tensor, "pictures 3 size size"]:
    """Take the pictures.

    Parameters
    ----------
    people
        Who is photographed; ``setting.person`` are rows of it.
    setting
        The scenes.
    size
        Pixels a side.
    full
        The whole head with hair, ears and neck, or the face alone.
    points_per_cell
        Resolution of the mesh, see `paper_utils.world.face.head`.
    map_size
        Texels a side of each person's skin.
    supersample
        Rays a pixel and side: 1 leaves the steps at outlines that a cheap renderer has, 2 smooths them at four times the cost.

    Returns
    -------
    Tensor
        Linear light in [-1, 1], -1 is black.

    Raises
    ------
    IndexError
        If a scene names a person that is not there.
    """
    if len(setting) and not 0 <= int(setting.person.min()) <= int(setting.person.max()) < len(people):
        raise IndexError(
            f"scenes name people {int(setting.person.min())} to {int(setting.person.max())}; there are {len(people)}"
        )
    model = head(points_per_cell, full=full)
    topology = Topology.of(model.faces, len(model.vertices))
    pictures = torch.empty(len(setting), 3, size, size)
    # People in blocks of rows, so that each one's shape and skin are made once however many pictures there are.
    for first in range(0, len(people), BATCH):
        rows = torch.nonzero((setting.person >= first) & (setting.person < first + BATCH)).flatten()
        if not len(rows):
            continue
        block = people.take(np.arange(first, min(first + BATCH, len(people))))
        neutral = neutral_faces(block, model)
        colours, maps = vertex_colours(block.skin, model), reflectance_maps(block.skin, map_size)
        for part in rows.split(BATCH):
            scene = setting.take(part)
            who = scene.person - first
            vertices = model.pose(neutral[who], scene.expression, scene.jaw)
            pictures[part] = _shoot(
                vertices, model, topology, colours[who], maps[who], scene, size * supersample, full, supersample
            )
    return pictures


def neutral_faces(people: People, model: Head) -> Float[Tensor, "people vertices 3"]:
    """Everybody's head at rest, in mm."""
    parameters, log_size = (torch.tensor(value, dtype=torch.float32) for value in (people.face, people.log_size))
    return model.identity_vertices(parameters, log_size, people.skin.hair_style)


def camera_of(scene: Scenes, size: int, *, full: bool = True) -> ScaledOrthographic:
    """The camera of each scene for pictures of `size` pixels a side."""
    scale = scene.scale * size / VIEW_MM[full]
    middle = torch.stack([torch.full_like(scale, 0.5 * size), 0.5 * size + scale * VIEW_CENTRE_MM[full]], dim=1)
    return ScaledOrthographic(rotation=scene.rotation, scale=scale, translation=middle + scene.shift * size)


def studio(
    vertices: Float[Tensor, "pictures vertices 3"],
    skin: Skin,
    model: Head,
    *,
    size: int = 128,
    yaw_deg: float | Sequence[float] = 0.0,
    light: Float[Tensor, "pictures 9"] | None = None,
    full: bool = True,
) -> Float[Tensor, "pictures 3 size size"]:
    """Pictures for looking at: given faces before a grey wall in even light, smooth at outlines, without noise.

    Parameters
    ----------
    vertices
        From `Head.identity_vertices` or `Head.pose`.
    skin
        Reflectance of each picture's face, or of one face for all.
    model
        The head that the vertices are of.
    size
        Pixels a side.
    yaw_deg
        How far heads are turned to their left, one for all or one a picture.
    light
        Nine coefficients; a lamp from the front and a little above if not given.
    full
        Whether `model` is a whole head; it sets the framing.

    Returns
    -------
    Tensor
        Linear light in [-1, 1].
    """
    count = len(vertices)
    rows = np.zeros(count, dtype=int) if len(skin) == 1 else np.arange(count)
    setting = scenes(count, 1, np.random.default_rng(0), ImageNuisance.of(0))
    turned = torch.zeros(count, 3)
    turned[:, 1] = torch.deg2rad(torch.as_tensor(yaw_deg, dtype=torch.float32))
    changes = {
        "rotation": turned,
        "background": torch.full((count, 3), 0.6),
        "light": setting.light if light is None else light,
    }
    colours, maps = vertex_colours(skin, model)[rows], reflectance_maps(skin, max(64, size))[rows]
    topology = Topology.of(model.faces, len(model.vertices))
    return _shoot(vertices, model, topology, colours, maps, dataclasses.replace(setting, **changes), 2 * size, full, 2)


@torch.no_grad()
def _shoot(
    vertices: Tensor,
    model: Head,
    topology: Topology,
    colours: Tensor,
    maps: Tensor,
    scene: Scenes,
    rays: int,
    full: bool,
    supersample: int,
) -> Tensor:
    values = torch.cat([colours, model.uv.expand(len(vertices), -1, -1)], dim=2)
    surface = visible_surface(vertices, topology, camera_of(scene, rays, full=full), (rays, rays), values)
    on_skin = (model.face_part == 0)[surface.face_ids.clamp(min=0)] & (surface.face_ids >= 0)
    reflectance = pixel_reflectance(maps, surface.values[:, :3], surface.values[:, 3:], on_skin)
    shading = shade(surface.normals, scene.light) * surface.mask
    background = scene.background[:, :, None, None].expand(-1, -1, rays, rays)
    pictures = avg_pool2d(composite(reflectance, shading, surface.mask, background), supersample)
    pictures = _behind_blocks(pictures, scene.occluder)
    size = pictures.shape[-1]
    noise = torch.stack(
        [torch.randn(3, size, size, generator=torch.Generator().manual_seed(int(s))) for s in scene.seed]
    )
    return ((pictures + scene.noise[:, None, None, None] * noise) * 2 - 1).clamp(-1, 1)


def _behind_blocks(pictures: Tensor, occluder: Tensor) -> Tensor:
    size = pictures.shape[-1]
    centres = (torch.arange(size) + 0.5) / size
    column, row, half_width, half_height = occluder[:, :4, None].unbind(1)
    covered = ((centres - column).abs() < half_width)[:, None, :] & ((centres - row).abs() < half_height)[:, :, None]
    return torch.where(covered[:, None], occluder[:, 4:, None, None], pictures)


def portraits(
    population: Population,
    identities: range,
    per_person: int,
    *,
    size: int = 64,
    nuisance: ImageNuisance = ImageNuisance(),
    seed: int = 0,
    full: bool = True,
) -> LabelledImages:
    """Pictures of people of a population with their identity and covariates, from disk if they were taken before.

    Parameters
    ----------
    population, identities
        Who.
    per_person
        Pictures of each.
    size
        Pixels a side.
    nuisance
        Strength of each nuisance.
    seed
        Of the scenes.
    full
        The whole head, or the face alone.

    Returns
    -------
    LabelledImages
        Linear light in [-1, 1]; ``covariates`` holds sex, age and nationality of each picture's person.
    """
    people = population.people(identities)

    def take() -> dict[str, Tensor]:
        setting = scenes(len(people), per_person, np.random.default_rng([seed, 7]), nuisance)
        # Piece by piece: ten thousand pictures of 64 pixels take half a gigabyte as floats.
        pieces = torch.arange(len(setting)).split(PIECE)
        shots = (photograph(people, setting.take(piece), size, full=full) for piece in pieces)
        return {"images": torch.cat([(shot * 127.5 + 127.5).round().to(torch.uint8) for shot in shots])}

    parameters = {
        "population": dataclasses.asdict(population),
        "identities": [identities.start, identities.stop, identities.step],
        "per_person": per_person,
        "size": size,
        "nuisance": dataclasses.asdict(nuisance),
        "seed": seed,
        "full": full,
    }
    images = cached(__name__, parameters, take)["images"].float().div_(127.5).sub_(1)
    who = np.arange(len(people)).repeat(per_person)
    return LabelledImages(
        images,
        torch.from_numpy(people.identity[who]),
        "synthetic portraits",
        {name: torch.from_numpy(values[who]) for name, values in people.covariates().items()},
    )
