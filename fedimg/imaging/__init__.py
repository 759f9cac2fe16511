"""Station 3: decoded pixels → `Volume` → tensors, ordered by patient.

Deterministic throughout: the same released file and configuration give the same floats. What is
random (augmentation) takes its random numbers as an argument.
"""
