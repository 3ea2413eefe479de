# The work of a developer. It needs Python 3.11 or newer, git and make; the rest goes into .venv.
#
#   make demo · make test          each target sets up what it needs
#   make test ARGS="-k inbox"      ARGS reaches pytest, the demo and the benchmarks
#   make test ARGS="-n 0"          one test at a time, in one process
#   make setup PYTHON=python3.13   a new .venv uses this interpreter, not the first one found

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CHECKOV := .venv-checkov
PROOFS := tests/chaos tests/image tests/laws
PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11
ARGS ?=

# The uv from PATH, else the pinned one in a virtual environment of its own. Make splits
# prerequisites at spaces, so the uv from PATH stays a bare name.
UV := $(if $(shell command -v uv 2>/dev/null),uv,.venv-uv/bin/uv)
OWN_UV := $(filter .venv-uv/%,$(UV))

# The interpreter is the one that find_python finds: uv downloads none.
export UV_PYTHON_DOWNLOADS := never

# The tests call make in rendered services, which must not see the flags given here.
unexport MAKEFLAGS MFLAGS VIRTUAL_ENV PYTHONPATH

# Tests and demo start hundreds of Python programs: each would compile all its imports again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help

.PHONY: help
help: ## show the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' Makefile

.PHONY: setup
setup: $(READY) ## make the environment; leaves .venv/bin/dockyard
	@echo "==> Setup: ready, $(BIN)/dockyard is there"

.PHONY: demo
demo: $(READY) ## three services and a broker on this machine, step by step
	@$(BIN)/dockyard demo $(ARGS)

.PHONY: test
test: $(READY) ## all tests but the proofs, against real servers
	@echo "==> Tests: pytest; the tests start NATS, RabbitMQ, Redis and PostgreSQL themselves"
	@$(BIN)/pytest -n auto $(if $(findstring tests/,$(ARGS)),,$(PROOFS:%=--ignore=%)) $(ARGS)

.PHONY: proofs
proofs: $(READY) ## kills, outages and random updates in short, and the image
	@echo "==> Proofs: short forms of make chaos and make laws; as root the image, built and run"
	@$(BIN)/pytest -n auto $(PROOFS) $(ARGS)

.PHONY: check
check: $(READY) ## lint, format, types, workflows, generated files
	@echo "==> Lint: ruff check"
	@$(BIN)/ruff check
	@echo "==> Format: ruff format"
	@$(BIN)/ruff format --check
	@echo "==> Types: mypy --strict"
	@$(BIN)/mypy
	@$(BIN)/mypy -m docs.reference -p docs.tables
	@$(BIN)/mypy -p docs.drawing
	@$(BIN)/mypy -p monitoring
	@$(BIN)/mypy .ci/release.py
	@echo "==> Workflows: actionlint, their schema, zizmor"
	@$(BIN)/actionlint
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows \
	  .github/workflows/*.yml
	@$(BIN)/check-jsonschema --quiet --builtin-schema vendor.renovate renovate.json
	@$(BIN)/zizmor --offline --quiet --pedantic .github
	@echo "==> Reference: docs/reference says what the code says"
	@$(BIN)/python -m docs.reference --check
	@echo "==> Pictures: those of the README are what docs/drawing draws"
	@$(BIN)/python -m docs.drawing --check
	@echo "==> Dashboard: the one in the template is the one that monitoring/ describes"
	@$(BIN)/python -m monitoring.dashboard --check
	@$(BIN)/python -m monitoring.shared --check

.PHONY: manifests
manifests: $(READY) $(CHECKOV)/.ready ## audit the rendered chart with checkov
	@echo "==> Manifests: checkov"
	@$(BIN)/python -m tests.template.chart.audit $(CHECKOV)/bin/checkov

.PHONY: format
format: $(READY) ## format the code, mend what can be mended
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: docs
docs: $(READY) ## write docs/reference and the dashboard from the code
	$(BIN)/python -m docs.reference
	$(BIN)/python -m monitoring.dashboard
	$(BIN)/python -m monitoring.shared

.PHONY: pictures
pictures: $(READY) ## draw the pictures of the README
	@$(BIN)/python -m docs.drawing

.PHONY: recording
recording: $(READY) ## run the demo and keep what it prints for the README; ARGS=--check compares
	@$(BIN)/python -m docs.drawing --record $(ARGS)

.PHONY: bench
bench: $(READY) ## events per second against yardsticks in the same run
	@echo "==> Benchmark: throughput"
	@$(BIN)/python -m benchmarks.throughput $(ARGS)

.PHONY: laws
laws: $(READY) ## the laws of an update, over 2000 random templates, services and edits
	@echo "==> Laws: random templates and services; LAW_CASES=N for another number"
	@LAW_CASES=$${LAW_CASES:-2000} $(BIN)/pytest tests/laws --timeout 3600 $(ARGS)

.PHONY: chaos
chaos: $(READY) ## kill, stop and pause things under load, for an hour or more; count every event
	@echo "==> Chaos: real services and servers, seeded faults"
	@$(BIN)/python -m tests.chaos $(ARGS)
	@echo "==> Chaos: the failure matrix, rolling restarts, outages of 30 s, 5,000 dead letters"
	@CHAOS=long $(BIN)/pytest -o log_cli=true -o log_cli_level=INFO \
	  --ignore tests/chaos/test_chaos.py tests/chaos

.PHONY: chaos-cluster
chaos-cluster: $(READY) ## kill, freeze, cut off and fill up nodes of NATS and RabbitMQ clusters
	@echo "==> Chaos: three nodes of each bus; as root the disks of NATS get full too"
	@$(BIN)/python -m tests.chaos --nodes 3 $(ARGS)

.PHONY: chaos-replay
chaos-replay: $(READY) ## ten thousand dead letters, by a slow line, killed in the middle
	@echo "==> Chaos: dead letters are replayed while their cause remains"
	@$(BIN)/python -m tests.chaos.replays --bus nats $(ARGS)
	@$(BIN)/python -m tests.chaos.replays --bus rabbitmq $(ARGS)

.PHONY: chaos-sigterm
chaos-sigterm: $(READY) ## 600 SIGTERMs in the first ten seconds, on each bus with each store
	@echo "==> Chaos: SIGTERM at any moment ends with exit code 0"
	@SIGTERMS=75 $(BIN)/pytest -n 0 -o log_cli=true -o log_cli_level=INFO --timeout 1800 \
	  tests/chassis/replica/test_sigterm.py $(ARGS)

.PHONY: chaos-trickle
chaos-trickle: $(READY) ## ten minutes of 0.3 to 700 events a second: no connection is lost
	@echo "==> Chaos: a healthy NATS server, and a replica with little or much to do"
	@$(BIN)/python -m tests.chaos.trickle $(ARGS)

.PHONY: test-rabbitmq4
test-rabbitmq4: $(READY) ## as root: conformance, failures and chaos on RabbitMQ 4, in a chroot
	@echo "==> RabbitMQ 4: Debian 13 in .debian-13, by debootstrap"
	@$(BIN)/python -m tests.brokers.debian13 .debian-13
	@echo "==> RabbitMQ 4: conformance, failure matrix, chaos in short"
	@DOCKYARD_PROGRAMS=$(CURDIR)/.debian-13/programs $(BIN)/pytest -n 0 -k rabbitmq \
	  tests/chassis/bus tests/chaos/test_failure_matrix.py tests/chaos/test_chaos.py $(ARGS)

.PHONY: chaos-processes
chaos-processes: $(READY) ## ten thousand processes, thirty kills, on PostgreSQL and on NATS
	@echo "==> Chaos: shuffled and repeated events of processes whose replicas are killed"
	@$(BIN)/python -m tests.chaos.processes --bus rabbitmq --store postgres $(ARGS)
	@$(BIN)/python -m tests.chaos.processes --bus nats --store nats-kv $(ARGS)

.PHONY: alerts
alerts: $(READY) ## provoke the platform's alerts by real faults, and see them fire and resolve
	@echo "==> Alerts: real brokers, stores, exporters, Prometheus and Alertmanager"
	@ALERTS=long $(BIN)/pytest -o log_cli=true -o log_cli_level=INFO tests/platform $(ARGS)

.PHONY: bench-rules
bench-rules: $(READY) ## what all rules cost Prometheus, for a hundred services
	@echo "==> Benchmark: rules of the platform and of services"
	@PYTHONPATH=platform/nats-exporter/src $(BIN)/python -m benchmarks.rules $(ARGS)

.PHONY: bench-update
bench-update: $(READY) ## dockyard update against copier update: one service, and fleets
	@echo "==> Benchmark: updates"
	@$(BIN)/python -m benchmarks.update $(ARGS)

# The versions in the file stay: delete a package's entry to move it to the newest.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --custom-compile-command "make lock"

.PHONY: lock
lock: $(READY) ## write requirements-*.txt from pyproject.toml
	$(COMPILE) --group dev --no-emit-package dockyard --no-emit-package dockyard-chassis \
	  --output-file requirements-dev.txt pyproject.toml
	echo "checkov>=3.3" | $(COMPILE) --output-file requirements-checkov.txt -

.PHONY: clean
clean: ## remove the environments and every cache
	rm -rf $(VENV) .venv-uv $(CHECKOV) .debian-13 .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): requirements-dev.txt pyproject.toml template/chassis/pyproject.toml | $(OWN_UV)
	@[ -x $(BIN)/python ] || { \
	  $(find_python); \
	  echo "==> Setup: making $(VENV) with $$python"; \
	  rm -rf $(VENV) && "$(UV)" venv --quiet --no-project --python "$$python" $(VENV); \
	}
	@echo "==> Setup: installing the pinned dependencies"
	@"$(UV)" pip sync --quiet --python $(BIN)/python --require-hashes requirements-dev.txt
	@echo "==> Setup: installing dockyard and dockyard-chassis from this checkout"
	@"$(UV)" pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation \
	  --editable . --editable template/chassis
	@touch $@

# An environment of its own: the hundred dependencies of checkov would constrain ours.
$(CHECKOV)/.ready: requirements-checkov.txt | $(READY)
	@echo "==> Setup: installing checkov into $(CHECKOV)"
	@rm -rf $(CHECKOV) && $(BIN)/uv venv --quiet --no-project --python $(BIN)/python $(CHECKOV)
	@$(BIN)/uv pip sync --quiet --python $(CHECKOV)/bin/python --require-hashes \
	  requirements-checkov.txt
	@touch $@

# requirements-dev.txt gives uv's version and hashes.
.venv-uv/bin/uv:
	@$(find_python); \
	echo "==> Setup: uv is not in PATH, installing it into .venv-uv with $$python"; \
	rm -rf .venv-uv; \
	"$$python" -m venv .venv-uv || { \
	  rm -rf .venv-uv; \
	  echo "$$python cannot make a virtual environment." \
	    "On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; \
	}; \
	awk '/^[^ #]/ {uv = /^uv==/} uv' requirements-dev.txt > .venv-uv/uv.txt && \
	.venv-uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	  -r .venv-uv/uv.txt

# Sets the shell variable `python` to an interpreter that is new enough, or ends with a sentence.
define find_python
for candidate in $(PYTHON); do \
  python=$$("$$candidate" -c "import sys; sys.version_info >= (3, 11) and print(sys.executable)" \
    2>/dev/null) && [ -n "$$python" ] && break; \
  python=; \
done; \
[ -n "$$python" ] || { \
  echo "Dockyard needs Python 3.11 or newer, and found none of: $(PYTHON)." \
    "Install one, or name it: make setup PYTHON=/path/to/python" >&2; \
  exit 1; \
}
endef
