# `make help` lists the targets. Everything runs in .venv, made from requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.complete

PAPER ?=
PROFILE ?= quick
DATA ?=
DATA_ROOT ?=
SEED ?= 0
DEVICE ?= auto
WAV ?=
EMOTION ?= happy
INTENSITY ?= 3
IMAGES ?=
JOBS ?=
THREADS ?= 1
TIMEOUT ?=
FORCE ?=
RECORD ?=
UPGRADE ?=
UNHASHED ?=

# What a user sets reaches programs through the environment, so that no shell and no make reads it: a recipe says "$$DATA", and neither quotes,
# blanks nor $(...) in a value mean anything. $(value ...) takes the text as it was given.
VARIABLES := PYTHON PAPER PROFILE DATA DATA_ROOT SEED DEVICE WAV EMOTION INTENSITY IMAGES JOBS THREADS TIMEOUT FORCE \
	SEEDS RECORD PROFILES GRID SWEEP ENGINE SCHEDULER THREADS_LIST ALLOW_UNSTABLE MINUTES ONLY UPGRADE UNHASHED
$(foreach name,$(VARIABLES),$(eval override $(name) := $$(value $(name))))
export $(VARIABLES)

# Two threads that share a busy core can be many times slower than one; notebooks and test files run side by side instead.
export OMP_NUM_THREADS := $(THREADS)
export MKL_NUM_THREADS := $(THREADS)
export OPENBLAS_NUM_THREADS := $(THREADS)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce sweep seeds verify gpu-check voice animate emote faces gesture test test-browser lint bench lab book workshop gallery outputs lock clean

help: ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  make reproduce takes PAPER=01,06 PROFILE=smoke|quick|full DATA= DATA_ROOT= SEED= DEVICE=auto|cpu|cuda|mps"
	@echo "                       JOBS= (notebooks at once) THREADS= (of each) TIMEOUT= (seconds of each) FORCE=1"
	@echo "  make sweep     takes PAPER=06 SEEDS=0,1,2 PROFILES=quick GRID='name=a,b;other=1,2' SWEEP= (folder) ENGINE=local|dask SCHEDULER=tcp://host:port"
	@echo "  make seeds     takes PAPER=02 SEEDS=0-5 RECORD=1 (all papers, into docs/)"
	@echo "  make verify    takes PAPER= PROFILE= SEEDS=0,1 THREADS_LIST=1,2 ALLOW_UNSTABLE=1"
	@echo "  make gpu-check takes MINUTES=20 ONLY= (part of a check's name)"
	@echo "  make voice WAV=my_voice.wav needs the networks of notebook 03, which it trains on its first run"
	@echo "  make animate WAV=my_voice.wav needs those of notebook 04: run it, or .venv/bin/python -m paper_utils.train 04 --only 'step 2'"
	@echo "  make emote WAV=my_voice.wav needs the network of notebook 09: run it, or .venv/bin/python -m paper_utils.train 09 --only EMOTE"
	@echo "  make faces IMAGES=my_pictures needs those of paper 07: .venv/bin/python -m paper_utils.train 07 --only CEST"
	@echo "  make gesture WAV=my_voice.wav needs those of paper 08: .venv/bin/python -m paper_utils.train 08 --only model"
	@echo "  PYTHON=python3.12 make setup chooses the Python (3.11 or newer) of a new .venv"

setup: $(STAMP) ## Make .venv from requirements.lock (nothing to do when it is current)

$(STAMP): requirements.lock requirements.hashes pyproject.toml
	@command -v "$$PYTHON" >/dev/null || { echo "make setup: no '$$PYTHON' found; install Python 3.11 or newer, or name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@"$$PYTHON" -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "make setup: Python 3.11 or newer is needed, found %d.%d (%s); name another: make setup PYTHON=python3.11" % (v[0], v[1], sys.executable))'
	@test -x $(BIN)/python || { echo "making $(VENV) with $$("$$PYTHON" --version)"; "$$PYTHON" -m venv $(VENV); }
	@echo "installing requirements.lock into $(VENV) (the first time takes a few minutes)"
	@# First the files whose check sums are locked, which is all but torch; then torch by its version, in the build that this machine has.
	@test -n "$$UNHASHED" || $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.hashes
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

reproduce: setup ## Run the paper notebooks headless; end with the table of claims
	@$(BIN)/python -m paper_utils.reproduce --paper="$$PAPER" --profile="$$PROFILE" --data="$$DATA" --data-root="$$DATA_ROOT" \
		--seed="$$SEED" --device="$$DEVICE" --jobs="$$JOBS" --threads="$$THREADS" --timeout="$$TIMEOUT" --force="$$FORCE"

sweep: setup ## Run one notebook at many points (seeds, profiles, parameters), one table out: make sweep PAPER=06 SEEDS=0-9
	@$(BIN)/python -m paper_utils.sweep --paper="$$PAPER" --seeds="$$SEEDS" --profiles="$$PROFILES" --grid="$$GRID" --data="$$DATA" --data-root="$$DATA_ROOT" \
		--device="$$DEVICE" --name="$$SWEEP" --engine="$$ENGINE" --scheduler="$$SCHEDULER" --jobs="$$JOBS" --threads="$$THREADS" --timeout="$$TIMEOUT" --force="$$FORCE"

seeds: setup ## Judge every claim over several seeds (six runs of each notebook): make seeds PAPER=02 SEEDS=0-5
	@$(BIN)/python -m paper_utils.over_seeds --paper="$$PAPER" --seeds="$$SEEDS" --jobs="$$JOBS" --timeout="$$TIMEOUT" --force="$$FORCE" --record="$$RECORD"

verify: setup ## Run notebooks twice from clean caches, with 1 and 2 threads and 2 seeds: same bits, same verdicts?
	@$(BIN)/python -m paper_utils.verify --paper="$$PAPER" --profile="$$PROFILE" --seeds="$$SEEDS" --threads-list="$$THREADS_LIST" \
		--device="$$DEVICE" --jobs="$$JOBS" --timeout="$$TIMEOUT" --force="$$FORCE" --allow-unstable="$$ALLOW_UNSTABLE"

gpu-check: setup ## Check and time every method's training step on this machine's GPU (skipped where there is none)
	@$(BIN)/python -m paper_utils.gpu_check --minutes="$${MINUTES:-20}" --only="$$ONLY"

voice: setup ## Draw the face that paper 03 makes of a recording: make voice WAV=my_voice.wav
	@test -n "$$WAV" || { echo "make voice: which recording? expected WAV=path of a WAV, FLAC, Ogg, MP3 or AIFF file" >&2; exit 2; }
	@$(BIN)/python -m paper_utils.voice_to_face -- "$$WAV"

animate: setup ## Write a film of a face that speaks your recording, with paper 04: make animate WAV=my_voice.wav
	@test -n "$$WAV" || { echo "make animate: which recording? expected WAV=path of a WAV, FLAC, Ogg, MP3 or AIFF file" >&2; exit 2; }
	@$(BIN)/python -m paper_utils.animate -- "$$WAV"

emote: setup ## Film a talking face with a chosen emotion, with paper 09: make emote WAV=my_voice.wav EMOTION=happy INTENSITY=3
	@test -n "$$WAV" || { echo "make emote: which recording? expected WAV=path of a WAV, FLAC, Ogg, MP3 or AIFF file" >&2; exit 2; }
	@$(BIN)/python -m paper_utils.emote_wav --emotion="$$EMOTION" --intensity="$$INTENSITY" -- "$$WAV"

faces: setup ## Write a 3D mesh for each picture of a face in a folder, with paper 07: make faces IMAGES=my_pictures
	@test -n "$$IMAGES" || { echo "make faces: which pictures? expected IMAGES=a folder of pictures of faces, or one picture" >&2; exit 2; }
	@$(BIN)/python -m paper_utils.reconstruct_faces -- "$$IMAGES"

gesture: setup ## Write a film of gestures for a recording, with paper 08: make gesture WAV=my_voice.wav
	@test -n "$$WAV" || { echo "make gesture: which recording? expected WAV=path of a WAV, FLAC, Ogg, MP3 or AIFF file" >&2; exit 2; }
	@$(BIN)/python -m paper_utils.gesture -- "$$WAV"

test: setup lint ## Run all checks: style, unit tests, doctests, and every notebook against its stored outputs
	PAPER_UTILS_QUIET=1 PAPER_UTILS_OUTPUT="$$PWD/build/test" $(BIN)/python -m pytest notebooks tests paper_utils \
		--numprocesses "$${JOBS:-auto}" --dist loadfile --nbval-lax --nbval-cell-timeout 600 --doctest-modules --ignore tests/benchmarks --ignore tests/browser --durations 10

test-browser: setup ## Run the notebooks in a real JupyterLab and Chromium and move their widgets; PAPER= chooses
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[browser]"
	@$(BIN)/python tests/browser/chromium.py
	$(BIN)/python -m pytest tests/browser --override-ini addopts= -p no:xdist -ra -s --paper="$$PAPER"

lint: setup ## Check style and formatting of code and notebooks
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

bench: setup ## Measure speed, as ratios to a named peer or floor of the same run
	PAPER_UTILS_QUIET=1 $(BIN)/python -m pytest tests/benchmarks --override-ini addopts= --benchmark-only -p no:xdist -s

lab: setup ## Open the tour in JupyterLab, with the other notebooks beside it
	$(BIN)/jupyter lab --LabApp.extra_labextensions_path=docs/lab notebooks/00_the_world.ipynb

book: setup ## Make build/book/html: all notebooks as one site that works without a network
	@$(BIN)/python -m paper_utils.book

workshop: setup ## Make build/workshop: student notebooks, and those with solutions apart
	@$(BIN)/python -m paper_utils.workshop build

gallery: setup ## Renew README's gallery and the list in notebooks/README.md after notebooks changed
	@$(BIN)/python -m paper_utils.readme

outputs: setup ## Run the notebooks in place and store their quick outputs (before committing a change)
	PAPER_UTILS_QUIET=1 $(BIN)/jupyter nbconvert --to notebook --inplace --execute --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

PIPCOMPILE := $(BIN)/python -m piptools compile --quiet --strip-extras --allow-unsafe --no-annotate --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options

lock: setup ## Renew requirements.lock and requirements.hashes from pyproject.toml; UPGRADE=1 takes the newest versions
	$(PIPCOMPILE) $${UPGRADE:+--upgrade} --extra book --extra dev --output-file requirements.lock pyproject.toml
	@# A local build tag of torch belongs to one machine; the lock names the release.
	@sed -i.bak -E 's/^(torch==[0-9.]+)\+.*/\1/' requirements.lock && rm -f requirements.lock.bak
	@echo "taking the check sums of all files of these versions (ten minutes)"
	$(PIPCOMPILE) --generate-hashes --output-file requirements.hashes requirements.lock
	@# Each machine gets its own build of torch.
	@sed -i.bak -E '/^torch==/,/[^\]$$/d' requirements.hashes && rm -f requirements.hashes.bak

clean: ## Remove .venv, caches and everything that the notebooks wrote except figures/
	rm -rf $(VENV) build .cache results *.egg-info .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
