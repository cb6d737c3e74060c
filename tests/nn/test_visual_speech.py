"""The mouth crop equals the published one; the lip reader's trunk loads published names strictly."""

import numpy as np
import pytest
import torch
from conftest import ROOT

from paper_utils.nn import visual_speech as vs
from paper_utils.nn.checkpoint_names import CheckpointNamesError


@pytest.fixture(scope="module")
def stored():
    with np.load(ROOT / "tests" / "reference" / "emote" / "mouth_crop_gray.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def test_the_crop_is_the_published_one(stored):
    found = vs.mouth_crop(
        stored["images"], stored["landmarks"], size=int(stored["crop_size"]), smoothing=int(stored["window_margin"])
    )
    torch.testing.assert_close(found, stored["crop"], rtol=0, atol=1e-5)


def test_the_crop_follows_a_face_that_moves_as_a_whole(stored):
    # Half a picture further in one frame: smoothing must not hold the crop back.
    landmarks = stored["landmarks"].clone()
    landmarks[:, 2] += 0.25
    still, moved = (vs.mouth_centres(points) for points in (stored["landmarks"], landmarks))
    torch.testing.assert_close(moved[:, 2] - still[:, 2], torch.full((1, 2), 0.25), rtol=0, atol=1e-5)
    torch.testing.assert_close(moved[:, :2], still[:, :2], rtol=0, atol=1e-5)


def test_the_centre_is_that_of_the_mouth_where_nothing_moves():
    points = torch.rand(68, 2, generator=torch.Generator().manual_seed(0)).expand(1, 5, 68, 2)
    torch.testing.assert_close(vs.mouth_centres(points), points[:, :, 48:68].mean(2))
    with pytest.raises(ValueError, match="even number of frames, found 5"):
        vs.mouth_centres(points, smoothing=5)


def test_a_picture_is_shown_by_the_crop_where_it_was():
    # Grey value = column: a crop of a ramp is a ramp around the mouth's column.
    ramp = torch.linspace(-1, 1, 65).expand(1, 1, 1, 65, 65)
    landmarks = torch.full((1, 1, 68, 2), 0.25)
    crop = vs.mouth_crop(ramp, landmarks, size=8)
    torch.testing.assert_close(crop[0, 0, 0, 3], 0.25 + torch.linspace(-4, 4, 8) / 32.5, rtol=0, atol=2e-3)


def test_gradients_reach_pixels_and_not_landmarks(stored):
    images = stored["images"].clone().requires_grad_()
    landmarks = stored["landmarks"].clone().requires_grad_()
    vs.mouth_crop(images, landmarks, size=24).sum().backward()
    assert images.grad.abs().sum() > 0
    assert landmarks.grad is None


def test_grey_is_the_luma_of_a_colour():
    white = torch.ones(1, 1, 3, 2, 2)
    torch.testing.assert_close(vs.grey(white), torch.ones(1, 1, 1, 2, 2), rtol=0, atol=2e-4)
    assert vs.grey(white * torch.tensor([0, 1, 0]).view(3, 1, 1)).max() == pytest.approx(0.587)


@pytest.mark.parametrize("activation", ["swish", "prelu"])
def test_the_trunk_loads_the_published_names(tmp_path, activation):
    trunk = vs.LipReadingTrunk(activation, seed=0).eval()
    published = {f"encoder.frontend.{name}": value for name, value in trunk.state_dict().items()}
    published |= {
        "encoder.embed.0.weight": torch.zeros(2),
        "decoder.embed.0.weight": torch.zeros(2),
        "ctc.ctc_lo.weight": torch.zeros(2),
    }
    torch.save(published, tmp_path / "lips.pth")
    loaded = vs.load_lip_reading_trunk(tmp_path / "lips.pth")
    crops = torch.rand(1, 3, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(loaded(crops), trunk(crops))
    assert not any(p.requires_grad for p in loaded.parameters())
    assert {"frontend3D.0.weight", "trunk.layer2.0.downsample.0.weight"} < set(trunk.state_dict())
    del published["encoder.frontend.trunk.layer1.0.bn1.weight"]
    torch.save(published, tmp_path / "cut.pth")
    with pytest.raises(CheckpointNamesError, match=r"1 missing: trunk\.layer1\.0\.bn1\.weight"):
        vs.load_lip_reading_trunk(tmp_path / "cut.pth")


def test_the_trunk_reads_the_middle_of_the_crop_and_a_few_frames_around():
    trunk = vs.LipReadingTrunk(seed=0).eval()
    crops = torch.rand(1, 9, 1, 96, 96, generator=torch.Generator().manual_seed(0))
    border, later = crops.clone(), crops.clone()
    border[..., :4, :] = 0
    later[:, 6:] = 0
    with torch.no_grad():
        seen = trunk(crops)
        assert seen.shape == (1, 9, 512)
        torch.testing.assert_close(trunk(border), seen)
        torch.testing.assert_close(trunk(later)[:, :4], seen[:, :4])
        assert not torch.allclose(trunk(later)[:, 4], seen[:, 4])
    with pytest.raises(ValueError, match="at least 88 pixels a side, found 64"):
        trunk(crops[..., :64, :64])
    with pytest.raises(ValueError, match="'swish' or 'prelu', found 'relu'"):
        vs.LipReadingTrunk("relu", seed=0)
