"""Mechanisms of another kind, connected through the adapter: noise in shares, and spending kept by patient."""

import hmac
from dataclasses import replace

from fedimg.audit.mechanism import Session, Shares
from fedimg.audit.shipped import ShippedMechanism
from fedimg.crypto.keys import SiteKey

THRESHOLD, COLLUDERS = 6, 1


class SharedSession(Session):
    """The shipped session, whose noise is a share; its ledger is told the whole σ."""

    def __init__(self, inner, setting, declared, messages):
        self.inner, self.setting, self.declared, self.messages = inner, setting, declared, messages

    @property
    def claim(self):
        shares = Shares(THRESHOLD, COLLUDERS, self.declared)
        noise = self.setting.noise_multiplier
        return replace(self.inner.claim, noise_multiplier=noise, shares=shares)

    def step(self, steps=1):
        return replace(self.inner.step(steps), messages=self.messages)

    def restart(self):
        return SharedSession(self.inner.restart(), self.setting, self.declared, self.messages)

    def crash(self):
        return SharedSession(self.inner.crash(), self.setting, self.declared, self.messages)

    def recorded(self):
        return replace(self.inner.recorded(), noise_multiplier=self.setting.noise_multiplier)

    def roll_back(self):
        return self.inner.roll_back()


class SharedMechanism(ShippedMechanism):
    """Each of h sites adds N(0, σ²C²/h). `used` is the h that the noise has, `declared` the one that is said."""

    name = "shares"

    def __init__(self, declared=THRESHOLD - COLLUDERS, used=None, messages=1):
        super().__init__()
        self.declared, self.used, self.messages = declared, used or declared, messages

    def open(self, setting, units, site="a"):
        share = replace(setting, noise_multiplier=setting.noise_multiplier / self.used**0.5)
        return SharedSession(super().open(share, units, site), setting, self.declared, self.messages)

    def open_with(self, setting, units, entropy):
        share = replace(setting, noise_multiplier=setting.noise_multiplier / self.used**0.5)
        return SharedSession(super().open_with(share, units, entropy), setting, self.declared, self.messages)


class KeyedMechanism(ShippedMechanism):
    """Spending is kept under HMAC(site key, domain "ledger"); `salted` puts the project in, as pseudonyms have it."""

    def __init__(self, salted):
        super().__init__()
        self.salted, self.key = salted, SiteKey.from_bytes(bytes(range(32)))

    def ledger_key(self, patient, project):
        key = self.key.derive("ledger", project=project if self.salted else "fedimg")
        return hmac.digest(key, patient.encode(), "sha256")
