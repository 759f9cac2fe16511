"""The hospital's application: what runs inside a site, beside its patients' data.

It may use the library (`fedimg`) and may not know `server`: the two sides meet in
`fedimg.values` only.
"""
