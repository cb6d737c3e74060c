"""EMOTE with the weights of its published code: the prior, the network, and the networks that its losses look with.

All are read from files that the user has, names and shapes checked strictly; nothing is downloaded and nothing in a file is run.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from paper_utils.data.talking_faces import EMOTIONS, INTENSITIES
from paper_utils.methods.emote import Emote, EmoteSizes, Flint, PriorSizes
from paper_utils.nn.checkpoint_names import CheckpointNamesError, load_strictly, renamed

# Names of parts in the published code, and here.
OFFICIAL_PRIOR = {
    "motion_encoder.squasher": "encoder.squash",
    "motion_encoder.encoder_linear_embedding": "encoder.embed",
    "motion_encoder.encoder_transformer": "encoder.transformer",
    "motion_encoder.mean": "encoder.mean",
    "motion_encoder.logvar": "encoder.log_variance",
    "motion_decoder.expander": "decoder.expand",
    "motion_decoder.decoder_linear_embedding": "decoder.embed",
    "motion_decoder.decoder_transformer": "decoder.transformer",
    "motion_decoder.post_transformer_linear": "decoder.turn",
    "motion_decoder.cross_smooth_layer": "decoder.smooth",
}
OFFICIAL_EMOTE = {
    "sequence_encoder.linear": "project",
    "sequence_decoder.obj_vector.map": "style",
    "sequence_decoder.bert_decoder": "transformer",
    "sequence_decoder.squasher_2.linear": "squash",
    "sequence_decoder.decoder": "head",
    "audio_model.model": "audio.model",
}
# Parts that hold FLAME, the renderer and perceptual networks, which are read from their own files.
_OTHER_PARTS = ("preprocessor", "postprocessor", "renderer", "shape_model", "neural_losses", "sequence_decoder.flame")
_PRIOR_INSIDE = "sequence_decoder.motion_prior"


def flint_from_official(state: Mapping[str, Tensor], *, heads: int = 8, source: str = "state") -> Flint:
    """The frozen prior from tensors of a published checkpoint (`paper_utils.nn.checkpoint_names.read_state`); sizes are read off shapes.

    Parameters
    ----------
    state
        Names such as ``motion_encoder.squasher.0.0.weight``.
    heads
        Of attention; shapes do not tell.
    source
        Named in messages.

    Raises
    ------
    CheckpointNamesError
        If names or shapes do not fit.
    """
    own = renamed(state, OFFICIAL_PRIOR, drop=_OTHER_PARTS, source=source)
    sizes = PriorSizes()
    if first := [own[name] for name in ("encoder.squash.0.0.weight",) if name in own]:
        sizes = PriorSizes(
            motion=first[0].shape[1],
            dim=first[0].shape[0],
            heads=heads,
            hidden=len(own.get("encoder.transformer.layers.0.linear1.bias", torch.empty(sizes.hidden))),
            layers=_count(own, "encoder.transformer.layers"),
            halvings=_count(own, "encoder.squash"),
        )
    prior = Flint(sizes, seed=0)
    own |= {name: getattr(prior, name) for name in ("shift", "scale")}
    load_strictly(prior, own, source)
    return prior.eval().requires_grad_(False)


def emote_from_official(
    state: Mapping[str, Tensor],
    audio: nn.Module,
    prior: Flint | None = None,
    *,
    heads: int = 8,
    period: int | None = 30,
    transformer_ignored: bool = False,
    source: str = "state",
) -> Emote:
    """The network from tensors of a published checkpoint, in evaluation mode.

    Parameters
    ----------
    state
        Names such as ``sequence_decoder.bert_decoder.layers.0.linear1.weight``.
    audio
        Speech features; those of the checkpoint are loaded into it if it holds any.
    prior
        Used if the checkpoint holds none.
    heads, period, transformer_ignored
        See `EmoteSizes`; shapes do not tell.
    source
        Named in messages.

    Raises
    ------
    CheckpointNamesError
        If names or shapes do not fit, or there is no prior anywhere.
    """
    inside = {
        name.removeprefix(f"{_PRIOR_INSIDE}."): value
        for name, value in state.items()
        if name.startswith(f"{_PRIOR_INSIDE}.")
    }
    inside = {name: value for name, value in inside.items() if name.startswith(("motion_encoder", "motion_decoder"))}
    own = renamed(state, OFFICIAL_EMOTE, drop=(*_OTHER_PARTS, _PRIOR_INSIDE), source=source)
    if prior is None:
        if not any(name.startswith("motion_encoder") for name in inside):
            raise CheckpointNamesError(
                f"{source}: holds no whole prior (published checkpoints drop its encoder); give prior=flint_from_official(...)"
            )
        prior = flint_from_official(inside, source=source)
    sizes = EmoteSizes()
    style, project = own.get("style.weight"), own.get("project.weight")
    if style is not None and project is not None:
        sizes = EmoteSizes(
            audio=project.shape[1],
            dim=project.shape[0],
            heads=heads,
            layers=_count(own, "transformer.layers"),
            identities=style.shape[1] - len(EMOTIONS) - len(INTENSITIES),
            period=period,
            transformer_ignored=transformer_ignored,
        )
    prior = copy.deepcopy(prior)  # the one given stays as it is
    model = Emote(sizes, prior, audio, seed=0)
    if inside:
        decoder = renamed(inside, OFFICIAL_PRIOR, source=source)
        decoder = {name: value for name, value in decoder.items() if name.startswith("decoder.")}
        load_strictly(prior.decoder, {name.removeprefix("decoder."): value for name, value in decoder.items()}, source)
    kept = [name for name in model.state_dict() if name.startswith("prior.")]
    if not any(name.startswith("audio.") for name in own):
        kept += [name for name in model.state_dict() if name.startswith("audio.")]
    load_strictly(model, own | {name: model.state_dict()[name] for name in kept}, source)
    return model.eval()


def _count(state: Mapping[str, Tensor], start: str) -> int:
    """How many numbered parts the names below `start` have."""
    depth = start.count(".") + 1
    return max(len({name.split(".")[depth] for name in state if name.startswith(f"{start}.")}), 1)
