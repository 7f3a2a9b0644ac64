# `make demo` and `make test` work in a fresh clone: both install GaussWorld into $(VENV) first, and again when the
# kernels or the dependencies change, or modules come, go or move. Settings: VENV=<folder>, PYTHON=<interpreter>,
# TORCH_INDEX=<address of PyTorch's CPU wheels>, ARGS='<flags for demo, test, bench>'.

VENV ?= .venv
PYTHON ?=
ARGS ?=

BIN := $(VENV)/bin
# Twice quiet: no word about indexes that are configured and empty; errors are still shown.
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMP := $(VENV)/.gaussworld-installed
KERNELS := $(wildcard gaussworld/render/kernels/*.cpp gaussworld/render/kernels/*.h)
CXX_FOUND := $${CXX:-c++} --version
# An editable install keeps a map of the modules there were, so the stamp holds their list: it is out of date when the
# list differs, not when what is in them does. $(NEW_MODULES) is empty or FORCE, found out whenever make starts.
MODULES := find gaussworld recon dynamics viewer -name '[!.]*.py' | LC_ALL=C sort
NEW_MODULES := $(shell $(MODULES) | cmp -s - '$(STAMP)' || echo FORCE)
TORCH_INDEX ?=

.PHONY: help install demo test lint format bench soak gpu wheel readme clean FORCE
.DEFAULT_GOAL := help

help: ## List the targets.
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 10

install: $(STAMP) ## Create .venv with GaussWorld, its dependencies and the development tools.

demo: $(STAMP) ## Fit Gaussians to a small tabletop scene: about a minute, after the install.
	$(BIN)/gaussworld demo $(ARGS)

test: $(STAMP) ## Run the test suite.
	$(BIN)/python -m pytest $(ARGS)

lint: $(STAMP) ## Check style, formatting and types.
	@status=0; \
	$(BIN)/ruff check . || status=1; \
	$(BIN)/ruff format --check . || status=1; \
	$(BIN)/pyright --pythonpath $(BIN)/python || status=1; \
	exit $$status

format: $(STAMP) ## Format the code and the README's file map.
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .

readme: $(STAMP) ## Refresh the file map in README.md.
	REFRESH_README=1 $(BIN)/python -m pytest -q tests/test_readme.py -k file_map

bench: $(STAMP) ## Measure the rasterizer on this machine.
	$(BIN)/python benchmarks/render.py $(ARGS)

soak: $(STAMP) ## Kill a writer of a world 200 times under readers, and fuzz the readers of files: half an hour.
	GAUSSWORLD_KILLS=200 $(BIN)/python -m pytest -s -k killed_writers tests/gaussworld/store $(ARGS)
	$(BIN)/python benchmarks/fuzz_files.py --minutes 10

gpu: $(STAMP) ## Run the tests that need a CUDA device, and compare gsplat with the reference.
	$(BIN)/python -m pytest -m gpu $(ARGS)
	$(BIN)/python benchmarks/gpu_render.py
	$(BIN)/python benchmarks/gpu_recon.py

wheel: $(STAMP) ## Build dist/gaussworld-*-py3-none-*.whl.
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist

clean: ## Remove everything that was built, .venv included.
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt $(KERNELS) $(NEW_MODULES)
	@$(system_packages)
	@$(create_environment)
	@$(MODULES) >$@.new
	@$(install_torch)
	$(PIP) install --constraint constraints.txt 'scikit-build-core>=1.0' cmake ninja
	@$(install_gaussworld)
	@mv $@.new $@
	@echo "Installed. The command is $(BIN)/gaussworld; after '. $(BIN)/activate' it is gaussworld."

# A compiler and the libraries that open3d and MuJoCo load: installed where that is allowed, else named in one sentence.
define system_packages
need=''; \
$(CXX_FOUND) >/dev/null 2>&1 || need="$$need g++"; \
if [ "$$(uname -s)" = Linux ]; then \
  libraries="$$(PATH=$$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null)"; \
  for pair in libusb-1.0.so.0:libusb-1.0-0 libGL.so.1:libgl1 libgomp.so.1:libgomp1 libX11.so.6:libx11-6 \
    libEGL.so.1:libegl1; do \
    case "$$libraries" in *"$${pair%%:*}"*) ;; *) need="$$need $${pair##*:}";; esac; \
  done; \
  case "$$libraries" in *libEGL_mesa*|*libEGL_nvidia*) ;; *) need="$$need libegl-mesa0 libgl1-mesa-dri";; esac; \
  python3 -c 'import ensurepip' >/dev/null 2>&1 || need="$$need python3-venv"; \
fi; \
if [ -n "$$need" ]; then \
  as_root=''; [ "$$(id -u)" = 0 ] || as_root='sudo -n'; \
  if command -v apt-get >/dev/null && $$as_root true 2>/dev/null; then \
    echo "Installing system packages:$$need"; \
    { $$as_root apt-get update -qq && \
      $$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$need; } >/dev/null \
      || echo "Could not install$$need: install them by hand for full speed and all features."; \
  else \
    echo "For full speed and all features install these system packages (names of Debian and Ubuntu):$$need"; \
  fi; \
fi
endef

define create_environment
[ -x $(BIN)/python ] && exit 0; \
for python in $(PYTHON) python3 python3.13 python3.12 python3.14 python3.11 python; do \
  command -v $$python >/dev/null 2>&1 || continue; \
  $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null || continue; \
  echo "Creating $(VENV) with $$($$python --version)."; \
  exec $$python -m venv $(VENV); \
done; \
echo 'GaussWorld needs Python 3.11 to 3.14: install one, or name it as in `make install PYTHON=/path/to/python3.12`.'; \
exit 1
endef

# Without an NVIDIA GPU torch's CPU build saves gigabytes; where it cannot be had, the ordinary one runs as well.
define install_torch
$(BIN)/python -c 'import torch' 2>/dev/null && exit 0; \
torch="$$(grep '^torch==' constraints.txt)"; \
if [ "$$(uname -s)" = Linux ] && ! command -v nvidia-smi >/dev/null 2>&1; then \
  echo "Installing torch's CPU build: no NVIDIA GPU here."; \
  $(PIP) install --no-deps "$$torch+cpu" 2>/dev/null \
  || { [ -n "$(TORCH_INDEX)" ] && $(PIP) install --no-deps --index-url "$(TORCH_INDEX)" "$$torch"; } \
  || echo "The CPU build cannot be had here: taking the ordinary one, several GB; see TORCH_INDEX in README.md."; \
fi
endef

define install_gaussworld
if $(CXX_FOUND) >/dev/null 2>&1; then export GAUSSWORLD_REQUIRE_KERNELS=1; \
else echo 'No C++ compiler found: rendering will use the slow PyTorch reference until you install one and run make install.'; \
fi; \
echo "Installing GaussWorld and its dependencies."; \
$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[dev]'
endef
