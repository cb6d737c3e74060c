"""Gestures for your own recording: writes a film of a stick figure that moves to it as the networks of paper 08 draw.

    python -m paper_utils.gesture recording.wav
    python -m paper_utils.gesture recording.wav --speaker dov --seed 3 --motion motion.npy

The networks are those of notebook 08, taught by four synthetic people; another seed gives other gestures for the same sound.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils import audio, audio_files, files
from paper_utils.methods.talkshow import TalkShow
from paper_utils.recipes.talkshow_files import load
from paper_utils.studies.talkshow import model_path
from paper_utils.widgets.talkshow import film_of
from paper_utils.world.gesture_clips import recording_features
from paper_utils.world.gesture_tables import SPEAKERS
from paper_utils.world.gestures import speakers_named

LONGEST_S = 60.0
CAUTION = (
    "One of many answers, by networks that have seen synthetic people only; how somebody would move cannot be heard."
)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.gesture", description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, help="WAV, FLAC, Ogg, MP3 or AIFF; up to a minute of one speaker")
    parser.add_argument("--speaker", default=SPEAKERS[0].name, help=f"style: {', '.join(s.name for s in SPEAKERS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1: more usual gestures; 1 as in the paper"
    )
    parser.add_argument("--checkpoint", type=Path, help="networks written by the study of paper 08")
    parser.add_argument(
        "--output", type=Path, help="the film, .mp4 or .gif (default: NAME_gesture in the working folder)"
    )
    parser.add_argument("--motion", type=Path, help="also write the frames, 265 columns as SHOW has them, to this .npy")
    return parser.parse_args(arguments)


def gestures_of(
    model: TalkShow, samples: Float[Tensor, " samples"], speaker: int, *, seed: int = 0, temperature: float = 1.0
) -> Float[Tensor, "frames 265"]:
    """Whole frames at 30 a second for a recording at 16 kHz.

    Raises
    ------
    ValueError
        If the recording is silent throughout, longer than `LONGEST_S`, or shorter than a code (four frames).
    """
    seconds = len(samples) / audio.WORLD_MEL.sample_rate
    if seconds > LONGEST_S:
        raise ValueError(f"the recording has {seconds:.1f} s, expected at most {LONGEST_S:g} s; cut it")
    if not samples.abs().max() > 0:
        raise ValueError("the recording is silent; was the microphone on?")
    features = recording_features(samples)[None]
    generator = torch.Generator().manual_seed(seed)
    who = torch.tensor([speaker])
    posture = SPEAKERS[speaker].posture
    return model.generate(features, who, generator=generator, temperature=temperature, posture=posture)[0, 0]


def _networks(checkpoint: Path | None) -> TalkShow:
    path = checkpoint or model_path()
    if checkpoint is None and not path.is_file():
        raise FileNotFoundError(
            f"there are no trained networks yet ({path}); train them in about half a minute with "
            "`python -m paper_utils.train 08 --only model`, or give --checkpoint"
        )
    return load(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: the film was written; 2: something about the recording, the networks or an argument is wrong, and the message says what.
    """
    options = parse(arguments)
    output = options.output or Path(f"{options.recording.stem}_gesture")
    try:
        speaker = int(speakers_named([options.speaker])[0])
        if options.motion and options.motion.suffix != ".npy":
            raise ValueError(f"{options.motion}: expected a name that ends in .npy")
        if not options.temperature > 0:
            raise ValueError(f"--temperature: expected a positive number, found {options.temperature:g}")
        model = _networks(options.checkpoint)
        rate = audio.WORLD_MEL.sample_rate
        samples = audio_files.read_audio(options.recording, rate)
        try:
            frames = gestures_of(model, samples, speaker, seed=options.seed, temperature=options.temperature)
        except ValueError as error:
            raise ValueError(f"{options.recording}: {error}") from error
        written = film_of(frames, size=240).with_sound(samples, rate).save(output)
        if options.motion:
            with files.atomic_path(options.motion) as temporary, open(temporary, "wb") as file:
                np.save(file, frames.numpy())
            written.append(options.motion)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"paper_utils.gesture: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, written)) + f"\n{CAUTION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
