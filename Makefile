# make demo   install, and run the whole workflow on generated images
# make test   install, and run the linters and all tests
# make test-slurm   the demo on a SLURM that is started for it: half an hour, as root, on Debian
# make bench  measure the speed of each part
# make soak   kill every job again and again, and compare what it leaves bit for bit

VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Each job starts an interpreter, which should find its modules compiled, whatever the shell says.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-slurm bench soak lint install lock clean

demo: install
	snakemake --cores all
	@echo "Open results/demo/report.html"

# One thread to a process: sums are split by thread, and two processes share the cores.
test: install lint
	OMP_NUM_THREADS=1 pytest --numprocesses auto --dist loadfile

test-slurm: install
	TEST_SLURM=1 OMP_NUM_THREADS=1 nice pytest tests/slurm

bench: install
	python -m benchmarks

# It writes what came of it into docs/robustness.md.
soak: install
	OMP_NUM_THREADS=1 python -m tests.soak.soak

lint: install
	ruff check
	ruff format --check
	mypy
	lint-imports
	snakefmt --check Snakefile rules
	snakemake --lint

install: $(VENV)/installed

# The environment is exactly the lock, every file checked by its hash; uv too comes from there.
# Compiled at once, since each job of the workflow starts an interpreter.
$(VENV)/installed: requirements.lock
	python3 -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || python3 -m venv $(VENV)
	sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(VENV)/uv.lock
	$(BIN)/uv pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	touch $@

# After a change of the dependencies in pyproject.toml; hosts are left out of the lock.
lock:
	uv pip compile --quiet pyproject.toml --extra dev --extra slurm --universal --generate-hashes \
		--no-header --no-annotate --no-emit-index-url --output-file requirements.lock

clean:
	rm -rf $(VENV) results logs
