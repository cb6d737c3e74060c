"""Readers of recordings, alignments, tables of speakers, trial lists and models of covariates."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile
import torch
from data import test_covariate_files as covariates
from data import test_matching_lists as trials
from data import test_phone_corpora as corpora
from data import test_voxceleb as recordings
from data import test_voxceleb_speakers as speakers
from fuzz.cases import Case

from paper_utils import audio_files
from paper_utils.data import (
    alignments,
    covariate_files,
    matching_lists,
    phone_corpora,
    subject_tables,
    voices_and_faces,
    voxceleb,
    voxceleb_speakers,
)
from paper_utils.data.clip_files import read_speech
from paper_utils.data.speech import Alignment
from paper_utils.data.voice_features import FrontEnd

RATE = 16_000
SOUNDS = {
    "a.wav": "PCM_16",
    "b.flac": "PCM_16",
    "c.ogg": "VORBIS",
    "d.aiff": "PCM_16",
    "e.mp3": "MPEG_LAYER_III",
    "f.wav": "FLOAT",
}
MEASURED = "speaker,sex,age,nose,chin\n1,F,30,1.5,2\n2,M,40,2.5,3\n"
POINTS = "speaker,x1,y1,z1,x2,y2,z2\n1,1,2,3,4,5,6\n2,1,2,3,4,5,7\n"
FRONT_END = FrontEnd(activity="none", minimum=1)


def tone(seconds: float = 0.4) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(RATE * seconds)) / RATE)


def sounds(folder: Path) -> None:
    for name, subtype in SOUNDS.items():
        soundfile.write(folder / name, tone(), RATE, subtype=subtype)


def textgrids(folder: Path) -> None:
    found = Alignment(("SIL", "P", "AA", "SIL"), np.array([0.0, 0.1, 0.2, 0.5, 0.6]))
    alignments.write_textgrid(folder / "long.TextGrid", alignments.textgrid_of(found))
    alignments.write_textgrid(folder / "short.TextGrid", alignments.textgrid_of(found), form="short", encoding="utf-16")
    alignments.write_phn(folder / "A.PHN", found)


def read_alignments(folder: Path) -> None:
    for form in ("long", "short"):
        path = folder / f"{form}.TextGrid"
        alignments.alignment_of(alignments.read_textgrid(path), words=None, source=str(path))
    for folding in ("arpabet", "39", "61"):
        alignments.read_phn(folder / "A.PHN", folding=folding)


def tables(folder: Path) -> None:
    (folder / "measured.csv").write_text(MEASURED)
    (folder / "points.csv").write_text(POINTS)
    (folder / "SPKRINFO.TXT").write_text(corpora.SPKRINFO)


def read_tables(folder: Path) -> None:
    subject_tables.read_measurements(folder / "measured.csv", covariates=("age",))
    subject_tables.read_landmarks(folder / "points.csv", unit="mm")
    phone_corpora.read_spkrinfo(folder / "SPKRINFO.TXT", ("FCJF0", "MABC1"))


def qls(folder: Path) -> None:
    count = 3 * phone_corpora.MASK_POINTS
    (folder / "qls.csv").write_text(f"ID,{','.join(map(str, range(count)))}\n12,{','.join(['1.5'] * count)}\n")


def covariate_models(folder: Path) -> None:
    covariates.write(folder / "model.json", covariates.MODEL)
    covariates.write(folder / "voice_gender.csv", covariates.VOICE)
    covariates.write(folder / "face_gender.csv", covariates.FACE)


def read_covariates(folder: Path) -> None:
    covariate_files.load_model(folder / "model.json")
    covariate_files.load_posteriors(folder / "face_gender.csv")
    covariate_files.load_pair(folder, "gender")


def voxceleb_folder(folder: Path) -> None:
    (folder / "vox1_meta.csv").write_text(speakers.META)
    (folder / "vox1_test.csv").write_text(speakers.LIST)
    recordings.record(folder / "wav" / "id10270" / "5r0d" / "00001.wav", recordings.speech(0.4, 1))
    (folder / "fbank" / "id10270").mkdir(parents=True)
    np.save(folder / "fbank" / "id10270" / "1.npy", np.ones((5, 64), np.float32))
    (folder / "fbank" / voxceleb.FEATURE_SETTINGS).write_text(json.dumps(asdict(FRONT_END), indent=1, sort_keys=True))


def read_voxceleb(folder: Path) -> None:
    voxceleb_speakers.read_split_list(folder / "vox1_test.csv", voxceleb_speakers.read_meta(folder / "vox1_meta.csv"))
    voxceleb.read_wav(folder / "wav", front_end=FRONT_END).features(0)
    stored = voxceleb.read_features(folder / "fbank")
    stored.features(0)
    stored.crops(torch.tensor([0]), generator=torch.Generator(), spans=voxceleb.Spans(window=5, shortest=3))


def lists(folder: Path) -> None:
    for name, text in {
        "match_g_v2f_2_val": trials.MATCH,
        "verify_f2v_test": trials.VERIFY,
        "reterival_v2f_test": trials.RETRIEVE,
    }.items():
        (folder / f"{name}.txt").write_text(text)


def read_trials(folder: Path) -> None:
    people = trials.table(trials.PEOPLE)
    matching_lists.read_matching(folder / "match_g_v2f_2_val.txt", people)
    matching_lists.read_verification(folder / "verify_f2v_test.txt", people)
    matching_lists.read_retrieval(folder / "reterival_v2f_test.txt", people)


def both_modalities(folder: Path) -> None:
    from fuzz.image_cases import pictures

    people = {"id10310": "Fanny_Ardant", "id10309": "Zulay_Henao"}
    lines = [f"{identifier}\t{name}\tf\tUSA\tdev\n" for identifier, name in people.items()]
    (folder / "vox1_meta.csv").write_text(speakers.META.splitlines()[0] + "\n" + "".join(lines))
    for row, (identifier, name) in enumerate(people.items()):
        recordings.record(folder / "wav" / identifier / "v" / "00001.wav", tone())
        pictures(folder, f"VGG_ALL_FRONTAL/{name}/{row + 1:08d}.jpg", size=(16, 16))


def read_both(folder: Path) -> None:
    for part in voices_and_faces.read(folder, ("train",), front_end=FRONT_END, size=(16, 16)).values():
        part.voices.features(0)
        part.faces.images(torch.tensor([0]))


CASES = (
    Case("sounds", sounds, lambda f: [audio_files.read_audio(f / name) for name in SOUNDS], tuple(SOUNDS), ("audio_files.read_audio",)),
    Case("speech", sounds, lambda f: read_speech(f / "b.flac", expected_rate=8000), ("b.flac",), ("data.clip_files.read_speech",)),
    Case("alignments", textgrids, read_alignments, ("long.TextGrid", "short.TextGrid", "A.PHN"), ("data.alignments.read_textgrid", "data.alignments.read_phn")),
    Case("timit", corpora.timit, lambda f: phone_corpora.read_timit(f, parts=("TRAIN",)), ("TRAIN/DR1/FCJF0/SA1.PHN", "TRAIN/DR1/FCJF0/SA1.WAV", "TRAIN/DR1/FCJF0/SA1.TXT"), ("data.phone_corpora.read_timit",)),
    Case("grids", corpora.grids, lambda f: phone_corpora.read_textgrids(f / "audio", f / "grids"), ("grids/anna/one.TextGrid", "audio/anna/one.wav"), ("data.phone_corpora.read_textgrids",)),
    Case("snippets", corpora.snippets, lambda f: phone_corpora.read_snippets(f, "woman", most=1), ("female/4/F000012_0.npy",), ("data.phone_corpora.read_snippets",)),
    Case("tables", tables, read_tables, ("measured.csv", "points.csv", "SPKRINFO.TXT"), ("data.subject_tables.read_measurements", "data.subject_tables.read_landmarks", "data.phone_corpora.read_spkrinfo")),
    Case("qls", qls, lambda f: phone_corpora.read_qls(f / "qls.csv"), ("qls.csv",), ("data.phone_corpora.read_qls",), share=0.2),
    Case("covariates", covariate_models, read_covariates, ("model.json", "voice_gender.csv", "face_gender.csv"),
         ("data.covariate_files.load_model", "data.covariate_files.load_posteriors", "data.covariate_files.load_pair")),
    Case("voxceleb", voxceleb_folder, read_voxceleb, ("vox1_meta.csv", "vox1_test.csv", "wav/id10270/5r0d/00001.wav", "fbank/id10270/1.npy", "fbank/front_end.json"),
         ("data.voxceleb_speakers.read_split_list", "data.voxceleb.read_wav", "data.voxceleb.read_features")),
    Case("trials", lists, read_trials, ("match_g_v2f_2_val.txt", "verify_f2v_test.txt", "reterival_v2f_test.txt"),
         ("data.matching_lists.read_matching", "data.matching_lists.read_verification", "data.matching_lists.read_retrieval")),
    Case("voices_and_faces", both_modalities, read_both, ("vox1_meta.csv",), ("data.voices_and_faces.read",)),
)  # fmt: skip
