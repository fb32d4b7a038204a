"""Kernels in C for what a step spends its time on beside torch's own products. docs/performance.md says what they gain.

They are compiled when they are first used and kept in the cache. Where that cannot be (no compiler, another system),
everything that calls them has the same computation in torch.
"""

from safetyvalve.native.building import Kernels, kernels

__all__ = ["Kernels", "kernels"]
