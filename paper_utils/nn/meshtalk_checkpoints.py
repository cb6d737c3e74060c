"""The checkpoints of the MeshTalk release (paper 04): read without running code, compared name by name, put into our networks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from paper_utils.audio import LogMel
from paper_utils.audio_windows import ReleasedWindows
from paper_utils.nn.checkpoint_names import CheckpointNamesError, load_strictly, read_state
from paper_utils.nn.masked_heads import head_mask
from paper_utils.nn.meshtalk_networks import RELEASED, ContextModel, Encoder, Sizes, VertexUnet

OFFICIAL_FILES = {"encoder": "encoder.pkl", "decoder": "vertex_unet.pkl", "context": "context_model.pkl"}
_CONSTANTS = ("audio_encoder.melspec.spectrogram.window", "audio_encoder.melspec.mel_scale.fb")


def load_networks(folder: str | Path, windows: ReleasedWindows) -> tuple[Encoder, VertexUnet, ContextModel]:
    """The networks of the authors' release: a folder with ``encoder.pkl``, ``vertex_unet.pkl`` and ``context_model.pkl``.

    Widths are read off the tensors. Every name and shape must fit; the stored window, filters and masks are compared with ours. Files are
    read as plain tensors, pickled code is never run. Mean and deviation come from the checkpoints.

    Parameters
    ----------
    folder
        Where the files are.
    windows
        Log-mel windows of the release.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    CheckpointNamesError
        If a file holds something else: which names are missing, unexpected or of another shape is listed.
    """
    folder = Path(folder)
    paths = {part: folder / name for part, name in OFFICIAL_FILES.items()}
    states = {part: read_state(path) for part, path in paths.items()}
    sizes = official_sizes(states["encoder"], states["decoder"], states["context"], windows, str(folder))
    _take_constants(states["encoder"], windows.mel, str(paths["encoder"]))
    _take_masks(states["context"], sizes, str(paths["context"]))
    zeros, ones = torch.zeros(sizes.vertices, 3), torch.ones(sizes.vertices, 3)
    encoder, decoder = Encoder(sizes, zeros, ones, seed=0), VertexUnet(sizes, zeros, ones, seed=0)
    networks = {"encoder": encoder, "decoder": decoder, "context": ContextModel(sizes, seed=0)}
    for part, network in networks.items():
        load_strictly(network, states[part], str(paths[part]))
        network.eval().requires_grad_(False)
    return networks["encoder"], networks["decoder"], networks["context"]


def official_sizes(
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    context: Mapping[str, Tensor],
    windows: ReleasedWindows,
    source: str,
) -> Sizes:
    """Widths of official state dictionaries, read off the shapes of their tensors.

    Raises
    ------
    CheckpointNamesError
        If a tensor that tells a width is missing, or widths contradict each other.
    """
    try:
        audio = encoder["audio_encoder.convert_dimensions.weight"]
        expression = [encoder[f"expression_encoder.layers.{i}.weight"].shape[0] for i in range(2)]
        fusion = sorted(
            int(n.split(".")[2]) for n in encoder if n.startswith("fusion_model.mlp.") and n.endswith("weight")
        )
        fusion_widths = tuple(encoder[f"fusion_model.mlp.{i}.weight"].shape[0] for i in fusion)
        levels = len([n for n in decoder if n.startswith("encoder.") and n.endswith("weight")])
        down = tuple(decoder[f"encoder.{i}.weight"].shape[0] for i in range(levels))
        hidden = context["embedding.masked_linear.weight"].shape
        fused = fusion_widths[-1]
        # The units of a head are 64 in every official network; with them the number of heads follows from the embedding.
        heads = hidden[0] // RELEASED.units
        if not heads or hidden[0] % RELEASED.units or fused % heads or fused != hidden[1]:
            raise CheckpointNamesError(
                f"{source}: the encoder makes {fused} logits, the embedding has shape {tuple(hidden)}; expected {RELEASED.units} "
                "units a head and as many inputs as logits; are the files of one release?"
            )
        return Sizes(
            vertices=decoder["vertex_bias"].numel() // 3,
            bands=audio.shape[1],
            subframes=windows.subframes,
            audio_channels=audio.shape[0],
            audio_kernel=audio.shape[2],
            audio_code=encoder["audio_encoder.code.weight"].shape[0],
            expression_layers=(expression[0], expression[1]),
            expression_code=encoder["expression_encoder.code.weight"].shape[0],
            fusion=fusion_widths[:-1],
            heads=heads,
            classes=fused // heads,
            decoder=down,
        )
    except (KeyError, IndexError) as error:
        raise CheckpointNamesError(
            f"{source}: {error} is missing; expected the state dictionaries of the MeshTalk release: {', '.join(OFFICIAL_FILES.values())}"
        ) from error


def _take_constants(state: dict[str, Tensor], mel: LogMel, source: str) -> None:
    """Take window and filters out of the encoder's state, if they are ours."""
    expected = (torch.hann_window(mel.window_length, dtype=torch.float64), mel.filters())
    for name, ours in zip(_CONSTANTS, expected, strict=True):
        stored = state.pop(name, None)
        if stored is None:
            raise CheckpointNamesError(f"{source}: {name} is missing; expected the encoder of the MeshTalk release")
        if stored.shape != ours.shape or not torch.allclose(stored.double(), ours, atol=1e-4):
            raise CheckpointNamesError(
                f"{source}: {name} {tuple(stored.shape)} is not that of the log-mel convention {tuple(ours.shape)}; "
                "the network was trained on other features"
            )


def _take_masks(state: dict[str, Tensor], sizes: Sizes, source: str) -> None:
    """Take the masks out of the context model's state, if they are the strict ones."""
    strict = head_mask(sizes.heads, inclusive=False)[:, None, :, None]
    layers = ["embedding", *(f"context_layers.{index}" for index in range(len(sizes.dilations))), "logits"]
    for layer in layers:
        stored, weight = state.pop(f"{layer}.mask", None), state.get(f"{layer}.masked_linear.weight")
        if stored is None or weight is None:
            raise CheckpointNamesError(
                f"{source}: {layer}.mask or its weight is missing; expected the context model of the release"
            )
        if stored.shape != weight.shape or len(weight) % sizes.heads or weight.shape[1] % sizes.heads:
            raise CheckpointNamesError(
                f"{source}: {layer}.mask {tuple(stored.shape)} does not fit its weight {tuple(weight.shape)} of {sizes.heads} heads"
            )
        blocks = stored.reshape(sizes.heads, len(weight) // sizes.heads, sizes.heads, -1) != 0
        if not (blocks == strict).all():
            raise CheckpointNamesError(
                f"{source}: {layer}.mask is not the strict mask of the release; a network trained with another mask needs its own sizes"
            )
