# `make demo` and `make test` set up everything they need; .venv is created on first use.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest

.PHONY: demo test coverage test-slow check lint docs gpu bench-operators bench-transforms bench-physics bench-physics-long bench-solving bench-loader bench-training-cost bench-accuracy bench-global soak stress-train fuzz clean

demo: $(VENV)/.demo
	$(BIN)/forecast quickstart

# Three single-threaded processes on two cores, since many tests wait for other processes.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(PYTEST) -n 3 --dist worksteal -m "not slow and not gpu and not network" --durations=15

# The test suite with coverage, which takes half as long again.
coverage: $(VENV)/.test
	OMP_NUM_THREADS=1 $(PYTEST) -n 3 --dist worksteal -m "not slow and not gpu and not network" --cov --cov-report=term

test-slow: $(VENV)/.test
	$(PYTEST) -m "slow"

# Tests and benchmark on a GPU, if there is one.
gpu: $(VENV)/.test
	$(PYTEST) -m gpu
	$(BIN)/python -c "import torch; raise SystemExit(not torch.cuda.is_available())" \
	  && $(BIN)/python benchmarks/operators.py --device cuda --output benchmarks/results/operators_cuda.json || true

# Comparison of operators with other packages, in a separate environment.
bench-operators: .bench/.done
	.bench/bin/python -W ignore benchmarks/operators.py
	.bench/bin/python benchmarks/table.py

.bench/.done: benchmarks/requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv .bench
	.bench/bin/python -m pip install -q -c constraints.txt -e .
	.bench/bin/python -m pip install -q --no-deps -r benchmarks/requirements.txt
	touch $@

bench-transforms: $(VENV)/.test
	$(BIN)/python benchmarks/transforms.py

# Physics-informed networks: one seed in about ten minutes, or three seeds.
bench-physics: $(VENV)/.test
	$(BIN)/python benchmarks/physics.py --quick
	$(BIN)/python benchmarks/table.py

bench-physics-long: $(VENV)/.test
	$(BIN)/python benchmarks/physics.py
	$(BIN)/python benchmarks/physics.py --curriculum

# Solution operators compared with solvers, and parameters from an experiment: 45 minutes.
bench-solving: $(VENV)/.test
	$(BIN)/python benchmarks/solving.py
	$(BIN)/python benchmarks/table.py

# Comparison of loaders with other packages: five minutes. anemoi-datasets needs a separate environment.
bench-loader: $(VENV)/.test .anemoi/.done
	$(BIN)/python -m pip install -q -c constraints.txt xbatcher==0.4.0
	$(BIN)/python benchmarks/loader.py --anemoi .anemoi/bin/python
	$(BIN)/python benchmarks/table.py

# Optimizers, schedules and cost of training on simulated data, DATA=speedy_t30_5625_years1-4.nc: six minutes of CPU time.
bench-training-cost: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/training_cost.py $(DATA)
	$(BIN)/python benchmarks/table.py

# Accuracy against neuraloperator at equal samples, epochs and parameters, DATA=FOLDER with darcy_train_16.npz: an hour.
bench-accuracy: .bench/.done
	OMP_NUM_THREADS=1 FOURCASTER_TEST_DATA=$(DATA) .bench/bin/python -W ignore benchmarks/accuracy.py
	.bench/bin/python benchmarks/table.py

# Global recipes, trained and compared with ridge regression, DATA=speedy_t30_5625_years1-4.nc: three hours.
bench-global: $(VENV)/.test
	for recipe in global_sfno global_fno global_afno; do $(BIN)/python benchmarks/global_skill.py $$recipe $(DATA) || exit; done
	$(BIN)/python benchmarks/global_ablation.py $(DATA)
	$(BIN)/python benchmarks/table.py

# Two weeks of scheduled forecasts with injected faults: eight minutes.
soak: $(VENV)/.test
	$(BIN)/python benchmarks/soak.py
	$(BIN)/python benchmarks/table.py

# A training run that is killed 30 times at random moments: five minutes.
stress-train: $(VENV)/.test
	$(BIN)/python benchmarks/stress.py

# Invalid inputs of every kind for every verb: fifteen minutes. Inputs of failed cases are kept in fuzz-failures.
fuzz: $(VENV)/.test
	$(BIN)/python benchmarks/fuzz.py

.anemoi/.done:
	$(PYTHON) -m venv .anemoi
	.anemoi/bin/python -m pip install -q anemoi-datasets==0.5.47 "zarr<3"
	touch $@

check: lint
	$(MAKE) test

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The documentation site in docs/_build/html; the tutorials are executed. About five minutes.
docs: $(VENV)/.docs
	rm -rf docs/api/generated
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -E -W --keep-going -j 2 docs docs/_build/html

$(VENV)/bin/python:
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; set PYTHON=...' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[test]"
	touch $@ $(VENV)/.demo

$(VENV)/.dev: $(VENV)/.test
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

$(VENV)/.docs: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[docs]"
	touch $@

clean:
	rm -rf docs/_build docs/api/generated $(VENV) .bench .anemoi build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .coverage .coverage.* quickstart fuzz-failures
