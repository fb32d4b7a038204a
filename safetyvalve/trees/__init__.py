"""Prefix trees: a prompt computed once for all its responses."""

from safetyvalve.lineage import weights_hash
from safetyvalve.trees.attention import tree_attention
from safetyvalve.trees.flex import block_mask
from safetyvalve.trees.forward import ResponseLogps, body_of, packed_hidden_states, response_logps, underlying
from safetyvalve.trees.packing import pack_by_budget, tokens_computed
from safetyvalve.trees.plan import Engine, PackedRow, Segment, Tree, pack_row
from safetyvalve.trees.recompute import recomputed_layers
from safetyvalve.trees.reference import ReferenceCache
from safetyvalve.trees.sequence_kl import Divergence, sequence_kl
from safetyvalve.trees.support import check_length
from safetyvalve.trees.verify import EngineChoice, Quantity, choose_engine, largest_difference

__all__ = [
    "Divergence",
    "Engine",
    "EngineChoice",
    "PackedRow",
    "Quantity",
    "ReferenceCache",
    "ResponseLogps",
    "Segment",
    "Tree",
    "block_mask",
    "body_of",
    "check_length",
    "choose_engine",
    "largest_difference",
    "pack_by_budget",
    "pack_row",
    "packed_hidden_states",
    "recomputed_layers",
    "response_logps",
    "sequence_kl",
    "tokens_computed",
    "tree_attention",
    "underlying",
    "weights_hash",
]
