r"""CEST (paper 07): a 3D face from one picture, learned from videos without any label by estimating one thing after the other.

Top to bottom: variables (face space, viewpoint); what the camera sees and unwrapping; the four networks and the conditional chain with
its independent twin; the losses; training; the supervised bound; files; the published sizes as far as they are known.
Yandong Wen, Weiyang Liu, Bhiksha Raj, Rita Singh, "Self-Supervised 3D Face Reconstruction via Conditional Estimation",
arXiv:2110.04800 (ICCV 2021). No code was published; what we could not find in the paper is a choice of ours and marked so.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol, runtime_checkable

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from paper_utils import training
from paper_utils.mesh.cameras import ScaledOrthographic
from paper_utils.mesh.morphable import MorphableModel
from paper_utils.mesh.renderer import visible_surface
from paper_utils.mesh.shading import shade
from paper_utils.mesh.textures import UvMap, sample_texture, unwrap, uv_coverage
from paper_utils.mesh.topology import Topology
from paper_utils.network_files import ModelFileError, NetworkFile, read_networks, save_networks
from paper_utils.nn import whole_batch
from paper_utils.nn.image_encoders import ConvBlock, ResNet, SmallEncoder, initialise

FORMAT = "paper_utils CEST 1"
VIEW = 7  # pitch, yaw, roll, three of translation, scale
# What one unit of f_v's output is: radians, shares of the picture's side, mm (inert), log scale. Choices of ours, about one standard deviation.
VIEW_UNITS = (0.3, 0.3, 0.3, 0.05, 0.05, 1.0, 0.1)
SHAPE_WEIGHT = 0.1  # of coefficients beside the viewpoint in the supervised bound; most of them can hardly be seen
FIRST_LIGHT = 0.9  # constant term of the light before training: an evenly lit face
# Values of T beyond are cut before their logit: choice of ours, noise and highlights would start far off.
COPIED = (0.03, 0.97)
PARTNERS = ("random", "self", "all")
# On the world's unseen faces the contrast is above .03 and the error below .08 after a short training; walls and noise lie at .01 and .2.
LEAST_CONTRAST, WORST_FIT = 0.02, 0.12
SYMMETRIC_UV = 1e-4  # largest distance of a mirrored UV coordinate that still counts as exact


# ------------------------------------------------------------------------------------------------------------- 1. variables


@dataclass(frozen=True)
class FaceSpace:
    r"""What is known of faces before any picture: a morphable model, where its skin lies in UV space, how pictures frame a face.

    .. math:: S = \bar S + B_{id}\,\alpha_{id} + B_{exp}\,\alpha_{exp}

    Parameters
    ----------
    model
        With UV coordinates and the 68 landmarks; :math:`\alpha` are its identity, then its expression coefficients, 228 in the paper.
    uv_size
        Texels a side of texture and reflectance.
    skin
        Triangles that the reflectance map paints and the photometric loss looks at; all if None. Eyeballs and the inside of the
        mouth share the UV coordinates of the skin around them in some models and must stay out.
    view_mm, centre_mm
        What a picture of a mean viewpoint shows: mm from top to bottom, and the height in mm that its middle row shows.

    Raises
    ------
    ValueError
        If the model lacks UV coordinates or 68 landmarks, `skin` does not fit its triangles, or a number is not positive.
    """

    model: MorphableModel
    uv_size: int = 256
    skin: Bool[Tensor, " triangles"] | None = None
    view_mm: float = 225.0
    centre_mm: float = -24.0

    def __post_init__(self) -> None:
        if self.model.uv is None:
            raise ValueError(f"{self.model.name}: CEST needs UV coordinates; add them with dataclasses.replace")
        if self.model.landmarks is None or len(self.model.landmarks) != 68:
            found = "none" if self.model.landmarks is None else len(self.model.landmarks)
            raise ValueError(f"{self.model.name}: expected the 68 landmarks, found {found}")
        if self.skin is not None and self.skin.shape != self.model.faces.shape[:1]:
            raise ValueError(
                f"skin: expected one flag for each of {len(self.model.faces)} triangles of {self.model.name}, "
                f"found {tuple(self.skin.shape)}; was it made for another topology?"
            )
        if self.uv_size < 1 or not self.view_mm > 0:
            raise ValueError(f"uv_size, view_mm: expected positive numbers, found {self.uv_size} and {self.view_mm}")

    @property
    def coefficients(self) -> int:
        """Length of alpha."""
        return self.model.identity.shape[2] + self.model.expression.shape[2]

    @cached_property
    def topology(self) -> Topology:
        """Triangles, prepared for drawing."""
        return Topology.of(self.model.faces, len(self.model.mean))

    @cached_property
    def uv_map(self) -> UvMap:
        """Which point of the skin each texel shows."""
        faces = self.model.faces if self.skin is None else self.model.faces[self.skin]
        return uv_coverage(self.model.uv, faces, (self.uv_size, self.uv_size))

    @cached_property
    def mirror_grid(self) -> Float[Tensor, "texture_height texture_width 2"] | None:
        """Where each texel's mirror image lies, for `grid_sample`; None if a flip of the width axis is exact.

        Raises
        ------
        ValueError
            If the mesh has no list of mirrored vertices and thus no symmetry.
        """
        uv, mirror = self.model.uv, self.model.mirror
        if mirror is None:
            raise ValueError(
                f"{self.model.name}: the symmetry term needs the mirror image of each vertex; "
                "set `mirror` (see mesh.morphable.find_mirror), or train with symmetry=False"
            )
        used = self.uv_map.corners.unique()
        flipped = uv[used] * uv.new_tensor([-1, 1]) + uv.new_tensor([1, 0])
        if (uv[mirror[used]] - flipped).abs().max() <= SYMMETRIC_UV:
            return None
        places = self.uv_map.place(self.uv_map.spread(uv[mirror][None]))[0]
        return (2 * places - 1).permute(1, 2, 0)

    def mirrored(
        self, maps: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel height width"]:
        """Maps of the face's mirror image: the flip for a symmetric UV map, else each texel's mirrored place is looked up."""
        if self.mirror_grid is None:
            return maps.flip(-1)
        grid = self.mirror_grid.to(maps).expand(len(maps), -1, -1, -1)
        return functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)

    def vertices(self, alpha: Float[Tensor, "batch coefficients"]) -> Float[Tensor, "batch vertices 3"]:
        """Shapes in mm."""
        if alpha.shape[1] != self.coefficients:
            raise ValueError(
                f"alpha: {self.model.name} has {self.coefficients} coefficients, found {alpha.shape[1]}; "
                "are these estimates of another face model?"
            )
        identity = self.model.identity.shape[2]
        return self.model.vertices(alpha[:, :identity], alpha[:, identity:])

    def camera(self, view: Float[Tensor, "batch 7"], size: int) -> ScaledOrthographic:
        r"""Camera of a viewpoint: :math:`Q = s\,\Pi R(pitch, yaw, roll) X + (t_x, t_y)`.

        Parameters
        ----------
        view
            Pitch, yaw, roll in radians; :math:`t_x, t_y` as shares of the picture's side, right and down from the mean place;
            :math:`t_z`, which a parallel camera does not see; log of the scale relative to the mean. Zeros are the mean viewpoint.
        size
            Pixels a side.
        """
        scale = size / self.view_mm * view[:, 6].exp()
        place = view.new_tensor([0.5, 0.5 + self.centre_mm / self.view_mm])
        return ScaledOrthographic(view[:, :3], scale, (place + view[:, 3:5]) * size)

    def view(self, camera: ScaledOrthographic, size: int) -> Float[Tensor, "batch 7"]:
        """Inverse of `camera`; the inert number is 0."""
        place = camera.translation.new_tensor([0.5, 0.5 + self.centre_mm / self.view_mm])
        shift = camera.translation / size - place
        log_scale = (camera.scale * self.view_mm / size).log()
        return torch.cat((camera.rotation, shift, torch.zeros_like(shift[:, :1]), log_scale[:, None]), dim=1)

    def to(self, device: torch.device | str) -> FaceSpace:
        """The same on another device; what was prepared there is kept."""
        if self.model.mean.device == torch.device(device):
            return self
        skin = None if self.skin is None else self.skin.to(device)
        return dataclasses.replace(self, model=self.model.to(device), skin=skin)

    @property
    def signature(self) -> str:
        """What trained networks must agree on with a model: number of vertices, of coefficients, triangles and UV map."""
        digest = hashlib.sha256(self.model.faces.cpu().numpy().tobytes())
        digest.update((self.model.uv.cpu().double().numpy() * 1e4).round().astype(np.int64).tobytes())
        return f"{len(self.model.mean)} vertices, {self.coefficients} coefficients, {digest.hexdigest()[:12]}"


@dataclass(frozen=True)
class Frames:
    """Frames of videos.

    Parameters
    ----------
    images
        Linear light in [-1, 1], -1 is black.
    video
        Which video each frame is of; reflectance is constant inside a video.
    landmarks
        Detected 2D positions of the 68 points in pixels (right, down), the pixel in the corner has its centre at (0.5, 0.5).

    Raises
    ------
    ValueError
        If lengths differ, a frame is not RGB of equal sides, or values are not finite; the message names the frame.
    """

    images: Float[Tensor, "frames 3 size size"]
    video: Int[Tensor, " frames"]
    landmarks: Float[Tensor, "frames 68 2"] | None = None

    def __post_init__(self) -> None:
        check_images(self.images, self.images.shape[-1] if self.images.ndim else 0)
        count = len(self.images)
        if self.video.shape != (count,):
            raise ValueError(f"video: expected one number for each of {count} frames, found {tuple(self.video.shape)}")
        if self.landmarks is None:
            return
        if self.landmarks.shape != (count, 68, 2):
            raise ValueError(f"landmarks: expected shape ({count}, 68, 2), found {tuple(self.landmarks.shape)}")
        lost = (~torch.isfinite(self.landmarks)).flatten(1).any(1).nonzero()[:, 0].tolist()
        if lost:
            raise ValueError(
                f"landmarks: NaN in {len(lost)} of {count} frames, first frame {lost[0]} (video {int(self.video[lost[0]])}); "
                "no face was found there: leave these frames out"
            )

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: Int[Tensor, " rows"]) -> Frames:
        """The chosen frames, in that order."""
        points = None if self.landmarks is None else self.landmarks[rows]
        return Frames(self.images[rows], self.video[rows], points)


@runtime_checkable
class FrameSource(Protocol):
    """What training needs: `Frames`, or anything that reads them from disk when they are asked for."""

    video: Int[Tensor, " frames"]

    def take(self, rows: Int[Tensor, " rows"]) -> Frames:
        """The chosen frames."""
        ...


def check_images(images: Tensor, size: int) -> None:
    """Raise unless `images` are RGB pictures of `size` pixels a side with finite values in [-1, 1].

    Raises
    ------
    ValueError
        Naming the fault: grey or RGBA, another size, whole numbers, NaN (and in which picture), another range.
    """
    kinds = {1: "grey pictures; repeat the channel three times", 2: "grey pictures with alpha; drop the alpha channel",
             4: "RGBA pictures; drop the alpha channel or put them before a background"}  # fmt: skip
    if images.ndim != 4 or images.shape[1] != 3:
        kind = kinds.get(images.shape[1]) if images.ndim == 4 else "give a batch of pictures, channels first"
        raise ValueError(
            f"images: expected RGB of shape (batch, 3, {size}, {size}), found {tuple(images.shape)}: {kind}"
        )
    if tuple(images.shape[2:]) != (size, size):
        raise ValueError(
            f"images: expected {size} x {size} pixels, found {images.shape[2]} x {images.shape[3]}; crop around the face and resize"
        )
    if not images.is_floating_point():
        raise ValueError(f"images: expected numbers in [-1, 1], found {images.dtype}; convert by v / 127.5 - 1")
    if not images.numel():
        return
    low, high = (float(bound) for bound in torch.aminmax(images.detach()))
    if not (np.isfinite(low) and np.isfinite(high)):
        lost = (~torch.isfinite(images)).flatten(1).any(1).nonzero()[:, 0].tolist()
        raise ValueError(
            f"images: NaN or infinite values in {len(lost)} of {len(images)} pictures, first picture {lost[0]}; "
            "is the file whole?"
        )
    if low < -1.001 or high > 1.001:
        raise ValueError(f"images: expected values in [-1, 1], found {low:g} to {high:g}; convert by v / 127.5 - 1")


# ---------------------------------------------------------------------------------- 2. what the camera sees, and unwrapping


@dataclass(frozen=True)
class Geometry:
    """All that viewpoint and shape say of a picture: draw once, then paint and light it as often as wanted.

    Parameters
    ----------
    normals, uv, mask
        At each pixel: unit normal in the camera frame, place on the reflectance map, and 1 where skin is seen.
    texture, visible
        Illuminated texture T in [0, 1], the picture resampled to UV space, and 1 where the picture really shows the texel.
    """

    normals: Float[Tensor, "batch 3 height width"]
    uv: Float[Tensor, "batch 2 height width"]
    mask: Float[Tensor, "batch 1 height width"]
    texture: Float[Tensor, "batch 3 texture_height texture_width"]
    visible: Float[Tensor, "batch 1 texture_height texture_width"]

    def __len__(self) -> int:
        return len(self.normals)

    def take(self, rows: Int[Tensor, " rows"]) -> Geometry:
        """The chosen pictures' geometry."""
        return Geometry(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})

    def to(self, device: torch.device) -> Geometry:
        """On another device."""
        return Geometry(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})


def linear(images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
    """Light in [0, 1] from pictures in [-1, 1]."""
    return (images + 1) / 2


def look(
    space: FaceSpace,
    images: Float[Tensor, "batch 3 size size"],
    vertices: Float[Tensor, "batch vertices 3"],
    camera: ScaledOrthographic,
) -> Geometry:
    r"""Draw a shape from a viewpoint and unwrap the picture: :math:`T = unwrap(I, v, S)`.

    A texel in UV triangle (i, j, k) with barycentric weights (a, b, c) reads the picture at :math:`a Q_i + b Q_j + c Q_k`, where Q are the
    projected vertices.
    """
    size = images.shape[-1]
    uv = space.model.uv.to(vertices).expand(len(vertices), -1, -1)
    surface = visible_surface(vertices, space.topology, camera, (size, size), uv)
    mask = surface.mask
    if space.skin is not None:
        mask = mask * space.skin.to(mask.device)[surface.face_ids.clamp(min=0)][:, None]
    texture = unwrap(linear(images), surface.points, space.uv_map, normals=surface.vertex_normals)
    return Geometry(surface.normals, surface.values, mask, texture.images, texture.visible.to(mask))


def paint(
    geometry: Geometry,
    reflectance: Float[Tensor, "batch channel texture_height texture_width"],
    light: Float[Tensor, "batch 9"],
) -> Float[Tensor, "batch channel height width"]:
    r"""Image formation: :math:`c(p) = A(u(p)) \max(0, \sum_k l_k h_k(n(p)))`. Zero outside the face.

    The light is white: nine numbers. The basis is (1, x, y, z, xy, xz, yz, x^2 - y^2, 3z^2 - 1); its constants are not in the paper.
    """
    return sample_texture(reflectance, geometry.uv) * (shade(geometry.normals, light) * geometry.mask)


def aligned(
    space: FaceSpace, images: Float[Tensor, "batch 3 size size"], view: Float[Tensor, "batch 7"]
) -> Float[Tensor, "batch 3 size size"]:
    r"""The crop :math:`I \circ v`: the picture turned, scaled and shifted so that the face stands upright in its mean place."""
    size = images.shape[-1]
    camera, mean = space.camera(view, size), space.camera(torch.zeros_like(view[:1]), size)
    steps = torch.arange(size, device=images.device, dtype=images.dtype) + 0.5
    row, column = torch.meshgrid(steps, steps, indexing="ij")
    # Millimetres right and up of the head's origin, in the upright frame.
    x = (column - mean.translation[:, 0, None, None]) / mean.scale[:, None, None]
    y = (mean.translation[:, 1, None, None] - row) / mean.scale[:, None, None]
    roll, scale = view[:, 2, None, None], camera.scale[:, None, None]
    right = camera.translation[:, 0, None, None] + scale * (roll.cos() * x - roll.sin() * y)
    down = camera.translation[:, 1, None, None] - scale * (roll.sin() * x + roll.cos() * y)
    grid = torch.stack((right, down), dim=-1) * (2 / size) - 1
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


# --------------------------------------------------------------------------------------------- 3. the networks and the chain


@dataclass(frozen=True)
class ChainConfig:
    """Sizes of the four networks, and what each of them sees.

    The kinds of network are in the paper's figure 2; sizes are choices of ours.

    Parameters
    ----------
    image_size, light_size
        Pixels a side of pictures, and of what f_l sees.
    resnets
        Depths of f_v and f_s; None for small stacks of convolutions of `encoder` widths.
    encoder
        Widths of the small f_v and f_s.
    unet
        Widths of f_r, from the finest level to the coarsest.
    light
        Widths of f_l.
    norm
        Of the residual networks.
    conditional
        Each network sees the picture and what was estimated before: :math:`P(v|I) P(S|I,v) P(R|I,v,S) P(l|I,v,S,R)`. Off: the
        independent twin :math:`P(v|I) P(S|I) P(R|I) P(l|I)`, with the same number of parameters: where it lacks an input, it sees the picture again.
    correct
        f_r corrects its input T, in logits, and begins by copying it: with so few steps, details that the picture shows need not be
        learned. The twin has no T, so its f_r always begins with even grey.
    hide
        Blank texels of T that the picture does not show. The visibility is an input of f_r and f_l in any case.
    """

    image_size: int = 224
    light_size: int = 128
    resnets: tuple[int, int] | None = (18, 50)
    encoder: tuple[int, ...] = (16, 32, 64, 64)
    unet: tuple[int, ...] = (32, 64, 128, 256, 256)
    light: tuple[int, ...] = (32, 64, 128, 256, 256)
    norm: str = "group"
    conditional: bool = True
    correct: bool = True
    hide: bool = False


QUICK = ChainConfig(image_size=64, light_size=48, resnets=None, unet=(16, 32, 64, 64), light=(16, 32, 64, 64))


class UNet(nn.Module):
    """f_r, an encoder-decoder with skip connections: halve and double, then one value between 0 and 1 a channel.

    Parameters
    ----------
    inputs, outputs
        Channels.
    widths
        Of each level, the finest first.
    correct
        Add the last layer to the logits of the first input channels, so that training begins with a copy of them instead of even grey.
        The channel after them says where they are visible; elsewhere their mean is copied.
    seed
        Of the first weights.
    """

    def __init__(self, inputs: int, widths: Sequence[int], *, outputs: int = 3, correct: bool = False, seed: int = 0):
        super().__init__()
        self.outputs, self.correct = outputs, correct
        channels = (inputs, *widths)
        self.down = nn.ModuleList(ConvBlock(channels[i], channels[i + 1], 2 if i else 1) for i in range(len(widths)))
        self.middle = ConvBlock(widths[-1], widths[-1])
        above, ups = widths[-1], []
        for level in range(len(widths) - 2, -1, -1):
            ups.append(ConvBlock(above + widths[level], widths[max(level - 1, 0)]))
            above = widths[max(level - 1, 0)]
        self.up = nn.ModuleList(ups)
        self.out = nn.Conv2d(above, outputs, 1)
        initialise(self, seed)
        nn.init.zeros_(self.out.weight)

    def _start(self, maps: Tensor) -> Tensor:
        """Logits of what is visible, and their mean where nothing is."""
        logits, visible = torch.logit(maps[:, : self.outputs].clamp(*COPIED)), maps[:, self.outputs : self.outputs + 1]
        mean = (logits * visible).sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True).clamp_min(1)
        return mean + visible * (logits - mean)

    def forward(self, maps: Float[Tensor, "batch inputs size size"]) -> Float[Tensor, "batch outputs size size"]:
        """Maps of the same size."""
        start = self._start(maps) if self.correct else 0.0
        levels = []
        for block in self.down:
            maps = block(maps)
            levels.append(maps)
        maps = self.middle(levels.pop())
        for block in self.up:
            skipped = levels.pop()
            maps = functional.interpolate(maps, size=skipped.shape[2:], mode="bilinear", align_corners=False)
            maps = block(torch.cat((maps, skipped), dim=1))
        return torch.sigmoid(start + self.out(maps))


@dataclass(frozen=True)
class Estimate:
    """Everything estimated of a batch of pictures.

    Parameters
    ----------
    view
        Viewpoint v, see `FaceSpace.camera`.
    alpha
        Shape coefficients, in standard deviations.
    vertices
        Shape S in mm, before the viewpoint.
    geometry
        What the camera sees, and the illuminated texture T.
    reflectance
        Map A in [0, 1].
    light
        Nine coefficients l.
    """

    view: Float[Tensor, "batch 7"] | None
    alpha: Float[Tensor, "batch coefficients"] | None
    vertices: Float[Tensor, "batch vertices 3"] | None
    geometry: Geometry
    reflectance: Float[Tensor, "batch 3 texture_height texture_width"]
    light: Float[Tensor, "batch 9"]

    @property
    def shading(self) -> Float[Tensor, "batch 1 height width"]:
        """Light returned at reflectance one, zero outside the face."""
        return shade(self.geometry.normals, self.light) * self.geometry.mask

    def image(
        self, *, reflectance: Tensor | None = None, light: Tensor | None = None
    ) -> Float[Tensor, "batch 3 height width"]:
        """The rendered faces in [0, 1], with another reflectance or light where given; zero outside."""
        return paint(
            self.geometry,
            self.reflectance if reflectance is None else reflectance,
            self.light if light is None else light,
        )


class Estimator(nn.Module):
    r"""The four networks and the chain that they form.

    1. :math:`v = f_v(I)`; 2. :math:`\alpha = f_s(I \circ v)`; 3. :math:`A = f_r(T)` with :math:`T = unwrap(I, v, S)`;
    4. :math:`l = f_l(I, T, A)`; then :math:`\hat I = render(S, R, v, l)`.

    Parameters
    ----------
    space, config
        Face space and sizes.
    seed
        Of the first weights. f_v and f_s begin with the mean viewpoint and shape, f_l with even light.

    References
    ----------
    Paper 07, figures 1 and 2.
    """

    def __init__(self, space: FaceSpace, config: ChainConfig = ChainConfig(), *, seed: int = 0):
        super().__init__()
        self.space, self.config = space, config
        seeds = np.random.SeedSequence(seed).generate_state(4).tolist()
        if config.resnets is None:
            view, shape = (
                SmallEncoder(3, config.encoder, config.image_size, outputs, seed=s)
                for outputs, s in zip((VIEW, space.coefficients), seeds, strict=False)
            )
        else:
            view, shape = (
                ResNet(depth, outputs, norm=config.norm, seed=s)
                for depth, outputs, s in zip(config.resnets, (VIEW, space.coefficients), seeds, strict=False)
            )
        reflectance = UNet(4, config.unet, correct=config.correct and config.conditional, seed=seeds[2])
        light = SmallEncoder(10, config.light, config.light_size, 9, seed=seeds[3])
        for network in (view, shape, light):
            nn.init.zeros_(network.fc.weight)
            nn.init.zeros_(network.fc.bias)
        nn.init.constant_(light.fc.bias[:1], FIRST_LIGHT)
        self.networks = nn.ModuleDict({"view": view, "shape": shape, "reflectance": reflectance, "light": light})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Estimator:
        """Moving the networks to a device moves the face space along."""
        super()._apply(fn, recurse)
        self.space = self.space.to(self.networks["light"].fc.bias.device)
        return self

    def pose_and_shape(
        self, images: Float[Tensor, "batch 3 size size"], networks: Mapping[str, nn.Module] | None = None
    ) -> tuple[Float[Tensor, "batch 7"], Float[Tensor, "batch coefficients"]]:
        """First half of the chain: viewpoint and shape coefficients."""
        networks = networks or self.networks
        view = networks["view"](images) * images.new_tensor(VIEW_UNITS)
        crop = aligned(self.space, images, view) if self.config.conditional else images
        return view, networks["shape"](crop)

    def appearance(
        self,
        images: Float[Tensor, "batch 3 size size"],
        geometry: Geometry,
        networks: Mapping[str, nn.Module] | None = None,
    ) -> tuple[Float[Tensor, "batch 3 texture_height texture_width"], Float[Tensor, "batch 9"]]:
        """Second half of the chain: reflectance map and light."""
        networks, config = networks or self.networks, self.config

        def resized(pictures: Tensor, size: int) -> Tensor:
            if pictures.shape[-1] == size:
                return pictures
            return functional.interpolate(pictures, (size, size), mode="bilinear", align_corners=False, antialias=True)

        light_size = config.light_size
        small = resized(linear(images), light_size)
        if not config.conditional:
            flat = resized(linear(images), self.space.uv_size)
            reflectance = networks["reflectance"](torch.cat((flat, torch.ones_like(flat[:, :1])), dim=1))
            seen = torch.cat((small, small, small, torch.ones_like(small[:, :1])), dim=1)
            return reflectance, networks["light"](seen)
        texture = geometry.texture * geometry.visible if config.hide else geometry.texture
        reflectance = networks["reflectance"](torch.cat((texture, geometry.visible), dim=1))
        in_uv = resized(torch.cat((texture, reflectance, geometry.visible), dim=1), light_size)
        return reflectance, networks["light"](torch.cat((small, in_uv), dim=1))

    def forward(
        self,
        images: Float[Tensor, "batch 3 size size"],
        *,
        geometry: Geometry | None = None,
        networks: Mapping[str, nn.Module] | None = None,
    ) -> Estimate:
        """Run the chain.

        Parameters
        ----------
        images
            In [-1, 1].
        geometry
            Viewpoint and shape are known: only reflectance and light are estimated.
        networks
            The networks to use, such as those that a training run has wrapped.

        Raises
        ------
        ValueError
            If images are not RGB of the right size in [-1, 1].
        """
        check_images(images, self.config.image_size)
        view = alpha = vertices = None
        if geometry is None:
            view, alpha = self.pose_and_shape(images, networks)
            vertices = self.space.vertices(alpha)
            geometry = look(self.space, images, vertices, self.space.camera(view, images.shape[-1]))
        reflectance, light = self.appearance(images, geometry, networks)
        return Estimate(view, alpha, vertices, geometry, reflectance, light)


# -------------------------------------------------------------------------------------------------------------- 4. the losses


@dataclass(frozen=True)
class Objective:
    r"""Which terms the loss has: :math:`L = L_{ph} + \lambda_1 L_{kp} + \lambda_2 L_{rg}`.

    Parameters
    ----------
    partner
        Whose reflectance a frame is painted with. ``"random"``: that of another frame of its video, drawn anew each step (the paper's
        stochastic consistency). ``"all"``: of every frame of its video, the expensive form. ``"self"``: its own; no consistency, as for single pictures.
    symmetry
        Paint it a second time with its own mirrored reflectance.
    own
        Paint it once more with its own reflectance, which the paper's loss does not do where the partner is another frame.
    stop_gradient
        No gradient to the partner's reflectance. The paper mentions none.
    keypoints
        :math:`\lambda_1`, on distances in pixels as shares of a tenth of the picture's side. Choice of ours.
    regulariser
        :math:`\lambda_2`, on coefficients of unit variance. Choice of ours.
    """

    partner: str = "random"
    symmetry: bool = True
    own: bool = False
    stop_gradient: bool = False
    keypoints: float = 1.0
    regulariser: float = 1e-3

    def __post_init__(self) -> None:
        if self.partner not in PARTNERS:
            raise ValueError(f"partner: expected one of {', '.join(PARTNERS)}; found {self.partner!r}")
        if not (self.keypoints >= 0 and self.regulariser >= 0):
            raise ValueError(
                f"keypoints, regulariser: expected weights of at least 0, found {self.keypoints} and {self.regulariser}"
            )


def partners(
    video: Int[Tensor, " frames"], generator: torch.Generator | None = None
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    r"""Pairs (i, j) of frames of one video: frame i is painted with the reflectance of frame j.

    Parameters
    ----------
    video
        :math:`\xi_i` of each frame.
    generator
        Draw one other frame j for each frame i; a frame that is alone in its video gets itself. Without it: all pairs, j = i among them.
    """
    same = video[:, None] == video
    if generator is None:
        first, second = same.nonzero().unbind(1)
        return first, second
    alone = same.sum(1) == 1
    chances = (same & ~torch.eye(len(video), dtype=torch.bool, device=video.device)).double().cpu()
    chances[alone.cpu(), alone.nonzero()[:, 0].cpu()] = 1
    drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
    return torch.arange(len(video), device=video.device), drawn.to(video.device)


def renders(videos: int, frames: int, objective: Objective) -> int:
    """Pictures painted in one step for so many videos of so many frames: 2 a frame for the paper's loss, 2 N a frame for all pairs."""
    per_frame = frames if objective.partner == "all" else 1
    return videos * frames * (per_frame * (1 + objective.symmetry) + objective.own)


def photometric(
    images: Float[Tensor, "batch 3 size size"],
    geometry: Geometry,
    reflectances: Sequence[Float[Tensor, "batch 3 texture_height texture_width"]],
    light: Float[Tensor, "batch 9"],
) -> list[Float[Tensor, " batch"]]:
    r"""Mean absolute difference between picture and painted face over the pixels of the mask, for several reflectances at once.

    .. math:: \epsilon(I; S, R, v, l, M) = \frac{1}{3 |M|} \sum_{p \in M} | I(p) - \hat I(p) |_1

    The mask M is what the model covers, skin only, and has no gradient. The paper leaves the function open; this one is a choice of ours.
    A frame in which no skin is seen counts as 0.
    """
    target, mask = linear(images), geometry.mask.detach()
    painted = paint(geometry, torch.cat(tuple(reflectances), dim=1), light)
    area = (3 * mask.sum((1, 2, 3))).clamp_min(1)
    return [((part - target).abs() * mask).sum((1, 2, 3)) / area for part in painted.split(3, dim=1)]


def check_faces(
    images: Float[Tensor, "batch 3 size size"],
    estimate: Estimate,
    names: Sequence[str] | None = None,
    *,
    worst: float = WORST_FIT,
) -> None:
    """Refuse pictures in which no face can have been found: CEST has no detector and fits a face to anything.

    Catches empty pictures and those that no painted face resembles. It cannot tell a face from every other smooth picture.

    Parameters
    ----------
    images, estimate
        Pictures and what was estimated of them.
    names
        Of the pictures, for the message.
    worst
        Largest `photometric` error.

    Raises
    ------
    ValueError
        Naming the first picture at fault.
    """
    light, mask = linear(images), estimate.geometry.mask
    area = mask.sum((2, 3)).clamp_min(1)
    mean = (light * mask).sum((2, 3)) / area
    spread = (((light - mean[..., None, None]).square() * mask).sum((2, 3)) / area).mean(1).sqrt()
    error = photometric(images, estimate.geometry, [estimate.reflectance], estimate.light)[0]
    for row in range(len(images)):
        name = names[row] if names is not None else f"picture {row}"
        if float(area[row]) <= 1 or float(spread[row]) < LEAST_CONTRAST:
            raise ValueError(
                f"{name}: no face found, the place where one was looked for is of one colour (contrast {float(spread[row]):.3f}, "
                f"a face has at least {LEAST_CONTRAST}); crop the picture around the face"
            )
        if float(error[row]) > worst:
            raise ValueError(
                f"{name}: no face found, the best painted face differs by {float(error[row]):.3f} of the range of light "
                f"(at most {worst} for a face); crop the picture around the face"
            )


def photometric_loss(
    space: FaceSpace,
    images: Float[Tensor, "batch 3 size size"],
    video: Int[Tensor, " batch"],
    estimate: Estimate,
    objective: Objective,
    generator: torch.Generator,
) -> Float[Tensor, ""]:
    r"""Consistency and symmetry of reflectance, both said by what the face would look like.

    .. math::
        L_{ph} = \frac{1}{N} \sum_i \left[ \epsilon(I_i; S_i, R_j, v_i, l_i, M_i) + \epsilon(I_i; S_i, \bar R_i, v_i, l_i, M_i) \right]

    with j another frame of the same video and :math:`\bar R` the mirror image. The geometry is drawn once and painted twice.
    """
    frames = whole_batch.gather(video)  # where processes share the batch, a partner may be a frame of another one
    if objective.partner == "all":
        first, second = partners(frames)
    elif objective.partner == "random":
        first, second = partners(frames, generator)
    else:
        first = second = torch.arange(len(frames), device=video.device)
    geometry, light = estimate.geometry, estimate.light
    pairs, (first, second) = len(first), whole_batch.own_pairs(first, second)
    if objective.partner == "all":
        images, geometry, light = images[first], geometry.take(first), light[first]
    other = whole_batch.gather(estimate.reflectance)[second]
    reflectances = [other.detach() if objective.stop_gradient and objective.partner != "self" else other]
    if objective.symmetry:
        # All pairs mirror the partner's map as well, as 2 N^2 renders do.
        own = other if objective.partner == "all" else estimate.reflectance
        reflectances.append(space.mirrored(own))
    if objective.own:
        reflectances.append(estimate.reflectance[first])
    return sum(whole_batch.mean_of_some(error, pairs) for error in photometric(images, geometry, reflectances, light))


def keypoint_loss(
    space: FaceSpace,
    vertices: Float[Tensor, "batch vertices 3"],
    view: Float[Tensor, "batch 7"],
    landmarks: Float[Tensor, "batch 68 2"],
    size: int,
) -> Float[Tensor, ""]:
    r"""Distance of projected to detected landmarks, in tenths of the picture's side.

    .. math:: L_{kp} = \frac{1}{N N_{kp}} \sum_i \sum_j | Q_i(k_j) - q_i(j) |_1
    """
    points = space.camera(view, size).project(space.model.landmark_points(vertices))[..., :2]
    return 10 / size * (points - landmarks).abs().sum(2).mean()


def regulariser(alpha: Float[Tensor, "batch coefficients"]) -> Float[Tensor, ""]:
    r""":math:`L_{rg} = \frac{1}{N} \sum_i |\alpha_i|^2`."""
    return alpha.square().sum(1).mean()


def loss_terms(
    space: FaceSpace, frames: Frames, estimate: Estimate, objective: Objective, generator: torch.Generator
) -> tuple[dict[str, Float[Tensor, ""]], dict[str, float]]:
    r"""Terms and weights of :math:`L = L_{ph} + \lambda_1 L_{kp} + \lambda_2 L_{rg}`; the last two only where viewpoint and shape are estimated."""
    terms = {"photometric": photometric_loss(space, frames.images, frames.video, estimate, objective, generator)}
    if estimate.view is not None:
        size = frames.images.shape[-1]
        terms["keypoints"] = keypoint_loss(space, estimate.vertices, estimate.view, frames.landmarks, size)
        terms["regulariser"] = regulariser(estimate.alpha)
    weights = {"photometric": 1.0, "keypoints": objective.keypoints, "regulariser": objective.regulariser}
    return terms, weights


# ---------------------------------------------------------------------------------------------------------------- 5. training


@dataclass(frozen=True)
class TrainConfig:
    """Schedule. Rates, batch and lengths are not in the paper.

    Parameters
    ----------
    steps
        With all terms; may be 0.
    warm_up
        Steps before them with landmarks and regulariser alone: the texture of a face that is not found yet is of no use.
    videos, frames
        A step takes so many videos, and so many frames of each.
    lr, clip_norm
        Largest rate of Adam under a one-cycle schedule, and largest norm of the gradient.
    """

    steps: int = 40_000
    warm_up: int = 2_000
    videos: int = 16
    frames: int = 4
    lr: float = 1e-4
    clip_norm: float = 1.0


def batch_rows(video: Int[Tensor, " frames"], config: TrainConfig, step: int, *, seed: int) -> Int[Tensor, " rows"]:
    """Frames of one step, a pure function of seed and step: videos in a random order, different frames of each.

    A video with fewer frames than asked for gives some of them twice.
    """
    order = torch.argsort(video, stable=True)
    numbers, counts = video[order].unique_consecutive(return_counts=True)
    starts = counts.cumsum(0) - counts
    chosen = training.batch_indices(len(numbers), config.videos, step, seed=seed)
    rng = np.random.default_rng([seed, 31, step])
    picks = [rng.permutation(int(counts[v]))[np.arange(config.frames) % int(counts[v])] for v in chosen.tolist()]
    return order[(starts[chosen][:, None] + torch.from_numpy(np.stack(picks))).flatten()]


def _run(
    fabric: lightning_fabric.Fabric,
    networks: Mapping[str, nn.Module],
    config: TrainConfig,
    steps: int,
    checkpoint: Path | None,
) -> training.Run:
    parameters = [parameter for network in networks.values() for parameter in network.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=config.lr, fused=True)  # many small tensors: one pass for all
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, total_steps=steps + 1)
    return training.Run(
        fabric, dict(networks), optimizer, steps=steps, schedule=schedule, clip_norm=config.clip_norm, checkpoint=checkpoint
    )  # fmt: skip


def train(
    fabric: lightning_fabric.Fabric,
    estimator: Estimator,
    source: FrameSource,
    objective: Objective,
    config: TrainConfig,
    *,
    seed: int,
    geometry: Geometry | None = None,
    truth: Truth | None = None,
    checkpoint: Path | None = None,
) -> dict[str, Float[np.ndarray, " steps"]]:
    """Train the chain on videos without labels.

    Parameters
    ----------
    fabric
        From `training.launch`.
    estimator
        Trained in place.
    source
        Frames with landmarks; without them only if the geometry is given.
    objective, config
        Loss and schedule.
    seed
        Of batches and partners.
    geometry
        Geometry of every frame, known from elsewhere: f_v and f_s stay as they are, and there is no warm-up.
    truth
        Learn from true parameters beside the landmarks instead of from pixels: a bound that no unlabelled training can have.
    checkpoint
        File to resume from and save to; the warm-up has one beside it.

    Returns
    -------
    dict
        The terms of the loss at each step of the main part by name; ``warm_up``: the loss before it.

    Raises
    ------
    ValueError
        If landmarks are needed and missing.
    """
    size, device = estimator.config.image_size, fabric.device
    estimator.to(device).train()
    history: dict[str, np.ndarray] = {}
    if geometry is None and config.warm_up:
        networks = {name: estimator.networks[name] for name in ("view", "shape")}
        path = checkpoint and checkpoint.with_name(f"{checkpoint.name}.warm_up")
        run = _run(fabric, networks, config, config.warm_up, path)
        for step in run:
            rows = whole_batch.own(batch_rows(source.video, config, step, seed=seed))
            frames = _on(source.take(rows), device, landmarks=True)
            view, alpha = estimator.pose_and_shape(frames.images, run.modules)
            points = keypoint_loss(estimator.space, estimator.space.vertices(alpha), view, frames.landmarks, size)
            if truth is None:
                rest = objective.regulariser * regulariser(alpha)
            else:
                rest = sum(supervised_geometry(view, alpha, truth.take(rows).to(device)).values())
            run.update(objective.keypoints * points + rest)
        history["warm_up"] = run.history["loss"]
    if not config.steps:
        estimator.eval()
        return history
    names = ("view", "shape", "reflectance", "light") if geometry is None else ("reflectance", "light")
    run = _run(fabric, {name: estimator.networks[name] for name in names}, config, config.steps, checkpoint)
    for step in run:
        rows = whole_batch.own(batch_rows(source.video, config, step + config.warm_up, seed=seed))
        frames = _on(source.take(rows), device, landmarks=geometry is None)
        known = None if geometry is None else geometry.take(rows).to(device)
        estimate = estimator(frames.images, geometry=known, networks=run.modules)
        # Partners are a function of seed and step, so a resumed run draws the same.
        generator = torch.Generator().manual_seed(int(np.random.default_rng([seed, 37, step]).integers(2**62)))
        terms, weights = loss_terms(estimator.space, frames, estimate, objective, generator)
        if truth is not None:
            true = truth.take(rows).to(device)
            del terms["photometric"]
            terms |= supervised_appearance(estimator.space, estimate, true)
            if geometry is None:
                terms |= supervised_geometry(estimate.view, estimate.alpha, true)
            weights |= dict.fromkeys(("reflectance", "light", "view", "shape"), 1.0)
        run.update(sum(weights[name] * term for name, term in terms.items()), **terms)
    estimator.eval()
    return history | {name: values for name, values in run.history.items() if name != "loss"}


def _on(frames: Frames, device: torch.device, *, landmarks: bool) -> Frames:
    if landmarks and frames.landmarks is None:
        raise ValueError(
            "landmarks: training viewpoint and shape needs the 68 detected points of every frame, found none; "
            "run a detector once, or give the geometry"
        )
    points = None if frames.landmarks is None else frames.landmarks.to(device)
    return Frames(frames.images.to(device), frames.video.to(device), points)


# --------------------------------------------------------------------------------------------------- 6. the supervised bound


@dataclass(frozen=True)
class Truth:
    """What nobody knows of real frames: true parameters of each frame. Fields may be None where a training does not use them.

    Parameters
    ----------
    view, alpha
        Viewpoint and coefficients in the estimator's own units.
    reflectance
        Maps in [0, 1].
    light
        Nine coefficients.
    """

    view: Float[Tensor, "frames 7"]
    alpha: Float[Tensor, "frames coefficients"]
    reflectance: Float[Tensor, "frames 3 texture_height texture_width"]
    light: Float[Tensor, "frames 9"]

    def take(self, rows: Int[Tensor, " rows"]) -> Truth:
        """The chosen frames' truth."""
        return Truth(**{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})

    def to(self, device: torch.device) -> Truth:
        """On another device."""
        return Truth(**{f.name: getattr(self, f.name).to(device) for f in dataclasses.fields(self)})


def supervised_geometry(
    view: Float[Tensor, "batch 7"], alpha: Float[Tensor, "batch coefficients"], truth: Truth
) -> dict[str, Float[Tensor, ""]]:
    """Squared distances of viewpoint and coefficients to the truth, in units of their spread; the inert depth does not count."""
    units = truth.view.new_tensor(VIEW_UNITS)
    off = ((view - truth.view) / units).square().sum(1) - ((view - truth.view)[:, 5] / units[5]).square()
    return {"view": off.mean() / (VIEW - 1), "shape": SHAPE_WEIGHT * (alpha - truth.alpha).square().mean()}


def supervised_appearance(space: FaceSpace, estimate: Estimate, truth: Truth) -> dict[str, Float[Tensor, ""]]:
    """Mean absolute distances of reflectance, on the texels of the skin, and of light to the truth."""
    texels = space.uv_map.mask.to(truth.light)
    area = 3 * len(truth.light) * texels.sum()
    return {
        "reflectance": ((estimate.reflectance - truth.reflectance).abs() * texels).sum() / area,
        "light": (estimate.light - truth.light).abs().mean(),
    }


# ------------------------------------------------------------------------------------------------------------------ 7. files


LARGEST = 4096  # pixels or texels a side that a file may ask for; 256 in the paper


@dataclass(frozen=True)
class Learned:
    """Of the face space that networks were trained with, what another one must agree on.

    Parameters
    ----------
    signature, uv_size
        See `FaceSpace`.
    """

    signature: str
    uv_size: int


def save(estimator: Estimator, path: Path) -> None:
    """Write the networks with their sizes and the signature of the face model, as safetensors."""
    learned = Learned(estimator.space.signature, estimator.space.uv_size)
    about = {
        "config": json.dumps(dataclasses.asdict(estimator.config)),
        "space": json.dumps(dataclasses.asdict(learned)),
    }
    save_networks(estimator, path, FORMAT, about)


def load(path: Path, space: FaceSpace) -> Estimator:
    """Read what `save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated, not ours, or was trained with a face model of another topology.
    """
    file = read_networks(path, FORMAT)
    learned = _learned(file)
    if learned != Learned(space.signature, space.uv_size):
        raise ModelFileError(
            f"{path}: the networks were trained with {learned.signature}, {learned.uv_size} texels; "
            f"{space.model.name} has {space.signature}, {space.uv_size} texels; give the model of the training"
        )
    config = file.config("config", ChainConfig)
    file.check_range(1, LARGEST, image_size=config.image_size, light_size=config.light_size)
    return file.network(lambda: Estimator(space, config))


def read_texels(path: Path) -> int:
    """Texels a side that the networks in a file were trained with: the `uv_size` of the face space that `load` needs. Raises as `load`."""
    return _learned(read_networks(path, FORMAT)).uv_size


def _learned(file: NetworkFile) -> Learned:
    learned = file.config("space", Learned)
    file.check_range(1, LARGEST, uv_size=learned.uv_size)
    return learned
