"""The coordinator's application: what runs outside the hospitals and sees released values only.

It may use the library (`fedimg`) and may not know `sites`: the two sides meet in
`fedimg.values` only.
"""
