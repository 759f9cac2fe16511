"""What conducts a run, whoever carries its messages: the loop over its rounds, its folder, its record.

    terms      configuration    → what sites are asked to agree to
    rounds     a carrier        → the run's history, a checkpoint after every round
    summary    a finished run   → model, signed record, report

A simulation and a coordinator's server stand on this alike; here is nothing of homes, and nothing of a network.
"""
