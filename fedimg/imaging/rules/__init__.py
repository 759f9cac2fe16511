"""A baseline of expert rules on measurements, read from YAML. See docs/radiomics.md."""

from __future__ import annotations

from fedimg.imaging.rules.rulebook import Decision, Rule, Rulebook, load_rules, rulebook

__all__ = ["Decision", "Rule", "Rulebook", "load_rules", "rulebook"]
