"""Corpora that phones are read from: TIMIT, TextGrid folders, paper 10's own layout, faults."""

import dataclasses

import numpy as np
import pytest
import soundfile
import torch
from data.test_subject_tables import written

from paper_utils.audio_files import write_wav
from paper_utils.data import alignments
from paper_utils.data import phone_corpora as corpora
from paper_utils.data.phones import matched, phone_tokens
from paper_utils.data.speech import Alignment
from paper_utils.data.subject_tables import read_measurements

RATE = 16_000


# ----------------------------------------------------------------------------------------------------------- TIMIT


def sine(seconds):
    return 0.3 * np.sin(2 * np.pi * 300 * np.arange(round(RATE * seconds)) / RATE)


def timit(root, case=str.upper, seconds=0.6):
    """Two speakers with two sentences each, in the official format."""
    rows = "0 1600 h#\n1600 2400 pcl\n2400 3200 p\n3200 6400 aa\n6400 7200 dx\n7200 8000 iy\n8000 9600 h#\n"
    for region, speaker in (("dr1", "fcjf0"), ("dr4", "mabc1")):
        folder = root / case("train") / case(region) / case(speaker)
        folder.mkdir(parents=True)
        for sentence in ("sa1", "sx2"):
            soundfile.write(folder / case(f"{sentence}.wav"), sine(seconds), RATE, format="NIST", subtype="PCM_16")
            (folder / case(f"{sentence}.phn")).write_text(rows)
            (folder / case(f"{sentence}.txt")).write_text("0 9600 Papa leads.\n")
    return root


@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_timit_is_read_in_either_case(tmp_path, case):
    corpus = corpora.read_timit(timit(tmp_path, case), parts=("TRAIN",))
    assert corpus.speakers == ("FCJF0", "MABC1")
    assert corpus.sex.tolist() == [0, 1]
    assert len(corpus.voices) == 4
    assert corpus.texts[0] == "Papa leads."
    assert corpus.voices[0].alignment.phones == ("SIL", "P", "AA", "D", "IY", "SIL")
    np.testing.assert_allclose(corpus.voices[0].alignment.boundaries_s, [0, 0.1, 0.2, 0.4, 0.45, 0.5, 0.6], atol=1e-6)
    tokens = phone_tokens(corpus.voices)
    assert sorted(tokens.phone_names) == ["AA", "D", "IY", "P"]
    assert tokens.features.shape[1:] == (5, 40)
    assert corpora.read_timit(tmp_path, parts=("TRAIN",), folding="61").voices.phone_names[0].isupper()


def test_damaged_timit_is_named(tmp_path):
    root = timit(tmp_path / "good")
    with pytest.raises(FileNotFoundError, match="no folder TEST; found TRAIN"):
        corpora.read_timit(root)
    with pytest.raises(FileNotFoundError, match="expected the folder of TIMIT"):
        corpora.read_timit(tmp_path / "nowhere")
    long = timit(tmp_path / "long", seconds=0.5)
    with pytest.raises(ValueError, match=r"SA1.WAV: its alignment ends at 0.600 s, the recording at 0.500 s"):
        corpora.read_timit(long, parts=("TRAIN",))
    folder = root / "TRAIN" / "DR1" / "FCJF0"
    (folder / "SA1.PHN").write_text("0 1600 h#\n1500 2400 p\n")
    with pytest.raises(ValueError, match="begins before the line above it ends"):
        corpora.read_timit(root, parts=("TRAIN",))
    (folder / "SA1.PHN").write_text("0 1600 h#\n1600 2400 zz\n")
    with pytest.raises(ValueError, match="'zz' are not among the 61 labels"):
        corpora.read_timit(root, parts=("TRAIN",))
    (folder / "SA1.WAV").unlink()
    (folder / "SA1.PHN").write_text("0 1600 h#\n1600 2400 p\n")
    with pytest.raises(FileNotFoundError, match=r"there is no SA1.WAV beside it"):
        corpora.read_timit(root, parts=("TRAIN",))


SPKRINFO = """; comment
CJF0   F   1   TRN  03/03/86  06/17/60  5'4"   WHT  BS
ABC1   M   4   TRN  02/14/86  ??/??/??  6'0"   ???  HS   somebody said something
XYZ0   M   4   TST  02/14/86  01/01/50  ?'??"  WHT  HS
"""


def test_heights_of_timit_are_a_physical_target(tmp_path):
    table = corpora.read_spkrinfo(written(tmp_path, SPKRINFO, "SPKRINFO.TXT"), ("FCJF0", "MABC1"))
    assert table.names == ("height_cm",)
    assert table.subjects.tolist()[:2] == [0, 1]
    assert table.subjects[2] not in (0, 1)
    np.testing.assert_allclose(table.values[:2, 0], [64 * 2.54, 72 * 2.54])
    assert np.isnan(table.values[2, 0])
    assert table.covariates["age"][0] == pytest.approx(25.7, abs=0.1)
    assert np.isnan(table.covariates["age"][1])
    corpus = corpora.read_timit(timit(tmp_path / "timit"), parts=("TRAIN",))
    _, kept, lost = matched(phone_tokens(corpus.voices), table)
    assert len(kept) == 2
    assert lost == ()


def test_damaged_spkrinfo_is_named(tmp_path):
    with pytest.raises(ValueError, match="line 1: expected 'ID sex DR use"):
        corpora.read_spkrinfo(written(tmp_path, "CJF0 F 1 TRN 03/03/86\n", "s.txt"), ("FCJF0",))
    with pytest.raises(ValueError, match=r"none of its speakers .FCJF0, MABC1, MXYZ0 .... is in the corpus"):
        corpora.read_spkrinfo(written(tmp_path, SPKRINFO, "s.txt"), ("FAAA0",))


# ------------------------------------------------------------------------------------------------- TextGrid folders


def grids(root, labels=("", "P", "AA1", ""), seconds=0.6):
    alignment = Alignment(("SIL", "P", "AA", "SIL"), np.array([0.0, 0.1, 0.2, 0.5, 0.6]))
    grid = alignments.textgrid_of(alignment)
    rows = [
        dataclasses.replace(row, label=label) for row, label in zip(grid.tier("phones").intervals, labels, strict=True)
    ]
    grid = dataclasses.replace(grid, tiers=(alignments.Tier("phones", tuple(rows)),))
    for speaker in ("anna", "bert"):
        for folder in ("audio", "grids"):
            (root / folder / speaker).mkdir(parents=True, exist_ok=True)
        write_wav(root / "audio" / speaker / "one.wav", torch.from_numpy(sine(seconds)), RATE)
        alignments.write_textgrid(root / "grids" / speaker / "one.TextGrid", grid)
    return root / "audio", root / "grids"


def test_folders_of_textgrids_are_read(tmp_path):
    corpus = corpora.read_textgrids(*grids(tmp_path), sex={"anna": "F"})
    assert corpus.speakers == ("anna", "bert")
    assert corpus.sex.tolist() == [0, -1]
    assert corpus.voices[1].alignment.phones == ("SIL", "P", "AA", "SIL")
    table = read_measurements(written(tmp_path, "speaker,nose\nbert,2\nanna,1\n"), speakers=corpus.speakers)
    assert table.subjects.tolist() == [1, 0]


def test_unknown_phones_are_listed_with_counts_and_mapped_by_the_users_table(tmp_path):
    folders = grids(tmp_path, ("spn", "pʰ", "ɑː", ""))
    with pytest.raises(
        ValueError, match="not ARPABET: 'spn' \\(2 times\\), 'pʰ' \\(2 times\\), 'ɑː' \\(2 times\\); say what they are"
    ):
        corpora.read_textgrids(*folders)
    corpus = corpora.read_textgrids(*folders, phone_map={"pʰ": "P", "ɑː": "AA", "spn": None})
    assert corpus.voices[0].alignment.phones == ("SIL", "P", "AA", "SIL")
    with pytest.raises(ValueError, match="phone_map: 'ɑː': 'A': expected ARPABET"):
        corpora.read_textgrids(*folders, phone_map={"ɑː": "A"})


def test_damaged_textgrid_folders_are_named(tmp_path):
    audio, folder = grids(tmp_path, seconds=0.4)
    with pytest.raises(ValueError, match=r"one.wav: its alignment ends at 0.600 s, the recording at 0.400 s"):
        corpora.read_textgrids(audio, folder)
    path = folder / "anna" / "one.TextGrid"
    whole = path.read_text()
    path.write_text(whole.replace("xmin = 0.2", "xmin = 0.15"))
    with pytest.raises(ValueError, match=r"begins at 0.15 s, before the last one ends"):
        corpora.read_textgrids(audio, folder)
    path.write_text(whole.replace("xmin = 0.1", "xmin = -0.1"))
    with pytest.raises(ValueError, match="expected a time of 0 s or later"):
        corpora.read_textgrids(audio, folder)
    path.write_text(whole)
    (audio / "anna" / "one.wav").unlink()
    with pytest.raises(FileNotFoundError, match=r"no recording for the TextGrid anna.one.TextGrid"):
        corpora.read_textgrids(audio, folder)
    with pytest.raises(ValueError, match=r"expected <speaker>/<name>.TextGrid, found none"):
        corpora.read_textgrids(audio)


# ------------------------------------------------------------------------------------------- paper 10's own layout


def snippets(root):
    rng = np.random.default_rng(0)
    for sex, letter in (("female", "F"), ("male", "M")):
        for phoneme in ("4", "17"):
            folder = root / sex / phoneme
            folder.mkdir(parents=True)
            for subject in (12, 345):
                for take in range(2):
                    sound = (0.1 * rng.normal(size=8000 + 500 * take)).astype(np.float32)
                    np.save(folder / f"{letter}{subject:06d}_{take}.npy", sound)
    return root


def test_snippets_of_paper_10_are_read(tmp_path):
    tokens = corpora.read_snippets(snippets(tmp_path), "woman")
    assert tokens.phone_names == ("17", "4")
    assert len(tokens) == 8
    assert sorted(set(tokens.subjects.tolist())) == [12, 345]
    assert tokens.features.shape == (8, 32, 64)
    shown = (tokens.features != 0).any(2).sum(1)
    assert set(shown.tolist()) == {1 + 8000 // 512, 1 + 8500 // 512}
    inside = tokens.features[0, :16]
    torch.testing.assert_close(inside.mean(1), torch.zeros(16), atol=1e-5, rtol=0)
    torch.testing.assert_close(inside.std(1, correction=0), torch.ones(16), atol=1e-4, rtol=0)
    assert len(corpora.read_snippets(tmp_path, "man", ("4",), most=3)) == 3


def test_damaged_snippets_are_named(tmp_path):
    root = snippets(tmp_path)
    with pytest.raises(FileNotFoundError, match="expected tokens of a phoneme"):
        corpora.read_snippets(root, "woman", ("99",))
    with pytest.raises(ValueError, match="sex: expected one of woman, man, found 'female'"):
        corpora.read_snippets(root, "female")
    path = root / "female" / "4" / "F000012_0.npy"
    np.save(path, np.zeros((2, 5000)))
    with pytest.raises(ValueError, match=r"F000012_0.npy: expected finite floating-point samples"):
        corpora.read_snippets(root, "woman")
    np.save(path, np.zeros(100))
    with pytest.raises(ValueError, match="100 samples are too few for one window of 1024"):
        corpora.read_snippets(root, "woman")
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"not a readable .npy file"):
        corpora.read_snippets(root, "woman")
    path.rename(path.with_name("anna.npy"))
    with pytest.raises(ValueError, match=r"expected a name such as F000123_17.npy"):
        corpora.token_subject(path.with_name("anna.npy"))


def test_faces_of_paper_10_have_all_x_then_all_y_then_all_z(tmp_path):
    count = corpora.MASK_POINTS
    header = "ID," + ",".join(map(str, range(3 * count)))
    row = np.arange(3 * count)
    path = written(tmp_path, f"{header}\n12,{','.join(map(str, row))}\n", "qls.csv")
    subjects, points = corpora.read_qls(path)
    assert subjects.tolist() == [12]
    assert points[0, 0].tolist() == [0, count, 2 * count]
    assert points[0, -1].tolist() == [count - 1, 2 * count - 1, 3 * count - 1]
    with pytest.raises(ValueError, match="expected ID and 20370 coordinates, found 3 columns"):
        corpora.read_qls(written(tmp_path, "ID,0,1\n1,2,3\n", "short.csv"))
    with pytest.raises(FileNotFoundError, match=r"expected qls.csv"):
        corpora.read_qls(tmp_path / "none.csv")
