r"""Networks that tell an emotion from a moving face: the published one on features of real video frames, and what it is made of.

The published chain (EMOTE's "video emotion network") is a ResNet-50 trained on single pictures, 2048 numbers a frame, and a small
transformer over the frames whose pooled output is one vector a clip.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from paper_utils.nn.checkpoint_names import load_strictly, read_state, renamed
from paper_utils.nn.image_encoders import ResNet
from paper_utils.nn.temporal import BiasedTransformer, seeded

EMOTIONS, INTENSITIES = 8, 3  # classes of the two heads
FRAME_FEATURES = 2048  # of ResNet-50
# Name of a part in the published code: name here.
OFFICIAL_NAMES = {
    "sequence_encoder.transformer_encoder.bottleneck": "narrow",
    "sequence_encoder.transformer_encoder.encoder": "transformer",
    "sequence_encoder.pooler.dense": "pool",
    "classification_head.classification_heads.expression.classifier": "emotion",
    "classification_head.classification_heads.intensity.classifier": "intensity",
}


class SequenceEmotionClassifier(nn.Module):
    r"""One vector a clip from features of its frames, and what emotion and intensity it shows.

    .. math:: f = \tanh(W\,\mathrm{Transformer}(W_0 x_{1..T})_1)

    The output at the first frame stands for the clip; as every frame sees every frame, it is a question that the first frame asks of all.

    Parameters
    ----------
    features
        Numbers a frame.
    dim, heads, hidden
        Width of the clip's vector and of the transformer, its heads and feed-forward width.
    layers, dropout
        Of the transformer.
    order_blind
        The published network computes its attention bias and then forgets to use it. Without the bias nothing tells frames 2 to T apart:
        they are a bag, and the "sequence" is not one. Its weights were trained so and need this; a network trained here knows the order.
    seed
        Of the first weights.

    Examples
    --------
    >>> classifier = SequenceEmotionClassifier(seed=0)
    >>> sum(parameter.numel() for parameter in classifier.parameters())
    988939
    """

    def __init__(
        self,
        features: int = FRAME_FEATURES,
        *,
        dim: int = 256,
        heads: int = 8,
        hidden: int | None = None,
        layers: int = 1,
        dropout: float = 0.25,
        order_blind: bool = False,
        seed: int,
    ) -> None:
        super().__init__()
        self.features, self.dim = features, dim
        with seeded(seed):
            self.narrow = nn.Linear(features, dim)
            self.transformer = BiasedTransformer(
                dim,
                heads=heads,
                hidden=hidden or dim,
                layers=layers,
                dropout=dropout,
                period=None if order_blind else 1,
            )
            self.pool = nn.Linear(dim, dim)
            self.emotion, self.intensity = nn.Linear(dim, EMOTIONS), nn.Linear(dim, INTENSITIES)

    def forward(self, frames: Float[Tensor, "clips time features"]) -> Float[Tensor, "clips dim"]:
        """The vector of each clip, in (-1, 1)."""
        return torch.tanh(self.pool(self.transformer(self.narrow(frames))[:, 0]))

    def logits(self, clip: Float[Tensor, "clips dim"]) -> tuple[Float[Tensor, "clips 8"], Float[Tensor, "clips 3"]]:
        """Emotion and intensity (level 1 first) from what `forward` gives."""
        return self.emotion(clip), self.intensity(clip)


def load_emotion_classifier(path: str | Path, *, heads: int = 8) -> SequenceEmotionClassifier:
    """The frozen network from a published checkpoint; widths are read off its shapes.

    Raises
    ------
    FileNotFoundError, CheckpointNamesError
        If the file is missing or holds something else.
    """
    state = renamed(read_state(path), OFFICIAL_NAMES, drop=("preprocessor", "feature_model"), source=str(path))
    narrow, hidden = state.get("narrow.weight"), state.get("transformer.layers.0.linear1.weight")
    sizes = {} if narrow is None else {"features": narrow.shape[1], "dim": narrow.shape[0]}
    layers = {name.split(".")[2] for name in state if name.startswith("transformer.layers.")}
    network = SequenceEmotionClassifier(
        **sizes,
        heads=heads,
        hidden=None if hidden is None else len(hidden),
        layers=max(len(layers), 1),
        order_blind=True,
        seed=0,
    )
    load_strictly(network, state, str(path))
    return network.eval().requires_grad_(False)


def emotion_frame_network(*, seed: int) -> ResNet:
    """ResNet-50 in the form of the VGGFace2 release, which EMOCA trained on AffectNet: pictures to 2048 numbers.

    It halves the size in the first convolution of a stage, not in its 3x3 one, and pools without a border.
    """
    network = ResNet(50, 1, seed=seed)
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    network.maxpool = nn.MaxPool2d(3, 2, 0, ceil_mode=True)
    network.fc = nn.Identity()
    return network


def load_emotion_frame_network(path: str | Path) -> ResNet:
    """The frozen network from EMOCA's published checkpoint; its last layer, which gives labels, is left out.

    Raises
    ------
    FileNotFoundError, CheckpointNamesError
        If the file is missing or holds something else.
    """
    state = renamed(read_state(path), {"backbone": ""}, drop=("linear", "backbone.fc"), source=str(path))
    network = emotion_frame_network(seed=0)
    load_strictly(network, state, str(path))
    return network.eval().requires_grad_(False)
