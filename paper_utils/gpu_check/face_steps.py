"""Training steps of the methods that look at pictures of faces (papers 05, 06 and 07), small or at the paper's size, on made-up batches.

Each function builds one step from ``"tiny"`` or ``"paper"``; `gpu_check.cases` lists them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.gpu_check.steps import SEED, Modules, Step, adam, chance, moved, noise, sgd, whole
from paper_utils.methods import cest, sphereface2, sphereface_r
from paper_utils.nn import backbones
from paper_utils.recipes.heads import whole_head
from paper_utils.world import face

# ----------------------------------------------------------------------------------------------------- papers 05 and 06


def recognition_step(
    size: str,
    *,
    backbone: str,
    head: sphereface2.HeadConfig | sphereface_r.HeadConfig,
    batch: int,
    classes: int,
    branch: str = "v0",
) -> Step:
    """Backbone and head on pictures of 112 x 112 pixels."""
    changes: dict[str, Any] = {"branch": branch}
    if size == "tiny":
        changes |= {"channels": (4, 8, 16, 32), "features": 16, "image_size": (32, 32)}
        batch, classes = 16, 40
    network = backbones.build_backbone(backbone, seed=SEED, **changes)
    config = network.config
    images = noise(batch, 3, *config.image_size).clamp_(-1, 1)
    labels = whole(classes, batch)

    def loss(modules: Modules, inputs: tuple[Tensor, Tensor]) -> Tensor:
        return modules["head"](modules["backbone"](inputs[0]), inputs[1])

    return Step(
        modules={"backbone": network, "head": whole_head(head, config.features, classes, SEED + 1)},
        inputs=lambda device: moved((images, labels), device),
        loss=loss,
        samples=batch,
        optimizer=sgd(0.1, 5e-4),
        compiled=("backbone",),
    )


# ------------------------------------------------------------------------------------------------------------- paper 07


def cest_step(size: str) -> Step:
    """All four networks and both painted pictures: 16 clips of 4 frames of 224 x 224 pixels, a mask of 20,197 vertices, 256 x 256 texels."""
    head = face.head(9 if size == "paper" else 2)
    space = cest.FaceSpace(head.morphable(), 256 if size == "paper" else 32, skin=head.face_part == 0)
    config = cest.ChainConfig()
    videos, frames = (16, 4) if size == "paper" else (2, 2)
    if size == "tiny":
        config = dataclasses.replace(cest.QUICK, encoder=(8, 16, 16, 16), unet=(8, 16, 16, 16), light=(8, 16, 16, 16))
    estimator = cest.Estimator(space, config, seed=SEED)
    for name in (
        "view",
        "shape",
        "light",
    ):  # they begin as constants: without a slope nothing below would have a gradient
        layer = estimator.networks[name].fc
        nn.init.normal_(layer.weight, std=0.1 / layer.in_features**0.5, generator=chance())
    nn.init.normal_(estimator.networks["reflectance"].out.weight, std=0.1, generator=chance())
    coarse, pixels = noise(videos * frames, 3, 8, 8, stream=1), config.image_size
    images = functional.interpolate(coarse, (pixels, pixels), mode="bicubic").clamp_(-1, 1)
    points = space.camera(torch.zeros(1, 7), pixels).project(space.model.landmark_points(space.model.mean[None]))
    landmarks = points[..., :2] + noise(videos * frames, 68, 2, stream=2)
    given = cest.Frames(images, torch.arange(videos).repeat_interleave(frames), landmarks)
    objective = cest.Objective()

    def loss(modules: Modules, inputs: tuple[cest.Frames, cest.Estimator]) -> Tensor:
        frames, chain = inputs
        estimate = chain(frames.images, networks=modules)
        terms, weights = cest.loss_terms(chain.space, frames, estimate, objective, chance())
        return sum(weights[name] * term for name, term in terms.items())

    return Step(
        modules=dict(estimator.networks.items()),
        inputs=lambda device: (moved(given, device), estimator.to(device)),
        loss=loss,
        samples=videos * frames,
        optimizer=adam(1e-4),
        compiled=("view", "shape", "reflectance", "light"),
    )
