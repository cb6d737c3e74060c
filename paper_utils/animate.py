"""A talking face for your own recording: writes a film of what the networks of paper 04 make of the sound.

    python -m paper_utils.animate recording.wav
    python -m paper_utils.animate recording.wav --person 3 --seed 1 --output face.gif
    python -m paper_utils.animate recording.wav --official checkpoints --assets assets

Another seed gives another upper face for the same words; without chance (``--greedy``) every label is the most probable one.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils import training
from paper_utils.animation import Framing, mesh_film
from paper_utils.data.clip_files import read_speech
from paper_utils.data.multiface import read_assets
from paper_utils.film import Film
from paper_utils.methods import meshtalk
from paper_utils.network_files import ModelFileError
from paper_utils.studies.meshtalk import load_speaker, model_path
from paper_utils.world.face import head
from paper_utils.world.talking_faces import on_head

CHUNK_S = 0.5  # of sound between two steps of the progress bar
LOUDEST = 0.9  # of the film's sound


@dataclass(frozen=True)
class Talker:
    """Networks and one face.

    Parameters
    ----------
    networks
        What speaks.
    template
        Face at rest.
    faces
        Triangles to draw.
    head
        The whole head of the same person that follows the template's vertices, for networks of the synthetic world; else None.
    """

    networks: meshtalk.MeshTalk
    template: Float[Tensor, "vertices 3"]
    faces: Int[Tensor, "triangles 3"]
    head: Float[Tensor, "head_vertices 3"] | None = None

    def shown(self, meshes: Float[Tensor, "time vertices 3"]) -> Float[Tensor, "time shown 3"]:
        """What is drawn of the meshes."""
        return meshes if self.head is None else on_head(meshes - self.template, self.head)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m paper_utils.animate", description=__doc__.splitlines()[0])
    parser.add_argument("recording", type=Path, help="WAV, FLAC, Ogg, MP3 or AIFF; one speaker")
    parser.add_argument("--output", type=Path, help="the film, .mp4 or .gif (default: NAME_face in the working folder)")
    parser.add_argument("--person", type=int, default=0, help="which of the faces at rest, from 0")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--greedy", action="store_true", help="no chance: the most probable label at every step")
    parser.add_argument("--size", type=int, default=320, help="pixels a side")
    parser.add_argument(
        "--checkpoint", type=Path, help="networks of the study of paper 04 (default: those of notebook 04)"
    )
    parser.add_argument("--official", type=Path, help="folder of the authors' three checkpoints")
    parser.add_argument(
        "--assets", type=Path, help="with --official: folder of the release's assets (face_template.obj ...)"
    )
    return parser.parse_args(arguments)


def find_talker(options: argparse.Namespace) -> Talker:
    """Networks and face that the command line asks for.

    Raises
    ------
    FileNotFoundError
        If nothing was trained yet; the message says how to train.
    ValueError
        If there is no such person, or ``--official`` comes without ``--assets``.
    """
    if options.official:
        if options.assets is None:
            raise ValueError(
                "--official: the checkpoints hold no face; give --assets, the folder with face_template.obj"
            )
        assets = read_assets(options.assets)
        return Talker(meshtalk.load_official(options.official), assets.template, assets.mesh.faces)
    path = options.checkpoint or model_path()
    if not path.is_file():
        raise FileNotFoundError(
            f"there are no trained networks yet ({path}); train them in about half a minute with "
            "`python -m paper_utils.train 04 --only 'step 2'`, or give --checkpoint or --official"
        )
    found = load_speaker(path)
    if not 0 <= options.person < len(found.templates):
        raise ValueError(f"--person: expected 0 to {len(found.templates) - 1}, found {options.person}")
    template = found.templates[options.person]
    if len(found.heads):
        return Talker(found.networks, template, head(2).faces, found.heads[options.person])
    if not len(found.faces):
        raise ValueError(
            f"{path}: its mesh has no triangles to draw; train with the assets of the release in data_root"
        )
    return Talker(found.networks, template, found.faces)


def speak(
    talker: Talker, samples: Float[Tensor, " samples"], generator: torch.Generator | None
) -> Float[Tensor, "time vertices 3"]:
    """Meshes for a recording at the networks' rate, with a progress bar.

    Raises
    ------
    ValueError
        If the recording is silent or shorter than a video frame.
    """
    speaker = meshtalk.Speaker(
        talker.networks, talker.template[None], level=samples[None].abs().mean(1), generator=generator
    )
    pieces = samples.split(round(CHUNK_S * talker.networks.windows.mel.sample_rate))
    meshes = []
    with training.progress(len(pieces)) as bar:
        for piece in pieces:
            meshes.append(speaker.feed(piece[None])[0])
            bar.update()
    return torch.cat([*meshes, speaker.finish()[0]])


def film_of_file(talker: Talker, recording: Path, *, generator: torch.Generator | None, size: int = 320) -> Film:
    """The film for a recording on disk, with its sound. Channels are averaged.

    Raises
    ------
    FileNotFoundError, ValueError
        As `audio_files.read_audio` and `speak`.

    Warns
    -----
    UserWarning
        If the recording was resampled, or is shorter than one window of the networks.
    """
    rate = talker.networks.windows.mel.sample_rate
    samples = read_speech(recording, sample_rate=rate, expected_rate=rate)
    meshes = talker.shown(speak(talker, samples, generator))
    framing = Framing.around(meshes, yaw_deg=15.0)
    film = mesh_film(meshes, talker.faces, float(talker.networks.windows.fps), framing=framing, size=size)
    return film.with_sound(samples * (LOUDEST / max(float(samples.abs().max()), LOUDEST)), rate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns
    -------
    int
        0: the film was written; 1: a checkpoint that cannot be used; 2: something about the recording or an argument is wrong. The message says
        what.
    """
    options = parse(arguments)
    output = options.output or Path(f"{options.recording.stem}_face")
    try:
        talker = find_talker(options)
        generator = None if options.greedy else torch.Generator().manual_seed(options.seed)
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always", UserWarning)
            film = film_of_file(talker, options.recording, generator=generator, size=options.size)
        written = film.save(output)
    except ModelFileError as error:
        print(f"paper_utils.animate: {error}", file=sys.stderr)
        return 1
    except (ValueError, OSError, ModuleNotFoundError) as error:
        print(f"paper_utils.animate: {error}", file=sys.stderr)
        return 2
    for note in notes:
        print(f"note: {note.message}")
    print("\n".join(map(str, written)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
