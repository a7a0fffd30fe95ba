# make book    executes the chapters and leaves the book in _build/html/index.html
# make test    everything that CI runs: lint, the package's tests, the chapters as notebooks, the pages in a browser
# Both set up .venv by themselves; PYTHON=python3.12 picks the interpreter it is made with.

PYTHON ?= python3
CONSTRAINTS ?= constraints.txt
DEVICE ?= cpu
BIN := .venv/bin
READY := .venv/installed

# The text of a neighbouring ../shared/corpus, where it is there and no other was asked for; otherwise the embedded one.
ifndef SAE_CORE_CORPUS
ifneq ($(wildcard ../shared/corpus/MANIFEST.json),)
export SAE_CORE_CORPUS := $(abspath ../shared/corpus)
endif
endif

.PHONY: book pdf links notebooks test lint pretrain bench fits claims clean

book: $(READY)
	$(BIN)/jupyter-book build . -W -n --keep-going

# Prints the book to _build/html/one-layer-many-features.pdf, with Chromium or Chrome, and links it from the first page.
pdf: book
	$(BIN)/python book/_tools/pdf.py

# Looks whether the links out of the book lead somewhere; _build/linkcheck/output.txt has the verdicts.
links: $(READY)
	$(BIN)/jupyter-book build . --builder linkcheck --keep-going

# Exports the chapters for Colab and JupyterLab, into _build/notebooks: with the numbers of the last `make book` in the
# prose where there was one, and with OUTPUTS=1 with its outputs. SAE_CORE_REPOSITORY=https://github.com/OWNER/NAME says
# where Colab gets the package, unless _config.yml does.
notebooks: $(READY)
	$(BIN)/python book/_tools/notebooks.py $(if $(OUTPUTS),--outputs)

test: lint
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile --durations 12

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python book/_tools/typed_numbers.py

# Prints what the bundled models and dictionaries take on this machine, then makes them by their recipes into runs/;
# again after a stop, it continues. ARTEFACTS="A A/1" makes only those. With SAE_CORE_HOME=runs the book, and everything
# else, uses them in place of the bundled ones.
pretrain: $(READY)
	$(BIN)/sae-core release $(ARTEFACTS) --home runs --device $(DEVICE)

# Measures sae_core beside SAELens, dictionary_learning and sparsify, each in an environment below benchmarks/.venvs, and
# writes benchmarks/results/*.json for the book's page. Takes hours; again after a stop, it continues. ONLY=step measures
# one thing, ROUNDS=10 and THREADS=4 as they say, QUICK=1 sees in minutes that everything runs.
bench: $(READY)
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(THREADS),--threads $(THREADS)) $(if $(QUICK),--quick)

# Runs the exported chapters and writes what each takes in minutes and memory, for the book's page *What fits
# where*. ONLY="dictionary/density features/arabic" runs some, SAE_CORE_MODE=full runs them at full size.
fits: $(READY)
	$(BIN)/python benchmarks/chapters.py $(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(OUT))

# Writes what the book's chapters measure on mini-pile into claims.yml.
claims: book
	$(BIN)/python book/_tools/claims.py collect

clean:
	rm -rf _build .venv

$(READY): requirements.txt constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
		|| { echo "sae-core needs Python 3.10 or newer; name one: make book PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv \
		|| { rm -rf .venv; echo "no venv module: on Debian and Ubuntu, apt install python3-venv"; exit 1; }
	@echo "== installing the pinned versions into .venv (a few minutes, once)"
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) torch
	@$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) --requirement requirements.txt
	@touch $@
