"""Stopping a run: Ctrl-C and SIGTERM wait for the end of the step, which is then saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A signal has ended a run or a command. `number` is the signal's; the message says how to continue."""

    def __init__(self, number: int, message: str):
        super().__init__(message)
        self.number = number


@contextmanager
def deferred() -> Iterator[list[int]]:
    """Within this context a signal interrupts nothing: its number is appended to the list that the context yields.

    So a second Ctrl-C, while the first one's checkpoint is being written, does no harm. A signal that was never acted
    upon is delivered at the end of the context. Python hands signals to its main thread alone, and a signal that the
    process was started to ignore (`nohup`) stays ignored; there the list stays empty.
    """
    received: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {number: signal.getsignal(number) for number in SIGNALS}
        before = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if received:
        signal.raise_signal(received[0])


def stopped(received: list[int], step: int, folder: Path) -> Stopped:
    """What a loop raises once it has saved its state after `step`. Nothing `received`: another process was."""
    number = received[0] if received else signal.SIGTERM
    return Stopped(number, f"stopped after step {step:,}, saved in {folder}; run the same command again to continue")
