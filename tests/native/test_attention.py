"""Attention of a row by its kernels, against the same in torch and against the dense formula in fp64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from safetyvalve.native import kernels
from safetyvalve.trees import Tree, pack_row
from safetyvalve.trees.kernel import Grouping, attend_row, attend_row_backward
from safetyvalve.trees.plan import PackedRow, PositionRule, causal
from safetyvalve.trees.tiles import Tiling, tiles
from tests.native.both import errors, held, in_torch, in_vectors_of_avx2, threads, without_tiles
from tests.tiny import random_tree

SYSTEM = random_tree(20, 1, seed=9).prompt_ids


def beginning(tree: Tree) -> Tree:
    return Tree(SYSTEM + tree.prompt_ids, tree.response_ids)


ROWS = {
    "one token each": pack_row([random_tree(1, 1, seed=n) for n in range(24)]),
    "a block": pack_row([random_tree(20, 13)], ends=False),
    "16 responses": pack_row([random_tree(12, *[1 + 2 * i for i in range(16)])]),
    "common beginning": pack_row([beginning(random_tree(n, 5, 1, 9, seed=n)) for n in (1, 7, 60)], shared=True),
    "cut": pack_row([beginning(random_tree(300, 150, 40, 60)), beginning(random_tree(3, 70))], shared=True),
}
MOST_LOST = 100
"""That the numbers whose differences a gradient is made of may be larger than it."""
SHARP = Grouping(2, 2, 96, 0.4)
"""Most weight on one key."""
GROUPINGS = [
    Grouping(2, 1, 32, 0.2),
    Grouping(3, 3, 64, 0.125),
    Grouping(6, 2, 32, 0.3),
    Grouping(2, 1, 128, 0.09),
    SHARP,
]


class Way(NamedTuple):
    kind: torch.dtype
    tiles: bool = False
    avx2: bool = False
    """Also where there is more."""


@pytest.fixture(
    autouse=True,
    params=[
        Way(torch.bfloat16, tiles=True),
        Way(torch.bfloat16),
        Way(torch.bfloat16, avx2=True),
        Way(torch.float32),
        Way(torch.float32, avx2=True),
    ],
    ids=["tiles", "bf16", "bf16 avx2", "fp32", "fp32 avx2"],
)
def way(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    """Which kernel it is, and what it is given."""
    chosen: Way = request.param
    there = kernels()
    if there.library is None or (chosen.tiles and not there.tiles):
        pytest.skip(there.reason)
    torch.manual_seed(0)
    used = nullcontext() if chosen.tiles else without_tiles()
    if chosen.avx2:
        used = in_vectors_of_avx2(tmp_path_factory.getbasetemp())
    with used:
        yield chosen


def window(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
    return causal(batch, head, query, key) & (query - key < 40)


def tiling_of(row: PackedRow, kind: torch.dtype, rule: PositionRule = causal) -> Tiling:
    return Tiling(tiles(segment, rule, kind) for segment in row.segments)


def states(row: PackedRow, grouping: Grouping, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Of queries, keys and values; and the gradient of what is attended to."""
    tokens, width = len(row.input_ids), grouping.width
    qkv = torch.randn(tokens, (grouping.heads + 2 * grouping.key_heads) * width) * 2
    return qkv.to(kind), torch.randn(tokens, grouping.heads * width).to(kind)


def both_passes(qkv: Tensor, upstream: Tensor, grouping: Grouping, tiling: Tiling) -> list[Tensor]:
    attended, kept = attend_row(qkv, grouping, tiling, keep=True)
    grad = attend_row_backward(upstream, qkv, attended, grouping, tiling, kept)
    return [attended, *grouping.views(grad)]


def mask_of(row: PackedRow, rule: PositionRule) -> Tensor:
    """[query, key] of the whole row."""
    mask = torch.zeros(len(row.input_ids), len(row.input_ids), dtype=torch.bool)
    for s in row.segments:
        columns = torch.cat([torch.arange(s.root), torch.arange(s.start, s.stop)])
        mask[s.start : s.stop, columns] = s.allowed(rule)
    return mask


def dense(qkv: Tensor, upstream: Tensor, grouping: Grouping, mask: Tensor) -> list[Tensor]:
    """In fp64, with one mask over the row."""
    parts = [part[None].double().requires_grad_() for part in grouping.views(qkv)]
    query, key, value = parts
    heads = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=grouping.scaling, enable_gqa=True)
    attended = heads[0].transpose(0, 1).reshape(len(qkv), -1)
    grads = torch.autograd.grad(attended, parts, upstream.double())
    return [attended.detach(), *(grad[0] for grad in grads)]


def cancelled(qkv: Tensor, upstream: Tensor, grouping: Grouping, mask: Tensor, exact: Sequence[Tensor]) -> list[float]:
    """How much larger the gradients of queries and keys were if nothing cancelled: the gradient of a score is its
    weight times a difference, which with a few keys is of nearly equal numbers."""
    query, key, value = (part.double() for part in grouping.views(qkv))
    times = grouping.heads // grouping.key_heads
    key, value = (part.repeat_interleave(times, 0) for part in (key, value))
    above = upstream.double().view(len(qkv), grouping.heads, -1).transpose(0, 1)
    scores = query @ key.mT * grouping.scaling
    weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
    slopes = (above @ value.mT).abs()
    slopes = weights * (slopes + (weights * slopes).sum(-1, keepdim=True)) * grouping.scaling
    of_queries = slopes @ key.abs()
    of_keys = (slopes.mT @ query.abs()).unflatten(0, (grouping.key_heads, times)).sum(1)
    return [1.0, float(of_queries.norm() / exact[1].norm()), float(of_keys.norm() / exact[2].norm()), 1.0]


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("grouping", GROUPINGS, ids=str)
def test_both_passes(row: str, grouping: Grouping, way: Way) -> None:
    check(row, grouping, causal, way)


@pytest.mark.parametrize("row", ["16 responses", "cut"])
def test_a_sliding_window(row: str, way: Way) -> None:
    """Whole blocks of keys that a block of queries does not see."""
    check(row, GROUPINGS[0], window, way)


def check(name: str, grouping: Grouping, rule: PositionRule, way: Way) -> None:
    row = ROWS[name]
    qkv, upstream = states(row, grouping, way.kind)
    assert grouping.fits(qkv)
    assert grouping.by_tiles(qkv) == way.tiles
    tiling = tiling_of(row, way.kind, rule)
    mask = mask_of(row, rule)
    exact = dense(qkv, upstream, grouping, mask)
    lost = cancelled(qkv, upstream, grouping, mask, exact)
    assert max(lost) < MOST_LOST
    # Past a few keys a query, tiles round scores and slopes less often than torch does between its products.
    factor = (1.5 if len(qkv) <= 64 else 0.8) if way.tiles else 1.5
    held(
        lambda: both_passes(qkv, upstream, grouping, tiling),
        exact,
        factor=factor,
        by_threads=True,
        steps=None,
        lost=lost,
    )


@pytest.mark.parametrize("grouping", GROUPINGS, ids=str)
def test_one_token(grouping: Grouping, way: Way) -> None:
    """It sees itself alone: nothing depends on its score."""
    row = pack_row([random_tree(1, 1)], ends=False)
    qkv, upstream = states(row, grouping, way.kind)
    attended, query, key, value = both_passes(qkv, upstream, grouping, tiling_of(row, way.kind))
    above = upstream.view(grouping.key_heads, -1, grouping.width).float()
    values = grouping.views(qkv)[2]
    assert torch.equal(attended.view_as(above), values.expand_as(above).to(way.kind))
    assert torch.equal(value[:, 0], above.sum(1).to(way.kind))
    assert max(query.abs().max(), key.abs().max()) < 1e-4


@pytest.mark.parametrize("number", [1, 2, 3])
def test_nothing_kept(number: int, way: Way) -> None:
    """Without gradients the same comes out, however many threads compute it."""
    row, grouping = ROWS["cut"], GROUPINGS[0]
    qkv, _ = states(row, grouping, way.kind)
    tiling = tiling_of(row, way.kind)
    attended, _ = attend_row(qkv, grouping, tiling, keep=True)
    with threads(number):
        again, kept = attend_row(qkv, grouping, tiling, keep=False)
    assert torch.equal(attended, again)
    assert kept == [None]


def test_gradients_from_elsewhere(way: Way) -> None:
    """As autograd may lay them out."""
    row, grouping = ROWS["16 responses"], GROUPINGS[0]
    qkv, upstream = states(row, grouping, way.kind)
    ours, turned = (
        both_passes(qkv, u, grouping, tiling_of(row, way.kind)) for u in (upstream, upstream.t().contiguous().t())
    )
    assert all(torch.equal(a, b) for a, b in zip(ours, turned, strict=True))


def test_a_wrong_mask_is_wrong(way: Way) -> None:
    """One query that does not see its prompt: what it attends to is another, and nothing else is."""
    row, grouping = ROWS["a block"], GROUPINGS[0]
    qkv, _ = states(row, grouping, way.kind)
    ((whole,),) = tiling_of(row, way.kind)
    blind = whole.bias.clone()
    blind[25, :20] = float("-inf")
    right, wrong = (
        attend_row(qkv, grouping, Tiling([(whole._replace(bias=bias),)]), keep=False)[0] for bias in (whole.bias, blind)
    )
    assert (right != wrong).any(1).nonzero().flatten().tolist() == [25]
    assert errors(wrong[25], right[25].double())[0] > 0.3


def test_what_no_kernel_takes(way: Way) -> None:
    row = ROWS["a block"]
    qkv, _ = states(row, GROUPINGS[0], way.kind)
    assert not GROUPINGS[0].fits(qkv.double())
    for width in (16, 48):
        assert not GROUPINGS[0]._replace(width=width).fits(qkv)
    with in_torch():
        assert not GROUPINGS[0].fits(qkv)


def test_what_tiles_do_not_take(way: Way) -> None:
    row = ROWS["a block"]
    qkv, _ = states(row, GROUPINGS[0], way.kind)
    assert not GROUPINGS[0].by_tiles(qkv.float())
    assert not GROUPINGS[0]._replace(scaling=-0.1).by_tiles(qkv)
    assert not GROUPINGS[0]._replace(width=160).by_tiles(qkv)
