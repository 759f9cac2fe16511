"""Secure sums: the coordinator learns the sum of the sites' vectors, and nothing else of any of them.

K. Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017, with its
consistency exchange for a coordinator that does not follow the protocol:

    plan       who sums, how many must survive, how many may collude      public, agreed by digest
    encoding   real numbers ↔ whole steps of a grid, with room for the sum
    masking    masks that cancel in the sum
    site       advertise_keys, share_keys, masked_input, confirm, unmask  one hospital's side of one sum
    coordinator                                                           the other side
    messages   the byte layouts between them
"""
