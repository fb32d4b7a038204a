"""The kernels beside the same in torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor

from safetyvalve.native import Kernels, building, calls, kernels, norms
from safetyvalve.processor import this_processor
from safetyvalve.trees import kernel, passes, products

__all__ = ["errors", "held", "in_torch", "in_vectors_of_avx2", "products_by", "threads", "without_tiles"]

STEP = 2.0**-23
"""Of fp32, in which everything is computed whatever type it is rounded to."""


@contextmanager
def _as_if(there: Kernels) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (products, passes, kernel, norms, calls):
            patch.setattr(module, "kernels", lambda: there)
        yield


def in_torch() -> AbstractContextManager[None]:
    """Within it everything is computed as where there are no kernels."""
    return _as_if(Kernels(None, tiles=False, vectors=False, reason="off"))


def without_tiles() -> AbstractContextManager[None]:
    """Within it everything is computed as on a processor without AMX, products by torch."""
    return _as_if(kernels()._replace(tiles=False, vectors=False))


def products_by(way: str) -> AbstractContextManager[None]:
    """Within it products are those of ``tiles``, or of ``vectors`` also where they are not what is used."""
    library = kernels().library
    able = {"tiles": kernels().tiles, "vectors": library is not None and library.sv_product_ready() == 1}
    if not able[way]:
        pytest.skip(f"this processor has no {way}")
    return _as_if(kernels()._replace(tiles=way == "tiles", vectors=way == "vectors"))


def in_vectors_of_avx2(folder: Path) -> AbstractContextManager[None]:
    """Within it everything is computed as on a processor with AVX2 and not more.

    Args:
        folder: where kernels are compiled, the same for all that ask.
    """
    if "avx512f" not in this_processor().instructions:
        pytest.skip("the kernels for this processor have no wider vectors")
    return _as_if(_of_avx2(folder))


@cache
def _of_avx2(folder: Path) -> Kernels:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "_FLAGS", (*building._FLAGS, "-mno-avx512f"))
        patch.setattr(building, "_folder", lambda: folder)
        made = building.kernels.__wrapped__()
    assert made.library is not None, made.reason
    assert not made.tiles
    return made


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def errors(found: Tensor, exact: Tensor) -> tuple[float, float]:
    """Root mean square and largest, both relative to those of the exact values."""
    apart = found.double() - exact
    return float(apart.norm() / exact.norm()), float(apart.abs().max() / exact.abs().max())


def held(
    compute: Callable[[], Sequence[Tensor]],
    exact: Sequence[Tensor],
    *,
    factor: float = 1.1,
    by_threads: bool = False,
    steps: int | None = 4,
    lost: Sequence[float] = (),
) -> None:
    """By one, two and three threads: the same bits each time, and about as near to the exact values as torch comes.

    What is not rounded to bf16 is within some steps of fp32, also where torch rounds on the way.

    Args:
        compute: gives new tensors of what is compared.
        exact: fp64 from the same inputs.
        factor: by which the root mean square error may exceed that of torch; the largest by twice as much. Four steps
            of fp32 are allowed in any case.
        by_threads: whether sums are taken in another order with another number of threads.
        steps: of fp32 that the root mean square error of what is not rounded to bf16 may have at most; None: as
            torch alone tells.
        lost: for each result how much larger the numbers are whose differences it is made of: so many times four steps
            of fp32 are allowed. Once for each where none are given.
    """
    with in_torch():
        plain = compute()
    first: Sequence[Tensor] | None = None
    for number in (1, 2, 3):
        with threads(number):
            ours, again = compute(), compute()
        first = ours if first is None or by_threads else first
        for i, (own, repeated, same, other, true) in enumerate(zip(ours, again, first, plain, exact, strict=True)):
            assert own.shape == other.shape == true.shape
            assert own.dtype == other.dtype
            assert torch.equal(own, repeated)
            assert torch.equal(own, same)
            mean, largest = errors(own, true)
            mean_plain, largest_plain = errors(other, true)
            allowed = 4 * STEP * (lost[i] if lost else 1)
            assert mean <= factor * mean_plain + allowed, f"result {i}"
            assert largest <= 2 * factor * largest_plain + allowed, f"result {i}"
            assert own.dtype == torch.bfloat16 or steps is None or mean <= steps * STEP, f"result {i}"
