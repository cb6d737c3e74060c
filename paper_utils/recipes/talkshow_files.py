"""TalkSHOW's networks (paper 08) on disk: our own files, and the checkpoints of the released code.

Nothing in a file is ever run; a state is loaded only if every name and shape fits.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from paper_utils import safe_checkpoints
from paper_utils.methods.talkshow import (
    CodebookConfig,
    FaceConfig,
    FaceHead,
    Prior,
    PriorConfig,
    Regressor,
    RegressorConfig,
    TalkShow,
    VqVae,
)
from paper_utils.network_files import ModelFileError, NetworkFile, config_of, read_networks, save_networks
from paper_utils.nn.checkpoint_names import renamed
from paper_utils.nn.pixelcnn import PixelCnnConfig
from paper_utils.nn.quantizer import QuantizerConfig

FORMAT = "talkshow 1"
_SETTLED = 100_000  # updates after which the bias correction is 1 to all digits
_FROM_SHAPES = "the sizes read off its shapes"
_DEEPEST = 16  # layers of a regressor, whose dilation doubles with each


_FACES: dict[str, tuple[type, type]] = {"head": (FaceHead, FaceConfig), "regressor": (Regressor, RegressorConfig)}


@dataclass(frozen=True)
class _Sizes:
    """What a file says of its networks: channels of body and hands, and the kind of face with the fields of its configuration."""

    body: CodebookConfig
    hands: CodebookConfig
    channels: tuple[int, int]
    prior: PriorConfig
    face: tuple[Literal["", "head", "regressor"], dict]


def save(model: TalkShow, path: Path) -> None:
    """Write all networks with their sizes, as safetensors."""
    face = next((kind for kind, (network, _) in _FACES.items() if isinstance(model.face, network)), "")
    about = _Sizes(
        model.body.config,
        model.hands.config,
        (model.body.channels, model.hands.channels),
        model.prior.config,
        (face, dataclasses.asdict(model.face.config) if model.face is not None else {}),
    )
    save_networks(model, path, FORMAT, {"sizes": json.dumps(dataclasses.asdict(about))})


def load(path: Path) -> TalkShow:
    """Read what `save` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ModelFileError
        If it is truncated or not ours.
    """
    file = read_networks(path, FORMAT)
    sizes = file.config("sizes", _Sizes)
    kind, fields = sizes.face
    network, kind_of_config = _FACES.get(kind, (None, None))
    config = config_of(kind_of_config, fields, f"{path}: sizes.face") if network else None
    if isinstance(config, RegressorConfig):
        file.check_range(1, _DEEPEST, layers=config.layers)

    def make() -> TalkShow:
        body, hands = (
            VqVae(channels, codebook, seed=0)
            for channels, codebook in zip(sizes.channels, (sizes.body, sizes.hands), strict=True)
        )
        return TalkShow(body, hands, Prior(sizes.prior, seed=0), network(config, seed=0) if network else None)

    return file.network(make)


def load_official(codebooks: Path, pixel: Path, face: Path | None = None) -> tuple[TalkShow, dict[str, Tensor]]:
    """Networks from the checkpoints of the released code: one with both autoencoders, one with the prior, one with the face.

    Parameters
    ----------
    codebooks, pixel, face
        Files ``{"generator": {...}, "epoch": ..., "global_steps": ...}``. Sizes are read off the shapes. Nothing in them is run.

    Returns
    -------
    tuple
        The networks, and the face's wav2vec 2.0 tensors for ``transformers.Wav2Vec2Model`` (empty without a face). The codebooks were trained
        on the columns of ``upper_columns("official")``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ModelFileError
        If it holds something else.
    """
    vq, grid = _official(Path(codebooks), ("g_body", "g_hand")), _official(Path(pixel), ("generator", "audioencoder"))
    head, speech = None, {}
    if face is not None:
        (state,) = _official(Path(face), ("generator",))
        speech = {n.removeprefix("audio_encoder."): v for n, v in state.items() if n.startswith("audio_encoder.")}
        head = face_from_official(state)
    return TalkShow(*map(codebook_from_official, vq), prior_from_official(*grid), head), speech


def _official(path: Path, names: tuple[str, ...]) -> list[dict[str, Tensor]]:
    """State dictionaries of a checkpoint, without the prefix of parallel training."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a checkpoint of the released TalkSHOW code")
    try:
        stored = safe_checkpoints.load(path)
    except ValueError as error:
        raise ModelFileError(f"no readable checkpoint: {error}") from error
    inner = stored.get("generator", stored) if isinstance(stored, Mapping) else None
    if not isinstance(inner, Mapping) or not all(isinstance(inner.get(name), Mapping) for name in names):
        found = sorted(map(str, inner)) if isinstance(inner, Mapping) else type(stored).__name__
        raise ModelFileError(f"{path}: expected the state dictionaries {', '.join(names)}, found {found}")
    return [{key.removeprefix("module."): value for key, value in inner[name].items()} for name in names]


def codebook_from_official(state: Mapping[str, Tensor], *, unused: str = "official") -> VqVae:
    """A `VqVae` from the official names (``encoder.*``, ``vq_layer.*``, ``decoder.*``); sizes are read off the shapes.

    The number of updates is not in the file. The released code counts from 0 again; here averages that are not zero count as settled.

    Parameters
    ----------
    state
        The tensors.
    unused
        See `paper_utils.nn.quantizer.QuantizerConfig`, for training on.
    """
    first, codebook = _tensors(state, "encoder.project.conv.weight", "vq_layer.embeddings")
    config = CodebookConfig(
        4 * first.shape[0],
        _count(state, "encoder._enc_1._layers."),
        QuantizerConfig(codes=codebook.shape[0], dim=codebook.shape[1], unused=unused),
    )
    names = {
        "encoder": "encoder",
        "decoder": "decoder",
        "vq_layer.embeddings": "quantizer.codebook",
        "vq_layer.ema_dw.hidden": "quantizer.sums",
        "vq_layer.ema_cluster_size.hidden": "quantizer.counts",
    }
    own = renamed(state, names, source="codebook")
    settled = bool(own.get("quantizer.counts", torch.zeros(1)).any())
    own["quantizer.updates"] = torch.tensor(_SETTLED if settled else 0)
    return NetworkFile("official codebook", {}, own).network(
        lambda: VqVae(first.shape[1], config, seed=0), _FROM_SHAPES
    )


def prior_from_official(grid: Mapping[str, Tensor], sound: Mapping[str, Tensor] | None = None) -> Prior:
    """A `Prior` from the official names of PixelCNN and sound encoder; sizes and variant are read off the shapes.

    The independent variant holds tensors that it never uses; they are left out. The gradient of masked taps counts, as there.
    """
    vertical, embedding, head = _tensors(grid, "layers.0.vert_stack.weight", "embedding.weight", "output_conv.0.weight")
    (speakers,) = _tensors(grid, "layers.0.class_cond_embedding.weight")
    cross = vertical.shape[3] == 3
    width = grid["embedding_aud.weight"].shape[1] if "embedding_aud.weight" in grid else 0
    layers = _count(grid, "layers.")
    config = PixelCnnConfig(
        codes=embedding.shape[0],
        width=embedding.shape[1],
        layers=layers,
        head=head.shape[0],
        # The nominal kernel is odd; a kernel of k // 2 + 1 rows is what the file holds.
        first_kernel=2 * (vertical.shape[2] - 1) + 1,
        kernel=2 * (grid["layers.1.vert_stack.weight"].shape[2] - 1) + 1 if layers > 1 else 3,
        speakers=speakers.shape[0],
        audio=width,
        variant="cross" if cross else "independent",
        masked_gradient="official",
    )
    if bool(width) != (sound is not None):
        raise ModelFileError(
            f"prior: the PixelCNN has {'a' if width else 'no'} place for sound, but {'a' if sound else 'no'} sound encoder was given"
        )
    unused = (
        []
        if cross
        else ["fusion_h", *(f"layers.{i}.{n}" for i in range(layers) for n in ("horiz_stack", "vert_to_horiz"))]
    )
    own = renamed(grid, {"": "grid."}, drop=unused, source="PixelCNN")
    features, residual_layers = 64, 2
    if sound is not None:
        (first,) = _tensors(sound, "project.conv.weight")
        features, residual_layers = first.shape[1], _count(sound, "_enc_1._layers.")
        own |= renamed(sound, {"": "sound."}, source="sound encoder")
    sizes = PriorConfig(config, features, residual_layers)
    return NetworkFile("official prior", {}, own).network(lambda: Prior(sizes, seed=0), _FROM_SHAPES)


def face_from_official(state: Mapping[str, Tensor]) -> FaceHead:
    """A `FaceHead` from the official names; its speech network and a recurrent layer that is never used are left out."""
    project, speaker = _tensors(state, "audio_feature_map.weight", "audio_middle.id_mlp.weight")
    jaw, expression = _tensors(state, "final_out.0.weight", "final_out.1.weight")
    config = FaceConfig(
        hidden=project.shape[1],
        width=project.shape[0],
        jaw_width=jaw.shape[1],
        speaker_width=speaker.shape[0],
        speakers=speaker.shape[1],
        jaw=jaw.shape[0],
        expression=expression.shape[0],
    )
    names = {
        "audio_feature_map": "project",
        "audio_middle.id_mlp": "speaker",
        "audio_middle.first_net.conv_layers": "shared",
        "audio_middle.first_net.conv_layers.0.residual_layer.0": "shared.0.residual",
        "decoder.0": "jaw",
        "decoder.1": "expression",
        "final_out.0": "jaw_out",
        "final_out.1": "expression_out",
    }
    own = renamed(state, names, drop=["audio_encoder", "audio_middle.grus"], source="face")
    return NetworkFile("official face", {}, own).network(lambda: FaceHead(config, seed=0), _FROM_SHAPES)


def _tensors(state: Mapping[str, Tensor], *names: str) -> list[Tensor]:
    missing = [name for name in names if name not in state]
    if missing:
        raise ModelFileError(
            f"official state: {', '.join(missing)} is missing; found {', '.join(list(state)[:5]) or 'nothing'}"
        )
    return [state[name] for name in names]


def _count(state: Mapping[str, Tensor], start: str) -> int:
    """How many numbered modules begin with `start`."""
    return len({name.removeprefix(start).split(".")[0] for name in state if name.startswith(start)})
