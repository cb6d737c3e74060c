"""A face for your own recording: writes the picture that the networks of paper 03 draw from a voice.

    python -m paper_utils.voice_to_face recording.wav
    python -m paper_utils.voice_to_face recording.wav --checkpoint trained.safetensors --output face.png
    python -m paper_utils.voice_to_face recording.wav --official voice_embedding.pth generator.pth

The picture shows what tends to go with such a voice among the people that the networks were trained on. It is not a picture of the speaker
and says nothing about who spoke.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from paper_utils import audio_files, files
from paper_utils.methods import voice_to_face as v2f
from paper_utils.studies.voice_to_face import model_path

SHOWN = 256  # pixels a side, at least, of the picture that is written
CAUTION = "This is what tends to go with such a voice among the people it was trained on, not a picture of the speaker."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.voice_to_face", description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, help="WAV, FLAC, Ogg, MP3 or AIFF; a few seconds of one speaker")
    parser.add_argument(
        "--checkpoint", type=Path, help="networks written by the study of paper 03 (default: those of notebook 03)"
    )
    parser.add_argument(
        "--official",
        type=Path,
        nargs=2,
        metavar=("VOICE", "GENERATOR"),
        help="the checkpoints published with the paper",
    )
    parser.add_argument(
        "--output", type=Path, help="the picture, a .png (default: NAME_face.png in the working folder)"
    )
    parser.add_argument("--activity", help="how speech is found: energy, webrtc or none (default: as the networks say)")
    parser.add_argument("--stretch", action="store_true", help="full contrast, as the published code saves pictures")
    return parser.parse_args(arguments)


def face_of_file(model: v2f.Reconstructor, recording: Path) -> torch.Tensor:
    """The generator's picture (3, side, side) for a recording on disk; channels are averaged, other rates resampled.

    Raises
    ------
    FileNotFoundError, ValueError
        As `audio_files.read_audio` and `Reconstructor.face_of`; the message names the file.
    """
    rate = model.front_end.mel.sample_rate
    samples = audio_files.read_audio(recording, rate)
    with torch.no_grad():
        return model(model.front_end.features(samples, str(recording)).T[None])[0]


def write_picture(image: torch.Tensor, path: Path, *, stretch: bool = False) -> None:
    """Write a generated picture as PNG, enlarged by whole pixels to at least `SHOWN` a side.

    Raises
    ------
    ValueError
        If the name does not end in ``.png``.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path}: expected a name that ends in .png")
    levels = (v2f.displayed(image[None], stretch=stretch)[0] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    factor = -(-SHOWN // levels.shape[0])
    with files.atomic_path(path) as temporary:
        Image.fromarray(np.kron(levels, np.ones((factor, factor, 1), np.uint8))).save(temporary)


def _networks(options: argparse.Namespace) -> v2f.Reconstructor:
    if options.official:
        return v2f.load_official(*options.official)
    path = options.checkpoint or model_path()
    if options.checkpoint is None and not path.is_file():
        raise FileNotFoundError(
            f"there are no trained networks yet ({path}); train them in about a minute with "
            "`python -m paper_utils.train 03 --only linked`, or give --checkpoint or --official"
        )
    return v2f.load(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: the picture was written; 2: something about the recording, the networks or an argument is wrong, and the message says what.
    """
    options = parse(arguments)
    output = options.output or Path(f"{options.recording.stem}_face.png")
    try:
        model = _networks(options)
        if options.activity:
            model.front_end = dataclasses.replace(model.front_end, activity=options.activity)
        write_picture(face_of_file(model, options.recording), output, stretch=options.stretch)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"paper_utils.voice_to_face: {error}", file=sys.stderr)
        return 2
    print(f"{output}\n{CAUTION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
