"""Papers that hospitals and coordinator exchange before a run: signing requests, and the signed list of members.

Both sides read them; neither trusts the channel. What a person has to compare by telephone is a short code.
"""

from fedimg.federation.manifest import Manifest, Member, SignedManifest
from fedimg.federation.request import SiteRequest
from fedimg.federation.spoken import same_code, spoken_code

__all__ = ["Manifest", "Member", "SignedManifest", "SiteRequest", "same_code", "spoken_code"]
