# Every target sets up what it needs in .venv, quickly when it is there already.
PYTHON ?= python3
TORCH ?= torch==2.14.1 torchvision==0.29.1
OTHER_TORCH ?= torch==2.13.0
BIN := .venv/bin
FASTGAN_WERROR ?= 1  # a warning fails this build, but not `pip install`; 0 accepts warnings
export OMP_WAIT_POLICY ?= PASSIVE  # waiting threads sleep: other programs need the cores
CSRC := $(shell find csrc -type f)

PAPERS := dirac_gan ttur_saddle clip_versus_penalty pacgan_grid duality_gap pacgan_digits unrolled_ring \
  metric_calibration wasserstein_estimate fashion_benchmark spectral_norm_works few_garments relativistic_digits

.PHONY: train test lint tidy format bench gpu papers kills soak docs wheel sanitize test-wheel clean

train: .venv/built  ## train on the embedded garments, and say where the pictures are
	$(BIN)/fastgan train --recipe garments --resolution 32 --width 24 --z-dim 32 --steps 7000

test: .venv/built lint  ## the whole test suite
	$(BIN)/pytest

lint: .venv/packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(filter %.h %.cpp %.cuh %.cu,$(shell find csrc tests -type f))
	$(BIN)/python tests/language.py
	$(BIN)/mypy
	$(BIN)/basedpyright

tidy: .venv/built  ## clang-tidy over the C++ sources
	$(BIN)/pip install -q clang-tidy
	$(BIN)/clang-tidy -p build --quiet csrc/ops.cpp $(wildcard csrc/cpu/*.cpp)

format: .venv/packages
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(filter %.h %.cpp %.cuh %.cu,$(shell find csrc tests -type f))

bench: .venv/built  ## kernels against plain torch, metrics against torch-fidelity: docs/speed.md
	$(BIN)/python -m benchmarks.spectral_norm
	$(BIN)/python -m benchmarks.attention
	$(BIN)/python -m benchmarks.gradient_penalty
	$(BIN)/python -m benchmarks.host_time
	$(BIN)/python -m benchmarks.host_time --device stub
	$(BIN)/python -m benchmarks.metrics
	$(BIN)/python -m benchmarks.critic_step
	$(BIN)/python -m benchmarks.numerics
	$(BIN)/python -m benchmarks.four_passes
	$(BIN)/python -m benchmarks.compiled_critic
	$(BIN)/python -m benchmarks.step_overhead
	$(BIN)/python -m benchmarks.training_step
	$(BIN)/python -m benchmarks.precision
	$(BIN)/python -m benchmarks.pages

gpu: .venv/built  ## everything that wants an NVIDIA GPU, in order; what is finished is kept: commit benchmarks/results
	$(BIN)/python -m benchmarks.gpu
	$(BIN)/python -m benchmarks.pages

papers: .venv/built  ## every table of docs/papers.md: some three hours on two cores; what is finished is kept
	set -e; for table in $(PAPERS); do $(BIN)/python -m benchmarks.papers.$$table; done
	$(BIN)/python -m benchmarks.pages

docs: .venv/built  ## the documentation, in build/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

kills: .venv/built  ## eight kinds of run, killed 20 times each: weights and logs must be those of undisturbed runs
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.training.kills --csv benchmarks/results/kills.csv

soak: .venv/built  ## an hour with everything on: memory, file handles and speed
	$(BIN)/python -m benchmarks.soak

sanitize: .venv/built  ## the op tests on CPU ops built with AddressSanitizer and UBSan
	FASTGAN_SANITIZE=1 FASTGAN_CUDA=0 $(BIN)/python setup.py -q build --build-base build/sanitized --build-lib build/sanitized/lib
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so) $$(g++ -print-file-name=libstdc++.so.6)" \
	ASAN_OPTIONS=detect_leaks=0 PYTHONPATH=build/sanitized/lib $(BIN)/pytest tests/contract tests/ops -p no:cacheprovider

test-wheel: .venv/built  ## one wheel for every torch: built under this torch, tested under another
	rm -rf build/wheel && $(BIN)/pip wheel -q --no-build-isolation --no-deps -w build/wheel .
	test -d .venv-other || $(PYTHON) -m venv .venv-other
	.venv-other/bin/pip install -q $(OTHER_TORCH) numpy pytest pytest-timeout hypothesis
	.venv-other/bin/pip install -q --no-deps --force-reinstall build/wheel/fastgan-*-abi3-*.whl
	cp -r tests pyproject.toml build/wheel && cd build/wheel && ../../.venv-other/bin/pytest tests/contract tests/ops tests/nn

# torch has these; a wheel that packed them would load a second copy.
OF_TORCH := libtorch.so libtorch_cpu.so libtorch_cuda.so libc10.so libc10_cuda.so

wheel: .venv/built  ## dist/: an abi3 manylinux wheel and an sdist, each installed and tested in a fresh environment
	rm -rf build/release dist
	$(BIN)/pip wheel -q --no-build-isolation --no-deps -w build/release .
	PATH="$(BIN):$$PATH" $(BIN)/auditwheel repair $(addprefix --exclude=,$(OF_TORCH)) -w dist build/release/fastgan-*.whl
	$(BIN)/python setup.py -q sdist --dist-dir dist
	mkdir build/release/check && cp -r tests pyproject.toml build/release/check
	set -e; for package in dist/fastgan-*; do \
	  $(PYTHON) -m venv --clear build/release/fresh; \
	  build/release/fresh/bin/pip install -q $(firstword $(TORCH)) numpy 'setuptools>=77' wheel pytest pytest-timeout hypothesis; \
	  build/release/fresh/bin/pip install -q --no-build-isolation --no-deps $$package; \
	  (cd build/release/check && ../fresh/bin/fastgan doctor && ../fresh/bin/pytest tests/ops); \
	done

clean:
	rm -rf build dist .venv .venv-other *.egg-info fastgan/*.so

# --- set-up, in two stamps: packages (minutes, once) and the build (seconds, when the sources change)

.venv/packages: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q --upgrade pip 'setuptools>=77' wheel
	$(BIN)/pip install -q $(TORCH)
	$(BIN)/pip install -q $$($(BIN)/python -c "import tomllib; print(*sum(tomllib.load(open('pyproject.toml', 'rb'))['project']['optional-dependencies'].values(), []))")
	touch $@

.venv/built: .venv/packages setup.py $(CSRC)
	FASTGAN_WERROR=$(FASTGAN_WERROR) $(BIN)/pip install -q --no-build-isolation --no-deps -e .
	touch $@
