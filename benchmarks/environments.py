"""The peers' environments, one each under `.venvs/`, and the workers that run in them and in ours."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from sae_core.errors import SaeCoreError

HERE = Path(__file__).parent
ROOT = HERE.resolve().parent
VENVS = HERE / ".venvs"
LOGS = HERE / ".work" / "logs"
# nnsight asks for torchvision, whose build on the index fits torch's CUDA build only; nothing here uses it.
UNWANTED = {"dictionary_learning": "torchvision"}
DISTRIBUTIONS = {"saelens": "sae-lens", "dictionary_learning": "dictionary-learning", "sparsify": "eai-sparsify"}


def torch_version() -> str:
    """The version of torch without the name of its build; every environment gets the same."""
    return metadata.version("torch").partition("+")[0]


def install(peer: str) -> None:
    """Make a peer's environment, unless it is there and was made from the same requirements."""
    folder, requirements = VENVS / peer, HERE / "peers" / f"{peer}.txt"
    wanted = f"torch=={torch_version()}\n{requirements.read_text()}"
    done = folder / "installed"
    if done.exists() and done.read_text() == wanted:
        return
    print(f"== installing {peer} into {folder.relative_to(ROOT)}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", f"torch=={torch_version()}"]
    subprocess.run(pip, check=True)  # by itself first: the CPU build, where pip is configured for it
    subprocess.run([*pip, "--requirement", str(requirements)], check=True)
    if peer in UNWANTED:
        subprocess.run([*pip[:3], "uninstall", "--quiet", "--yes", UNWANTED[peer]], check=True)
    done.write_text(wanted)


def python(peer: str | None) -> str:
    """The interpreter of a peer's environment, or (None) this one."""
    return str(VENVS / peer / "bin" / "python") if peer else sys.executable


def versions(peers: list[str]) -> dict[str, str]:
    """Versions of Python, torch, this package's dependencies that matter, and the peers."""
    ask = "import sys; from importlib import metadata; print(metadata.version(sys.argv[1]))"
    ours = {"python": sys.version.split()[0], "torch": metadata.version("torch")}
    ours |= {name: metadata.version(name) for name in ("transformers", "transformer-lens")}
    for peer in peers:
        command = [python(peer), "-c", ask, DISTRIBUTIONS[peer]]
        ours[DISTRIBUTIONS[peer]] = subprocess.check_output(command, text=True).strip()
    return ours


class Worker:
    """A script of `workers/` in a process of its own, started when it is first asked; see `workers/protocol.py`."""

    def __init__(self, script: str, peer: str | None, threads: int):
        self.script, self.peer, self.threads = script, peer, threads
        self.log = LOGS / f"{script}-{os.getpid()}-{id(self)}.log"
        self.process: subprocess.Popen | None = None

    def _start(self) -> subprocess.Popen:
        LOGS.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": "" if self.peer else str(ROOT), "WANDB_MODE": "disabled"}
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
            environment[name] = str(self.threads)
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TOKENIZERS_PARALLELISM": "false"}
        return subprocess.Popen(
            [python(self.peer), str(HERE / "workers" / f"{self.script}.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            text=True,
            env=environment,
        )

    def ask(self, do: str, **arguments) -> dict:
        """Have a command carried out. Raises SaeCoreError with the log's last lines where the worker dies of it."""
        self.process = self.process or self._start()
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            last = " | ".join(self.log.read_text(errors="replace").splitlines()[-3:])
            raise SaeCoreError(f"{self.script}: died at {do!r}; {self.log} ends with: {last}")
        return json.loads(answer)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_) -> None:
        if self.process:
            self.process.stdin.close()
            self.process.stdout.close()
            self.process.wait()
