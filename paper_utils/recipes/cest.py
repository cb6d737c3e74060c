"""CEST on real faces: the full training on videos, and the errors on AFLW2000-3D and MICC Florence.

Sizes and schedule are those of `paper_utils.methods.cest`; the paper gives few of them. No trained networks were ever published to compare with.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from paper_utils import files, training
from paper_utils.data import fitted_faces, florence, video_frames
from paper_utils.experiment import Experiment
from paper_utils.methods import cest
from paper_utils.methods.cest import Estimator
from paper_utils.metrics.faces_3d import YawBins, nme, nme_by_yaw
from paper_utils.metrics.mesh import FaceScan, Surface
from paper_utils.metrics.scan_protocols import ganfit_error
from paper_utils.recipes import cest_data
from paper_utils.recipes.cest_data import FaceFrames, linear_light

EVALUATION_BATCH = 32
# The ablations of the paper's figure 4: (a) full, (b) uncoupled, (c) consistency only, (d) symmetry only, (e) neither.
VARIANTS: dict[str, tuple[cest.Objective, bool]] = {
    "CEST": (cest.Objective(), True),
    "independent": (cest.Objective(), False),
    "without symmetry": (cest.Objective(symmetry=False), True),
    "without consistency": (cest.Objective("self"), True),
    "neither": (cest.Objective("self", symmetry=False), True),
}


# ------------------------------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class Sizes:
    """Sizes of a training on real data.

    Parameters
    ----------
    chain, uv_size, config
        Networks, texels a side, and schedule.
    """

    chain: cest.ChainConfig
    uv_size: int
    config: cest.TrainConfig


def sizes(exp: Experiment) -> Sizes:
    """Sizes of a profile; only the full one is meant for results."""
    tiny = dataclasses.replace(
        cest.QUICK, image_size=32, light_size=16, encoder=(8, 8, 8), unet=(8, 8), light=(8, 8, 8)
    )
    return exp.scale(
        smoke=Sizes(tiny, 16, cest.TrainConfig(steps=2, warm_up=2, videos=2, frames=2, lr=1e-3)),
        quick=Sizes(cest.QUICK, 48, cest.TrainConfig(steps=300, warm_up=300, videos=8, frames=2, lr=2e-3)),
        full=Sizes(cest.ChainConfig(), 256, cest.TrainConfig()),
    )


def model_path(data: str, profile: str) -> Path:
    """Where trained networks stand for `paper_utils.reconstruct_faces`."""
    return files.output_root(profile) / ".cache" / "cest" / f"{data}_{profile}.safetensors"


def trainings(exp: Experiment) -> dict[str, Callable[[lightning_fabric.Fabric], Float[np.ndarray, " steps"]]]:
    """Trainings on the experiment's real data as calls that fill the cache and give the loss of every step; ``CEST`` also writes `model_path`."""

    def run(name: str, fabric: lightning_fabric.Fabric) -> np.ndarray:
        estimator, losses = trained(exp, name, fabric)
        if name == "CEST" and fabric.is_global_zero:
            cest.save(estimator, model_path(exp.data, exp.profile))
        return losses["photometric"]

    return {name: partial(run, name) for name in VARIANTS}


def trained(
    exp: Experiment, name: str = "CEST", fabric: lightning_fabric.Fabric | None = None
) -> tuple[Estimator, dict[str, Float[np.ndarray, " steps"]]]:
    """Networks of a variant and the terms of its loss, from the cache if they are there; a killed run goes on from its checkpoint.

    Raises
    ------
    FileNotFoundError, ValueError
        As `cest_data.load`; or for an unknown name.
    """
    if name not in VARIANTS:
        raise ValueError(f"expected one of {', '.join(VARIANTS)}; found {name!r}")
    objective, conditional = VARIANTS[name]
    size = sizes(exp)
    chain = dataclasses.replace(size.chain, conditional=conditional)
    source = cest_data.load(exp.data, exp.data_root, size=chain.image_size, uv_size=size.uv_size)
    estimator = Estimator(source.space, chain, seed=exp.seed)
    run = fabric or training.launch(str(exp.device))

    def train(checkpoint: Path) -> dict[str, Any]:
        losses = cest.train(run, estimator, source, objective, size.config, seed=exp.seed, checkpoint=checkpoint)
        networks = {key: value.detach().cpu() for key, value in estimator.state_dict().items()}
        return {"networks": networks, "losses": {key: torch.from_numpy(values) for key, values in losses.items()}}

    key = {
        "name": name, "objective": dataclasses.asdict(objective), "chain": dataclasses.asdict(chain), "uv_size": size.uv_size,
        "config": dataclasses.asdict(size.config), "data": source.fingerprint, "seed": exp.seed,
    }  # fmt: skip
    state = training.cached("cest", key, train, code=[Path(cest.__file__), Path(__file__)], fabric=run)
    estimator.cpu().load_state_dict(state["networks"])
    return estimator.eval(), {term: values.numpy() for term, values in state["losses"].items()}


# ---------------------------------------------------------------------------------------------------------- evaluation


@torch.no_grad()
def estimated_shapes(
    estimator: Estimator, source: FaceFrames, rows: Int[Tensor, " rows"]
) -> tuple[Float[Tensor, "rows vertices 3"], Float[Tensor, "rows 68 2"]]:
    """Meshes in mm and landmarks in pixels of the original pictures (the centre of the corner pixel is (0, 0)), for the chosen frames."""
    space, device = estimator.space, next(estimator.parameters()).device
    shapes, points = [], []
    for block in rows.split(EVALUATION_BATCH):
        crops = [source.crop(row) for row in block.tolist()]
        view, alpha = estimator.pose_and_shape(torch.stack([linear_light(crop.pixels) for crop in crops]).to(device))
        vertices = space.vertices(alpha)
        seen = space.camera(view, source.size).project(space.model.landmark_points(vertices))[..., :2].cpu()
        corners = torch.from_numpy(np.stack([crop.corner for crop in crops]))[:, None]
        scales = torch.tensor([crop.scale for crop in crops], dtype=torch.float64)[:, None, None]
        shapes.append(vertices.cpu())
        points.append((seen / scales + corners - 0.5).float())
    return torch.cat(shapes), torch.cat(points)


def aflw2000_errors(estimator: Estimator, faces: fitted_faces.FittedFaces) -> YawBins:
    """NME of the 68 points on AFLW2000-3D in bins of yaw.

    Pictures are cropped by their true landmarks, as the published evaluations take the face's box from them.
    """
    source = FaceFrames(faces, estimator.space, estimator.config.image_size)
    _, points = estimated_shapes(estimator, source, torch.arange(len(faces)))
    truth = torch.from_numpy(np.stack([faces.landmarks(row) for row in range(len(faces))])).float()
    return nme_by_yaw(nme(points, truth), torch.from_numpy(faces.yaw_degrees()).float())


@dataclass(frozen=True)
class FolderFrames:
    """Pictures of one folder with landmarks beside them, as one video.

    Parameters
    ----------
    video_file
        From `florence.open_video` of a folder of pictures.
    """

    video_file: florence.Video

    def __len__(self) -> int:
        return len(self.video_file)

    @property
    def name(self) -> str:
        """The folder."""
        return self.video_file.name

    @property
    def video(self) -> Int[Tensor, " frames"]:
        """All zeros."""
        return torch.zeros(len(self), dtype=torch.int64)

    def where(self, row: int) -> str:
        """Path of a picture."""
        return self.video_file.frames.where(row)

    def pixels(self, row: int) -> UInt8[np.ndarray, "height width 3"]:
        """RGB."""
        return self.video_file.pixels(row)

    def landmarks(self, row: int) -> Float[np.ndarray, "68 2"]:
        """Cached landmarks. Raises as `video_frames.read_landmarks`."""
        return video_frames.read_landmarks(Path(self.where(row)).with_suffix(video_frames.LANDMARK_SUFFIX))

    @property
    def fingerprint(self) -> str:
        """Hash of the list."""
        return self.video_file.frames.fingerprint


def florence_errors(
    estimator: Estimator,
    subjects: Sequence[florence.Subject],
    setting: str,
    *,
    root: str | Path,
    landmarks_root: str | Path,
    seed: int = 0,
) -> Float[np.ndarray, " subjects"]:
    """Scan error in mm of each subject on MICC Florence in GANFit's style: the mean shape of five random frames of a video.

    Parameters
    ----------
    estimator
        Trained.
    subjects
        From `florence.read_florence`, usually its ``evaluated``; their videos as folders of pictures with landmarks cached beside.
    setting
        One of `florence.SETTINGS`.
    root, landmarks_root
        Of the scans and of their landmarks.
    seed
        Of the frames.

    Raises
    ------
    ValueError
        If a subject has no such video, or a file is damaged.
    """
    errors = []
    for subject in subjects:
        if setting not in subject.videos:
            raise ValueError(
                f"{root}: subject {subject.number} has no video {setting!r}; it has {', '.join(subject.videos) or 'none'}"
            )
        video = florence.open_video(subject.videos[setting])
        if not subject.videos[setting].is_dir():
            raise ValueError(
                f"{video.name}: landmarks are cached beside pictures; unpack the video to the folder {subject.videos[setting].with_suffix('')} first"
            )
        source = FaceFrames(FolderFrames(video), estimator.space, estimator.config.image_size)
        rows = torch.from_numpy(video.chosen(seed=seed + subject.number))
        shape = estimated_shapes(estimator, source, rows)[0].mean(0, keepdim=True)
        model = estimator.space.model
        prediction = FaceScan(
            Surface(shape[0].double().numpy(), model.faces.cpu().numpy()),
            model.to("cpu").landmark_points(shape)[0].double().numpy(),
        )
        scans = [
            florence.read_scan(path, florence.landmark_path(path, root, landmarks_root))
            for view, path in subject.scans.items()
            if view in florence.FRONTAL
        ]
        errors.append(ganfit_error(prediction, scans, radius_mm=subject.radius_mm)[0])
    return np.array(errors)
