# make demo | make run INPUT=… OUTPUT=… | make test | make check | make eval | make bench
PYTHON ?= python3
FACES ?= ../shared/faces
# one process a core, each with whole files; idle threads of torch sleep, for spinning they would hold up the tests beside them
PYTEST = OMP_WAIT_POLICY=PASSIVE .venv-all/bin/python -m pytest -q -n auto --dist loadfile

.venv/base: setup.py
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable .
	touch $@

.venv-all/all: setup.py
	$(PYTHON) -m venv .venv-all
	.venv-all/bin/pip install --quiet --editable '.[all]'
	touch $@

.PHONY: demo run test check eval bench
demo: .venv/base
	.venv/bin/python -m demo --output .demo/photos --cache .demo/packages
	.venv/bin/umo-dataset build .demo/photos --output .demo/dataset --about .demo/photos/ORIGIN.md

run: .venv/base
	.venv/bin/umo-dataset build $(INPUT) --output $(OUTPUT)

test: .venv-all/all
	$(PYTEST)

check: .venv-all/all
	.venv-all/bin/ruff check .
	.venv-all/bin/mypy
	$(PYTEST)

eval: .venv/base
	.venv/bin/python -m benchmarks.quality $(FACES)/dev --apart 'ewha_*' 'family2_*'

# and where there is a GPU, in an environment of .[all]: python -m benchmarks.faces_gpu
bench: .venv/base
	.venv/bin/python -m benchmarks.extract
	.venv/bin/python -m benchmarks.write
	.venv/bin/python -m benchmarks.memory
