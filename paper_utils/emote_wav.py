"""A talking face for your own recording, with an emotion that you choose: writes a film with the network of notebook 09.

    python -m paper_utils.emote_wav --emotion happy --intensity 3 my_voice.wav

The network knows eight synthetic voices, so lips follow loudness and vowels of a real one rather than its words. The face is a synthetic
person's. Nothing is said about the emotion of whoever spoke: it is the one that you choose.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from paper_utils import audio, audio_files
from paper_utils.data.talking_faces import EMOTIONS, INTENSITIES
from paper_utils.film import Film
from paper_utils.methods import emote
from paper_utils.studies.emote import Speaker, load_speaker, speaker_path
from paper_utils.studies.emote_world import BANDS, SOUND_PER_FRAME
from paper_utils.widgets.emote import face_pictures

LONGEST_S = 30.0  # a film of a minute is drawn in two; choice of ours
MEL = dataclasses.replace(audio.WORLD_MEL, bands=BANDS)
CAUTION = "The emotion is the one you chose; the film says nothing about the speaker's own. The face is nobody's."


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.emote_wav", description=__doc__.splitlines()[0])
    parser.add_argument(
        "recording", type=Path, help=f"WAV, FLAC, Ogg, MP3 or AIFF; up to {LONGEST_S:g} s of one speaker"
    )
    parser.add_argument("--emotion", default="happy", help=", ".join(EMOTIONS))
    parser.add_argument("--intensity", type=int, default=3, help=", ".join(map(str, INTENSITIES)))
    parser.add_argument("--person", type=int, default=1, help="whose face and style: a training person, from 0")
    parser.add_argument(
        "--checkpoint", type=Path, help="network written by the study of paper 09 (default: notebook 09's)"
    )
    parser.add_argument(
        "--output", type=Path, help="the film, .mp4 or .gif (default: NAME_EMOTION in the working folder)"
    )
    return parser.parse_args(arguments)


def motion_of(
    speaker: Speaker, samples: Float[Tensor, " samples"], emotion: str, intensity: int, person: int
) -> Float[Tensor, "time motion"]:
    """What the face does for a recording at 16 kHz.

    Raises
    ------
    ValueError
        If the recording is silent, empty or too long, or emotion, intensity or person do not exist (the valid ones are listed).
    """
    condition = emote.condition_named(emotion, intensity, person, speaker.model.sizes)
    seconds = len(samples) / MEL.sample_rate
    if seconds > LONGEST_S:
        raise ValueError(f"the recording lasts {seconds:.1f} s, expected at most {LONGEST_S:g} s; cut it")
    rows = emote.sound_rows(samples, sample_rate=MEL.sample_rate, fps=speaker.model.sizes.fps)
    peak = float(rows.abs().max())
    if peak < 1e-4:
        raise ValueError(
            f"the recording is silent (largest sample {peak:.1g}); record it again, nearer to the microphone"
        )
    log_mel = audio.log_mel(rows.flatten()[None], MEL)[0, : SOUND_PER_FRAME * len(rows)]
    # A microphone's loudness and colour are not the world's: every band is brought to the mean and spread that the network knows.
    heard = (log_mel - log_mel.mean(0)) / log_mel.std(0).clamp_min(1e-3)
    return emote.animate(speaker.model, heard, condition, steps_per_frame=SOUND_PER_FRAME)


def film_of_file(
    speaker: Speaker, recording: Path, emotion: str, intensity: int, person: int, *, size: int = 128
) -> Film:
    """The film of a recording on disk, with its sound; channels are averaged, other rates resampled.

    Raises
    ------
    FileNotFoundError, ValueError
        As `audio_files.read_audio` and `motion_of`; the message names the file.
    """
    samples = audio_files.read_audio(recording, MEL.sample_rate)
    try:
        motion = motion_of(speaker, samples, emotion, intensity, person)
    except ValueError as error:
        raise ValueError(f"{recording}: {error}") from error
    pictures = face_pictures(speaker.population, motion, person, size=size)
    return Film(pictures, speaker.model.sizes.fps).with_sound(samples.clamp(-1, 1), MEL.sample_rate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: the film was written; 2: something about the recording, the network or an argument is wrong, and the message says what.
    """
    options = parse(arguments)
    output = options.output or Path(f"{options.recording.stem}_{options.emotion}")
    try:
        speaker = load_speaker(options.checkpoint or speaker_path())
        film = film_of_file(speaker, options.recording, options.emotion, options.intensity, options.person)
        written = film.save(output)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"paper_utils.emote_wav: {error}", file=sys.stderr)
        return 2
    print("\n".join([*map(str, written), CAUTION]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
