"""Speech as a sequence of vectors at the frame rate of a video: wav2vec 2.0 for real recordings, a small stand-in for the synthetic world.

Both turn a recording into local features, resample them to the frames of the video, and only then look at longer stretches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from paper_utils.nn.temporal import resample_time, seeded

WAV2VEC_RATE = 50.0  # feature frames a second of wav2vec 2.0 at 16 kHz
NORMALISER = 1e-7  # published code of wav2vec 2.0: added to the variance


def normalised_samples(
    samples: Float[Tensor, "batch samples"], *, jointly: bool = False
) -> Float[Tensor, "batch samples"]:
    r"""Recordings of mean 0 and variance 1, as wav2vec 2.0 expects them.

    .. math:: x' = (x - \bar x) / \sqrt{\operatorname{var}(x) + 10^{-7}}

    Parameters
    ----------
    samples
        Any scale.
    jointly
        EMOTE's published code hands the whole batch to the normaliser as if it were one recording, so that a loud clip turns its neighbours
        down and a clip by itself is normalised otherwise than in training. Off, each recording counts for itself.
    """
    rows = samples.reshape(1, -1) if jointly else samples
    centred = rows - rows.mean(1, keepdim=True)
    return (centred / (centred.square().mean(1, keepdim=True) + NORMALISER).sqrt()).reshape(samples.shape)


class Wav2Vec2Features(nn.Module):
    """wav2vec 2.0 at the frame rate of a video (EMOTE: wav2vec2-base-960h, 768 numbers a frame).

    The convolutional part never learns. Its features are resampled to the video's frames before the projection and the transformer, which
    learn unless `set_trainable` says no. The time masking that the library applies in training draws from a global generator and is
    left out.

    Parameters
    ----------
    model
        ``transformers.Wav2Vec2Model``, see `load_wav2vec2`.
    joint_normalisation
        See `normalised_samples`.
    """

    def __init__(self, model: nn.Module, *, joint_normalisation: bool = False) -> None:
        super().__init__()
        self.model, self.joint_normalisation = model, joint_normalisation
        self.dim = int(model.config.hidden_size)
        self.model.freeze_feature_encoder()

    def set_trainable(self, trainable: bool) -> None:
        """Let projection and transformer learn (EMOTE's first stage), or nothing at all (its second)."""
        self.requires_grad_(trainable)
        self.model.freeze_feature_encoder()

    def train(self, mode: bool = True) -> Wav2Vec2Features:
        """A frozen network stays in evaluation mode, so its dropout stays off."""
        return super().train(mode and any(parameter.requires_grad for parameter in self.parameters()))

    def forward(self, samples: Float[Tensor, "batch samples"], frames: int) -> Float[Tensor, "batch frames dim"]:
        """Features of 16 kHz recordings at `frames` frames.

        Raises
        ------
        ValueError
            If the recording is too short for a single feature.
        """
        normalised = normalised_samples(samples, jointly=self.joint_normalisation)
        try:
            local = self.model.feature_extractor(normalised).transpose(1, 2)
        except RuntimeError as error:
            raise ValueError(f"samples: {samples.shape[1]} are too few for wav2vec 2.0, which needs 400") from error
        hidden, _ = self.model.feature_projection(resample_time(local, frames, rate=WAV2VEC_RATE))
        return self.model.encoder(hidden)[0]


def load_wav2vec2(folder: str | Path) -> nn.Module:
    """A ``Wav2Vec2Model`` from a folder that holds its ``config.json`` and weights; nothing is downloaded.

    Raises
    ------
    ImportError
        If the optional package transformers is not installed.
    FileNotFoundError
        If the folder or its configuration is missing.
    """
    transformers = _transformers()
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(
            f"{folder}: no config.json; expected the folder of a wav2vec 2.0 model, such as a copy of facebook/wav2vec2-base-960h"
        )
    return transformers.Wav2Vec2Model.from_pretrained(folder, local_files_only=True)


def random_wav2vec2(seed: int, **changes: Any) -> nn.Module:
    """A ``Wav2Vec2Model`` with random weights, for tests of what is around it.

    Parameters
    ----------
    seed
        Of the weights.
    changes
        Fields of ``Wav2Vec2Config``; the defaults are those of wav2vec2-base.

    Raises
    ------
    ImportError
        If the optional package transformers is not installed.
    """
    transformers = _transformers()
    with seeded(seed):
        return transformers.Wav2Vec2Model(transformers.Wav2Vec2Config(**changes))


def _transformers() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise ImportError(
            "wav2vec 2.0 needs the optional package transformers: pip install 'paper-utils[wav2vec2]'"
        ) from error
    return transformers


class ConvSpeechFeatures(nn.Module):
    """Stand-in for wav2vec 2.0 in the synthetic world: two convolutions over log-mel frames, then the frame rate of the video.

    Parameters
    ----------
    bands
        Mel bands.
    dim
        Numbers a frame.
    hidden
        Channels of the first convolution.
    seed
        Of the first weights.
    """

    def __init__(self, bands: int, dim: int, *, hidden: int = 48, seed: int) -> None:
        super().__init__()
        self.dim, self.bands = dim, bands
        with seeded(seed):
            self.first = nn.Conv1d(bands, hidden, 5, stride=2, padding=2)
            self.second = nn.Conv1d(hidden, dim, 5, padding=2)

    def set_trainable(self, trainable: bool) -> None:
        """Let both convolutions learn, or none."""
        self.requires_grad_(trainable)

    def forward(
        self, log_mel: Float[Tensor, "batch mel_frames bands"], frames: int
    ) -> Float[Tensor, "batch frames dim"]:
        """Features of standardised log-mel frames (any rate above that of the video) at `frames` frames.

        Raises
        ------
        ValueError
            If the number of bands differs.
        """
        if log_mel.shape[2] != self.bands:
            raise ValueError(f"log_mel: expected {self.bands} bands, found {log_mel.shape[2]}")
        hidden = self.second(functional.gelu(self.first(log_mel.transpose(1, 2)))).transpose(1, 2)
        return resample_time(hidden, frames)
