# make run        a working S3 endpoint on this machine
# make test       every test, real clients included
# make lint       ruff, mypy, the layer and style tests
# make bench      the benchmark table; BENCH=prefix picks rows, BENCH_OUT=file writes JSON;
#                 of S3: BASE=commit and PEER=url beside it, ROUNDS=n (docs/performance.md)
# make simulate   the metadata cluster under faults in virtual time; SEEDS=n, from FIRST=n on
# make faults     three members as processes, killed, stopped and cut off; SECONDS=120
# make host-faults  two of six hosts fail, in six ways, under load; as root; ARGS="--pairs 15"
# make simulate-quic  two ends of QUIC in bad weather, in virtual time; SEEDS and FIRST as above
# make fuzz-quic  the data plane of QUIC under sanitizers; SECONDS=3600
# make binary     dist/s3d, one file that needs no Python (minutes); make lock: its versions
# make packages   dist/*.deb and dist/*.rpm of it; RELEASE=n MAINTAINER="Name <address>"
# make test-e2e   the end-to-end tests; S3D=dist/s3d: against the binary, without Python in reach
# make test-packages  the binary and the packages: installed, upgraded, removed, purged
# make clean      removes what was built (data/ stays)
#
# Each installs what it needs: Debian packages when root, else it prints the line to type.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
BENCH  ?=
BENCH_OUT ?=
BASE   ?=
PEER   ?=
ROUNDS ?=
SEEDS  ?= 1000
FIRST  ?= 0
SECONDS ?=

KERNELS := setup.py $(wildcard predastore/_fast/*.pyx predastore/_fast/*.h predastore/_fast/*.pxd)

.PHONY: host-faults run test lint bench simulate faults simulate-quic fuzz-quic clean build dev clients

run: build
	@exec $(BIN)/s3d -config config/dev.toml $(ARGS)

test: dev clients lint
	$(BIN)/python -m pytest $(ARGS)

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/style

bench: dev $(VENV)/.bench
	@BENCH='$(BENCH)' BENCH_OUT='$(BENCH_OUT)' BASE='$(BASE)' PEER='$(PEER)' ROUNDS='$(ROUNDS)' \
		$(BIN)/python -m benchmarks

simulate: dev
	$(BIN)/python -m tests.s3db.simulator --seeds $(SEEDS) --first $(FIRST) --jobs 2

faults: dev
	S3DB_FAULT_SECONDS=$(or $(SECONDS),120) $(BIN)/python -m pytest -q -s --timeout 1200 tests/e2e/test_s3db_faults.py

host-faults: dev
	cd tests && ../$(BIN)/python -m e2e.faults $(ARGS)

simulate-quic: dev
	$(BIN)/python -m tests.rpc.simulator --seeds $(SEEDS) --first $(FIRST) --jobs 2

fuzz-quic: dev
	$(BIN)/python -m tests.fuzz.quic --seconds $(or $(SECONDS),3600) --jobs 2

clean:
	rm -rf build dist *.egg-info $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find predastore \( -name '*.so' -o -name '__pycache__' \) -prune -exec rm -rf {} +

build: $(VENV)/.build
dev: $(VENV)/.dev
clients: $(VENV)/.clients

# --- steps, each with a stamp -------------------------------------------------------------------

$(VENV)/.venv:
	@PYTHON='$(PYTHON)' packaging/system-packages build
	@echo '==> Python environment in $(VENV)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip 'setuptools>=78.1.1' 'wheel>=0.46.2' 'Cython>=3.1,<4'
	@touch $@

$(VENV)/.deps: pyproject.toml | $(VENV)/.venv
	@echo '==> Python packages'
	$(BIN)/python packaging/dependencies.py | $(BIN)/python -m pip install -q -r /dev/stdin
	@touch $@

$(VENV)/.build: $(VENV)/.deps $(KERNELS)
	@echo '==> Kernels (about a minute)'
	$(BIN)/python setup.py -q build_ext --inplace --parallel 2
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install -q --no-build-isolation --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.build pyproject.toml
	@packaging/system-packages test
	@echo '==> Python packages for development'
	$(BIN)/python packaging/dependencies.py dev | $(BIN)/python -m pip install -q -r /dev/stdin
	@touch $@

$(VENV)/.mc: | $(VENV)/.dev
	@if command -v go >/dev/null 2>&1; then \
		echo '==> mc, a client that a test uses (some minutes)'; \
		GOBIN=$(abspath $(VENV))/go go install github.com/minio/mc@latest || echo 'Going on without mc.'; \
	else echo 'Going on without mc, which needs Go 1.23.'; fi
	@touch $@

$(VENV)/.clients: tests/e2e/clients/pom.xml | $(VENV)/.dev $(VENV)/.mc
	@echo '==> Java packages of a client that tests use'
	mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(abspath $(VENV))/java -DincludeScope=runtime
	@touch $@

$(VENV)/.bench: $(VENV)/.dev
	@packaging/system-packages bench
	$(BIN)/python packaging/dependencies.py bench | $(BIN)/python -m pip install -q -r /dev/stdin
	@touch $@

include packaging/packaging.mk
