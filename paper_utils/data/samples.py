"""Sample types: what every loader and the synthetic world return, so that no method asks where its data came from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LabelledImages:
    """Images with the identity (person, or digit class) that each one shows.

    Parameters
    ----------
    images
        Values in [-1, 1].
    identities
        Integer name of the identity of each image; any integers, not necessarily consecutive.
    name
        Where the images come from, for captions and results files.
    covariates
        What is known of the person on each image, by name (``sex``, ``age``, ``nationality``); one value an image.
    """

    images: Float[Tensor, "n channel height width"]
    identities: Int[Tensor, " n"]
    name: str
    covariates: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or len(self.images) != len(self.identities):
            raise ValueError(
                f"{self.name}: expected images (n, channel, height, width) and n identities, "
                f"found {tuple(self.images.shape)} and {tuple(self.identities.shape)}"
            )
        if len(self.images) == 0:
            raise ValueError(f"{self.name}: there are no images")
        if not torch.isfinite(self.images).all():
            raise ValueError(f"{self.name}: images hold NaN or infinite values")
        for name, values in self.covariates.items():
            if len(values) != len(self.images):
                raise ValueError(
                    f"{self.name}: expected one {name} for each of {len(self.images)} images, found {len(values)}"
                )

    def __len__(self) -> int:
        return len(self.images)

    def of(self, identities: list[int]) -> LabelledImages:
        """The images of the chosen identities, in their stored order."""
        keep = torch.isin(self.identities, torch.tensor(identities))
        if not keep.any():
            raise ValueError(
                f"{self.name}: none of the identities {identities} is present; present: {self.identities.unique().tolist()}"
            )
        covariates = {name: values[keep] for name, values in self.covariates.items()}
        return LabelledImages(self.images[keep], self.identities[keep], self.name, covariates)

    @property
    def fingerprint(self) -> str:
        """Hash of the content: the data's part of a cache key."""
        digest = hashlib.sha256(self.images.contiguous().numpy().tobytes())
        digest.update(self.identities.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]
