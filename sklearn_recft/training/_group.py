"""Processes that add up tensors by `torch.distributed`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

_FAILED = "failed"
# Each call has its own keys in the store of torchrun, since all processes make the same calls.
_CALLS = count()


class ProcessesError(RuntimeError):
    """Another process of a training has failed, or does not answer."""


class TorchProcesses:
    """The default group of `torch.distributed`, as `processes.Processes`.

    Attributes
    ----------
    rank, size : int
    """

    def __init__(self, store: Any = None) -> None:
        self.rank, self.size, self._store = dist.get_rank(), dist.get_world_size(), store

    def add(self, *values: Any) -> None:
        """Replace each array or tensor, in place, by its sum over all processes."""
        for value in values:
            tensor = torch.from_numpy(value) if isinstance(value, np.ndarray) else value
            self._call(dist.all_reduce, tensor)

    def of_first(self, value: int) -> int:
        """Return the value of process 0."""
        number = torch.tensor([value])
        self._call(dist.broadcast, number, 0)
        return int(number[0])

    def check_same(self, what: str, *arrays: Any) -> None:
        """Raise an error in all processes unless each has the same arrays, bit by bit."""
        sums = torch.zeros(self.size, dtype=torch.int64)
        sums[self.rank] = _checksum(arrays)
        self.add(sums)
        other = torch.nonzero(sums != sums[0]).flatten().tolist()
        if other:
            raise ProcessesError(
                f"fit_distributed: processes {other} have other {what} than process 0. Call it "
                "with the same rows and parameters, of the same version, in every process."
            )

    def _call(self, function: Any, *args: Any) -> None:
        try:
            function(*args)
        except RuntimeError as error:
            raise ProcessesError(self._reason(error)) from error

    def _reason(self, error: RuntimeError) -> str:
        """Return why an exchange failed: what the failing process has said, if it could."""
        try:
            if self._store is not None and self._store.check([_FAILED]):
                return f"fit_distributed: {self._store.get(_FAILED).decode()}"
        except RuntimeError:  # the process with the store is gone
            return f"fit_distributed: process 0 has stopped ({_first_line(error)})."
        return (
            "fit_distributed: another process has stopped, or has not answered before the timeout "
            f"({_first_line(error)}). Its own message has the cause."
        )


def store_for(address: tuple[str, int] | None, timeout: float) -> Any:
    """Open the store at an address where processes meet; None opens a new one on this machine."""
    host, port = address or ("127.0.0.1", 0)
    return dist.TCPStore(
        host,
        port,
        is_master=address is None,
        timeout=timedelta(seconds=timeout),
        wait_for_workers=False,
    )


@contextmanager
def torch_processes(
    timeout: float, *, store: Any = None, rank: int = -1, size: int = -1
) -> Iterator[TorchProcesses]:
    """Join the group of processes inside a with-block.

    Parameters
    ----------
    timeout : float
        Seconds to wait for another process.
    store : torch.distributed.Store, default=None
        Where processes meet, with ``rank`` and ``size``. None reads the environment variables that
        ``torchrun`` sets. A default group that exists already is used as it is.
    """
    if dist.is_initialized():
        yield TorchProcesses()
        return
    limit = timedelta(seconds=timeout)
    if store is None:
        store, rank, size = _torchrun_store()
        store.set_timeout(limit)
        store = dist.PrefixStore(f"sklearn_recft/{next(_CALLS)}", store)
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank)) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    except RuntimeError as error:
        raise ProcessesError(
            f"fit_distributed: not all of {size} processes have started within {timeout:g} s "
            f"({_first_line(error)})."
        ) from error
    try:
        yield TorchProcesses(store)
    except BaseException as error:
        if not isinstance(error, ProcessesError):
            _tell(store, f"process {rank} has failed: {type(error).__name__}: {error}")
        raise
    finally:
        dist.destroy_process_group()  # closes the connections, so that no other process waits


@cache
def _torchrun_store() -> tuple[Any, int, int]:
    """Open the store of torchrun once, since a port cannot be opened twice."""
    store, rank, size = next(dist.rendezvous("env://"))
    return store, rank, size


def _tell(store: Any, message: str) -> None:
    try:
        store.set(_FAILED, message)
    except RuntimeError:
        return  # the process with the store has stopped as well; its connections tell the others


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _checksum(arrays: tuple[Any, ...]) -> int:
    total = 0
    for array in arrays:
        plain = np.ascontiguousarray(array.numpy(force=True) if torch.is_tensor(array) else array)
        total = zlib.crc32(repr((plain.dtype.str, plain.shape)).encode(), total)
        total = zlib.crc32(plain.view(np.uint8).data if plain.size else b"", total)
    return total
