"""Speech features at the frame rate of a video; wav2vec 2.0 with random weights where transformers is installed."""

import importlib.util

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paper_utils.nn import speech_features as sf

needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="the optional package transformers is not installed"
)
TINY = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": (8, 8, 8, 8, 8, 8, 8),
    "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2,
}  # fmt: skip


@given(st.floats(0.1, 100), st.floats(-1, 1))
def test_loudness_and_offset_of_a_recording_do_not_matter(gain, offset):
    samples = torch.randn(2, 400, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(
        sf.normalised_samples(gain * samples + offset), sf.normalised_samples(samples), rtol=0, atol=2e-3
    )


def test_normalised_jointly_one_loud_clip_turns_the_others_down():
    samples = torch.randn(3, 4000, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [10.0], [1.0]])
    alone, jointly = sf.normalised_samples(samples), sf.normalised_samples(samples, jointly=True)
    torch.testing.assert_close(alone.std(1), torch.ones(3), rtol=0, atol=1e-3)
    # As measured with the published processor: 0.17, 1.67, 0.16 or so for clips of relative scale 1, 10, 1.
    torch.testing.assert_close(jointly.std(1), torch.tensor([0.17, 1.71, 0.17]), rtol=0, atol=0.03)
    torch.testing.assert_close(sf.normalised_samples(samples[:1], jointly=True), alone[:1])


def test_the_stand_in_gives_a_vector_a_frame_and_can_be_frozen():
    features = sf.ConvSpeechFeatures(10, 6, seed=0)
    log_mel = torch.randn(2, 100, 10, generator=torch.Generator().manual_seed(0))
    assert features(log_mel, 25).shape == (2, 25, 6)
    assert torch.equal(features(log_mel, 25), sf.ConvSpeechFeatures(10, 6, seed=0)(log_mel, 25))
    features.set_trainable(False)
    assert not any(p.requires_grad for p in features.parameters())
    with pytest.raises(ValueError, match="expected 10 bands, found 9"):
        features(log_mel[..., :9], 25)


def test_the_stand_in_is_local_in_time():
    features = sf.ConvSpeechFeatures(3, 4, seed=0)
    log_mel = torch.zeros(1, 200, 3)
    poked = log_mel.clone()
    poked[0, 100] = 5
    changed = (features(poked, 50) - features(log_mel, 50)).abs().sum(-1)[0].nonzero().flatten()
    assert changed.min() >= 22
    assert changed.max() <= 28


@needs_transformers
def test_wav2vec_is_resampled_between_convolutions_and_transformer():
    model = sf.random_wav2vec2(0, **TINY).eval()
    features = sf.Wav2Vec2Features(model).eval()
    samples = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found = features(samples, 25)
        assert found.shape == (2, 25, 16)
        # Asked for as many frames as wav2vec has, it is the library's own network.
        local = model.feature_extractor(sf.normalised_samples(samples)).shape[2]
        own = model(sf.normalised_samples(samples)).last_hidden_state
        torch.testing.assert_close(features(samples, local), own, rtol=0, atol=1e-5)


@needs_transformers
def test_wav2vec_convolutions_never_learn_and_the_rest_can_be_frozen():
    features = sf.Wav2Vec2Features(sf.random_wav2vec2(0, **TINY)).train()
    samples = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    features(samples, 12).sum().backward()
    learns = {name.split(".")[1] for name, p in features.named_parameters() if p.grad is not None}
    assert "feature_extractor" not in learns
    assert {"feature_projection", "encoder"} <= learns
    features.set_trainable(False)
    assert not features.train().model.training
    features.set_trainable(True)
    assert features.train().model.encoder.training
    assert not any(p.requires_grad for p in features.model.feature_extractor.parameters())


@needs_transformers
def test_wav2vec_weights_come_from_a_folder_only(tmp_path):
    model = sf.random_wav2vec2(0, **TINY)
    model.save_pretrained(tmp_path / "w2v")
    loaded = sf.load_wav2vec2(tmp_path / "w2v").eval()
    samples = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            sf.Wav2Vec2Features(loaded).eval()(samples, 6), sf.Wav2Vec2Features(model).eval()(samples, 6)
        )
    with pytest.raises(FileNotFoundError, match=r"no config\.json; expected the folder of a wav2vec 2\.0 model"):
        sf.load_wav2vec2(tmp_path)
    with pytest.raises(ValueError, match=r"100 are too few for wav2vec 2\.0"):
        sf.Wav2Vec2Features(model)(samples[:, :100], 2)


def test_without_transformers_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'paper-utils\[wav2vec2\]'"):
        sf.load_wav2vec2(tmp_path)
