"""Patient-level differential privacy: one mechanism, its accounting, and a ledger for good.

`plan` alone couples the parts; the parts do not know each other. What is promised, to whom,
and why it holds is said in the README and in `docs/threat-model.md`.
"""
