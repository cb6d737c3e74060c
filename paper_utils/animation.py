"""Moving faces and skeletons for the page: a mesh or a stick figure becomes a `film.Film`, several become a filmstrip or stand side by side.

Everything is drawn on the CPU, a face of 4,000 vertices in a few milliseconds a frame. `Film.save` and `Film.play` do the rest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn.functional import avg_pool2d

from paper_utils import plotting
from paper_utils.film import Film
from paper_utils.mesh.cameras import rotation_matrix
from paper_utils.mesh.interpolate import interpolate
from paper_utils.mesh.rasterize import visible_faces
from paper_utils.mesh.shading import directional_light, shade, vertex_normals
from paper_utils.mesh.topology import Topology

GREY = 0.5  # reflectance of a mesh without colours, linear
LAMP, IRRADIANCE, AMBIENT = (
    (0.45, 0.55, 1.0),
    2.2,
    0.22,
)  # a lamp from above and the side shows lips and brows best; looked at
PIXELS_AT_ONCE = 400_000  # of a batch of frames: its temporaries still fit a CPU's cache
DARK = "#444444"


@dataclass(frozen=True)
class Framing:
    """A parallel view of a part of space, the same for all frames and for all films that are compared.

    Frame as everywhere here: x to the subject's left, y up, z toward the camera.

    Parameters
    ----------
    centre
        Point at the centre of the picture, in the unit of the vertices.
    extent
        What the picture's height spans, in that unit.
    yaw_deg, pitch_deg
        How far the subject is turned to its left, and down.
    """

    centre: tuple[float, float, float]
    extent: float
    yaw_deg: float = 0.0
    pitch_deg: float = 0.0

    def __post_init__(self) -> None:
        if not (self.extent > 0 and math.isfinite(self.extent)):
            raise ValueError(f"framing: extent must be positive, found {self.extent}; do all points coincide?")

    @classmethod
    def around(
        cls,
        points: Float[Tensor, "*frames points 3"],
        *,
        yaw_deg: float = 0.0,
        pitch_deg: float = 0.0,
        margin: float = 0.05,
    ) -> Framing:
        """The view that holds all points of all frames in a square picture, with a margin in shares of its side."""
        flat = points.reshape(-1, 3).double()
        _refuse_nan("points", flat)
        turned = flat @ _turn(yaw_deg, pitch_deg).T
        low, high = turned.amin(0), turned.amax(0)
        centre = _turn(yaw_deg, pitch_deg).T @ ((low + high) / 2)
        extent = float((high - low)[:2].max()) / (1 - 2 * margin)
        return cls(tuple(centre.tolist()), extent, yaw_deg, pitch_deg)

    def pixels(
        self, points: Float[Tensor, "*frames points 3"], size: tuple[int, int]
    ) -> Float[Tensor, "*frames points 3"]:
        """Column, row (down) and depth (smaller is nearer) in pixels of a picture of this height and width."""
        scale = size[0] / self.extent
        turned = (points - torch.tensor(self.centre).to(points)) @ _turn(self.yaw_deg, self.pitch_deg).T.to(points)
        x, y, z = (turned * scale).unbind(-1)
        return torch.stack((size[1] / 2 + x, size[0] / 2 - y, -z), dim=-1)


def _turn(yaw_deg: float, pitch_deg: float) -> Tensor:
    angles = torch.tensor([[math.radians(pitch_deg)], [math.radians(yaw_deg)], [0.0]], dtype=torch.float64)
    return rotation_matrix(*angles)[0]


def _refuse_nan(name: str, values: Tensor) -> None:
    if not values.numel():
        raise ValueError(f"{name}: there are no frames or no points, found shape {tuple(values.shape)}")
    wrong = ~torch.isfinite(values)
    if wrong.any():
        first = int(wrong.flatten(1).any(1).nonzero()[0])
        raise ValueError(
            f"{name}: {int(wrong.sum())} of {values.numel()} numbers are NaN or infinite, first in row {first}; did the model diverge?"
        )


@dataclass(frozen=True)
class ColourScale:
    """Colours of a number at each vertex, such as how far it moves.

    Parameters
    ----------
    low, high
        Numbers at the ends; beyond them the end's colour is shown.
    label
        What the number is, with its unit.
    colormap
        Name of a matplotlib colour map.
    """

    low: float
    high: float
    label: str
    colormap: str = plotting.SEQUENTIAL

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"colour scale: expected low < high, found {self.low} and {self.high}")

    def colours(self, values: Float[Tensor, "*frames vertices"]) -> Float[Tensor, "*frames vertices 3"]:
        """Reflectance (linear) of each vertex.

        Raises
        ------
        ValueError
            If a number is NaN.
        """
        _refuse_nan("values", values)
        share = ((values - self.low) / (self.high - self.low)).clamp(0, 1).cpu().numpy()
        # Squared, since the pictures take a root for the display: a fully lit vertex then has the colour of the bar.
        return torch.from_numpy(colormaps[self.colormap](share)[..., :3].astype(np.float32)) ** 2


@torch.no_grad()
def mesh_film(
    vertices: Float[Tensor, "frames vertices 3"],
    faces: Topology | Int[Tensor, "triangles 3"],
    fps: float,
    *,
    framing: Framing | None = None,
    size: int = 160,
    colours: Float[Tensor, "vertices 3"] | Float[Tensor, "frames vertices 3"] | None = None,
    smooth: int = 2,
) -> Film:
    """A lit mesh that moves, before a white ground.

    Light is computed at the vertices and spread over the triangles (Gouraud), which on face meshes of a thousand vertices looks like light
    computed at every pixel and costs half of it.

    Parameters
    ----------
    vertices
        Any unit; x to the subject's left, y up, z forward.
    faces
        Triangles counter-clockwise seen from outside.
    fps
        Frames a second.
    framing
        What is in view; by default all of the mesh in all frames. Give films that are compared the same one.
    size
        Pixels a side.
    colours
        Reflectance (linear, 0 to 1) of each vertex, constant or frame by frame (`ColourScale.colours`); grey by default.
    smooth
        Rays a pixel a side: 1 is quickest, 2 has no jagged outlines.

    Raises
    ------
    ValueError
        If there are no frames, a number is NaN, the rate is not positive, or triangles or colours do not fit the vertices.
    """
    _refuse_nan("vertices", vertices)
    if size < 8 or smooth < 1:
        raise ValueError(f"size and smooth: expected at least 8 pixels and 1 ray, found {size} and {smooth}")
    frames, count = vertices.shape[:2]
    if colours is not None and (colours.shape[-2:] != (count, 3) or (colours.ndim == 3 and len(colours) != frames)):
        raise ValueError(f"colours: expected ({count}, 3) or ({frames}, {count}, 3), found {tuple(colours.shape)}")
    vertices = vertices.detach().float().cpu()
    reflectance = torch.full((count, 3), GREY) if colours is None else colours.float().cpu()
    reflectance = reflectance.expand(frames, -1, -1)
    topology = Topology.of(faces, count)
    framing = framing or Framing.around(vertices)
    rays = size * smooth
    at_once = max(PIXELS_AT_ONCE // rays**2, 1)
    camera_turn = _turn(framing.yaw_deg, framing.pitch_deg).float()
    light = directional_light(torch.tensor([LAMP]), torch.tensor([IRRADIANCE]), torch.tensor([AMBIENT]))
    pictures = np.empty((frames, size, size, 3), dtype=np.uint8)
    for begin in range(0, frames, at_once):
        part = slice(begin, begin + at_once)
        pictures[part] = _lit(vertices[part], topology, framing, camera_turn, light, reflectance[part], rays, smooth)
    return Film(pictures, float(fps))


def _lit(
    vertices: Tensor,
    topology: Topology,
    framing: Framing,
    turn: Tensor,
    light: Tensor,
    reflectance: Tensor,
    rays: int,
    smooth: int,
) -> np.ndarray:
    points = framing.pixels(vertices, (rays, rays))
    # Normals have no use for the unit: brought to pixels, so that a mesh in metres has areas that count.
    normals = vertex_normals((vertices @ turn.T) * (rays / framing.extent), topology)
    shading = shade(normals.transpose(1, 2)[..., None], light.expand(len(vertices), -1))[..., 0].transpose(1, 2)
    grey = bool((reflectance[..., 1:] == reflectance[..., :1]).all())
    lit = shading * (reflectance[..., :1] if grey else reflectance)
    seen = visible_faces(points, topology, (rays, rays), cull=True)
    spread = interpolate(points, lit, topology, seen)
    shown = spread.clamp_(0, 1).sqrt_() + (seen < 0)[:, None]
    shown = avg_pool2d(shown, smooth) if smooth > 1 else shown
    return (shown * 255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).expand(-1, -1, -1, 3).numpy()


def side_colours(names: Sequence[str], bones: Sequence[tuple[int, int]]) -> list[str]:
    """Colour of each bone by the side that the name of its outer joint begins with: blue left, orange right, dark the middle."""
    sides = {"left": plotting.PALETTE[0], "right": plotting.PALETTE[1]}
    return [sides.get(names[outer].split("_")[0], DARK) for _, outer in bones]


def skeleton_film(
    joints: Float[Tensor, "frames joints 3"] | Float[Tensor, "frames joints 2"],
    bones: Sequence[tuple[int, int]],
    fps: float,
    *,
    framing: Framing | None = None,
    size: int = 160,
    colours: Sequence[str] | None = None,
    head: tuple[int, int] | None = None,
    trail: Sequence[int] = (),
    trail_s: float = 0.5,
    y_down: bool = False,
) -> Film:
    """A stick figure that moves, before a white ground; near bones over far ones.

    Parameters
    ----------
    joints
        Any unit. In three dimensions x to the subject's left, y up, z forward; in two, x to the right and y up.
    bones
        Pairs of joints that a line joins.
    fps
        Frames a second.
    framing
        What is in view; by default all joints of all frames that have a bone. Give films that are compared the same one.
    size
        Pixels a side.
    colours
        One a bone (`side_colours`); dark by default.
    head
        Two joints, such as head and head top, that a circle is drawn between.
    trail, trail_s
        Joints whose path over the last `trail_s` seconds is drawn too, such as the wrists.
    y_down
        Whether y grows downwards, as in picture coordinates.

    Raises
    ------
    ValueError
        If there are no frames, a number is NaN, the rate is not positive, or a bone, head or trail names a joint that does not exist.
    """
    _refuse_nan("joints", joints)
    count = joints.shape[1]
    asked = [*(end for bone in bones for end in bone), *trail, *(head or ())]
    if not len(bones) or min(asked) < 0 or max(asked) >= count:
        raise ValueError(
            f"bones, head and trail: expected at least one bone between joints 0 to {count - 1}, found joints {sorted(set(asked))}"
        )
    if colours is not None and len(colours) != len(bones):
        raise ValueError(f"colours: expected one for each of {len(bones)} bones, found {len(colours)}")
    joints = joints.detach().double().cpu()
    if joints.shape[2] == 2:
        joints = torch.cat((joints, torch.zeros_like(joints[..., :1])), dim=2)
    if y_down:
        joints = joints * torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    framing = framing or Framing.around(joints[:, sorted(set(asked))])
    rays = 3 * size  # thin slanted lines need more rays than a mesh
    points = framing.pixels(joints, (rays, rays)).numpy()
    tints = [tuple(round(255 * part) for part in to_rgb(tint)) for tint in colours or [DARK] * len(bones)]
    before = round(trail_s * fps)
    pictures = np.empty((len(points), size, size, 3), dtype=np.uint8)
    ends = np.array(bones)
    for number, placed in enumerate(points):
        canvas = Image.new("RGB", (rays, rays), "white")
        pen = ImageDraw.Draw(canvas)
        for joint in trail:
            path = points[max(number - before, 0) : number + 1, joint, :2]
            pen.line([tuple(place) for place in path.tolist()], fill="#bbbbbb", width=max(rays // 90, 1), joint="curve")
        thick = max(rays // 50, 2)
        for bone in np.argsort(-placed[ends, 2].mean(1), kind="stable"):
            line = [tuple(place) for place in placed[ends[bone], :2].tolist()]
            pen.line(line, fill=tints[bone], width=thick)
            for column, row in line:  # round ends
                pen.ellipse(
                    (column - thick / 2, row - thick / 2, column + thick / 2, row + thick / 2), fill=tints[bone]
                )
        if head is not None:
            below, above = placed[list(head), :2]
            (column, row), radius = (below + above) / 2, np.linalg.norm(above - below) / 2 + thick
            pen.ellipse(
                (column - radius, row - radius, column + radius, row + radius), fill="white", outline=DARK, width=thick
            )
        pictures[number] = np.asarray(canvas.reduce(3))
    return Film(pictures, float(fps))


def beside(films: Mapping[str, Film]) -> Film:
    """Films side by side under their labels, with the sound of the first that has one.

    Raises
    ------
    ValueError
        If there are none, or they differ in number of frames, rate or height.
    """
    _same_times(films)
    heights = {name: film.pictures.shape[1] for name, film in films.items()}
    if len(set(heights.values())) > 1:
        raise ValueError(f"films side by side must be of one height, found {heights}")
    columns = [
        np.concatenate((np.repeat(_label(name, film)[None], len(film), axis=0), film.pictures), axis=1)
        for name, film in films.items()
    ]
    heard = next((film for film in films.values() if film.sound is not None), next(iter(films.values())))
    return replace(heard, pictures=np.concatenate(columns, axis=2))


def _label(text: str, film: Film) -> np.ndarray:
    width = film.pictures.shape[2]
    band = Image.new("RGB", (width, max(width // 9, 14)), "white")
    pen, font = ImageDraw.Draw(band), ImageFont.load_default(max(width // 13, 10))
    pen.text((width / 2, band.height / 2), text, fill="#222222", font=font, anchor="mm")
    return np.asarray(band)


def _same_times(films: Mapping[str, Film]) -> None:
    if not films:
        raise ValueError("films: there are none")
    times = {name: (len(film), film.fps) for name, film in films.items()}
    if len(set(times.values())) > 1:
        found = ", ".join(f"{name!r}: {frames} frames at {fps:g} a second" for name, (frames, fps) in times.items())
        raise ValueError(f"films that are compared must have one length and rate, found {found}; cut the longer ones")


def draw_filmstrip(
    films: Mapping[str, Film],
    *,
    frames: int | Sequence[int] = 8,
    title: str = "",
    scale: ColourScale | None = None,
    cell: float = 1.1,
) -> Figure:
    """A row of pictures over time for each film, time in seconds above the columns.

    Parameters
    ----------
    films
        Label of the row to film, all of one length and rate.
    frames
        How many, evenly spread from the first to the last, or which.
    title
        Of the figure.
    scale
        Draws its colour bar beside the rows.
    cell
        Inches of a picture's width.

    Raises
    ------
    ValueError
        If films differ in length or rate, or a frame does not exist.
    """
    _same_times(films)
    first = next(iter(films.values()))
    chosen = np.asarray(
        np.linspace(0, len(first) - 1, frames).round() if isinstance(frames, int) else frames, dtype=int
    )
    if not len(chosen) or chosen.min() < 0 or chosen.max() >= len(first):
        raise ValueError(f"frames: expected some of 0 to {len(first) - 1}, found {frames}")
    shapes = [film.pictures.shape[1] / film.pictures.shape[2] for film in films.values()]
    size = (cell * len(chosen) + 1.3 + 0.9 * (scale is not None), cell * sum(shapes) + 0.35 + 0.3 * bool(title))
    fig, axes = plt.subplots(
        len(films), len(chosen), figsize=size, squeeze=False, gridspec_kw={"height_ratios": shapes}
    )
    for row, (name, film) in enumerate(films.items()):
        for ax, number in zip(axes[row], chosen, strict=True):
            ax.imshow(film.pictures[number], aspect="auto")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if row == 0:
                ax.set_title(f"{number / film.fps:.2f} s", fontsize=9, fontweight="normal")
        axes[row, 0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=10)
    if title:
        fig.suptitle(title, fontsize=12, fontweight="bold")
    if scale is not None:
        mapped = ScalarMappable(Normalize(scale.low, scale.high), scale.colormap)
        fig.colorbar(mapped, ax=axes, label=scale.label, shrink=0.9, aspect=15, fraction=0.04)
    if fig.get_layout_engine() is not None:
        fig.get_layout_engine().set(w_pad=0.04, h_pad=0.04, wspace=0.0, hspace=0.0)
    return fig
