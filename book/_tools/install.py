"""The set-up cell of an exported notebook: it installs sae_core, and leaves the runtime's torch and numpy as they are.

notebooks.py puts this file into the notebook's first cell, behind the address of the repository. The cell has to stand
on its own: it imports nothing but the standard library.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
from importlib import metadata

KEPT = ("torch", "numpy")  # a newer one in a running kernel breaks what was compiled against, or loaded, the old one
EXTRAS = "text,chapters"


class SetUpError(Exception):
    """One line for the reader, without a traceback."""

    def _render_traceback_(self):
        return [f"Set-up: {self}"]


def installed():
    """The versions of what has to stay as it is, as far as it is there."""
    found = {}
    for name in KEPT:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            pass
    return found


def requirement(repository):
    """What pip is asked for, from a web address or from a folder."""
    if os.path.isdir(repository):
        return f"{os.path.abspath(repository)}[{EXTRAS}]"
    return f"sae-core[{EXTRAS}] @ git+{repository}"


def pip_install(what, versions):
    """Run pip under the constraint that these versions stay. Raises SetUpError with pip's own last word."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = os.path.join(folder, "constraints.txt")
        with open(constraints, "w") as file:
            file.writelines(f"{name}=={version}\n" for name, version in versions.items())
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", constraints, what]
        pip = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if pip.returncode:
        said = [line for line in pip.stdout.splitlines() if "error" in line.lower()] or ["it gave no reason"]
        raise SetUpError(f"pip could not install sae_core: {said[-1].strip()}")


def set_up(repository):
    """Install sae_core unless it is there, and say in one line what was done."""
    if importlib.util.find_spec("sae_core"):
        return "sae_core is there already; nothing was installed."
    if not repository:
        raise SetUpError("sae_core is not installed. Set REPOSITORY above to the address of its repository.")
    before = installed()
    pip_install(requirement(repository), before)
    importlib.invalidate_caches()
    after = installed()
    if changed := [f"{name} {was} is now {after.get(name)}" for name, was in before.items() if after.get(name) != was]:
        raise SetUpError(f"{', '.join(changed)}, although pip was told to keep it. Restart the runtime, then go on.")
    if not importlib.util.find_spec("sae_core"):
        raise SetUpError("pip reports success, but this kernel does not see sae_core. Restart it, then go on.")
    kept = " and ".join(f"{name} {version}" for name, version in before.items())
    new = " and ".join(f"{name} {version}" for name, version in after.items() if name not in before)
    done = [f"Installed sae_core {metadata.version('sae-core')}"]
    return "; ".join(done + [f"left {kept} as they were"] * bool(kept) + [f"{new} came with it"] * bool(new)) + "."
