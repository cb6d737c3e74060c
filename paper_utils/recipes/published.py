"""The published training configurations of papers 05 and 06, as data.

Every number is read from OpenSphere, the authors' code, whose branches differ: "v0" (2022-05), "iclr" (2022-11, published with paper 05)
and "main" (2023-10). One recipe is one run; which tables of the papers a run fed is said where the code tells it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from paper_utils.methods import sphereface2, sphereface_r
from paper_utils.nn import backbones

HeadConfig = sphereface2.HeadConfig | sphereface_r.HeadConfig


@dataclass(frozen=True)
class Recipe:
    """One published training run.

    Parameters
    ----------
    name, papers, source
        How it is called here, which papers it belongs to, and which configuration of the official code it is.
    backbone, branch
        Network by its name in `nn.backbones`, and the branch that sets its initial weights and the layout of its export.
    train_set
        Stem of the training list, such as ``vggface2`` in ``vggface2_train_ann.txt``.
    head
        Loss, with its margin and scale.
    steps, decay_at
        Iterations, and those after which the learning rate is multiplied by `decay`.
    batch_size
        Over all processes.
    learning_rate, momentum, weight_decay, decay
        Of plain SGD, on backbone and head alike.
    clip_norm
        Largest norm of the gradient of backbone and head together. ``None``: no clipping.
    flip
        Probability of mirroring a picture, the only augmentation.
    precision
        See `training.launch`; heads compute in float32 in all of them.
    noise_ratio, noise_seed
        Share of labels drawn anew before training, and the seed of the draw.
    backbone_changes
        Fields of the network that depart from the published one, such as ``image_size`` for smaller pictures.
    """

    name: str
    papers: tuple[str, ...]
    source: str
    backbone: str
    branch: str
    train_set: str
    head: HeadConfig
    steps: int
    decay_at: tuple[int, ...]
    batch_size: int = 512  # all configurations of all branches
    learning_rate: float = 0.1  # all configurations
    momentum: float = 0.9  # all configurations
    weight_decay: float = 5e-4  # all configurations
    decay: float = 0.1  # all configurations
    clip_norm: float | None = None  # the official default of 1e5 is no clipping
    flip: float = 0.5  # all configurations
    precision: str = "32-true"  # v0 and iclr; main trains under fp16 autocast
    noise_ratio: float = 0.0
    noise_seed: int = 10086  # iclr, configuration of section 3.3
    backbone_changes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{self.name}: {name}: expected a positive number, found {getattr(self, name)}")
        if not 0 <= self.flip <= 1 or not 0 <= self.noise_ratio <= 1:
            raise ValueError(
                f"{self.name}: flip and noise_ratio: expected shares in [0, 1], found {self.flip} and {self.noise_ratio}"
            )

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the pictures that the network takes."""
        return tuple(backbones.backbone_config(self.backbone, branch=self.branch, **self.backbone_changes).image_size)

    def lasting(self, steps: int) -> Recipe:
        """The same recipe over another number of iterations, decays at the same fractions of the run.

        Raises
        ------
        ValueError
            If `steps` is below 1.
        """
        if steps < 1:
            raise ValueError(f"steps: expected at least 1, found {steps}")
        decay_at = tuple(max(1, round(at * steps / self.steps)) for at in self.decay_at)
        return dataclasses.replace(self, steps=steps, decay_at=decay_at)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of iteration `step`, counted from 0."""
        return self.learning_rate * self.decay ** sum(at <= step for at in self.decay_at)


# ----------------------------------------------------------------------------------------------------------------- heads

# Softmax heads of the v0 and iclr configurations of paper 05: cross-entropy without a loss weight, gradients detached from the margin.
_PLAIN = {"scale": 30.0, "loss_weight": None}
_SOFTMAX_HEADS: dict[str, HeadConfig] = {
    "arcface": sphereface_r.HeadConfig("arcface", 0.5, **_PLAIN),
    "cosface": sphereface_r.HeadConfig("cosface", 0.35, **_PLAIN),
    "sphereface": sphereface_r.PUBLISHED["vggface2_sfnet20_sphereface"],
    "cocoloss": sphereface_r.HeadConfig("normface", 0.0, **_PLAIN),  # another name of NormFace's loss
    "softmax": sphereface_r.HeadConfig("softmax", 0.0, **_PLAIN),
}


def _sphereface2_heads(branch: str) -> dict[str, HeadConfig]:
    kinds = {"sphereface2": "C", "sphereface2_a": "A", "sphereface2_m": "M"}
    return {name: sphereface2.PUBLISHED[f"{branch} {kind}"] for name, kind in kinds.items()}


# --------------------------------------------------------------------------------------------------------------- recipes


def _iclr(group: str, backbone: str, source: str, **more: Any) -> list[Recipe]:
    """The eight heads of one folder of the branch published with paper 05."""
    return [
        Recipe(
            name=f"{group}_{name}",
            papers=("05",),
            source=source,
            backbone=backbone,
            branch="iclr",
            train_set="vggface2",
            head=head,
            steps=80_000,
            decay_at=(40_000, 60_000, 80_000),
            **more,
        )
        for name, head in (_sphereface2_heads("iclr") | _SOFTMAX_HEADS).items()
    ]


def _v0(name: str, head: HeadConfig, papers: tuple[str, ...], source: str) -> Recipe:
    """SFNet-20 on VGGFace2 as in the branch of 2022-05."""
    return Recipe(
        name=name,
        papers=papers,
        source=source,
        backbone="sfnet20",
        branch="v0",
        train_set="vggface2",
        head=head,
        steps=70_000,
        decay_at=(40_000, 60_000, 70_000),
    )


def _main(name: str, head: HeadConfig, papers: tuple[str, ...]) -> Recipe:
    """IResNet-100 on MS1M as in the branch of 2023-10."""
    return Recipe(
        name=f"ms1m_iresnet100_{name}",
        papers=papers,
        source="main, MS1M",
        backbone="iresnet100",
        branch="main",
        train_set="ms1m",
        head=head,
        steps=240_000,
        decay_at=(80_000, 140_000, 200_000, 240_000),
        clip_norm=100.0,
        precision="16-mixed",
    )


def _ms1m_v0(name: str, head: str, backbone: str, steps: int, decay_at: tuple[int, ...]) -> Recipe:
    return Recipe(
        name=name,
        papers=("06",),
        source="v0, MS1M",
        backbone=backbone,
        branch="v0",
        train_set="ms1m",
        head=sphereface_r.PUBLISHED[head],
        steps=steps,
        decay_at=decay_at,
    )


_STRONG = {"scale": 64.0, "loss_weight": None}
_ALL = [
    # "The paper's settings" by the message of the commit that brought it.
    dataclasses.replace(
        _v0("vggface2_sfnet20_sphereface2", sphereface2.PUBLISHED["v0 C"], ("05",), "v0, train folder"),
        steps=100_000,
        decay_at=(50_000, 78_000, 94_000, 100_000),
    ),
    *(
        _v0(f"v0_vggface2_sfnet20_{name}", head, ("05",), "v0, paper folder")
        for name, head in (_sphereface2_heads("v0") | _SOFTMAX_HEADS).items()
        if name != "sphereface"  # it is vggface2_sfnet20_sphereface below
    ),
    *_iclr("iclr_vggface2_sfnet20", "sfnet20", "iclr, section 3.1"),
    # The network of section 3.2 is in the code; that its list is VGGFace2's, as in the other sections, is unverified.
    *_iclr("iclr_vggface2_sfnet64", "sfnet64", "iclr, section 3.2"),
    # Which network section 3.3 trained is unverified; SFNet-20 as in section 3.1.
    *_iclr("iclr_noise_vggface2_sfnet20", "sfnet20", "iclr, section 3.3", noise_ratio=0.6),
    _main("sphereface2", sphereface2.PUBLISHED["main C"], ("05",)),
    _main("arcface", sphereface_r.HeadConfig("arcface", 0.5, **_STRONG), ("05",)),
    _main("cosface", sphereface_r.HeadConfig("cosface", 0.4, **_STRONG), ("05",)),
    _main("sphereface_2023", sphereface_r.PUBLISHED["ms1m_iresnet100_sphereface (2023)"], ("05", "06")),
    *(
        _v0(f"vggface2_sfnet20_{name}", sphereface_r.PUBLISHED[f"vggface2_sfnet20_{name}"], papers, "v0")
        for name, papers in {"spherefacer": ("06",), "sphereface": ("05", "06"), "spherefaceplus": ("06",)}.items()
    ),
    # "bn" in its name notwithstanding, the configuration passes no normalisation layer to the newer SFNet.
    _ms1m_v0("ms1m_sfnet64bn_sphereface", "ms1m_sfnet64bn_sphereface", "sfnet64v2", 240_000, (100_000, 180_000, 220_000, 240_000)),
    _ms1m_v0("ms1m_iresnet100_sphereface_2022", "ms1m_iresnet100_sphereface (2022)", "iresnet100", 360_000, (150_000, 270_000, 320_000, 360_000)),
]  # fmt: skip

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ALL}


def names(paper: str | None = None) -> list[str]:
    """Names of the recipes of a paper, or of all."""
    return [name for name, recipe in RECIPES.items() if paper is None or paper in recipe.papers]


def find(name: str, paper: str | None = None) -> Recipe:
    """The recipe of a name.

    Raises
    ------
    ValueError
        If there is none, or it belongs to another paper; the valid ones are listed.
    """
    if name not in names(paper):
        of = f" of paper {paper}" if paper else ""
        raise ValueError(f"unknown recipe {name!r}{of}; valid: {', '.join(names(paper))}")
    return RECIPES[name]


def describe_head(head: HeadConfig) -> str:
    """A head in one line: kind, margin, scale, and what is not a default."""
    if isinstance(head, sphereface2.HeadConfig):
        return (
            f"SphereFace2-{head.kind} m={head.margin:g} r={head.scale:g} lambda={head.balance:g} t={head.exponent:g} "
            f"weight={head.loss_weight:g} {head.gradient}"
        )
    if head.psi == "softmax":
        return "softmax"
    text = f"{head.psi} {head.normalization} m={head.margin:g} s={head.scale:g}"
    text += "" if head.loss_weight is None else f" weight={head.loss_weight:g}"
    return text + (f" energy={head.energy_weight:g}" if head.energy_weight else "")


def table() -> str:
    """All recipes, one a line, for the terminal."""
    rows = [
        ("recipe", "papers", "source", "backbone", "data", "iterations (decay)", "clip", "noise", "precision", "head")
    ]
    for recipe in RECIPES.values():
        decay = ", ".join(f"{at // 1000}k" for at in recipe.decay_at)
        rows.append(
            (
                recipe.name,
                ",".join(recipe.papers),
                recipe.source,
                f"{recipe.backbone} ({recipe.branch})",
                recipe.train_set,
                f"{recipe.steps // 1000}k ({decay})",
                "-" if recipe.clip_norm is None else f"{recipe.clip_norm:g}",
                f"{recipe.noise_ratio:g}" if recipe.noise_ratio else "-",
                recipe.precision,
                describe_head(recipe.head),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    common = RECIPES["vggface2_sfnet20_sphereface2"]
    lines.append(
        f"all: batch {common.batch_size}, SGD {common.learning_rate:g}, momentum {common.momentum:g}, "
        f"weight decay {common.weight_decay:g}, decay x{common.decay:g}, mirrored with p={common.flip:g}"
    )
    return "\n".join(lines)
