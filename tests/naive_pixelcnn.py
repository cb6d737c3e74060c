"""The sampler that needs no proof (the whole network on the whole grid, anew for every code), and networks as the released code recorded them."""

from __future__ import annotations

import torch

from paper_utils.nn.pixelcnn import PixelCnn, PixelCnnConfig, choose

CASES = ("cross", "independent", "cross_noaudio")


@torch.no_grad()
def naive_codes(network, speakers, rows, audio=None, uniforms=None):
    """Codes (batch, rows, 2); without uniforms the most probable ones."""
    codes = torch.zeros(len(speakers), rows, 2, dtype=torch.long)
    for t in range(rows):
        for part in range(2):
            logits = network(codes, speakers, audio)[:, t, part]
            codes[:, t, part] = choose(logits, None if uniforms is None else uniforms[:, t, part])
    return codes


def official(arrays) -> tuple[PixelCnn, torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """The recorded network with its codes, speakers and sound; the recorded sound is that of the network, so no encoder is loaded."""
    codes, width, layers, _, _, hears, cross = arrays["meta"].tolist()
    network = PixelCnn(
        PixelCnnConfig(
            codes=codes,
            width=width,
            layers=layers,
            audio=256 if hears else 0,
            variant="cross" if cross else "independent",
            masked_gradient="official",
        ),
        seed=0,
    )
    own = network.state_dict()
    network.load_state_dict({name: torch.from_numpy(arrays[f"w/{name}"]) for name in own})
    sound = torch.from_numpy(arrays["audio"]).transpose(1, 2) if hears else None
    return network, torch.from_numpy(arrays["codes"]), torch.from_numpy(arrays["label"]), sound
