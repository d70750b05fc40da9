# embedcore: everything is set up by the targets themselves, from Python >= 3.11 and a C++20 compiler.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
ITEMS ?=
MINUTES ?= 60
FUZZ_SECONDS ?= 60
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
PROTOS := $(wildcard server/proto/embedcore/v1/*.proto)
CPP_SOURCES = $(shell git ls-files --cached --others --exclude-standard 'cpp/*.h' 'cpp/*.cpp' 'tests/cpp/*.h' 'tests/cpp/*.cpp')
NATIVE_SOURCES = $(shell find cpp CMakeLists.txt -type f)
WHEEL := build/wheel

##@ Use
.PHONY: demo
demo: build ## Migrate a real corpus from one real model to another under live traffic (ITEMS=117659: all of it)
	embedcore demo $(if $(ITEMS),--items $(ITEMS)) $(DEMO_ARGS)

##@ Develop
.PHONY: build
build: $(VENV)/.built ## Create .venv and install embedcore into it (editable, native module compiled)

# Dependencies are resolved again only when pyproject.toml changed; the native build is incremental.
$(VENV)/.built: pyproject.toml $(NATIVE_SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit("embedcore needs Python 3.11 or newer: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV)
	@if [ pyproject.toml -nt $(VENV)/.installed ]; then \
	  $(BIN)/pip install --quiet "scikit-build-core>=1.1" "pybind11>=3.1" "cmake>=3.27" "ninja>=1.11" && \
	  $(BIN)/pip install --quiet --no-build-isolation --editable ".[dev]" && touch $(VENV)/.installed; \
	  $(BIN)/pip install --quiet "hnswlib==0.8.0" || echo "hnswlib does not build here: tests beside it are skipped"; \
	else \
	  $(BIN)/pip install --quiet --no-build-isolation --no-deps --editable .; \
	fi
	@touch $@

.PHONY: test
test: lint test-cpp test-python ## Build and run everything that has to pass: format, lint, types, C++ and Python tests

.PHONY: test-cpp
test-cpp: build ## C++ tests
	cmake --preset release --log-level=WARNING
	cmake --build --preset release
	ctest --preset release

.PHONY: test-python
test-python: build ## Python tests
	pytest -n 2 --dist loadgroup

.PHONY: lint
lint: build ## clang-format, ruff, import-linter, mypy strict, stubs against the built module
	@echo clang-format; clang-format --dry-run --Werror $(CPP_SOURCES)
	ruff format --check .
	ruff check .
	lint-imports
	mypy
	python -m mypy.stubtest embedcore._native

.PHONY: format
format: build ## Rewrite sources in the project's format
	@clang-format -i $(CPP_SOURCES)
	ruff format .
	ruff check --fix .

.PHONY: sanitize
sanitize: build ## C++ tests under AddressSanitizer, UBSan and ThreadSanitizer
	for preset in asan ubsan tsan; do cmake --workflow --preset $$preset || exit 1; done
	@grep -h 'left to make torture' build/tsan/Testing/Temporary/LastTest.log || true

.PHONY: mutants
mutants: build ## Plant faults in the C++ and Python sources, one after another: a test must find each
	python tests/mutants/run.py

.PHONY: torture
torture: build ## Stress tests for MINUTES (60), release and ThreadSanitizer, other random numbers every round
	python tests/torture.py --minutes $(MINUTES)

.PHONY: fuzz
fuzz: ## Fuzz the snapshot loader for FUZZ_SECONDS (60) with libFuzzer, where there is a clang++
	nice tests/fuzz/run.sh $(FUZZ_SECONDS)

.PHONY: proto
proto: build ## Regenerate python/embedcore/v1 from server/proto
	python -m grpc_tools.protoc -I server/proto --python_out=python --mypy_out=quiet:python \
	  --grpc_python_out=python --mypy_grpc_out=quiet:python $(PROTOS)

# A build folder of its own, so that the editable install keeps the one it was built from. A wheel reaches
# dist/ when it has passed; -I and another folder keep the checkout off the environment's sys.path.
.PHONY: wheel
wheel: build ## Build a manylinux wheel, try it in an empty environment, put it into dist/
	rm -rf $(addprefix $(WHEEL)/,raw repaired venv)
	pip wheel --quiet --no-deps --no-build-isolation --config-settings 'build-dir=$(WHEEL)/{wheel_tag}' \
	  --wheel-dir $(WHEEL)/raw .
	auditwheel repair --wheel-dir $(WHEEL)/repaired $(WHEEL)/raw/*.whl
	python -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -I -m pip install --quiet $(WHEEL)/repaired/*.whl
	cd / && "$(CURDIR)/$(WHEEL)/venv/bin/python" -I "$(CURDIR)/tests/wheel/smoke.py"
	mkdir -p dist && mv $(WHEEL)/repaired/*.whl dist/ && ls -l dist

.PHONY: clean
clean: ## Remove build outputs and the virtual environment
	rm -rf build dist $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.PHONY: help
help: ## This text
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} \
	  /^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
