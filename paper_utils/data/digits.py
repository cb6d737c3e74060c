"""Handwritten digits bundled with scikit-learn: 1,797 real 8 x 8 images of ten classes, no download.

From the UCI "Optical Recognition of Handwritten Digits" test set (Alpaydin and Kaynak, 1998), as scikit-learn ships it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from sklearn import datasets
from torch import Tensor

from paper_utils.data.samples import LabelledImages


def load() -> LabelledImages:
    """The 1,797 digit images with their digit as identity.

    Returns
    -------
    LabelledImages
        ``images`` of shape (1797, 1, 8, 8), grey level 0..16 mapped linearly to [-1, 1].
    """
    bundle = datasets.load_digits()
    images = torch.from_numpy(bundle.images).float().unsqueeze(1) / 8.0 - 1.0
    return LabelledImages(images, torch.from_numpy(bundle.target).long(), "scikit-learn digits")


def halves(data: LabelledImages) -> tuple[Float[Tensor, "n pixels"], Float[Tensor, "n pixels"]]:
    """Left and right half of every image, flattened: two views ("modalities") of one thing.

    Raises
    ------
    ValueError
        If the width is odd.
    """
    width = data.images.shape[-1]
    if width % 2:
        raise ValueError(f"{data.name}: images must have an even width to be halved, found {width}")
    left, right = data.images.split(width // 2, dim=-1)
    return left.flatten(1), right.flatten(1)
