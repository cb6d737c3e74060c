"""Lists and folders of face images in the official layouts, label noise, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from paper_utils.data import face_lists as fl
from paper_utils.data.face_images import ImageError

SIZE = (6, 5)
SIX = [
    ("n2/b.png", "n2"),
    ("n1/a.png", "n1"),
    ("n10/c.jpg", "n10"),
    ("n1/d.png", "n1"),
    ("n2/e.png", "n2"),
    ("x/f.png", "n10"),
]


def picture(path: Path, level: int, size: tuple[int, int] = SIZE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), level, np.uint8)).save(path)


def write(path: Path, *lines: str, end: str = "\n", encoding: str = "utf-8") -> Path:
    path.write_bytes("".join(line + end for line in lines).encode(encoding))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six pictures of grey level 10, 20, ..."""
    for index, (path, _) in enumerate(SIX):
        picture(tmp_path / "train" / path, 10 * (index + 1))
    return tmp_path / "train"


def levels(faces, rows=None) -> list[int]:
    rows = torch.arange(len(faces)) if rows is None else torch.as_tensor(rows)
    return ((faces.images(rows).mean(dim=(1, 2, 3)) + 1) * 127.5).round().int().tolist()


# ------------------------------------------------------------------------------------------------------ training lists


@pytest.mark.parametrize(("end", "gap"), [("\n", " "), ("\r\n", " "), ("\n", "\t")])
def test_training_lists_of_v0_and_iclr_number_people_by_their_sorted_names(root, end, gap):
    listing = write(root / "six_train_ann.txt", *(f"{path}{gap}{name}" for path, name in SIX), end=end)
    faces = fl.read_training_list(listing, root, size=SIZE)
    assert faces.name == "six"
    assert faces.identity_names == ("n1", "n10", "n2")
    assert faces.identities.tolist() == [2, 0, 1, 0, 2, 1]
    assert levels(faces) == [10, 20, 30, 40, 50, 60]
    assert levels(faces, [5, 0]) == [60, 10]


def test_training_lists_of_main_take_the_folder_as_the_person(root):
    faces = fl.read_lst(write(root / "six.lst", *(path for path, _ in SIX)), root, size=SIZE)
    assert faces.identity_names == ("n1", "n10", "n2", "x")
    assert faces.identities.tolist() == [2, 0, 1, 0, 2, 3]
    deep = fl.read_lst(write(root.parent / "deep.lst", *(f"train/{path}" for path, _ in SIX)), root.parent, size=SIZE)
    assert deep.identity_names == ("train/n1", "train/n10", "train/n2", "train/x")


def test_a_list_may_begin_with_a_byte_order_mark_and_name_people_in_any_script(root):
    listing = write(root / "a.txt", "n1/a.png Žofie", "n2/b.png 明", encoding="utf-8-sig")
    assert fl.read_training_list(listing, root, size=SIZE).identity_names == ("Žofie", "明")


def test_folders_are_people_and_what_is_no_image_is_listed(root):
    picture(root / "n1" / "z.JPG", 70)
    (root / "n1" / "Thumbs.db").write_bytes(b"x")
    (root / "n2" / "notes").mkdir()
    (root / "empty").mkdir()
    write(root / "list.txt", "x")
    faces = fl.read_folder(root, size=SIZE)
    assert faces.identity_names == ("n1", "n10", "n2", "x")
    assert faces.identities.tolist() == [0, 0, 0, 1, 2, 2, 3]
    assert levels(faces) == [20, 40, 70, 30, 10, 50, 60]
    assert faces.skipped == ("empty/ (no image)", "list.txt", "n1/Thumbs.db", "n2/notes")


def test_the_same_pictures_by_list_and_by_folder_are_the_same_data(root):
    by_folder = fl.read_folder(root, size=SIZE)
    by_list = fl.read_lst(write(root.parent / "sorted.lst", *sorted(path for path, _ in SIX)), root, size=SIZE)
    assert by_folder.fingerprint == by_list.fingerprint
    assert torch.equal(by_folder.load().images, by_list.load().images)


# ----------------------------------------------------------------------------------------------------------- pair lists


@pytest.mark.parametrize("ending", ["_ann.txt", "_pairs.lst"])
def test_pair_lists_of_all_branches_give_rows_of_distinct_sorted_images(root, ending):
    lines = ["1 n1/a.png n1/d.png", "0 n1/a.png n2/b.png", "0 n10/c.jpg n2/b.png", "1 n2/b.png n2/e.png"]
    for name in fl.PAIR_LISTS:
        write(root / f"{name}{ending}", *lines)
    lists = fl.read_validation(root, size=SIZE)
    assert tuple(lists) == ("lfw", "agedb_30", "calfw", "cplfw", "combined")
    pairs = lists["agedb_30"]
    assert pairs.name == "agedb_30"
    assert pairs.same.tolist() == [True, False, False, True]
    assert levels(pairs.faces) == [20, 40, 30, 10, 50]
    assert levels(pairs.faces, pairs.first) == [20, 20, 30, 10]
    assert levels(pairs.faces, pairs.second) == [40, 10, 10, 50]


def test_absent_pair_lists_are_all_named(root):
    write(root / "lfw_ann.txt", "1 n1/a.png n1/d.png", "0 n1/a.png n2/b.png")
    with pytest.raises(
        FileNotFoundError, match=r"no pair list for agedb_30, calfw, cplfw, combined; expected NAME_ann\.txt or"
    ):
        fl.read_validation(root)
    assert list(fl.read_validation(root, ["lfw"], size=SIZE)) == ["lfw"]


def lfw(root: Path, *, gap: str = "\t", head: str | None = None, swap: bool = False) -> Path:
    people = [f"Person_{letter}" for letter in "ABCD"]
    for index, name in enumerate(people):
        for number in (1, 2, 13):
            picture(root / name / f"{name}_{number:04d}.jpg", 20 * index + number, (250, 250))
    lines = [head or gap.join(["2", "2"])]
    for fold in (people[:2], people[2:]):
        kinds = [[gap.join([name, "1", "13"]) for name in fold]]
        kinds.append([gap.join([fold[0], str(n), fold[1], "2"]) for n in (1, 2)])
        lines += [line for kind in (kinds[::-1] if swap else kinds) for line in kind]
    return write(root.parent / "pairs.txt", *lines)


@pytest.mark.parametrize("gap", ["\t", " "])
def test_lfw_pairs_keep_the_order_and_number_of_folds(tmp_path, gap):
    pairs = fl.read_lfw_pairs(lfw(tmp_path / "lfw", gap=gap), tmp_path / "lfw")
    assert pairs.folds == 2
    assert pairs.same.tolist() == [True, True, False, False] * 2
    names = pairs.faces.source.paths
    firsts = ["A/Person_A_0001", "B/Person_B_0001", "A/Person_A_0001", "A/Person_A_0002"]
    assert names[pairs.first].tolist()[:4] == [f"Person_{path}.jpg" for path in firsts]
    assert names[pairs.second].tolist()[2:4] == ["Person_B/Person_B_0002.jpg"] * 2
    assert names[pairs.second[0]] == "Person_A/Person_A_0013.jpg"
    assert abs(levels(pairs.faces, [pairs.second[5]])[0] - (60 + 13)) <= 1


def test_development_lists_of_lfw_state_only_the_pairs(tmp_path):
    lfw(tmp_path / "lfw")
    listing = write(tmp_path / "pairsDevTest.txt", "1", "Person_A\t1\t2", "Person_A\t1\tPerson_B\t2")
    pairs = fl.read_lfw_pairs(listing, tmp_path / "lfw")
    assert (pairs.folds, pairs.same.tolist()) == (1, [True, False])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": "2\t3"}, "line 1 promises 2 folds of 3 same and 3 different pairs, 12 in all; found 8"),
        ({"head": "two folds"}, "line 1 is 'two folds'; expected the number of folds"),
        ({"head": "0\t300"}, "line 1 is '0.*300'; expected the number of folds"),
        ({"swap": True}, "line 2 is 'Person_A.*; expected 'name n1 n2' .same person. at this place"),
    ],
)
def test_lfw_lists_that_contradict_themselves_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        fl.read_lfw_pairs(lfw(tmp_path / "lfw", **changes), tmp_path / "lfw")


@pytest.mark.parametrize(
    "line", ["Person_A\t1", "Person_A\t1\tx", "Person_A\t0\t1", "Person_A\t1\t-2", "Person_A\t1\t2\t3"]
)
def test_a_damaged_line_of_lfw_is_named(tmp_path, line):
    lfw(tmp_path / "lfw")
    listing = write(tmp_path / "p.txt", "1\t1", line, "Person_A\t1\tPerson_B\t2")
    with pytest.raises(ValueError, match=r"p\.txt: line 2 is 'Person_A"):
        fl.read_lfw_pairs(listing, tmp_path / "lfw")


# ---------------------------------------------------------------------------------------------------------- label noise


@given(st.integers(2, 40), st.floats(0, 1), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_label_noise_changes_only_redrawn_labels_and_repeats_with_its_seed(classes, ratio, seed):
    labels = torch.arange(200) % classes
    one, two = (fl.redraw_labels(labels, classes, ratio, generator=torch.Generator().manual_seed(seed)) for _ in "ab")
    assert torch.equal(one.identities, two.identities)
    assert not (one.changed & ~one.redrawn).any()
    assert torch.equal(one.changed, one.identities != labels)
    assert 0 <= int(one.identities.min()) <= int(one.identities.max()) < classes
    assert one.effective_rate == one.changed.double().mean()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.6, 1.0])
def test_the_effective_rate_is_that_of_the_official_rule(ratio):
    classes, n = 4, 40_000
    # People have 1, 2, 3, ... shares of the images: classes are drawn evenly all the same.
    labels = torch.repeat_interleave(torch.arange(classes), torch.tensor([4000, 8000, 12000, 16000]))
    noise = fl.redraw_labels(labels, classes, ratio, generator=torch.Generator().manual_seed(0))
    spread = 4 * (ratio * (1 - ratio) / n) ** 0.5
    assert abs(noise.redrawn.double().mean() - ratio) <= spread
    assert noise.expected_rate == pytest.approx(ratio * 0.75)
    assert abs(noise.effective_rate - noise.expected_rate) <= 4 * (0.25 / n) ** 0.5
    drawn = noise.identities[noise.redrawn].bincount(minlength=classes) / max(int(noise.redrawn.sum()), 1)
    assert ratio == 0 or (drawn - 0.25).abs().max() < 0.02


def test_noisy_data_says_so_and_has_another_fingerprint(root):
    clean = fl.read_folder(root, size=SIZE)
    noisy, noise = fl.with_label_noise(clean, 0.9, generator=torch.Generator().manual_seed(1))
    assert torch.equal(noisy.identities, noise.identities)
    assert noise.changed.any()
    assert noisy.fingerprint != clean.fingerprint
    assert noisy.name == f"train, 90% of labels drawn anew ({noise.effective_rate:.1%} wrong)"
    assert torch.equal(noisy.load().images, clean.load().images)
    with pytest.raises(ValueError, match=r"ratio: expected a share of labels in \[0, 1\], found 60"):
        fl.with_label_noise(clean, 60.0, generator=torch.Generator())
    with pytest.raises(ValueError, match=r"identities: expected labels in 0\.\.1"):
        fl.redraw_labels(torch.tensor([0, 2]), 2, 0.5, generator=torch.Generator())


# --------------------------------------------------------------------------------------------------------------- faults


def test_missing_images_are_all_listed_and_the_first_few_named(root):
    listing = write(root / "p.txt", "1 n1/a.png n1/d.png", *(f"0 n1/a.png lost/{i}.png" for i in range(40)))
    with pytest.raises(fl.MissingImagesError, match=r"p\.txt: 40 of the images it names are not in .*lost/0\.png, lost/1\.png.* and 35 more") as fault:  # fmt: skip
        fl.read_pair_list(listing, root, size=SIZE)
    assert set(fault.value.missing) == {f"lost/{i}.png" for i in range(40)}
    assert len(fl.read_pair_list(listing, root, size=SIZE, check_files=False)) == 41
    (root / "n1" / "a.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the images .*: n1/a\.png;"):
        fl.read_lst(write(root / "six.lst", *(path for path, _ in SIX)), root, size=SIZE)
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder"):
        fl.read_lst(root / "six.lst", root / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere: no such folder"):
        fl.read_folder(root / "nowhere")


@pytest.mark.parametrize("path", ["../secret.png", "n1/../../secret.png", "/etc/passwd", "n1\\a.png", ".."])
@pytest.mark.parametrize("check_files", [True, False])
def test_paths_that_leave_the_root_are_refused(root, path, check_files):
    picture(root.parent / "secret.png", 0)
    message = "1 paths lead out of .* or are not relative"
    training = write(root / "t.txt", "n1/a.png n1", f"{path} n2")
    with pytest.raises(ValueError, match=message):
        fl.read_training_list(training, root, size=SIZE, check_files=check_files)
    with pytest.raises(ValueError, match=message):
        fl.read_pair_list(write(root / "p.txt", f"1 n1/a.png {path}"), root, size=SIZE, check_files=check_files)


def test_names_with_two_dots_inside_are_no_escape(root):
    picture(root / "n..1" / "a..png.png", 90)
    faces = fl.read_lst(write(root / "a.lst", "n..1/a..png.png", "n1/a.png"), root, size=SIZE)
    assert levels(faces) == [90, 20]


def test_one_person_alone_is_refused(root):
    with pytest.raises(ValueError, match=r"at least two identities, found only \['n1'\]"):
        fl.read_lst(write(root / "a.lst", "n1/a.png", "n1/d.png"), root, size=SIZE)
    for name in ("n2", "n10", "x"):
        for file in (root / name).iterdir():
            file.unlink()
    (root / "a.lst").unlink()
    with pytest.raises(ValueError, match="at least two identities"):
        fl.read_folder(root, size=SIZE)
    with pytest.raises(ValueError, match=r"found no image in any of its folders \(2 other entries: a\.png, d\.png\)"):
        fl.read_folder(root / "n1", size=SIZE)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"a\.txt: is empty \(0 bytes\); expected"),
        (b"\n \n", r"a\.txt: is empty \(3 bytes\)"),
        (b"n1/a.png n1\nn2/\xff.png n2\n", r"a\.txt: line 2 is not UTF-8 .* at byte 15\); convert"),
        ("n1/a.png n1\n".encode("utf-16"), r"a\.txt: line 1 is not UTF-8"),
        (b"n1/a.png n1\nn2/b\0.png n2\n", r"a\.txt: line 2 holds a null character"),
        (b"n1/a.png n1\n\nn2/b.png n2\n", r"a\.txt: line 2 is empty"),
        (b"n1/a.png n1\nn2/b.png\n", r"a\.txt: line 2 has 1 fields: 'n2/b\.png'"),
        (b"n1/a b.png n1\n", r"a\.txt: line 1 has 3 fields"),
    ],
)
def test_damaged_training_lists_are_named_with_the_line(root, content, message):
    (root / "a.txt").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        fl.read_training_list(root / "a.txt", root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 n1/a.png n1/d.png", r"line 2 has label '2'; expected 1 \(same person\) or 0"),
        ("-1 n1/a.png n1/d.png", "line 2 has label '-1'"),
        ("1.0 n1/a.png n1/d.png", r"line 2 has label '1\.0'"),
        ("n1/a.png n1/d.png 1", "line 2 has label 'n1/a.png'"),
        ("1 n1/a.png", "line 2 has 2 fields"),
        ("1 n1/a.png n1/d.png x", "line 2 has 4 fields"),
        ("0 n1/a.png n2/b.png", "all 2 pairs are different; verification needs both"),
    ],
)
def test_damaged_pair_lists_are_named_with_the_line(root, line, message):
    with pytest.raises(ValueError, match=message):
        fl.read_pair_list(write(root / "p.txt", "0 n1/a.png n2/b.png", line), root, size=SIZE)


def test_absent_lists_and_paths_without_a_person_are_refused(root):
    with pytest.raises(
        FileNotFoundError, match=r"gone\.txt: no such file; expected 'relative/path\.jpg identity_name'"
    ):
        fl.read_training_list(root / "gone.txt", root)
    with pytest.raises(ValueError, match=r"line 2 \('a\.png'\) has no folder part"):
        fl.read_lst(write(root / "a.lst", "n1/a.png", "a.png"), root)


def test_damaged_pictures_are_named_when_they_are_decoded(root):
    faces = fl.read_folder(root, size=SIZE)
    (root / "n1" / "a.png").write_bytes(b"")
    (root / "n10" / "c.jpg").write_bytes((root / "n10" / "c.jpg").read_bytes()[:-200])
    picture(root / "n2" / "b.png", 0, (7, 7))
    assert levels(faces, [1]) == [40]
    for row, message in [(0, r"n1/a\.png: is empty"), (2, r"n10/c\.jpg: not a whole"), (3, r"n2/b\.png: 7 x 7 pixels")]:
        with pytest.raises(ImageError, match=message):
            faces.images(torch.tensor([1, row]))
    (root / "x" / "f.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"x/f\.png"):
        faces.images(torch.tensor([5]))


@given(st.binary(max_size=200))
@settings(max_examples=150, deadline=None)
def test_any_bytes_as_a_list_give_data_or_a_named_error(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.txt").write_bytes(content)
    for read in (fl.read_training_list, fl.read_lst, fl.read_pair_list, fl.read_lfw_pairs):
        with pytest.raises((ValueError, FileNotFoundError), match=r"a(\.txt)?:|any"):
            read(folder / "a.txt", folder)
