"""The training steps that are compared and timed: one for each part of a method, with what may differ between devices and why.

Steps are built in `voice_steps`, `face_steps` and `motion_steps`. Values of their batches are noise of the right shapes: speed and memory do not
depend on them, and a gradient that agrees on noise agrees on data.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from paper_utils.gpu_check.compare import Tolerance
from paper_utils.gpu_check.face_steps import cest_step, recognition_step
from paper_utils.gpu_check.motion_steps import (
    context_step,
    emote_step,
    flint_step,
    joint_step,
    talkshow_codes_step,
    talkshow_face_step,
    talkshow_prior_step,
)
from paper_utils.gpu_check.steps import Step
from paper_utils.gpu_check.voice_steps import dimnet_step, gan_step, phoneme_step, voice_step
from paper_utils.methods import sphereface2, sphereface_r

EXACT = Tolerance(
    loss=1e-4,
    angle=0.014,
    norm=1e-3,
    parameter=2e-2,
    reason="float32 sums in another order: about 1e-6 a layer, more where terms cancel",
)
SURFACE = Tolerance(
    loss=1e-3,
    angle=0.045,
    norm=1e-2,
    parameter=5e-2,
    reason="as for the others, and a pixel centre on an edge may see the neighbouring triangle",
)
ROUNDED = Tolerance(
    loss=2e-2,
    angle=0.2,
    norm=5e-2,
    parameter=0.5,
    rounding=3.0,
    reason="bfloat16 keeps 8 bits, 0.4 % of each number; where gradients nearly cancel, or codes and classes are chosen, the limit is three "
    "times what rounding the weights alone does in float32, since what goes forward and what comes back is rounded as well",
)


@dataclass(frozen=True)
class Case:
    """One method's step.

    Parameters
    ----------
    name
        Paper and part.
    build
        Makes the step from a size.
    exact, mixed
        Tolerances of float32 and of bf16-mixed.
    unit
        What a sample is.
    compiles
        Whether `torch.compile` is tried; not where chance is handed in as a generator, which it cannot take.
    """

    name: str
    build: Callable[[str], Step]
    exact: Tolerance
    mixed: Tolerance
    unit: str
    compiles: bool = True

    @property
    def about(self) -> str:
        """What a batch of the paper's size is."""
        return (getattr(self.build, "func", self.build).__doc__ or "").strip()

    def tolerance(self, precision: str) -> Tolerance:
        """Of a precision."""
        return self.exact if precision == "32-true" else self.mixed


def _recognition(backbone: str, head: Any, batch: int, classes: int, branch: str = "v0") -> Callable[[str], Step]:
    return functools.partial(
        recognition_step, backbone=backbone, head=head, batch=batch, classes=classes, branch=branch
    )


VGGFACE2, MS1M = 8631, 85_742  # people in the training lists of the published configurations
# IResNet-100 on MS1M: a batch of 512 was shared by several GPUs; 128 is the part of one of four.
CASES: tuple[Case, ...] = (
    Case("02 DIMNet-IGN", dimnet_step, EXACT, ROUNDED, "recordings and pictures"),
    Case("03 voice network", voice_step, EXACT, ROUNDED, "recordings"),
    Case("03 voice to face", gan_step, EXACT, ROUNDED, "voices"),
    Case("04 MeshTalk step 1", joint_step, EXACT, ROUNDED, "frames", compiles=False),
    Case("04 MeshTalk step 2", context_step, EXACT, ROUNDED, "frames"),
    Case("05 SphereFace2, SFNet-20", _recognition("sfnet20", sphereface2.PUBLISHED["v0 C"], 512, VGGFACE2), EXACT, ROUNDED, "pictures"),
    Case("05 SphereFace2, IResNet-100", _recognition("iresnet100", sphereface2.PUBLISHED["main C"], 128, MS1M, "main"), EXACT, ROUNDED, "pictures"),
    Case("06 SphereFace-R, SFNet-20", _recognition("sfnet20", sphereface_r.PUBLISHED["vggface2_sfnet20_spherefacer"], 512, VGGFACE2), EXACT, ROUNDED, "pictures"),
    Case("06 SphereFace, SFNet-64", _recognition("sfnet64v2", sphereface_r.PUBLISHED["ms1m_sfnet64bn_sphereface"], 256, MS1M), EXACT, ROUNDED, "pictures"),
    Case("07 CEST", cest_step, SURFACE, ROUNDED, "pictures"),
    Case("08 TalkSHOW face", talkshow_face_step, EXACT, ROUNDED, "frames"),
    Case("08 TalkSHOW codes", talkshow_codes_step, EXACT, ROUNDED, "frames"),
    Case("08 TalkSHOW prior", talkshow_prior_step, EXACT, ROUNDED, "rows of codes"),
    Case("09 FLINT", flint_step, EXACT, ROUNDED, "frames"),
    Case("09 EMOTE stage 2", emote_step, EXACT, ROUNDED, "frames"),
    Case("10 MnasNet", functools.partial(phoneme_step, network="mnasnet", members=1), EXACT, ROUNDED, "tokens"),
    Case("10 light network, 32 side by side", functools.partial(phoneme_step, network="light", members=32), EXACT, ROUNDED, "tokens"),
)  # fmt: skip
