"""Single phones and who said them: tokens with features, cut out of recordings with alignments, and matched with measurements of the speakers.

Corpora (`data.phone_corpora`) and the synthetic world give the same two types, `PhoneTokens` and `data.subject_tables.SubjectTable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from paper_utils.audio import standardise_frames
from paper_utils.data.speech import SILENCE, Voices
from paper_utils.data.subject_tables import SubjectTable

# How far an alignment may reach past its recording: one analysis window. Aligners round to frames.
TOLERANCE_S = 0.025


@dataclass(frozen=True)
class PhoneTokens:
    """Phones cut out of speech, every one with the same number of frames.

    Parameters
    ----------
    features
        Log-mel frames without their level: mean 0 and standard deviation 1 over the bands of each frame.
    phones
        Index into `phone_names`.
    subjects
        Integer name of each token's speaker.
    seconds
        How long each token lasts.
    phone_names
        As the corpus calls them.
    name
        Where they come from.

    Raises
    ------
    ValueError
        If there are no tokens, lengths differ, a phone is out of range or a feature is not finite.
    """

    features: Float[Tensor, "tokens frames bands"]
    phones: Int[Tensor, " tokens"]
    subjects: Int[Tensor, " tokens"]
    seconds: Float[Tensor, " tokens"]
    phone_names: tuple[str, ...]
    name: str

    def __post_init__(self) -> None:
        count = len(self.features)
        if count == 0:
            raise ValueError(f"{self.name}: there are no phones")
        if not count == len(self.phones) == len(self.subjects) == len(self.seconds):
            raise ValueError(
                f"{self.name}: {count} tokens with {len(self.phones)} phones, {len(self.subjects)} subjects, {len(self.seconds)} durations"
            )
        if int(self.phones.min()) < 0 or int(self.phones.max()) >= len(self.phone_names):
            raise ValueError(f"{self.name}: phones must be indices of the {len(self.phone_names)} phone_names")
        if not torch.isfinite(self.features).all():
            raise ValueError(f"{self.name}: features hold NaN or infinite values")

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: Tensor) -> PhoneTokens:
        """The chosen tokens, by mask or index."""
        return replace(
            self, **{name: getattr(self, name)[rows] for name in ("features", "phones", "subjects", "seconds")}
        )

    def of(self, phone: str) -> PhoneTokens:
        """The tokens of one phone.

        Raises
        ------
        ValueError
            If there are none; the message lists the phones that there are.
        """
        present = [self.phone_names[code] for code in self.phones.unique().tolist()]
        if phone not in present:
            raise ValueError(f"{self.name}: no token of {phone!r}; there are {' '.join(present)}")
        return self.take(self.phones == self.phone_names.index(phone))

    def subject_means(
        self, subjects: Int[np.ndarray, " subjects"]
    ) -> tuple[Float[np.ndarray, "phones subjects values"], Int[np.ndarray, "phones subjects"]]:
        """Mean features of each subject's tokens of each phone, and how many there are; NaN where there is none.

        Parameters
        ----------
        subjects
            Whose, and in which order.
        """
        order = np.argsort(subjects)
        place = np.searchsorted(subjects[order], self.subjects.numpy())
        place = np.minimum(place, len(subjects) - 1)
        known = subjects[order][place] == self.subjects.numpy()
        cell = self.phones.numpy() * len(subjects) + order[place]
        shape = len(self.phone_names), len(subjects)
        count = np.bincount(cell[known], minlength=shape[0] * shape[1])
        flat = self.features.flatten(1)[torch.from_numpy(known)].double()
        total = torch.zeros(len(count), flat.shape[1], dtype=torch.float64)
        total.index_add_(0, torch.from_numpy(cell[known]), flat)
        means = total.numpy() / np.where(count > 0, count, np.nan)[:, None]
        return means.reshape(*shape, -1), count.reshape(shape)


def phone_tokens(
    voices: Voices, frames: int = 5, *, layout: str = "stretched", phones: Sequence[str] | None = None
) -> PhoneTokens:
    """Cut recordings into phones; silence is left out.

    Parameters
    ----------
    voices
        Recordings with alignments.
    frames
        Of each token.
    layout
        ``"stretched"``: at equal parts of the phone, so that neither its length nor the rate of speech can be read off. ``"padded"``: frame after
        frame from its beginning, cut or filled with zeros, as paper 10's release does.
    phones
        Only these. By default all that occur.

    Raises
    ------
    ValueError
        If the layout is unknown, a recording has no phones, one of them reaches past its sound, or a phone that was asked for never occurs.
    """
    if layout not in ("stretched", "padded"):
        raise ValueError(f"layout: expected 'stretched' or 'padded', found {layout!r}")
    if frames < 1:
        raise ValueError(f"frames: expected at least 1, found {frames}")
    recording, begin, end = _spans(voices)
    code = voices.phones.long()
    names = [name for name in voices.phone_names if name != SILENCE] if phones is None else list(phones)
    missing = [name for name in names if name not in voices.phone_names]
    lookup = torch.tensor([names.index(name) if name in names else -1 for name in voices.phone_names])
    kept = lookup[code] >= 0
    found = set(lookup[code][kept].tolist())
    if phones is not None and (missing or len(found) < len(names)):
        absent = [name for i, name in enumerate(names) if name in missing or i not in found]
        raise ValueError(f"{voices.name}: no token of {', '.join(absent)}; leave them out of phones")
    recording, begin, end, label = recording[kept], begin[kept], end[kept], lookup[code][kept]
    first, length = voices.starts[recording], voices.starts.diff()[recording]
    hop_s = voices.hop_ms / 1000
    if layout == "stretched":
        share = (torch.arange(frames, dtype=torch.float64) + 0.5) / frames
        at = (begin[:, None] + share * (end - begin)[:, None]) / hop_s
        low = at.floor().long()
        part = (at - low).float()[..., None]
        rows = [first[:, None] + torch.minimum(low + step, length[:, None] - 1) for step in (0, 1)]
        features = standardise_frames(torch.lerp(voices.log_mel[rows[0]], voices.log_mel[rows[1]], part))
    else:
        first_frame, past = (
            (times / hop_s - 1e-3).ceil().long() for times in (begin, end)
        )  # boundaries are single precision
        low = first_frame[:, None] + torch.arange(frames)
        inside = (low < past[:, None]) & (low < length[:, None])
        rows = first[:, None] + torch.minimum(low, length[:, None] - 1)
        features = standardise_frames(voices.log_mel[rows]) * inside[..., None]
    used = sorted(set(label.tolist()))
    compact = torch.full((len(names),), -1).scatter(0, torch.tensor(used), torch.arange(len(used)))
    return PhoneTokens(
        features.contiguous(),
        compact[label],
        voices.identities[recording].long(),
        (end - begin).float(),
        tuple(names[i] for i in used),
        voices.name,
    )


def _spans(voices: Voices) -> tuple[Tensor, Tensor, Tensor]:
    """Recording, begin and end in seconds of every phone."""
    unknown = int((voices.phone_starts.diff() == 0).sum())
    if unknown:
        raise ValueError(
            f"{voices.name}: the phones of {unknown} of {len(voices)} recordings are not known; align them"
        )
    recording = torch.repeat_interleave(torch.arange(len(voices)), voices.phone_starts.diff())
    at = torch.arange(len(voices.phones)) + recording
    begin, end = voices.boundaries_s[at].double(), voices.boundaries_s[at + 1].double()
    over = end - voices.starts.diff()[recording] * (voices.hop_ms / 1000)
    if float(over.max()) > TOLERANCE_S + voices.hop_ms / 1000:
        worst = int(recording[over.argmax()])
        raise ValueError(
            f"{voices.name}: recording {worst}: its alignment ends {float(over.max()):.3f} s past its sound; do they belong together?"
        )
    return recording, begin, end


def matched(
    tokens: PhoneTokens, table: SubjectTable, *, missing: str = "raise"
) -> tuple[PhoneTokens, SubjectTable, tuple[str, ...]]:
    """Speech and measurements of the people who have both.

    Parameters
    ----------
    tokens, table
        Of any people.
    missing
        ``"raise"`` if a speaker has no measurements; ``"drop"`` leaves such speakers out and names them. (The release of paper 10 gives them the
        target 0.) People with measurements who do not speak are always left out.

    Returns
    -------
    tuple
        Tokens, table, and the speakers left out.

    Raises
    ------
    ValueError
        If speakers are missing in the table and may not be dropped, or nobody is left.
    """
    if missing not in ("raise", "drop"):
        raise ValueError(f"missing: expected 'raise' or 'drop', found {missing!r}")
    speaking = np.unique(tokens.subjects.numpy())
    complete = table.take(np.isfinite(table.values).all(1))
    lost = tuple(str(number) for number in np.setdiff1d(speaking, complete.subjects))
    if lost and missing == "raise":
        raise ValueError(
            f"{tokens.name}: {len(lost)} of {len(speaking)} speakers have no (complete) measurements in {table.name}: "
            f"{', '.join(lost[:10])}{' ...' if len(lost) > 10 else ''}; measure them, or pass missing='drop'"
        )
    kept = complete.take(np.isin(complete.subjects, speaking))
    if len(kept) == 0:
        raise ValueError(f"{tokens.name} and {table.name} have no subject in common; are the subjects named alike?")
    rows = torch.from_numpy(np.isin(tokens.subjects.numpy(), kept.subjects))
    return tokens.take(rows), kept, lost
