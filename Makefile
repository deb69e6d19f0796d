SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
READY := $(VENV)/ready
CLIENTS := $(VENV)/clients/bin
# openai-batch imports httpx without asking for it; pytest runs LangChain's tests.
PUBLISHED := openai-batch==0.3.4 langchain-openai==1.7.3 langchain-tests==1.1.9 langchain-core==1.7.2 openai==3.54.0 \
	httpx==0.28.1 pytest==9.2.0 pytest-asyncio==1.5.0

# A version manager's shim may be on the path and still not run, so each candidate is tried.
PYTHON ?= $(shell for python in python3.12 python3.13 python3.11 python3; do \
	"$$python" -c 'import sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$python" && break; done)
EXTRA := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
CPU_TORCH := torch==2.13.0+cpu
CPU_INDEX := https://download.pytorch.org/whl/cpu

# These start, kill and end everything at once, and want the machine to themselves.
WHOLE := tests/longhaul/test_up.py tests/longhaul/test_demo.py
UNITS := $(addprefix --ignore=,tests/faults tests/end_to_end tests/clients $(WHOLE))

.PHONY: help setup up demo test test-fast test-clients soak lint bench bench-long

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ printf "%-12s %s\n", $$1, $$2 }'

setup: $(READY) ## make .venv with all that the other targets need

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Longhaul needs Python 3.11, 3.12 or 3.13 with venv; name it: make PYTHON=/path/to/python" >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)
	@echo "Installing into $(VENV) for $(EXTRA) (some minutes the first time)" >&2
	@if [ $(EXTRA) = cpu ] && [ "$$(uname -s)" = Linux ] && ! $(PIP) show -q torch 2>/dev/null; then \
		log=$$(mktemp); \
		$(PIP) install -q '$(CPU_TORCH)' 2>"$$log" \
			|| { grep -qi 'no matching distribution' "$$log" && $(PIP) install -q --index-url $(CPU_INDEX) '$(CPU_TORCH)'; } \
			|| { cat "$$log" >&2; exit 1; }; \
		rm -f "$$log"; \
	fi
	@$(PIP) install -q -e '.[embedded,$(EXTRA),dev]' -c constraints.txt
# For the Compose specification's schema that lies in it; its own dependencies are too old to be installed with ours.
	@$(PIP) download -q --no-deps --only-binary :all: -d $(VENV)/wheels docker-compose==1.29.2
# torchvision, torchaudio and torchcodec come along as CUDA builds where there are no others, and then break transformers.
	@$(BIN)/python -c 'from transformers import LlamaForCausalLM' 2>/dev/null \
		|| $(PIP) uninstall -q -y torchvision torchaudio torchcodec
	@touch $(READY)

up: setup ## set everything up on this machine and serve until Ctrl-C
	@exec $(BIN)/longhaul up

demo: setup ## set everything up, run real work, print what happened, end
	@exec $(BIN)/longhaul demo

lint: setup ## style, types and import rules
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

test: lint ## everything: lint, units, faults on real processes, real vLLM
	@$(BIN)/pytest -q -n 2 $(UNITS)
	@$(BIN)/pytest -q -n 2 tests/faults
	@$(BIN)/pytest -q $(WHOLE)
	@$(BIN)/pytest -q tests/end_to_end

soak: setup ## ten minutes of random faults
	@SOAK_SECONDS=600 $(BIN)/pytest -q -s tests/faults/test_soak.py

test-clients: setup ## published clients of OpenAI's API, each in an environment of its own
	@$(CLIENTS)/python -c '' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV)/clients
	@$(CLIENTS)/pip --disable-pip-version-check install -q $(PUBLISHED)
	@LONGHAUL_TEST_CLIENTS=$(CLIENTS)/python $(BIN)/pytest -q tests/clients

test-fast: setup ## units only, without what loads a model
	@$(BIN)/pytest -q -n 2 -m 'not vllm' $(UNITS)

bench: setup ## measure, and print one table
	@exec $(BIN)/python -m bench

bench-long: setup ## the figures on a deep queue (a million jobs)
	@exec $(BIN)/python -m bench --long
