"""Images of a home or a folder as cases that can be measured: for a site's own table, and for rules as a baseline.

home     released files       → cases, and what a rulebook says of a labelled public set
"""
