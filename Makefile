# The one door. Every target is a call of a Python program that can be called without make.

PYTHON := $(if $(filter Windows_NT,$(OS)),python,python3)
VENV := .venv
# Empty: not passed on. (Set here, so that variables of the same name in the shell do nothing.)
PROFILE :=
DATA :=
DEVICE :=
SEED :=
JOBS :=
ONLY :=
MINUTES :=
QUICK :=
SUBMISSIONS :=
DEADLINE :=
OUT :=
TORCH :=
TESTED :=

ifeq ($(VENV),)
  PY := $(PYTHON)
  READY :=
  READY_BOOK :=
  READY_BROWSER :=
  READY_SLIDES :=
else
  PY := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)/python
  READY := $(VENV)/.complete
  READY_BOOK := $(VENV)/.complete-book
  READY_BROWSER := $(VENV)/.complete-browser
  READY_SLIDES := $(VENV)/.complete-slides
endif
RUN_OPTIONS := $(if $(PROFILE),--profile $(PROFILE)) $(if $(DATA),--data "$(DATA)") \
  $(if $(DEVICE),--device $(DEVICE)) $(if $(SEED),--seed $(SEED)) \
  $(if $(JOBS),--jobs $(JOBS)) $(if $(ONLY),--only $(ONLY))
SETUP_OPTIONS := $(if $(TORCH),--torch $(TORCH)) $(if $(TESTED),--tested)

.PHONY: help setup run-all test lint lab data refresh student grade slides site test-browser test-device reference-runs bench clean

help: ## this list
	@echo "make TARGET [NAME=value ...]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "For run-all: PROFILE=quick|full  DATA=auto|shapes|cifar10|cifar100|FOLDER  SEED=0"
	@echo "             DEVICE=auto|cpu|cuda|mps  JOBS=2 (notebooks at once)  ONLY=\"02 05\""
	@echo "For setup:   TORCH=cpu|cuda|default (else: CPU without an NVIDIA GPU)  TESTED=1 (versions)"
	@echo "Your own environment (conda): VENV= uses the python3 that is active, or PYTHON=..."

setup: $(READY) ## the virtual environment .venv, if it is missing or pyproject.toml is newer

run-all: $(READY) ## execute every notebook into build/executed/ and end with a table
	$(PY) tools/run_all.py $(RUN_OPTIONS)

test: $(READY) ## check code, units, stored outputs and student edition, as CI does
	$(PY) tools/test.py

lint: $(READY) ## check only the code's style
	$(PY) tools/test.py lint

lab: $(READY) ## open JupyterLab on the series
	$(PY) tools/lab.py

data: $(READY) ## fetch CIFAR-10 (170 MB; DATA=cifar100 for the other)
	$(PY) -m densenet_lib data $(if $(DATA),--source "$(DATA)")

refresh: $(READY) ## execute the notebooks and store them with fresh outputs (ONLY="02 05")
	$(PY) tools/refresh.py $(if $(ONLY),--only $(ONLY))

student: $(READY) ## write the notebooks without solutions into build/student/
	$(PY) tools/student.py

grade: $(READY) ## grade what students handed in (SUBMISSIONS=folder OUT=grades.csv DEADLINE=)
	$(PY) tools/grade.py $(if $(SUBMISSIONS),"$(SUBMISSIONS)") $(if $(OUT),--out "$(OUT)") \
	  $(if $(DEADLINE),--deadline "$(DEADLINE)")

test-browser: $(READY) $(READY_BOOK) $(READY_BROWSER) $(READY_SLIDES) ## try pages and JupyterLab in Chromium, where it is installed
	$(PY) tools/test.py browser

test-device: $(READY) ## run everything on a device that is not the CPU, made for this (needs a C++ compiler)
	$(PY) tools/test.py device

site: $(READY) $(READY_BOOK) ## make a book of the notebooks, to be read offline: build/site/index.html
	$(PY) tools/site.py

slides: $(READY) $(READY_SLIDES) ## turn the notebooks into slides with notes, in build/slides/
	$(PY) tools/slides.py

reference-runs: $(READY) ## train what recorded/ shows, or go on with it (DATA=cifar10, MINUTES=60)
	$(PY) tools/reference_runs.py $(if $(DATA),--data "$(DATA)") $(if $(DEVICE),--device $(DEVICE)) \
	  $(if $(JOBS),--jobs $(JOBS)) $(if $(ONLY),--only $(ONLY)) $(if $(MINUTES),--minutes $(MINUTES))

bench: $(READY) ## how fast this machine trains, in ratios, side by side (DEVICE=cuda, QUICK=1)
	$(PY) tools/bench.py $(if $(DEVICE),--device $(DEVICE)) $(if $(QUICK),--quick)

clean: ## delete build/, unfinished reference runs too, and caches (.venv and data stay)
	rm -rf build .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path "./.venv/*" -prune -exec rm -rf {} +

$(VENV)/.complete: pyproject.toml
	$(PYTHON) tools/setup.py $(VENV) $(SETUP_OPTIONS)

$(VENV)/.complete-%: pyproject.toml $(VENV)/.complete
	$(PYTHON) tools/setup.py $(VENV) $* $(SETUP_OPTIONS)
