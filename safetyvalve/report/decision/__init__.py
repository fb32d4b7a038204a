"""The decision report: what is proposed (release, hold, roll back), on what grounds, on one page that prints."""

from safetyvalve.report.decision.page import build_decision, proposal_of
from safetyvalve.report.decision.rule import Decision, Ground, propose
from safetyvalve.report.decision.sources import Material, read_kpis, read_material

__all__ = ["Decision", "Ground", "Material", "build_decision", "proposal_of", "propose", "read_kpis", "read_material"]
