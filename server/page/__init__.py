"""The coordinator's page: which sites are there, which runs, how far each has come, and at what ε.

    models     what the page knows, as plain values: the JSON API is made of the same
    watching   reads it: registry, bundle, connections, the runs' folders
    overview, run_page   draw it
    registry_page, registry_routes   the registry of models
    routes     pages, JSON and buttons        serving   starts it within the coordinator's process

Nothing of a patient reaches a coordinator, so nothing of one is here; paths of this machine are left out too.
"""
