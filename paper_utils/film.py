"""A short film with sound: how it is cut, written to a file (mp4 or GIF), and kept in a notebook within a given size.

mp4 needs PyAV, the optional extra ``video``; without it films become GIFs and their sound stands beside them.
"""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from IPython.display import HTML
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from paper_utils import audio_files, files, training

FASTEST_GIF = 50  # frames a second; browsers show shorter delays than 20 ms as 100 ms
PALETTE_FRAMES = 16  # that the colours of a GIF are chosen from
# Sample rates that AAC and MP3 both know; sounds of another rate are resampled to 24 kHz.
SOUND_RATES, SOUND_RATE = (16_000, 22_050, 24_000, 32_000, 44_100, 48_000), 24_000
SOUND_BITS = 48_000  # a second, one channel of speech
VIDEO_QUALITIES = (24, 28, 32, 36)  # x264's rate factor, best first
# With macroblock trees (their assembler code) the bytes differ from run to run; everything else is repeatable.
VIDEO_OPTIONS = {"preset": "slow", "x264-params": "mbtree=0"}
GIF_QUALITIES = ((64, 1), (32, 1), (32, 2), (16, 2), (16, 3))  # colours, and every which frame is kept
SHRINKING = (1.0, 0.75, 0.5)  # of the side, after all qualities


@dataclass(frozen=True)
class Film:
    """Pictures at a fixed rate, with a sound of the same length or none.

    Parameters
    ----------
    pictures
        sRGB.
    fps
        Pictures a second.
    sound
        One channel in [-1, 1]; give it with `with_sound`, which fits its length.
    sample_rate
        Of the sound, Hz.
    note
        What was done to the sound, for the caption; empty if nothing.

    Raises
    ------
    ValueError
        If there are no pictures, or the rate is not a positive number.
    """

    pictures: UInt8[np.ndarray, "frames height width 3"]
    fps: float
    sound: Float[Tensor, " samples"] | None = None
    sample_rate: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        if self.pictures.ndim != 4 or not self.pictures.size:
            raise ValueError(
                f"film: expected pictures (frames, height, width, 3), at least one; found {self.pictures.shape}"
            )
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise ValueError(f"film: fps must be a positive number of frames a second, found {self.fps}")

    @classmethod
    def of(cls, pictures: Sequence[UInt8[np.ndarray, "height width 3"]], fps: float) -> Film:
        """From single pictures.

        Raises
        ------
        ValueError
            If there are none, or they differ in size; the message names the first that does.
        """
        if not len(pictures):
            raise ValueError("film: there are no frames")
        for number, picture in enumerate(pictures):
            if picture.shape != pictures[0].shape:
                raise ValueError(
                    f"film: frame {number} has shape {picture.shape}, the first one {pictures[0].shape}; frames must be of one size"
                )
        return cls(np.stack(list(pictures)), fps)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self) / self.fps

    def with_sound(self, samples: Float[Tensor, " samples"], sample_rate: int) -> Film:
        """The film with a sound from its first frame on, cut or filled with silence to the film's length; `note` tells of it.

        Raises
        ------
        ValueError
            If the sound is empty, not finite or outside [-1, 1], or the rate is not positive.
        """
        if samples.ndim != 1 or not len(samples) or sample_rate < 1:
            raise ValueError(
                f"sound: expected (samples,) and a rate in Hz, found {tuple(samples.shape)} at {sample_rate} Hz"
            )
        peak = float(samples.abs().max())
        if not peak <= 1:
            raise ValueError(f"sound: expected finite samples in [-1, 1], found a peak of {peak:g}")
        wanted, there = round(self.seconds * sample_rate), len(samples)
        note = ""
        if abs(there - wanted) > sample_rate / self.fps:
            done = "was cut" if there > wanted else "was filled with silence"
            note = f"The sound of {there / sample_rate:.2f} s {done} to the film's {self.seconds:.2f} s."
        fitted = torch.zeros(wanted, dtype=torch.float32)
        fitted[: min(wanted, there)] = samples[:wanted].detach().cpu()
        return replace(self, sound=fitted, sample_rate=sample_rate, note=note)

    def cut(self, begin_s: float, end_s: float) -> Film:
        """The part from `begin_s` to `end_s`, at least one frame, with its sound.

        Raises
        ------
        ValueError
            If the part is empty or reaches beyond the film.
        """
        first, last = round(begin_s * self.fps), round(end_s * self.fps)
        if not 0 <= first < last <= len(self):
            raise ValueError(
                f"cut: expected 0 <= begin < end <= {self.seconds:.2f} s, at least a frame, found {begin_s} to {end_s} s"
            )
        part = replace(self, pictures=self.pictures[first:last], sound=None, sample_rate=0)
        if self.sound is None:
            return part
        begin = round(first / self.fps * self.sample_rate)
        kept = self.sound[begin : begin + round(part.seconds * self.sample_rate)]
        return replace(part.with_sound(kept, self.sample_rate), note=self.note)

    def save(self, path: str | Path) -> list[Path]:
        """Write the film, whole or not at all, with a progress bar on a terminal.

        Parameters
        ----------
        path
            ``.mp4`` has the sound in it and needs PyAV. ``.gif`` has none: a sound is written beside it as ``.wav``. Without a suffix: mp4
            where PyAV is installed, else GIF.

        Returns
        -------
        list of Path
            Files written.

        Raises
        ------
        ValueError
            For another suffix.
        ModuleNotFoundError
            For ``.mp4`` without PyAV.
        """
        path = Path(path)
        if not path.suffix:
            path = path.with_suffix(".mp4" if has_video() else ".gif")
        if path.suffix.lower() == ".mp4":
            with files.atomic_path(path) as temporary:
                _write_mp4(temporary, self, VIDEO_QUALITIES[0])
            return [path]
        if path.suffix.lower() != ".gif":
            raise ValueError(f"{path}: expected a name that ends in .mp4 or .gif")
        with files.atomic_path(path) as temporary:
            _write_gif(temporary, self, *GIF_QUALITIES[0])
        if self.sound is None:
            return [path]
        beside = path.with_suffix(".wav")
        audio_files.write_wav(beside, self.sound, self.sample_rate)
        return [path, beside]

    def play(self, alt: str, *, width: int | None = None, kilobytes: float = 250) -> HTML:
        """A player that the notebook keeps: mp4 with sound where PyAV is installed, else a GIF and the sound below it.

        Quality falls step by step until the whole fits. Services that show notebooks without running HTML leave players out: draw a
        `draw_filmstrip` as well.

        Parameters
        ----------
        alt
            What is to be seen, in a sentence, for those who cannot see it.
        width
            Pixels on the page; the film's own width by default.
        kilobytes
            Most that the output adds to the notebook. A notebook here stays under 1,500 kB in all.

        Raises
        ------
        ValueError
            If there is no alternative text, or the film does not fit at the lowest quality.
        """
        if not alt.strip():
            raise ValueError("play: say in `alt` what is to be seen, for readers who cannot see it")
        encode = _video_player if has_video() else _gif_player
        for smaller in SHRINKING:
            film = _shrunk(self, smaller)
            for page in encode(film, html.escape(alt, quote=True), width or self.pictures.shape[2]):
                if len(page) <= kilobytes * 1000:
                    return HTML(page)
        raise ValueError(
            f"play: {len(self)} frames of {self.pictures.shape[2]} x {self.pictures.shape[1]} pixels do not fit {kilobytes:g} kB "
            f"(at the lowest quality {len(page) / 1000:.0f} kB); show a part of it with cut(begin_s, end_s), or save it as a file"
        )


# ------------------------------------------------------------------------------------------------------------- encoding


def has_video() -> bool:
    """Whether PyAV is installed, which writes mp4."""
    return importlib.util.find_spec("av") is not None


def _sound_for_players(film: Film) -> tuple[Tensor, int]:
    if film.sample_rate in SOUND_RATES:
        return film.sound, film.sample_rate
    return audio_files.resample(film.sound, film.sample_rate, SOUND_RATE).clamp(-1, 1), SOUND_RATE


def _write_mp4(target: Path | io.BytesIO, film: Film, quality: int) -> None:
    """H.264 and AAC, which browsers and telephones play; one thread, so that the same film gives the same bytes."""
    if not has_video():
        raise ModuleNotFoundError("mp4 needs PyAV: pip install 'paper-utils[video]', or save a name that ends in .gif")
    import av

    height, width = film.pictures.shape[1:3]
    even = np.pad(film.pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    rate = Fraction(film.fps).limit_denominator(1001)
    where: Any = target if isinstance(target, io.BytesIO) else str(target)
    # In a file the index comes first, so that a page can play it while it loads; memory cannot be rewritten like that.
    options = {} if isinstance(target, io.BytesIO) else {"movflags": "+faststart"}
    with av.open(where, "w", format="mp4", options=options) as container:
        video = container.add_stream("libx264", rate=rate, options={"crf": str(quality), **VIDEO_OPTIONS})
        video.width, video.height, video.pix_fmt = even.shape[2], even.shape[1], "yuv420p"
        video.codec_context.thread_count = 1
        if film.sound is not None:
            samples, sample_rate = _sound_for_players(film)
            speech = container.add_stream("aac", rate=sample_rate, layout="mono")
            speech.bit_rate = SOUND_BITS
            block = av.AudioFrame.from_ndarray(samples.numpy()[None], format="fltp", layout="mono")
            block.sample_rate, block.pts = sample_rate, 0
            container.mux([*speech.encode(block), *speech.encode(None)])
        for number, picture in enumerate(_watched(even)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = number, 1 / rate
            container.mux(video.encode(frame))
        container.mux(video.encode(None))


def _watched(pictures: Sequence[Any] | np.ndarray) -> Iterator[Any]:
    """The same, with a progress bar for people."""
    with training.progress(len(pictures)) as bar:
        bar.unit = "frame"
        for picture in pictures:
            yield picture
            bar.update()


def _gif_times(frames: int, fps: float, every: int) -> tuple[list[int], list[int]]:
    """Which frames a GIF keeps, and how long each is shown in ms; hundredths of a second, rounded so that no error adds up."""
    every *= max(math.ceil(fps / FASTEST_GIF / every), 1)
    kept = list(range(0, frames, every))
    edges = [round(100 * number / fps) for number in [*kept, frames]]
    return kept, [10 * max(after - before, 1) for before, after in pairwise(edges)]


def _write_gif(target: Path | io.BytesIO, film: Film, colours: int, every: int) -> None:
    """One palette for all frames and no dithering: what does not change costs nothing then."""
    kept, durations = _gif_times(len(film), film.fps, every)
    shown = kept[:: max(len(kept) // PALETTE_FRAMES, 1)]
    palette = Image.fromarray(np.concatenate(film.pictures[shown])).quantize(colours, dither=Image.Dither.NONE)
    reduced = (
        Image.fromarray(film.pictures[number]).quantize(palette=palette, dither=Image.Dither.NONE)
        for number in _watched(kept)
    )
    first = next(reduced)
    first.save(target, format="GIF", save_all=True, append_images=reduced, duration=durations, loop=0, disposal=1)


def _shrunk(film: Film, factor: float) -> Film:
    if factor == 1:
        return film
    height, width = (max(round(side * factor), 8) for side in film.pictures.shape[1:3])
    small = [
        np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX)) for picture in film.pictures
    ]
    return replace(film, pictures=np.stack(small))


def _encoded(write: Callable[..., None], *arguments: Any) -> str:
    buffer = io.BytesIO()
    write(buffer, *arguments)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _page(player: str, film: Film) -> str:
    caption = f"<figcaption>{html.escape(film.note)}</figcaption>" if film.note else ""
    return f'<figure style="margin:0">{player}{caption}</figure>'


def _video_player(film: Film, alt: str, width: int) -> Iterator[str]:
    for quality in VIDEO_QUALITIES:
        data = _encoded(_write_mp4, film, quality)
        # A film without sound runs by itself, again and again; one with sound waits for a click.
        manner = "controls" if film.sound is not None else "controls autoplay muted loop"
        yield _page(
            f'<video {manner} playsinline width="{width}" aria-label="{alt}" title="{alt}">'
            f'<source src="data:video/mp4;base64,{data}" type="video/mp4">{alt}</video>',
            film,
        )


def _gif_player(film: Film, alt: str, width: int) -> Iterator[str]:
    heard = ""
    if film.sound is not None:
        data = _encoded(_write_mp3, film)
        heard = f'<br><audio controls aria-label="sound of: {alt}" src="data:audio/mpeg;base64,{data}"></audio>'
    for quality in GIF_QUALITIES:
        data = _encoded(_write_gif, film, *quality)
        yield _page(f'<img alt="{alt}" width="{width}" src="data:image/gif;base64,{data}">{heard}', film)


def _write_mp3(target: io.BytesIO, film: Film) -> None:
    samples, rate = _sound_for_players(film)
    soundfile.write(
        target,
        samples.numpy(),
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        bitrate_mode="CONSTANT",
        compression_level=0.9,
    )
