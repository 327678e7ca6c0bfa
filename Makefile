# Thin lines over plain commands. PYTHON chooses the interpreter, EXTRAS what is installed beside
# the dependencies: `make venv EXTRAS=cpu,test,check,cuda` for a GPU.
PYTHON ?= python3
EXTRAS ?= cpu,test,check
CONSTRAINTS ?= --constraint constraints.txt
VENV ?= .venv
BIN = $(VENV)/bin
PYTEST = $(BIN)/python -m pytest -n logical --maxprocesses=4 --dist=worksteal
INSTALLED = $(VENV)/.installed-$(EXTRAS)

.PHONY: venv demo milestones test long oracles oracle-tests slow check results bench

venv: $(INSTALLED)
$(INSTALLED): setup.cfg pyproject.toml constraints.txt
	@echo 'Installing into $(VENV): a minute or two'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS) '.[$(EXTRAS)]'
	@rm -rf build breakthroughs.egg-info
	@touch $@

demo: venv
	$(BIN)/python launch.py train --config=lenet_digits --workdir=runs/lenet_digits
	$(BIN)/python launch.py eval --workdir=runs/lenet_digits
	$(BIN)/python launch.py report --workdir=runs/lenet_digits
	$(BIN)/python launch.py train --config=gpt_python_cpu --workdir=runs/gpt_python_cpu
	$(BIN)/python launch.py eval --workdir=runs/gpt_python_cpu
	$(BIN)/python launch.py report --workdir=runs/gpt_python_cpu
	$(BIN)/python launch.py sample --workdir=runs/gpt_python_cpu --prompt='def ' --temperature=0.8
	$(BIN)/python launch.py train --config=diffusion_digits --workdir=runs/diffusion_digits
	$(BIN)/python launch.py eval --workdir=runs/diffusion_digits
	$(BIN)/python launch.py report --workdir=runs/diffusion_digits
	$(BIN)/python launch.py sample --workdir=runs/diffusion_digits --label=3,7 --path
	$(BIN)/python launch.py train --config=go_5x5 --workdir=runs/go_5x5 $(SHORT)
	$(BIN)/python launch.py report --workdir=runs/go_5x5

# What led to them, each in a minute or so, without a download.
milestones: venv
	$(BIN)/python launch.py train --config=word2vec_python --workdir=runs/word2vec_python
	$(BIN)/python launch.py report --workdir=runs/word2vec_python
	$(BIN)/python launch.py sample --workdir=runs/word2vec_python --word=list --word=error --word=import
	$(BIN)/python launch.py train --config=dbn_digits --workdir=runs/dbn_digits
	$(BIN)/python launch.py sample --workdir=runs/dbn_digits --label=3,7
	$(BIN)/python launch.py train --config=gan_digits --workdir=runs/gan_digits
	$(BIN)/python launch.py report --workdir=runs/gan_digits
	$(BIN)/python launch.py sample --workdir=runs/gan_digits --label=3,7
	$(BIN)/python launch.py train --config=dqn_cartpole --workdir=runs/dqn_cartpole
	$(BIN)/python launch.py report --workdir=runs/dqn_cartpole
	$(BIN)/python launch.py train --config=translation_numerals --workdir=runs/translation_numerals
	$(BIN)/python launch.py translate --workdir=runs/translation_numerals --prompt='seven hundred and twelve'

# Two minutes of self-play in which the share of points against random play is seen to rise.
SHORT = --config.train.steps=300 --config.train.log_every=10 --config.train.eval_every=50 \
  --config.train.best=random/share "--config.task.evaluation.baselines=('random',)" \
  --config.task.replay.min_size=2000 --config.task.evaluation.timings=False

# Most programs of these tests run once: to compile them well takes longer than to run them badly.
# With QUICK= they are compiled as users' are, in half as much time again.
QUICK = JAX_DISABLE_MOST_OPTIMIZATIONS=1

test: venv
	$(QUICK) $(PYTEST)

long: venv
	$(QUICK) $(PYTEST) -m 'long and not slow and not gpu'

# The tests beside public libraries that the other environment does without.
PUBLIC = torch|transformers|diffusers|gensim|gymnasium|minatar|ale_py
ORACLES = $(shell grep -lrE "importorskip\('($(PUBLIC))'\)" tests --include=*.py)

oracles:
	$(MAKE) oracle-tests VENV=.venv-oracles EXTRAS=cpu,test,hf,atari

oracle-tests: venv
	$(QUICK) $(PYTEST) -m 'not slow and not gpu' $(ORACLES)

# With FUZZ the readers of files are given 2,000 damaged inputs each instead of 50.
slow: venv
	$(BIN)/python -m pytest -m slow
	FUZZ=1 $(QUICK) $(BIN)/python -m pytest -m 'not slow and not gpu' -k fuzz

check: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck cluster/*.sh
	$(BIN)/mypy launch.py models mcts data train benchmarks configs examples tests

results: venv
	$(BIN)/python -m train.report.results
	$(BIN)/python -m train.aot.table

bench: venv
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.go
	$(BIN)/python -m benchmarks.search
	$(BIN)/python -m benchmarks.gpt
	$(BIN)/python -m benchmarks.word2vec
	$(BIN)/python -m benchmarks.translation
	$(BIN)/python -m benchmarks.diffusion
	$(BIN)/python -m benchmarks.gan
	$(BIN)/python -m benchmarks.selfplay --parts
	$(BIN)/python -m benchmarks.input
	$(BIN)/python -m benchmarks.environments
