"""The package stays light: importing it must not load what only some of its functions need."""

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys, sae_core
for module in pkgutil.iter_modules(sae_core.__path__):
    importlib.import_module(f"sae_core.{module.name}")
print(" ".join(name for name in sys.modules if "." not in name))
"""
HEAVY = {"transformers", "tokenizers", "transformer_lens", "plotly", "datasets", "huggingface_hub", "sympy", "babel"}


def test_importing_every_module_loads_none_of_the_heavy_libraries():
    run = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert {"sae_core", "torch", "safetensors"} <= loaded
    assert not loaded & HEAVY
