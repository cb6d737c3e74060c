"""Clips of synthetic people under changing pose, light and expression, with everything that is true of each frame.

What a camera and a landmark detector would deliver (frames, 2D points with an error) stands beside what only a world knows: shape,
viewpoint, reflectance, light. Knobs switch off what a method that learns from clips lives on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import avg_pool2d

from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.renderer import composite, visible_surface
from paper_utils.mesh.shading import shade
from paper_utils.mesh.topology import Topology
from paper_utils.world.face import Head, head
from paper_utils.world.people import People, Population
from paper_utils.world.portraits import ImageNuisance, Scenes, camera_of, neutral_faces, scenes
from paper_utils.world.reflectance import pixel_reflectance, reflectance_maps, vertex_colours

BATCH = 32
# Bumps of the surface that no parameter of the head describes: how many, and their width in units of the head's grid. Choices of ours.
BUMPS, BUMP_SD = 40, (0.4, 1.1)
FINER = 4  # points a texel and side that its true value is averaged over
DETECTOR_PX = 0.5  # error of a landmark detector on a picture of 64 pixels, a choice of ours: 0.8 % of the side


@dataclass(frozen=True)
class ClipSettings:
    """How clips are made.

    Parameters
    ----------
    frames
        Of each clip.
    size
        Pixels a side.
    nuisance
        Strength of pose, light, expression, occlusion and noise.
    same_light, same_pose
        The light, or the head's pose and framing, do not change inside a clip.
    midplane_light
        Light from above, below and the front only.
    full
        Whole heads with hair, ears and neck instead of faces alone, in the same framing.
    bumps_mm
        Standard deviation of the bumps that the surface has beyond the head's parameters.
    detector_px
        Standard deviation of the error of detected landmarks on a picture of 64 pixels; it grows with the size.
    points_per_cell
        Resolution of the mesh.
    """

    frames: int = 6
    size: int = 64
    nuisance: ImageNuisance = field(default_factory=ImageNuisance)
    same_light: bool = False
    same_pose: bool = False
    midplane_light: bool = False
    full: bool = False
    bumps_mm: float = 0.0
    detector_px: float = DETECTOR_PX
    points_per_cell: int = 2


@dataclass(frozen=True)
class Clips:
    """Frames of clips, one person a clip, and the truth of each.

    Parameters
    ----------
    images
        Linear light in [-1, 1].
    person
        Row of the person in `people`; also the number of the clip.
    landmarks
        Detected 68 points in pixels (right, down), with the detector's error.
    mask, shading
        At each pixel: 1 on skin that the head's UV map paints, and the light returned at reflectance one.
    vertices, neutral
        Shape in mm before the viewpoint: in this frame, and at rest. Those of the face alone.
    camera
        Of each frame.
    reflectance
        UV map of each person's skin.
    setting
        Pose, light, expression of each frame.
    people
        Who.
    """

    images: Float[Tensor, "frames 3 size size"]
    person: Int[Tensor, " frames"]
    landmarks: Float[Tensor, "frames 68 2"]
    mask: Float[Tensor, "frames 1 size size"]
    shading: Float[Tensor, "frames 1 size size"]
    vertices: Float[Tensor, "frames vertices 3"]
    neutral: Float[Tensor, "people vertices 3"]
    camera: ScaledOrthographic
    reflectance: Float[Tensor, "people 3 texels texels"]
    setting: Scenes
    people: People

    def __len__(self) -> int:
        return len(self.images)


def clips(
    population: Population,
    identities: range,
    settings: ClipSettings = ClipSettings(),
    *,
    texels: int = 48,
    seed: int = 0,
) -> Clips:
    """Film people.

    Parameters
    ----------
    population, identities
        Who.
    settings
        How.
    texels
        Side of the true reflectance maps.
    seed
        Of scenes, bumps and the detector's errors.
    """
    people = population.people(identities)
    setting = scenes(
        len(people), settings.frames, np.random.default_rng([seed, 23]), settings.nuisance,
        same_light=settings.same_light, same_pose=settings.same_pose, midplane_light=settings.midplane_light,
    )  # fmt: skip
    model = head(settings.points_per_cell, full=settings.full)
    face = head(settings.points_per_cell)
    neutral = neutral_faces(people, model)
    if settings.bumps_mm:
        neutral = neutral + bumps(model, people, settings.bumps_mm)
    camera = camera_of(setting, settings.size, full=False)
    shots = [
        _shoot(neutral, people, model, setting.take(rows), settings) for rows in torch.arange(len(setting)).split(BATCH)
    ]
    images, mask, shading, vertices = (torch.cat(parts) for parts in zip(*shots, strict=True))
    faces = vertices[:, : len(face.vertices)]  # the mask's vertices come first in a whole head
    points = camera.project(face.landmarks68(faces))[..., :2]
    generator = torch.Generator().manual_seed(int(np.random.default_rng([seed, 29]).integers(2**62)))
    errors = torch.randn(points.shape, generator=generator) * settings.detector_px * settings.size / 64
    return Clips(
        images=images,
        person=setting.person,
        landmarks=points + errors,
        mask=mask,
        shading=shading,
        vertices=faces,
        neutral=neutral[:, : len(face.vertices)],
        camera=camera,
        # Averaged over each texel: nostrils and lash lines are finer than that.
        reflectance=avg_pool2d(reflectance_maps(people.skin, FINER * texels), FINER),
        setting=setting,
        people=people,
    )


def bumps(model: Head, people: People, sd_mm: float) -> Float[Tensor, "people vertices 3"]:
    """Each person's own relief of the skin, out of reach of the head's parameters: smooth bumps forward and back, uneven left and right.

    Parameters
    ----------
    model
        The head.
    people
        Their identities are the seeds.
    sd_mm
        Standard deviation over the skin.
    """
    grid = torch.nan_to_num(model.grid, nan=1e3)  # parts without a grid place are out of every bump's reach
    relief = torch.zeros(len(people), len(grid))
    for row, identity in enumerate(people.identity):
        rng = np.random.default_rng([int(identity), 61])
        place = torch.tensor(rng.uniform([1.5, -6.5], [13.5, 6.5], (BUMPS, 2)), dtype=torch.float32)
        width = torch.tensor(rng.uniform(*BUMP_SD, BUMPS), dtype=torch.float32)
        height = torch.tensor(rng.standard_normal(BUMPS), dtype=torch.float32)
        distance = ((grid[:, None] - place) / width[:, None]).square().sum(2)
        relief[row] = (height * torch.exp(-distance / 2)).sum(1)
    skin = model.part == 0
    relief = relief * sd_mm / relief[:, skin].std(1, keepdim=True)
    return relief[..., None] * torch.tensor([0.0, 0.0, 1.0])


@torch.no_grad()
def _shoot(
    neutral: Tensor, people: People, model: Head, scene: Scenes, settings: ClipSettings
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures, masks, shading and posed vertices of some frames."""
    rows, who = scene.person.unique(return_inverse=True)
    skin = people.take(rows.numpy()).skin
    colours, maps = vertex_colours(skin, model)[who], reflectance_maps(skin, settings.size)[who]
    vertices = model.pose(neutral[scene.person], scene.expression, scene.jaw)
    size = (settings.size, settings.size)
    values = torch.cat((colours, model.uv.expand(len(vertices), -1, -1)), dim=2)
    topology = Topology.of(model.faces, len(model.vertices))
    surface = visible_surface(vertices, topology, camera_of(scene, settings.size, full=False), size, values)
    on_skin = (model.face_part == 0)[surface.face_ids.clamp(min=0)] & (surface.face_ids >= 0)
    reflectance = pixel_reflectance(maps, surface.values[:, :3], surface.values[:, 3:], on_skin)
    shading = shade(surface.normals, scene.light) * surface.mask
    background = scene.background[:, :, None, None].expand(-1, -1, *size)
    noise = torch.stack(
        [torch.randn(3, *size, generator=torch.Generator().manual_seed(int(number))) for number in scene.seed]
    )
    light = composite(reflectance, shading, surface.mask, background) + scene.noise[:, None, None, None] * noise
    return (2 * light - 1).clamp(-1, 1), on_skin[:, None].float(), shading, vertices


def shuffled_clips(person: Int[Tensor, " frames"], frames: int, rng: np.random.Generator) -> Int[Tensor, " frames"]:
    """Clip numbers that put frames of different people together: as many clips of as many frames, dealt at random.

    The control of every method that learns from what stays the same inside a clip.
    """
    dealt = torch.arange(len(person)) // frames
    return dealt[torch.from_numpy(rng.permutation(len(person)))]
