# Needs git, make, bash and Python 3.11 or later; everything else is put into this directory (.tools, .venv).
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

UV := $(or $(shell command -v uv),.tools/uv)
BIN := .venv/bin
sync = [[ -x $(UV) ]] || python3 bin/bootstrap.py $(UV); $(UV) sync --quiet --frozen
none_chosen = [[ $$? == 5 ]]
quoted = '$(subst ','\'',$(1))'

# Tests are rewritten when they are loaded: eight seconds of each process, each time, unless what came of it may be kept.
test test-services faults: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help get up test test-services faults chaos chaos-all lint bench compose-test

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 22

get: .venv/ready-to-run ## download: make get URL=https://… [ARGS="--out DIR --hash"]; several URLs with spaces between
	@test -n $(call quoted,$(value URL)) || { echo "which URL? make get URL=https://…" >&2; exit 2; }
	@exec $(BIN)/haul get $(ARGS) $(foreach url,$(value URL),$(call quoted,$(url)))

up: .venv/ready-to-run ## run one machine's whole stack in the foreground; Ctrl-C drains
	@exec $(BIN)/haul up $(ARGS)

test: .venv/ready-to-develop ## run the whole test suite: make test [ARGS="tests/unit -k name"]
	@$(BIN)/pytest -n 3 --dist worksteal -q --ignore tests/faults $(ARGS)

test-services: .venv/ready-to-develop ## run the end-to-end tests once more, on MongoDB, Redis and engines that run by themselves
	@HAUL_TEST_STACK=services $(BIN)/pytest -n 2 --dist worksteal -q tests/e2e $(ARGS)

faults: .venv/ready-to-develop ## break everything around Haul and see what holds (docs/faults.md); most of it is waiting
	@$(BIN)/pytest -n 6 --dist worksteal -q --timeout 300 -m "not alone" tests/faults $(ARGS) || $(none_chosen)
	@$(BIN)/pytest -q -m alone tests/faults $(ARGS) || $(none_chosen)

JOBS ?= 1000
KILLS ?= 300
SEED ?= 1
STORE ?= sqlite
SEEDS ?= 1 2 3 4 5

chaos: .venv/ready-to-develop ## kill, freeze and cut off everything at random under load: make chaos JOBS=1000 KILLS=300 SEED=1 STORE=sqlite|mongodb
	@$(BIN)/python -m tests.chaos --jobs $(JOBS) --kills $(KILLS) --seed $(SEED) --store $(STORE) $(ARGS)

chaos-all: .venv/ready-to-develop ## the chaos run with five seeds on each store; takes hours
	@for store in sqlite mongodb; do for seed in $(SEEDS); do \
	  $(BIN)/python -m tests.chaos --jobs $(JOBS) --kills $(KILLS) --seed $$seed --store $$store; done; done

lint: .venv/ready-to-develop ## check style, types and the import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: .venv/ready-to-develop ## measure and print the figures
	@$(BIN)/python -m tests.bench $(ARGS)

compose-test: ## run docker-compose.yml for real, download by each engine through its API, and take it down again
	@python3 -m tests.smoke.compose

# What a run needs is added to what is there, so that a developer's environment stays whole.
.venv/ready-to-run: pyproject.toml uv.lock
	@echo "setting up, once …" >&2
	@$(sync) --inexact --no-default-groups --group embedded
	@touch $@

.venv/ready-to-develop: pyproject.toml uv.lock
	@echo "setting up, once …" >&2
	@$(sync) --compile-bytecode
	@touch $@ .venv/ready-to-run
