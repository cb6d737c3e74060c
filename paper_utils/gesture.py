"""Gestures for your own recording: writes a film of a stick figure that moves to it as the networks of paper 08 draw.

    python -m paper_utils.gesture recording.wav
    python -m paper_utils.gesture recording.wav --speaker dov --seed 3 --motion motion.npy

The networks are those of notebook 08, taught by four synthetic people; another seed gives other gestures for the same sound. With ``--checkpoint``
they can be those that `paper_utils.recipes.talkshow` has trained on SHOW, whose speakers are oliver, chemistry, seth and conan.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from paper_utils import audio, audio_files, files
from paper_utils.data import show
from paper_utils.methods.talkshow import FaceHead, SpeechFeatures, TalkShow, sound_features
from paper_utils.nn.speech_features import load_wav2vec2
from paper_utils.recipes.talkshow_files import load
from paper_utils.studies.talkshow import model_path
from paper_utils.widgets.talkshow import film_of
from paper_utils.world.gesture_clips import FEATURES, recording_features
from paper_utils.world.gesture_tables import SPEAKERS
from paper_utils.world.gestures import speakers_named

LONGEST_S = 60.0
CAUTION = "One of many answers, by networks that have seen {whom} only; how somebody would move cannot be heard."


class Hearing(NamedTuple):
    """What networks hear, and whose gestures they know.

    Parameters
    ----------
    rate
        Hz.
    features
        Of a recording at that rate.
    postures
        Legs of each speaker, by name.
    whom
        They have seen.
    """

    rate: int
    features: Callable[[Float[Tensor, " samples"]], Float[Tensor, "frames features"]]
    postures: dict[str, str]
    whom: str


WORLD = Hearing(
    audio.WORLD_MEL.sample_rate, recording_features, {s.name: s.posture for s in SPEAKERS}, "synthetic people"
)
SHOW = Hearing(
    show.SAMPLE_RATE, lambda samples: sound_features(samples[None], show.SAMPLE_RATE)[0], show.POSTURES, "four people"
)


def hearing(model: TalkShow) -> Hearing:
    """Whether networks are those of the world or of SHOW, by how many numbers a frame they hear.

    Raises
    ------
    ValueError
        If they are neither.
    """
    known = {FEATURES: WORLD, 64: SHOW}
    features = model.prior.config.features
    if features not in known:
        raise ValueError(
            f"the networks hear {features} numbers a frame; expected {FEATURES} (notebook 08) or 64 (MFCC, SHOW)"
        )
    return known[features]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.gesture", description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, help="WAV, FLAC, Ogg, MP3 or AIFF; up to a minute of one speaker")
    styles = ", ".join([*WORLD.postures, "or of SHOW", *SHOW.postures])
    parser.add_argument("--speaker", help=f"style: {styles}; the first if not given")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="below 1: more usual gestures; 1 as in the paper"
    )
    parser.add_argument("--checkpoint", type=Path, help="networks written by the study or the recipe of paper 08")
    parser.add_argument("--wav2vec2", type=Path, help="folder of the speech network that the face was trained with")
    parser.add_argument(
        "--output", type=Path, help="the film, .mp4 or .gif (default: NAME_gesture in the working folder)"
    )
    parser.add_argument("--motion", type=Path, help="also write the frames, 265 columns as SHOW has them, to this .npy")
    return parser.parse_args(arguments)


def gestures_of(
    model: TalkShow,
    samples: Float[Tensor, " samples"],
    speaker: int,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    speech: SpeechFeatures | None = None,
) -> Float[Tensor, "frames 265"]:
    """Whole frames at 30 a second for a recording at the rate of the networks' `Hearing`: 16 kHz, or 22 kHz for those of SHOW.

    Parameters
    ----------
    model
        The networks.
    samples
        In [-1, 1].
    speaker
        Number of the style.
    seed
        Of the draw.
    temperature
        Below 1: more usual gestures.
    speech
        For a face behind wav2vec 2.0; see `TalkShow.generate`.

    Raises
    ------
    ValueError
        If the recording is silent throughout, longer than `LONGEST_S`, or shorter than a code (four frames); if the face needs `speech`.
    """
    heard = hearing(model)
    seconds = len(samples) / heard.rate
    if seconds > LONGEST_S:
        raise ValueError(f"the recording has {seconds:.1f} s, expected at most {LONGEST_S:g} s; cut it")
    if not samples.abs().max() > 0:
        raise ValueError("the recording is silent; was the microphone on?")
    features = heard.features(samples)[None]
    spoken = None
    if isinstance(model.face, FaceHead):
        if speech is None:
            raise ValueError(
                "the face of these networks hears wav2vec 2.0; give --wav2vec2, the folder written beside them"
            )
        with torch.no_grad():
            spoken = speech(audio_files.resample(samples, heard.rate, 16_000)[None], features.shape[1])
    generator = torch.Generator().manual_seed(seed)
    who = torch.tensor([speaker])
    posture = list(heard.postures.values())[speaker]
    return model.generate(
        features, who, generator=generator, temperature=temperature, posture=posture, face_features=spoken
    )[0, 0]


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
        if options.motion and options.motion.suffix != ".npy":
            raise ValueError(f"{options.motion}: expected a name that ends in .npy")
        if not options.temperature > 0:
            raise ValueError(f"--temperature: expected a positive number, found {options.temperature:g}")
        model = _networks(options.checkpoint)
        heard = hearing(model)
        named = options.speaker or next(iter(heard.postures))
        speaker = show.speaker_number(named) if heard is SHOW else int(speakers_named([named])[0])
        folder = options.wav2vec2 or (options.checkpoint.with_name("wav2vec2") if options.checkpoint else None)
        known = isinstance(model.face, FaceHead) and folder is not None and folder.is_dir()
        speech = SpeechFeatures(load_wav2vec2(folder)) if known else None
        samples = audio_files.read_audio(options.recording, heard.rate)
        try:
            frames = gestures_of(
                model, samples, speaker, seed=options.seed, temperature=options.temperature, speech=speech
            )
        except ValueError as error:
            raise ValueError(f"{options.recording}: {error}") from error
        written = film_of(frames, size=240).with_sound(samples, heard.rate).save(output)
        if options.motion:
            with files.atomic_path(options.motion) as temporary, open(temporary, "wb") as file:
                np.save(file, frames.numpy())
            written.append(options.motion)
    except (ValueError, OSError, ImportError) as error:
        print(f"paper_utils.gesture: {error}", file=sys.stderr)
        return 2
    print("\n".join(map(str, written)) + f"\n{CAUTION.format(whom=heard.whom)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
