"""Every kernel against the same in torch, and against fp64 from the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from safetyvalve.native import kernels
from safetyvalve.trees.passes import gate, gate_backward, norm, norm_backward, rotate, target_softmax
from safetyvalve.trees.products import Operand, _Packed, _Vectors, operand
from tests.native.both import held, in_torch, products_by

KINDS = [torch.float32, torch.bfloat16]
SIZES = [(1, 32), (5, 7), (33, 96), (70, 576)]
"""Rows and width, with rests in every loop of the kernels."""


@pytest.fixture(autouse=True)
def _library() -> None:
    if kernels().library is None:
        pytest.skip(kernels().reason)
    torch.manual_seed(0)


def states(rows: int, width: int, kind: torch.dtype = torch.float32) -> Tensor:
    """Rows from small to large."""
    return (torch.randn(rows, width) * torch.logspace(-3, 1, rows)[:, None]).to(kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
class TestPasses:
    def test_norm(self, size: tuple[int, int], kind: torch.dtype) -> None:
        hidden, weight, eps = states(*size), torch.randn(size[1]), 1e-5
        root = (hidden.double().square().mean(-1, keepdim=True) + eps).rsqrt()
        held(lambda: norm(hidden, weight, eps, kind), [hidden * root * weight.double(), root])
        turned = hidden.t().contiguous().t()  # the same values in another order
        assert torch.equal(norm(turned, weight, eps, kind)[0], norm(hidden, weight, eps, kind)[0])

    def test_norm_backward(self, size: tuple[int, int], kind: torch.dtype) -> None:
        hidden, weight, beside, upstream = states(*size), torch.randn(size[1]), states(*size), states(*size, kind)
        inner, outer = hidden.double().requires_grad_(), weight.double().requires_grad_()
        root = (inner.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
        exact = torch.autograd.grad((inner * root * outer * upstream).sum(), [inner, outer])
        given = upstream, hidden, root.detach().float(), weight, beside
        held(lambda: norm_backward(*given), [exact[0] + beside, exact[1]])

    @pytest.mark.parametrize("back", [False, True])
    def test_rotate(self, size: tuple[int, int], kind: torch.dtype, back: bool) -> None:
        """Three heads of queries and keys are turned, one of values is not."""
        (rows, half), heads = size, 3
        qkv, angle = torch.randn(rows, (heads + 1) * 2 * half).to(kind), torch.randn(rows, half) * 9
        cos, sin = angle.cos(), angle.sin()

        def turned() -> list[Tensor]:
            own = qkv.clone()
            rotate(own, heads, cos, sin, back=back)
            return [own[:, : heads * 2 * half], own[:, heads * 2 * half :]]

        first, second = qkv.double().view(rows, -1, 2, half)[:, :heads].unbind(2)
        c, s = cos.double()[:, None], (-sin if back else sin).double()[:, None]
        exact = torch.stack([first * c - second * s, second * c + first * s], 2).view(rows, -1)
        held(turned, [exact, qkv[:, heads * 2 * half :].double()])
        assert torch.equal(turned()[1], qkv[:, heads * 2 * half :])

    def test_gate(self, size: tuple[int, int], kind: torch.dtype) -> None:
        gate_up, upstream = states(size[0], 2 * size[1], kind) * 3, states(*size, kind)
        exact = gate_up.double().requires_grad_()
        opening, up = exact.chunk(2, dim=-1)
        gated = silu(opening) * up
        (grad,) = torch.autograd.grad(gated, exact, upstream.double())
        held(lambda: [gate(gate_up), *gate_backward(upstream, gate_up)], [gated.detach(), grad, gated.detach()])

    def test_target_softmax(self, size: tuple[int, int], kind: torch.dtype) -> None:
        rows, vocabulary = size[0], 3 * size[1]  # also more than are summed in one go
        scores, target = (torch.randn(rows, vocabulary) * 5).to(kind), torch.randint(0, vocabulary, (rows,))

        def computed(wanted: bool) -> list[Tensor]:
            own, logps = scores.clone(), torch.empty(rows)
            target_softmax(own, target, logps, wanted=wanted)
            return [logps, own] if wanted else [logps]

        exact = scores.double().log_softmax(-1)
        held(lambda: computed(True), [exact.gather(-1, target[:, None])[:, 0], exact.exp()])
        assert torch.equal(computed(False)[0], computed(True)[0])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0, 127, 130, 299])
def test_a_certain_word(place: int, kind: torch.dtype) -> None:
    """Wherever it stands: all others vanish, and keep their log-probabilities."""
    scores = torch.randn(3, 300).to(kind)
    scores[:, place] = 500
    exact, logps, target = scores.double().log_softmax(-1), torch.empty(3), torch.tensor([place, 5, 290])
    target_softmax(scores, target, logps, wanted=True)
    torch.testing.assert_close(logps, exact.gather(-1, target[:, None])[:, 0].float(), rtol=1e-6, atol=1e-6)
    assert torch.equal(scores.float(), torch.eye(300)[place].expand(3, -1))


def test_small_probabilities_keep_their_digits() -> None:
    scores = torch.linspace(-80, 0, 4001)[None].clone()
    exact = scores.double().softmax(-1)
    target_softmax(scores, torch.tensor([0]), torch.empty(1), wanted=True)
    assert ((scores - exact).abs() / exact).max() < 6e-7


def test_rounding() -> None:
    """To the nearest, halves to even, as torch rounds; with infinities, and NaN stays one."""
    step = 2.0**-8  # half of that between 1 and 2
    ends = [torch.inf, -torch.inf, torch.nan, 3.4e38, 1e-40, 0]
    values = torch.tensor([*(1 + step * (n + e) for n in range(9) for e in (-1e-3, 0, 1e-3)), *ends])
    out, _ = norm(torch.ones(1, len(values)), values, 0.0, torch.bfloat16)
    torch.testing.assert_close(out[0], values.bfloat16(), rtol=0, atol=0, equal_nan=True)


def test_gate_at_the_ends() -> None:
    """No overflow and no division of nothing by nothing where SiLU is flat."""
    ends = torch.tensor([-1e30, -1e3, -88, -87, 0, 87, 88, 1e3, 1e30])
    gate_up, upstream = torch.cat([ends, torch.ones(9)])[None], torch.ones(1, 9)
    ours = [gate(gate_up), *gate_backward(upstream, gate_up)]
    with in_torch():
        plain = [gate(gate_up), *gate_backward(upstream, gate_up)]
    for a, b in zip(ours, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-35)


SHAPES = {
    "one": ([96], 64),
    "several": ([64, 32, 96], 96),
    "long": ([32, 64], 2080),
    "longer": ([32], 4128),
    "wide": ([3648, 32], 32),
}
"""Rows of the matrices and the inner dimension. It is multiplied in pieces of 2048 in tiles and of 480 or 960 in
vectors, which also take 3584 rows or columns at a time."""
TOKENS = [1, 5, 31, 32, 33, 100]


def widened(x: Tensor) -> Tensor:
    return torch.cat([x, x], dim=1)[:, : x.shape[1]]


def next_to_one(x: Tensor) -> Tensor:
    """Every second row begins within a word of two bf16 values."""
    return torch.cat([x, x[:, :1]], dim=1)[:, : x.shape[1]]


def turned(x: Tensor) -> Tensor:
    return x.t().contiguous().t()


def skipping(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=0)[::2]


def repeated(x: Tensor) -> Tensor:
    """One row, with nothing between it and the next."""
    return torch.cat([x, x.new_zeros(63, x.shape[1])])[:1].expand(3, -1)[:1] if len(x) == 1 else x


LAYOUTS: list[Callable[[Tensor], Tensor]] = [widened, next_to_one, turned, skipping, repeated]


def matrices_of(shape: str) -> list[Tensor]:
    rows, inner = SHAPES[shape]
    return [torch.nn.Parameter(torch.randn(n, inner) / inner**0.5) for n in rows]


def all_products(
    made: Operand, x: Tensor, slope: Tensor, residual: Tensor, bias: Tensor, several: bool
) -> list[Tensor]:
    """As a layer's function uses them. What is added to is the product with one matrix."""
    with torch.no_grad():
        added = [] if several else [made.added(residual, x)]
        return [made.product(x), made.product(x, bias), made.back(slope), *added, *made.slopes(slope, x)]


@pytest.fixture(params=["tiles", "vectors"])
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    with products_by(request.param):
        yield request.param


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
class TestProducts:
    @pytest.mark.parametrize("tokens", TOKENS)
    def test_all(self, tokens: int, shape: str, kind: torch.dtype, way: str) -> None:
        self.check(tokens, shape, kind, way, lambda x: x)

    @pytest.mark.parametrize("layout", LAYOUTS)
    @pytest.mark.parametrize("tokens", [1, 33])
    def test_not_contiguous(
        self, tokens: int, layout: Callable[[Tensor], Tensor], shape: str, kind: torch.dtype, way: str
    ) -> None:
        self.check(tokens, shape, kind, way, layout)

    def check(self, tokens: int, shape: str, kind: torch.dtype, way: str, layout: Callable[[Tensor], Tensor]) -> None:
        matrices = matrices_of(shape)
        rows, inner = [len(m) for m in matrices], matrices[0].shape[1]
        by_torch = way == "tiles" and kind == torch.float32
        made = operand(matrices, kind)
        assert (isinstance(made, _Packed), isinstance(made, _Vectors)) == (
            way == "tiles" and not by_torch,
            way == "vectors",
        )
        x, slope = (layout(torch.randn(tokens, n).to(kind)) for n in (inner, sum(rows)))
        residual, bias = layout(torch.randn(tokens, sum(rows))), torch.randn(sum(rows)).to(kind)
        wide = torch.cat([m.detach().to(kind).double() for m in matrices])
        product = x.double() @ wide.t()
        added = [residual + product] if len(rows) == 1 else []
        slopes = (slope.double().t() @ x.double()).split(rows)
        held(
            lambda: all_products(operand(matrices, kind), x, slope, residual, bias, len(rows) > 1),
            [product, product + bias, slope.double() @ wide, *added, *slopes],
            factor=1.6,  # the bias is added to what is rounded already
            by_threads=by_torch,
        )

    def test_packed_when_it_is_asked_for(self, shape: str, kind: torch.dtype) -> None:
        """What only gradients read is made at the first one, where a forward without gradients came before."""
        matrices, slope = matrices_of(shape), torch.randn(33, sum(SHAPES[shape][0])).to(kind)
        with torch.no_grad():
            later = operand(matrices, kind)
            assert torch.equal(later.back(slope), operand(matrices, kind).back(slope))
        assert torch.equal(later.back(slope), operand(matrices, kind).back(slope))

    def test_no_token(self, shape: str, kind: torch.dtype) -> None:
        matrices = matrices_of(shape)
        rows = [len(m) for m in matrices]
        x, slope = torch.zeros(0, matrices[0].shape[1]).to(kind), torch.zeros(0, sum(rows)).to(kind)
        with torch.no_grad():
            made = operand(matrices, kind)
            assert made.product(x).shape == slope.shape
            assert made.back(slope).shape == x.shape
            assert [(s.shape, bool(s.any())) for s in made.slopes(slope, x)] == [(m.shape, False) for m in matrices]

    def test_into_given_memory(self, shape: str, kind: torch.dtype) -> None:
        """Rows of a larger result, and no others."""
        matrices = matrices_of(shape)
        x, out = torch.randn(33, matrices[0].shape[1]).to(kind), torch.full((40, sum(SHAPES[shape][0])), 7.0).to(kind)
        with torch.no_grad():
            made = operand(matrices, kind)
            found = made.product(x, out=out[3:36])
            assert found.data_ptr() == out[3:36].data_ptr()
            assert torch.equal(out[3:36], made.product(x))
        assert (out[:3] == 7).all()
        assert (out[36:] == 7).all()


@pytest.mark.usefixtures("way")
def test_sizes_that_the_kernels_do_not_take() -> None:
    taken = (_Packed, _Vectors)
    assert isinstance(operand([torch.randn(64, 64)], torch.bfloat16), taken)
    for rows, inner in ((33, 64), (64, 48)):
        assert not isinstance(operand([torch.randn(rows, inner)], torch.bfloat16), taken)
    assert not isinstance(operand([torch.randn(64, 64).t()], torch.bfloat16), taken)
    for kind in (torch.bfloat16, torch.float64):
        assert not isinstance(operand([torch.randn(64, 64, dtype=torch.float64)], kind), taken)


@pytest.mark.parametrize("kind", KINDS)
def test_targets_apart_in_memory(kind: torch.dtype) -> None:
    """Every second of others, as where they come out of a table."""
    scores, targets = torch.randn(5, 40).to(kind), torch.randint(0, 40, (5, 2))
    exact = scores.double().log_softmax(-1).gather(-1, targets[:, :1])[:, 0]
    logps = torch.empty(5)
    target_softmax(scores, targets[:, 0], logps, wanted=False)
    torch.testing.assert_close(logps, exact.float(), rtol=1e-6, atol=1e-6)
