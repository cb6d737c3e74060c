"""Every official format on one planted head: the same numbers out, and every mix-up answered."""

from __future__ import annotations

import builtins
import dataclasses
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import scipy.io
import torch
from model_writers import (
    EXPRESSIONS,
    IDENTITIES,
    VERTICES,
    WRITERS,
    flat,
    obj_text,
    planted,
    quads,
    write_3ddfa,
    write_bfm2009,
    write_bfm_h5,
    write_deep3d,
    write_flame_npz,
    write_flame_pickle,
    write_ict,
)

from paper_utils.mesh import model_files as mf
from paper_utils.mesh import morphable
from paper_utils.mesh.obj_files import read_obj
from paper_utils.safe_pickle import UnsafePickleError

OPTIONS = {"flame": {"identity": IDENTITIES}}


@pytest.fixture
def head():
    return planted()


def read(name, path, **options):
    return mf.READERS[name](path, **OPTIONS.get(name, {}), **options)


# ---------------------------------------------------------------------------------------------------- planted truth


@pytest.mark.parametrize("name", WRITERS)
def test_one_coefficient_vector_gives_the_planted_mesh_in_millimetres(name, tmp_path, head, rng):
    model = read(name, WRITERS[name](tmp_path, head), dtype=torch.float64)
    identity, expression = rng.normal(size=IDENTITIES), rng.normal(size=EXPRESSIONS)
    if name == "bfm2009":
        assert model.expression.shape[2] == 0
        expected = head.vertices(identity, np.zeros(EXPRESSIONS))
        found = model.vertices(torch.from_numpy(identity)[None])
    else:
        expected = head.vertices(identity, expression)
        found = model.vertices(torch.from_numpy(identity)[None], torch.from_numpy(expression)[None])
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-3)  # float32 micrometres in the files


@pytest.mark.parametrize("name", WRITERS)
def test_triangles_count_from_zero_and_face_outward(name, tmp_path, head):
    options = {"close_mouth": True} if name == "3ddfa" else {}
    model = read(name, WRITERS[name](tmp_path, head), **options)
    if name == "ict":
        wanted = {tuple(sorted(t)) for p in quads() for t in ((p[0], p[i], p[i + 1]) for i in range(1, len(p) - 1))}
        assert {tuple(sorted(t)) for t in model.faces.tolist()} == wanted
        assert len(model.faces) == 10
        return
    assert model.faces.dtype == torch.int64
    assert {tuple(np.roll(t, -np.argmin(t))) for t in model.faces.tolist()} == {
        tuple(np.roll(t, -np.argmin(t))) for t in head.faces
    }


@pytest.mark.parametrize("name", ["bfm2009", "deep3d", "3ddfa", "bfm_h5"])
def test_triangles_stored_the_other_way_round_are_turned(name, tmp_path, head):
    turned = dataclasses.replace(head, faces=head.faces[:, [0, 2, 1]])
    faces = read(name, WRITERS[name](tmp_path, turned)).faces
    corners = torch.from_numpy(head.mean)[faces]
    normal = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert ((normal * corners.mean(1)).sum(1) > 0).all()


@pytest.mark.parametrize("name", ["bfm2009", "deep3d", "3ddfa", "bfm_h5"])
def test_colours_come_out_between_zero_and_one(name, tmp_path, head, rng):
    model = read(name, WRITERS[name](tmp_path, head))
    np.testing.assert_allclose(model.colour_mean.numpy(), head.colour_mean, atol=1e-6)
    coefficients = rng.normal(size=IDENTITIES).astype(np.float32)
    np.testing.assert_allclose(
        model.colours(torch.from_numpy(coefficients)[None])[0].numpy(),
        head.colour_mean + head.colour @ coefficients,
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["deep3d", "3ddfa", "ict"])
def test_landmarks_are_the_planted_vertices_and_the_eye_corners_are_32_mm_apart(name, tmp_path, head):
    options = {"close_mouth": True} if name == "3ddfa" else {}
    model = read(name, WRITERS[name](tmp_path, head), **options)
    points = model.landmark_points(model.mean[None])[0]
    np.testing.assert_allclose(points.numpy(), head.mean[head.landmarks], atol=1e-3)
    assert 25 < morphable.inter_canthal_mm(model) < 40


@pytest.mark.parametrize("name", WRITERS)
def test_mirror_list_is_found_on_a_symmetric_mesh_and_absent_otherwise(name, tmp_path, head):
    model = read(name, WRITERS[name](tmp_path, head))
    reflected = model.mean * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(model.mean[model.mirror], reflected, atol=1e-3, rtol=0)
    other = tmp_path / "other"
    other.mkdir()
    assert read(name, WRITERS[name](other, planted(symmetric=False))).mirror is None


@pytest.mark.parametrize("name", WRITERS)
def test_the_door_recognises_every_format_and_a_saved_copy_is_the_same(name, tmp_path, head):
    path = WRITERS[name](tmp_path, head)
    assert mf.identify(path) == name
    model = read(name, path) if name == "flame" else mf.read_model(path)
    assert f"{VERTICES} vertices" in model.name
    mf.save_model(model, tmp_path / "copy.npz")
    again = mf.read_model(tmp_path / "copy.npz")
    assert again.name == model.name
    torch.testing.assert_close(again.identity, model.identity, rtol=0, atol=0)
    torch.testing.assert_close(again.faces, model.faces)


def test_300w_lp_parameters_divided_by_the_deviations_give_its_own_formula(tmp_path, head, rng):
    path = write_3ddfa(tmp_path, head)
    model, (identity_std, expression_std) = mf.read_3ddfa(path, dtype=torch.float64), mf.deviations_3ddfa(path)
    shape_para, exp_para = rng.normal(0, 300, IDENTITIES), rng.normal(0, 1, EXPRESSIONS)
    stored = scipy.io.loadmat(path)["model"][0, 0]
    official = stored["shapeMU"] + stored["expMU"] + stored["shapePC"] @ shape_para[:, None]
    official = (official + stored["expPC"] @ exp_para[:, None]).reshape(-1, 3) / 1000
    found = model.vertices(
        torch.from_numpy(shape_para)[None] / identity_std, torch.from_numpy(exp_para)[None] / expression_std
    )
    np.testing.assert_allclose(found[0].numpy(), official, atol=1e-3)


def test_bfm_uv_is_attached_and_checked(tmp_path, head, rng):
    path, uv = write_3ddfa(tmp_path, head), rng.uniform(size=(VERTICES, 2))
    scipy.io.savemat(tmp_path / "BFM_UV.mat", {"UV": uv})
    np.testing.assert_allclose(mf.read_3ddfa(path, uv=tmp_path / "BFM_UV.mat").uv.numpy(), uv, atol=1e-6)
    scipy.io.savemat(tmp_path / "BFM_UV.mat", {"UV": uv[1:]})
    with pytest.raises(ValueError, match=r"BFM_UV.mat: expected UV \(12, 2\), found \(11, 2\)"):
        mf.read_3ddfa(path, uv=tmp_path / "BFM_UV.mat")


def test_guo_expressions_cut_the_model_to_their_vertices(tmp_path, head):
    path, kept = write_bfm2009(tmp_path, head), np.array([11, 0, 1, 2, 3, 4, 5, 6, 7, 9])
    basis = flat(head.expression[kept]) * 1000 / head.expression_deviations
    content = np.int32(EXPRESSIONS).tobytes() + np.zeros(3 * len(kept), np.float32).tobytes()
    (tmp_path / "Exp_Pca.bin").write_bytes(content + basis.T.astype(np.float32).tobytes())
    np.savetxt(tmp_path / "std_exp.txt", head.expression_deviations[None])
    scipy.io.savemat(tmp_path / "BFM_exp_idx.mat", {"trimIndex": (kept[:, None] + 1).astype(np.int32)})
    model = mf.read_bfm2009(path, expression_folder=tmp_path, dtype=torch.float64)
    np.testing.assert_allclose(model.mean.numpy(), head.mean[kept], atol=1e-3)
    np.testing.assert_allclose(model.expression.numpy(), head.expression[kept], atol=1e-4)
    inside = {tuple(sorted(t)) for t in head.faces.tolist() if set(t) <= set(kept.tolist())}
    assert {tuple(sorted(kept[t].tolist())) for t in model.faces.numpy()} == inside
    (tmp_path / "Exp_Pca.bin").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected \d+ bytes, found 124; is it cut off"):
        mf.read_bfm2009(path, expression_folder=tmp_path)
    (tmp_path / "Exp_Pca.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"missing Exp_Pca.bin"):
        mf.read_bfm2009(path, expression_folder=tmp_path)


def test_h5_without_expression_and_with_cells_at_the_top_is_read(tmp_path, head):
    absent = {f"expression__model__{key}": None for key in ("mean", "pcaBasis", "pcaVariance")}
    path = write_bfm_h5(
        tmp_path,
        head,
        **absent,
        shape__model__mean=head.mean.reshape(-1).astype(np.float32),
        shape__representer__cells=None,
        representer__cells=head.faces.T.astype(np.uint32),
    )
    model = mf.read_bfm_h5(path)
    assert model.expression.shape == (VERTICES, 3, 0)
    np.testing.assert_allclose(model.mean.numpy(), head.mean, atol=1e-4)


# ------------------------------------------------------------------------------------------------------------- FLAME


def test_flame_converter_keeps_every_array_and_notes_the_source(tmp_path, head):
    source = write_flame_pickle(tmp_path, head)
    with np.load(mf.convert_flame(source, tmp_path / "flame.npz"), allow_pickle=False) as stored:
        assert str(stored["source_name"]) == "generic_model.pkl"
        assert len(str(stored["source_sha256"])) == 64
        assert stored["J_regressor"].shape == (5, VERTICES)
        assert str(stored["bs_type"]) == "lrotmin"
    model = mf.read_flame(tmp_path / "flame.npz", identity=IDENTITIES)
    assert model.skinning.parents == (-1, 0, 1, 1, 1)
    assert model.skinning.joint_names[2] == "jaw"


@pytest.mark.parametrize("name", ["flame_fixture.pkl", "flame_fixture_chumpy.pkl"])
def test_flame_pickles_with_and_without_chumpy_become_the_reference_arrays(reference, tmp_path, name):
    converted = mf.convert_flame(reference / "flame" / name, tmp_path / "flame.npz")
    with np.load(converted) as found, np.load(reference / "flame" / "flame_fixture_plain.npz") as expected:
        for key in expected.files:
            assert found[key].dtype == expected[key].dtype, key
            np.testing.assert_array_equal(found[key], expected[key], err_msg=key)


def test_ringnet_landmark_tables_give_what_the_deca_table_gives(reference, tmp_path):
    deca = np.load(reference / "flame" / "flame_fixture_landmarks.npy", allow_pickle=True).item()
    static = {"lmk_face_idx": deca["static_lmk_faces_idx"], "lmk_b_coords": deca["static_lmk_bary_coords"]}
    dynamic = {"lmk_face_idx": deca["dynamic_lmk_faces_idx"], "lmk_b_coords": deca["dynamic_lmk_bary_coords"]}
    (tmp_path / "static.pkl").write_bytes(pickle.dumps(static, protocol=2))
    np.save(tmp_path / "dynamic.npy", dynamic, allow_pickle=True)
    one = mf.convert_flame_landmarks(reference / "flame" / "flame_fixture_landmarks.npy", tmp_path / "one.npz")
    two = mf.convert_flame_landmarks(tmp_path / "static.pkl", tmp_path / "two.npz", dynamic=tmp_path / "dynamic.npy")
    one, two = mf.read_flame_landmarks(one), mf.read_flame_landmarks(two)
    torch.testing.assert_close(one.static.barycentric, two.static.barycentric)
    torch.testing.assert_close(one.contour_faces, two.contour_faces)
    assert len(one.full) == 68
    assert two.full is None
    with pytest.raises(ValueError, match="together with dynamic=flame_dynamic_embedding"):
        mf.convert_flame_landmarks(tmp_path / "static.pkl", tmp_path / "three.npz")


def test_mediapipe_landmarks_and_masks_are_read(tmp_path, rng):
    weights = rng.dirichlet(np.ones(3), 105)
    np.savez(tmp_path / "mp.npz", lmk_face_idx=rng.integers(0, 20, 105), lmk_b_coords=weights)
    assert len(mf.read_mediapipe_landmarks(tmp_path / "mp.npz")) == 105
    np.savez(tmp_path / "mp.npz", lmk_face_idx=rng.integers(0, 20, 105), lmk_b_coords=2 * weights)
    with pytest.raises(ValueError, match=r"mp.npz: landmarks: barycentric weights must sum to 1"):
        mf.read_mediapipe_landmarks(tmp_path / "mp.npz")
    (tmp_path / "masks.pkl").write_bytes(pickle.dumps({"lips": np.array([3, 5]), "face": np.arange(9)}, protocol=2))
    assert mf.read_flame_masks(tmp_path / "masks.pkl")["lips"].tolist() == [3, 5]
    (tmp_path / "masks.pkl").write_bytes(pickle.dumps({"lips": np.array([0.5])}, protocol=2))
    with pytest.raises(ValueError, match="regions lips are no lists"):
        mf.read_flame_masks(tmp_path / "masks.pkl")


def test_a_hostile_flame_pickle_is_refused_and_nothing_runs(tmp_path, head):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    source = write_flame_pickle(tmp_path, head, weights=Hostile())
    with pytest.raises(UnsafePickleError, match=r"generic_model.pkl: .*system.* nothing was run"):
        mf.convert_flame(source, tmp_path / "flame.npz")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "flame.npz").exists()


# ---------------------------------------------------------------------------------------------------- command line


def test_command_line_converts_and_reports_faults(tmp_path, head, root, capsys):
    source = write_flame_pickle(tmp_path, head)
    done = subprocess.run(
        [sys.executable, "-m", "paper_utils.mesh.model_files", "flame", source, tmp_path / "flame.npz"],
        cwd=root, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "flame.npz").is_file()
    assert mf.main(["model", str(write_deep3d(tmp_path, head)), str(tmp_path / "deep3d.npz")]) == 0
    assert len(mf.load_model(tmp_path / "deep3d.npz").faces) == 20
    with pytest.raises(SystemExit) as stop:
        mf.main(["flame", str(tmp_path / "absent.pkl"), str(tmp_path / "x.npz")])
    assert stop.value.code == 1
    assert "no such file" in capsys.readouterr().err


# ---------------------------------------------------------------------------------------------------------- faults


@pytest.mark.parametrize("reader", mf.READERS)
@pytest.mark.parametrize("file", [*WRITERS, "flame_pickle", "own"])
def test_every_wrong_pairing_names_the_format_and_its_reader(reader, file, tmp_path, head):
    if reader == file:
        return
    if file == "flame_pickle":
        path = write_flame_pickle(tmp_path, head)
    elif file == "own":
        path = tmp_path / "own.npz"
        mf.save_model(mf.read_deep3d(write_deep3d(tmp_path, head)), path)
    else:
        path = WRITERS[file](tmp_path, head)
    with pytest.raises(ValueError, match=r"expected .*, found .*; read it with") as caught:
        mf.READERS[reader](path)
    assert str(path) in str(caught.value)
    assert mf.LAYOUTS[reader].title in str(caught.value)
    assert mf.LAYOUTS[file].title in str(caught.value)


@pytest.mark.parametrize("name", ["bfm2009", "deep3d", "3ddfa", "bfm_h5", "flame"])
@pytest.mark.parametrize("share", [0.03, 0.5, 0.9])
def test_a_file_cut_off_is_named(name, share, tmp_path, head):
    path = WRITERS[name](tmp_path, head)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=r"complete|downloaded|missing|whole") as caught:
        read(name, path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", mf.READERS)
def test_absent_and_empty_files_are_named(name, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        read(name, tmp_path / "nowhere")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty: expected .* found kind unknown"):
        read(name, tmp_path / "empty")
    with pytest.raises(ValueError, match="found kind unknown with no arrays; expected one of"):
        mf.read_model(tmp_path / "empty")


def test_all_missing_arrays_are_listed(tmp_path, head):
    with pytest.raises(ValueError, match="missing texMU, tl; found"):
        mf.read_bfm2009(write_bfm2009(tmp_path, head, texMU=None, tl=None))
    with pytest.raises(ValueError, match="missing expEV, kpt_ind; found"):
        mf.read_3ddfa(write_3ddfa(tmp_path, head, expEV=None, kpt_ind=None))
    with pytest.raises(ValueError, match="missing shape/model/pcaVariance; found"):
        mf.read_bfm_h5(write_bfm_h5(tmp_path, head, shape__model__pcaVariance=None))
    with pytest.raises(ValueError, match="missing posedirs, weights; found"):
        mf.convert_flame(write_flame_pickle(tmp_path, head, posedirs=None, weights=None), tmp_path / "flame.npz")
    with pytest.raises(ValueError, match="lacks color/model/pcaBasis"):
        mf.read_bfm_h5(write_bfm_h5(tmp_path, head, color__model__pcaBasis=None))


def test_units_are_checked_and_can_be_given(tmp_path, head):
    path = write_bfm2009(tmp_path, head, shapeMU=head.mean.reshape(-1, 1), shapePC=flat(head.identity))
    with pytest.raises(ValueError, match=r"is 0\.1\d+ mm large, expected 50..400; .* 0.001 mm"):
        mf.read_bfm2009(path)
    np.testing.assert_allclose(mf.read_bfm2009(path, unit_mm=1.0).mean.numpy(), head.mean, atol=1e-4)
    assert float(mf.read_bfm2009(path, check_size=False).mean.abs().max()) < 1


@pytest.mark.parametrize("name", ["bfm2009", "deep3d", "3ddfa", "bfm_h5", "flame"])
def test_numbers_that_are_not_finite_are_refused(name, tmp_path, head):
    broken = head.mean.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="mean holds 1 NaN or infinite values of 36"):
        read(name, WRITERS[name](tmp_path, dataclasses.replace(head, mean=broken)))


@pytest.mark.parametrize("name", ["bfm2009", "deep3d", "3ddfa"])
def test_triangles_that_count_from_zero_are_noticed(name, tmp_path, head):
    with pytest.raises(
        ValueError, match=r"expected numbers in 1..12 \(counting from 1\), found 0..11; these count from 0"
    ):
        read(name, WRITERS[name](tmp_path, dataclasses.replace(head, faces=head.faces - 1)))


@pytest.mark.parametrize("name", ["bfm_h5", "flame"])
def test_triangles_that_count_from_one_are_noticed(name, tmp_path, head):
    with pytest.raises(
        ValueError, match=r"expected numbers in 0..11 \(counting from 0\), found 1..12; these count from 1"
    ):
        read(name, WRITERS[name](tmp_path, dataclasses.replace(head, faces=head.faces + 1)))


def test_shapes_that_do_not_fit_are_named(tmp_path, head):
    with pytest.raises(ValueError, match=r"tl: expected shape \(triangles, 3\), found \(3, 20\); it is transposed"):
        mf.read_bfm2009(write_bfm2009(tmp_path, head, tl=head.faces.T + 1))
    with pytest.raises(ValueError, match=r"shapePC: expected shape \(36, k\) with k standard deviations .* \(33, 4\)"):
        mf.read_bfm2009(write_bfm2009(tmp_path, head, shapePC=flat(head.identity)[:33]))
    with pytest.raises(ValueError, match="expected 3 numbers for each vertex, found 35"):
        mf.read_deep3d(write_deep3d(tmp_path, head, meanshape=head.mean.reshape(1, -1)[:, :35]))
    with pytest.raises(ValueError, match=r"keypoints: expected numbers in 1..12 .* found 1..40; do they belong"):
        mf.read_deep3d(write_deep3d(tmp_path, head, keypoints=np.array([[1, 40]])))
    with pytest.raises(ValueError, match="must not be negative or NaN, found a least value of -1"):
        mf.read_bfm_h5(write_bfm_h5(tmp_path, head, shape__model__pcaVariance=-np.ones(IDENTITIES)))
    with pytest.raises(ValueError, match=r"colour_mean must lie in 0..1, found .* divide by 255"):
        mf.read_bfm_h5(write_bfm_h5(tmp_path, head, color__model__mean=head.colour_mean.reshape(-1) * 255))
    with pytest.raises(ValueError, match=r"weights \(12, 4\) instead of \(12, 5\)"):
        mf.read_flame(write_flame_npz(tmp_path, head, weights=np.ones((12, 4))))
    with pytest.raises(ValueError, match=r"identity=300 but shapedirs has 7 columns"):
        mf.read_flame(write_flame_npz(tmp_path, head))


def test_flame_skinning_faults_are_named_with_the_file(tmp_path, head):
    with pytest.raises(ValueError, match=r"FLAME_NEUTRAL.npz: skinning: weights of every vertex must sum to 1"):
        mf.read_flame(write_flame_npz(tmp_path, head, weights=np.full((12, 5), 0.3)), identity=4)
    cyclic = np.array([[2**32 - 1, 2, 1, 1, 1], np.arange(5)], dtype=np.uint32)
    with pytest.raises(ValueError, match=r"generic_model.pkl: parents: joint 1 has parent 2; .* no cycle"):
        mf.convert_flame(write_flame_pickle(tmp_path, head, kintree_table=cyclic), tmp_path / "flame.npz")


def test_flame_files_that_hold_objects_or_foreign_landmarks_are_refused(tmp_path, head, reference):
    objects = np.empty((5, 12), dtype=object)
    with pytest.raises(ValueError, match=r"holds pickled Python objects.*as convert_flame writes them"):
        mf.read_flame(write_flame_npz(tmp_path, head, J_regressor=objects))
    with pytest.raises(ValueError, match=r"flame_fixture_landmarks.npy: expected plain arrays .* found kind npy"):
        mf.read_flame_landmarks(reference / "flame" / "flame_fixture_landmarks.npy")
    tables = mf.read_flame_landmarks(
        mf.convert_flame_landmarks(reference / "flame" / "flame_fixture_landmarks.npy", tmp_path / "l.npz")
    )
    with pytest.raises(ValueError, match=r"refer to triangle 29, the model has 20; do they belong"):
        mf.read_flame(write_flame_npz(tmp_path, head), landmarks=tables, identity=4)
    with pytest.raises(ValueError, match=r"ends in .npz"):
        mf.convert_flame(write_flame_pickle(tmp_path, head), tmp_path / "flame.npy")
    (tmp_path / "list.pkl").write_bytes(pickle.dumps([1, 2], protocol=2))
    with pytest.raises(ValueError, match=r"expected a dictionary with v_template, .* found a list"):
        mf.convert_flame(tmp_path / "list.pkl", tmp_path / "flame.npz")


def test_matlab_73_files_and_odd_types_are_answered(tmp_path, head):
    path = tmp_path / "new.mat"
    path.write_bytes(b"MATLAB 7.3 MAT-file" + bytes(200))
    with pytest.raises(ValueError, match=r"version 7.3; .* save it again with -v7"):
        mf.read_bfm2009(path)
    with pytest.raises(ValueError, match=r"dtype: expected torch.float32 or torch.float64"):
        mf.read_deep3d(write_deep3d(tmp_path, head), dtype=torch.float16)


def test_without_h5py_the_message_says_how_to_get_it(tmp_path, head, monkeypatch):
    path, real = write_bfm_h5(tmp_path, head), builtins.__import__
    monkeypatch.setattr(
        builtins, "__import__", lambda name, *rest: real("absent_" + name if name == "h5py" else name, *rest)
    )
    with pytest.raises(ImportError, match=r"pip install 'paper-utils\[hdf5\]'"):
        mf.read_bfm_h5(path)


# -------------------------------------------------------------------------------------------------------- ICT, OBJ


def test_ict_keeps_names_uv_and_the_skin_part(tmp_path, head):
    folder = write_ict(tmp_path, head)
    assert mf.expression_names(folder) == ("jawOpen", "mouthSmile_L", "mouthSmile_R")
    model = mf.read_ict(folder)
    np.testing.assert_allclose(
        model.uv[:, 0].numpy(), np.arange(12) / 20, atol=1e-6
    )  # the seam's second value is not taken
    with pytest.raises(ValueError, match=r"idx_to_landmark_verts: expected numbers in 0..7 .* found 0..11"):
        mf.read_ict(folder, vertices=8)
    text = (folder / "vertex_indices.json").read_text().replace("11", "1").replace("10", "1").replace(" 9", " 1").replace(" 8", " 1")  # fmt: skip
    (folder / "vertex_indices.json").write_text(text)
    part = mf.read_ict(folder, vertices=8, check_size=False)
    assert part.mean.shape == (8, 3)
    assert part.faces.tolist() == [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5]]


def test_ict_meshes_of_another_topology_are_named(tmp_path, head):
    folder = write_ict(tmp_path, head)
    (folder / "identity002.obj").write_text(obj_text(head.mean / 10, quads()[:-1]))
    with pytest.raises(
        ValueError, match=r"identity002.obj: has 12 vertices and 7 polygons .* \(12 vertices, 8 polygons\)"
    ):
        mf.read_ict(folder)
    (folder / "identity002.obj").write_text(obj_text(np.r_[head.mean, head.mean[:1]] / 10, quads()))
    with pytest.raises(ValueError, match=r"identity002.obj: has 13 vertices"):
        mf.read_ict(folder)


def test_ict_folders_with_gaps_are_answered(tmp_path, head):
    folder = write_ict(tmp_path, head)
    (folder / "identity001.obj").unlink()
    (folder / "jawOpen.obj").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 files are missing: identity001.obj, jawOpen.obj"):
        mf.read_ict(folder)
    (folder / "vertex_indices.json").write_text('{"expressions": ["a"]}')
    with pytest.raises(ValueError, match="missing or of another kind: idx_to_landmark_verts; found expressions"):
        mf.read_ict(folder)
    (folder / "vertex_indices.json").write_text('{"expressions": ["../a"], "idx_to_landmark_verts": [1]}')
    with pytest.raises(ValueError, match=r"names of files without folders, found '../a'"):
        mf.read_ict(folder)
    (folder / "vertex_indices.json").write_text("{")
    with pytest.raises(ValueError, match="not valid JSON"):
        mf.read_ict(folder)
    (folder / "vertex_indices.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"vertex_indices.json: no such file"):
        mf.read_ict(folder)
    (folder / "generic_neutral_mesh.obj").unlink()
    with pytest.raises(ValueError, match=r"missing generic_neutral_mesh.obj; found"):
        mf.read_ict(folder)


def test_obj_polygons_become_fans_in_order(tmp_path):
    text = "v 0 0 0\r\nv 1 0 0 0.5\nv 1 1 0\nv 0 1 0\nv 0.5 2 0\nf 1 2  3 4 5\nf 1//1 3//1 5//1\n"
    path = tmp_path / "mesh.obj"
    path.write_text(text.replace(" 0.5\nv 1 1", "\nv 1 1"))
    mesh = read_obj(path)
    assert mesh.triangles.tolist() == [[0, 1, 2], [0, 2, 3], [0, 3, 4], [0, 2, 4]]
    assert mesh.polygons == 2
    assert mesh.uv is None
    assert mesh.vertex_uv() is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no 'v' lines"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\n", "expected 'f' lines with three or more corners"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2\n", "expected 'f' lines with three or more corners"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 x\n", "expected 'f' lines with three or more corners"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 4\n", r"refer to vertices 1..3, found 1..4"),
        ("v 0 0 0\nv 1 0 0\nv 0 1 0\nf -1 -2 -3\n", r"found -3..-1 \(counting back"),
        ("v 0 0 0\nv 1 0 0\nv 0 1\nf 1 2 3\n", "at least 3 numbers on each of 3 'v' lines, found 8"),
        ("v 0 0 0\nv 1 0 zero\nv 0 1 0\nf 1 2 3\n", "not a number"),
        ("v 0 0 0\nv 1 0 nan\nv 0 1 0\nf 1 2 3\n", "1 NaN or infinite"),
    ],
)
def test_broken_obj_files_are_named(text, message, tmp_path):
    (tmp_path / "broken.obj").write_text(text)
    with pytest.raises(ValueError, match=message) as caught:
        read_obj(tmp_path / "broken.obj")
    assert "broken.obj" in str(caught.value)


@pytest.fixture
def rng():
    return np.random.default_rng(3)
