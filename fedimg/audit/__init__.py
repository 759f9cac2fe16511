"""Audits: what can be measured of a privacy claim, from outside of the proof.

Each is an estimate or a statistical bound and is said to be one; `docs/audits.md` says what each shows and
what it does not.
"""
