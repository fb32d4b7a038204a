"""The products of a layer with its matrices, forward and backward.

In bf16 on a processor with AMX, and in fp32 and bf16 on one of AMD's with AVX-512, they go through
:mod:`safetyvalve.native`, elsewhere through torch. What is multiplied with is made of the fp32 parameters once for all
that is computed with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from safetyvalve.native import kernels
from safetyvalve.native.calls import call

__all__ = ["Operand", "operand"]

_BLOCK = 32
"""Of what the kernels take, every size but the number of tokens is a multiple."""
_TURNED_ROWS = 64
"""Rows that are transposed at a time: a cache line of the result."""


class Operand(Protocol):
    """Matrices [out, in] with one input, side by side: ``out`` is the sum of theirs."""

    def product(self, states: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        """[token, in] -> [token, out]."""

    def added(self, residual: Tensor, states: Tensor) -> Tensor:
        """``residual + states @ matrix.T`` in the residual's type."""

    def back(self, slope: Tensor) -> Tensor:
        """Gradient of the states from that of their product: [token, out] -> [token, in]."""

    def slopes(self, slope: Tensor, states: Tensor) -> list[Tensor]:
        """Gradient of each matrix, in the parameters' type; none shares memory with another's values."""

    @property
    def nbytes(self) -> int:
        """Of memory that it takes beside the parameters."""


def operand(matrices: Sequence[Tensor], dtype: torch.dtype) -> Operand:
    """For products in ``dtype`` with these parameters, which must not change while it is in use.

    Made where gradients are enabled it is ready for the backward pass too.
    """
    fits = all(_fits(m) for m in matrices)
    if dtype == torch.bfloat16 and kernels().tiles and fits:
        return _Packed(tuple(matrices))
    own = dtype == matrices[0].dtype
    used = tuple(matrices) if own else (_together(matrices, dtype),)
    way = _Vectors if kernels().vectors and fits and dtype in (torch.float32, torch.bfloat16) else _Plain
    return way(used, matrices[0].dtype, tuple(len(m) for m in matrices), own)


@dataclass(frozen=True)
class _Plain:
    """By torch: the parameters themselves, or one copy of all."""

    matrices: tuple[Tensor, ...]
    wide: torch.dtype
    """The parameters'."""
    parts: tuple[int, ...]
    """Rows of each parameter."""
    own: bool
    """Whether they are the parameters."""

    def product(self, states: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        if len(self.matrices) == 1:
            matrix = self.matrices[0].t()
            return torch.mm(states, matrix, out=out) if bias is None else torch.addmm(bias, states, matrix, out=out)
        out = states.new_empty(len(states), sum(self.parts)) if out is None else out
        for part, matrix in zip(out.split(self.parts, dim=-1), self.matrices, strict=True):
            torch.mm(states, matrix.t(), out=part)
        return out if bias is None else out.add_(bias)

    def added(self, residual: Tensor, states: Tensor) -> Tensor:
        if residual.dtype == states.dtype:
            return torch.addmm(residual, states, self.matrices[0].t())
        return residual + states @ self.matrices[0].t()

    def back(self, slope: Tensor) -> Tensor:
        first, *others = slope.split([len(m) for m in self.matrices], dim=-1)
        out: Tensor = first @ self.matrices[0]
        for part, matrix in zip(others, self.matrices[1:], strict=True):
            out.addmm_(part, matrix)
        return out

    def slopes(self, slope: Tensor, states: Tensor) -> list[Tensor]:
        if len(self.matrices) == len(self.parts) and slope.dtype == self.wide:
            return [part.t() @ states for part in slope.split(self.parts, dim=-1)]
        # One product; the casts are the copies.
        return [part.to(self.wide, copy=True) for part in (_turned(slope) @ states).split(self.parts)]

    @property
    def nbytes(self) -> int:
        return 0 if self.own else self.matrices[0].nbytes


class _Vectors(_Plain):
    """By AVX-512: of the same matrices, which the kernel copies as it needs them."""

    def product(self, states: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        out = states.new_empty(len(states), sum(self.parts)) if out is None else out
        wide = out if bias is None else out.new_empty(out.shape, dtype=torch.float32)
        at = 0
        for matrix in self.matrices:
            _vectors(states, True, matrix, True, wide[:, at : at + len(matrix)])
            at += len(matrix)
        return out if bias is None else out.copy_(wide.add_(bias))

    def added(self, residual: Tensor, states: Tensor) -> Tensor:
        if residual.dtype != torch.float32:
            return residual + self.product(states)
        out = residual.new_empty(residual.shape)
        _vectors(states, True, self.matrices[0], True, out, residual.contiguous())
        return out

    def back(self, slope: Tensor) -> Tensor:
        out = slope.new_empty(len(slope), self.matrices[0].shape[1])
        at = 0
        for matrix in self.matrices:
            _vectors(slope[:, at : at + len(matrix)], True, matrix, False, out, out if at else None)
            at += len(matrix)
        return out

    def slopes(self, slope: Tensor, states: Tensor) -> list[Tensor]:
        out = states.new_empty(sum(self.parts), states.shape[1], dtype=self.wide)
        if len(slope):
            _vectors(slope, False, states, False, out)
        else:
            out.zero_()
        return list(out.split(self.parts))


class _Packed:
    """By AMX, in tiles."""

    def __init__(self, matrices: tuple[Tensor, ...]) -> None:
        self.matrices = matrices
        self.rows, self.columns = sum(map(len, matrices)), matrices[0].shape[1]
        both = torch.is_grad_enabled()
        self.transposed, self.straight = self._pack(transposed=True, straight=both)

    def product(self, states: Tensor, bias: Tensor | None = None, out: Tensor | None = None) -> Tensor:
        out = states.new_empty(len(states), self.rows) if out is None else out
        if bias is None:
            return self._times(states, self.transposed, out)
        wide = self._times(states, self.transposed, out.new_empty(out.shape, dtype=torch.float32))
        return out.copy_(wide.add_(bias))

    def added(self, residual: Tensor, states: Tensor) -> Tensor:
        if residual.dtype != torch.float32:
            return residual + self.product(states)
        return self._times(states, self.transposed, residual.new_empty(residual.shape), residual.contiguous())

    def back(self, slope: Tensor) -> Tensor:
        if self.straight is None:
            self.straight = self._pack(transposed=False, straight=True)[1]
        return self._times(slope, self.straight, slope.new_empty(len(slope), self.columns))

    def slopes(self, slope: Tensor, states: Tensor) -> list[Tensor]:
        slope, states = slope.contiguous(), states.contiguous()
        tokens = len(slope)
        if not tokens:
            return [torch.zeros_like(matrix, requires_grad=False) for matrix in self.matrices]
        inner = -(-tokens // _BLOCK) * _BLOCK
        left, right = (s.new_empty(s.shape[1] * inner) for s in (slope, states))
        call("sv_pack_transposed", slope, *slope.shape, left)
        call("sv_pack_straight", states, *states.shape, right)
        out = states.new_empty(self.rows, self.columns, dtype=torch.float32)
        _multiply(left, 0, right, self.rows, inner, out)
        return list(out.split([len(matrix) for matrix in self.matrices]))

    def _times(self, states: Tensor, packed: Tensor | None, out: Tensor, added: Tensor | None = None) -> Tensor:
        states = states.contiguous()
        _multiply(states, states.shape[1], packed, len(states), states.shape[1], out, added)
        return out

    def _pack(self, *, transposed: bool, straight: bool) -> tuple[Tensor | None, Tensor | None]:
        made = [
            self.matrices[0].new_empty(self.rows * self.columns, dtype=torch.bfloat16) if wanted else None
            for wanted in (transposed, straight)
        ]
        at = 0
        for matrix in self.matrices:
            call("sv_pack_matrix", matrix.detach(), *matrix.shape, at, self.rows, *made)
            at += len(matrix)
        return made[0], made[1]

    @property
    def nbytes(self) -> int:
        return sum(0 if made is None else made.nbytes for made in (self.transposed, self.straight))


def _multiply(
    left: Tensor, stride: int, right: Tensor | None, rows: int, inner: int, out: Tensor, added: Tensor | None = None
) -> None:
    narrow = int(out.dtype == torch.bfloat16)
    columns = out.shape[1]
    if rows and call("sv_gemm", left, stride, right, rows, inner, columns, out, narrow, added) < 0:
        raise MemoryError(f"no memory for a product of [{rows}, {inner}] and [{inner}, {columns}].")


def _vectors(
    left: Tensor, left_turned: bool, right: Tensor, right_turned: bool, out: Tensor, added: Tensor | None = None
) -> None:
    """``out = left @ right (+ added)``, each side's transpose where it is said to be turned (left) or not."""
    left, right = (side if _readable(side) else side.contiguous() for side in (left, right))
    inner = left.shape[1] if left_turned else len(left)
    sides = (left, left.stride(0), int(left_turned), right, right.stride(0), int(right_turned))
    sizes = (len(out), inner, out.shape[1], int(left.dtype == torch.bfloat16))
    results = (out, out.stride(0), int(out.dtype == torch.bfloat16), added, 0 if added is None else added.stride(0))
    if len(out) and call("sv_product", *sides, *sizes, *results) < 0:
        raise MemoryError(f"no memory for a product of {len(out)} rows, {inner} and {out.shape[1]} columns.")


def _readable(side: Tensor) -> bool:
    """By rows of 32-bit words, two values of bf16 each."""
    return side.stride(1) == 1 and not (side.dtype == torch.bfloat16 and side.stride(0) % 2)


def _fits(matrix: Tensor) -> bool:
    sizes = not any(n % _BLOCK for n in matrix.shape)
    return sizes and matrix.dtype == torch.float32 and matrix.device.type == "cpu" and matrix.is_contiguous()


def _together(matrices: Sequence[Tensor], dtype: torch.dtype) -> Tensor:
    """One above the other, in another type; each is read once."""
    out = torch.empty(sum(map(len, matrices)), matrices[0].shape[1], dtype=dtype, device=matrices[0].device)
    for part, matrix in zip(out.split([len(m) for m in matrices]), matrices, strict=True):
        part.copy_(matrix.detach())
    return out


def _turned(states: Tensor) -> Tensor:
    """Transposed. In bf16 in memory too, some rows at a time: a product that reads columns is several times slower."""
    if states.dtype != torch.bfloat16 or states.device.type != "cpu":
        return states.t()
    out = states.new_empty(states.shape[1], len(states))
    for part, place in zip(states.split(_TURNED_ROWS), out.split(_TURNED_ROWS, dim=1), strict=True):
        place.copy_(part.t())
    return out
