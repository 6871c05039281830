# The binary and its packages. Included by the Makefile of the project, which says what is what.

RELEASE ?= 1
MAINTAINER ?=
S3D     ?=
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
BINARY  := build/binary
SOURCES := pyproject.toml $(shell find predastore -name '*.py' -o -name '*.pyx' -o -name '*.h')

.PHONY: lock binary packages test-e2e test-packages

lock: $(VENV)/.venv
	$(BIN)/python packaging/lock.py

# The folder of the last build is kept while nothing that it is made of has changed.
binary: dist/s3d

dist/s3d: $(BINARY)/.stamp packaging/onefile.py packaging/launcher.c
	$(BINARY)/venv/bin/python packaging/onefile.py

packages: binary
	@packaging/system-packages packages
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) RELEASE='$(RELEASE)' MAINTAINER='$(MAINTAINER)' \
	    $(BIN)/python packaging/packages.py

test-e2e: dev clients
	@S3D='$(S3D)' packaging/without-python $(BIN)/python -m pytest $(ARGS) tests/e2e

test-packages: dev packages
	@packaging/system-packages test-packages
	$(BIN)/python -m pytest -p no:cacheprovider $(ARGS) packaging/tests

$(BINARY)/venv/.stamp: packaging/requirements.lock | $(VENV)/.venv
	@packaging/system-packages binary
	@echo '==> Python environment of the binary'
	rm -rf $(@D)
	$(PYTHON) -m venv $(@D)
	@# Sources are built with the setuptools that the lock names, too, and not with what pip would fetch.
	awk '/^setuptools==/, !/\\$$/' $< | \
	    $(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r /dev/stdin
	$(@D)/bin/python -m pip install -q --disable-pip-version-check --require-hashes \
	    --no-build-isolation -r $<
	@touch $@

$(BINARY)/.stamp: $(BINARY)/venv/.stamp $(VENV)/.build $(SOURCES) packaging/binary.py \
    packaging/licences.py packaging/s3d.py
	@echo '==> The binary (some minutes)'
	rm -rf build/lib* $(BINARY)/wheel
	$(BIN)/python -m pip wheel -q --no-build-isolation --no-deps -w $(BINARY)/wheel .
	$(BINARY)/venv/bin/python -m pip install -q --disable-pip-version-check --force-reinstall \
	    --no-deps $(BINARY)/wheel/*.whl
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(BINARY)/venv/bin/python packaging/binary.py
	@touch $@
