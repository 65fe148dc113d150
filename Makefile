# Everything runs in .venv, which the first target that needs it makes; nothing outside this folder
# is written, and so compiled kernels are kept in it. Paths are relative, so the folder's own name may hold spaces.
PYTHON ?= python3

# They would lead the environment's Python to another installation's packages.
unexport PYTHONHOME PYTHONPATH
export THALWEG_CACHE ?= $(CURDIR)/.venv/kernels

.PHONY: help showdown test test-slow check lint types layers bench bench-step bench-fleet bench-finder bench-verdict bench-recommendation docs

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1	/p' Makefile

showdown: .venv/.installed  ## race four optimizers on handwritten digits; print where the report is
	.venv/bin/thalweg showdown digits --out thalweg-runs

# Two workers with one thread each, so that they do not fight over the cores.
test: .venv/.installed  ## the quick tests
	OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 -m "not slow"

test-slow: .venv/.peers  ## the slow tests, also against other packages: minutes
	OMP_NUM_THREADS=1 .venv/bin/pytest -n 2 -m slow

check: lint types layers test  ## all that must hold before a change is handed in

lint: .venv/.installed  ## style and format
	.venv/bin/ruff check
	.venv/bin/ruff format --check

types: .venv/.installed  ## strict types of src/
	.venv/bin/mypy

layers: .venv/.installed  ## who may import whom
	.venv/bin/lint-imports

bench: .venv/.peers  ## the benchmarks but those with a target of their own: each prints a ratio against a named peer
	@for file in $(filter-out $(addprefix benchmarks/,step.py fleet.py finder.py verdict.py recommendation.py),$(wildcard benchmarks/[!_]*.py)); do \
		echo "== $$file"; .venv/bin/python "$$file" || exit; \
	done

bench-step: .venv/.peers  ## a step of every method, on five lists of tensors: hours; see ARGS=--help
	.venv/bin/python benchmarks/step.py $(ARGS)

bench-fleet: .venv/.peers  ## many trainings of small networks, beside Optuna, Ray and JAX: an hour; ARGS=--help
	.venv/bin/python benchmarks/fleet.py $(ARGS)

bench-finder: .venv/.peers  ## learning-rate finders, ours and others', beside the truth: an hour; ARGS=--help
	.venv/bin/python benchmarks/finder.py $(ARGS)

bench-verdict: .venv/.installed  ## how often the verdict is right, in simulated and real races: minutes; ARGS=--help
	.venv/bin/python benchmarks/verdict.py $(ARGS)

bench-recommendation: .venv/.installed  ## what races recommend, beside exhaustive grids: half an hour; ARGS=--help
	.venv/bin/python benchmarks/recommendation.py $(ARGS)

docs: .venv/.installed  ## write the references of commands and methods anew
	.venv/bin/python -m thalweg.cli.reference commands > .venv/commands.md
	.venv/bin/python -m thalweg.cli.reference methods > .venv/methods.md
	mv .venv/commands.md .venv/methods.md docs

# The stamps are written last: an install that broke off is done again.
.venv/.installed: pyproject.toml constraints.txt
	@command -v $(PYTHON) > /dev/null || { \
		echo "Thalweg must be installed with Python 3.11 or newer; got no $(PYTHON)." \
			"Name one: make PYTHON=/path/to/python3" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit( \
		"Thalweg must be installed with Python 3.11 or newer; got %d.%d. " \
		"Name one: make PYTHON=/path/to/python3" % sys.version_info[:2])'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

.venv/.peers: .venv/.installed
	.venv/bin/python -m pip install --quiet -c constraints.txt -e '.[dev,peers]'
	.venv/bin/python -m pip install --quiet -c constraints.txt --no-deps fastai
	@touch $@
