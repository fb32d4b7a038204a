"""Prefix trees: a prompt computed once for all its responses."""

from safetyvalve.lineage import weights_hash
from safetyvalve.trees.attention import tree_attention
from safetyvalve.trees.flex import block_mask
from safetyvalve.trees.forward import ResponseLogps, response_logps, underlying
from safetyvalve.trees.packing import pack_by_budget, tokens_computed
from safetyvalve.trees.plan import Engine, PackedRow, Segment, Tree, pack_row
from safetyvalve.trees.recompute import recomputed_layers
from safetyvalve.trees.reference import ReferenceCache
from safetyvalve.trees.sequence_kl import Divergence, sequence_kl
from safetyvalve.trees.verify import EngineChoice, choose_engine, largest_difference

__all__ = [
    "Divergence",
    "Engine",
    "EngineChoice",
    "PackedRow",
    "ReferenceCache",
    "ResponseLogps",
    "Segment",
    "Tree",
    "block_mask",
    "choose_engine",
    "largest_difference",
    "pack_by_budget",
    "pack_row",
    "recomputed_layers",
    "response_logps",
    "sequence_kl",
    "tokens_computed",
    "tree_attention",
    "underlying",
    "weights_hash",
]
