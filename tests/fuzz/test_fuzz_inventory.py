"""Every function that reads a file from outside is fuzzed, or it stands here why not."""

from __future__ import annotations

import ast
import re

from conftest import ROOT
from fuzz import clip_cases, image_cases, mesh_cases, network_cases, speech_cases

CASES = (*clip_cases.CASES, *image_cases.CASES, *mesh_cases.CASES, *network_cases.CASES, *speech_cases.CASES)
READS = re.compile(r"(?:read|load|loads|open)(?:_\w+)?|decode")
PLACES = ("data", "mesh", "nn")
NETWORKS = "from paper_utils.network_files import"  # in modules that read files of networks, wherever they stand
FILES = ("audio_files", "network_files", "safe_checkpoints", "safe_files", "safe_pickle")
NOT_FUZZED = {
    "data.digits.load": "comes with scikit-learn",
    "data.florence.read_florence": "lists folders and opens no file",
    "nn.speech_features.load_wav2vec2": "transformers, an optional package, reads a folder that the user chose; safetensors or weights_only",
    "nn.emotion_video.load_emotion_classifier": "reads with checkpoint_names.read_state, the names are checked in its own test",
    "nn.emotion_video.load_emotion_frame_network": "reads with checkpoint_names.read_state, the names are checked in its own test",
    "nn.visual_speech.load_lip_reading_trunk": "reads with checkpoint_names.read_state, the names are checked in its own test",
    "nn.meshtalk_checkpoints.load_networks": "reads with checkpoint_names.read_state, the names are checked in its own test",
    "recipes.talkshow_files.load_official": "reads with safe_checkpoints, the names are checked in its own test",
    "studies.meshtalk.read_mesh": "asks the readers of data.multiface and data.mesh_masks, which are fuzzed",
    "nn.checkpoint_names.load_strictly": "takes tensors, no file",
    "nn.official_weights.load_backbone_state": "takes tensors, no file",
    "safe_checkpoints.loads": "the content of a file that load has open",
    "safe_pickle.load": "load_all and a count",
}


def readers() -> set[str]:
    """Public functions below the places above, and in modules of networks, whose names say that they read."""
    package = ROOT / "paper_utils"
    networks = [path for path in package.rglob("*.py") if NETWORKS in path.read_text(encoding="utf-8")]
    paths = [path for place in PLACES for path in (package / place).rglob("*.py")] + [
        package / f"{name}.py" for name in FILES
    ]
    found = set()
    for path in {*paths, *networks}:
        module = ".".join(path.relative_to(package).with_suffix("").parts)
        names = [
            node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
        ]
        found |= {f"{module}.{name}" for name in names if READS.fullmatch(name)}
    return found


def test_every_reader_is_fuzzed_or_it_is_said_why_not():
    fuzzed = {name for case in CASES for name in case.covers}
    assert readers() - fuzzed == set(NOT_FUZZED)
    assert fuzzed <= readers(), "a name of a case is no reader"


def test_names_of_cases_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_no_reader_of_files_from_outside_goes_around_the_safe_ones():
    """Whoever opens arrays, pickles, checkpoints or texts does it where sizes and errors are minded."""
    around = re.compile(
        r"np\.load\(|np\.loadtxt|np\.genfromtxt|loadmat\(|torch\.load\(|(?<!safe_)pickle\.loads?\(|json\.loads?\(|pd\.read_csv|\.read_text\(|extractall|yaml\.load"
    )
    allowed = {
        "data/ijb.py": ["pd.read_csv"],  # inside its own table reader, which names file and line
        "data/voxceleb.py": [".read_text("],  # settings that it wrote itself
        "recipes/face_recognition.py": ["json.loads(", ".read_text(", "json.loads("],  # scores that it wrote itself
    }
    for place in ("data", "mesh", "methods", "recipes"):
        for path in sorted((ROOT / "paper_utils" / place).glob("*.py")):
            found = around.findall(path.read_text(encoding="utf-8"))
            assert found == allowed.get(f"{place}/{path.name}", []), path.name
