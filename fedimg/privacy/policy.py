"""A hospital's own rules, in a YAML file at the hospital. The server can only ask for more privacy.

A refusal is for the site's own operator; the wire carries an absence. Every rule is judged on
declared, public numbers and before any data is touched: a refusal that turned on one patient
would be an un-noised query about that patient.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import yaml

from fedimg.errors import ConfigError, PolicyRefused
from fedimg.privacy.request import DISTRIBUTED, PrivacyRequest

_RECIPIENT = re.compile(r"x25519:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SitePolicy:
    """What this site allows.

    Attributes:
        declared_patients: n̄, the site's size as it declares it once: a *rounded* public number. Sampling
            rates, divisors and δ are derived from it, never from the data.
        min_patients: the least declared size that may take part.
        max_epsilon, max_delta: the most one run may cost a patient. δ is further held to 1/(10 · n̄).
        min_noise_multiplier: the least σ ÷ sensitivity of any training release.
        allowed_noise: laws of noise that may be used, as `privacy.noise` names them; "*" alone allows all.
        max_sites_per_patient: the most sites one patient may be declared to be at.
        require_battery: a private run begins only where this installation passes the conformance battery.
        allow_non_private: whether `privacy=none` may run here at all.
        allow_client_level: whether this site hands a coordinator its clipped updates un-noised and trusts it to
            add the noise (`privacy=client_level`).
        allowed_models: names of networks; "*" alone allows all built-in ones.
        deid_profiles: de-identification profiles that may feed a training.
        allowed_subgroups: attributes of patients by which an evaluation may be broken down; "*" alone allows all.
        allowed_extensions: digests ("sha256:…") of entry points that may run here.
        min_sites_in_sum: the least number of sites whose updates a secure sum must add up.
        allow_sparse_sum: whether more than 50 sites may exchange keys with some others each only, which holds
            against a coordinator that follows the protocol.
        require_secure_sum: whether a run may see this site's updates only in a secure sum.
        allow_shared_noise: whether this site may add a share of the noise only and rely on other sites for the rest
            (`privacy=distributed`).
        min_colluders: with shared noise, the least number of colluding sites that it must withstand.
        share_with: X25519 public keys, as `fedimg share keygen` prints them, of those who may be given released files.
        max_drift_epsilon: the most that one file of drift histograms may cost a patient; 0: none is made here.
        preapproved_epsilon: runs with privacy of at most this ε need no person's consent, each by itself; 0: all do.
    """

    declared_patients: int
    min_patients: int = 20
    max_epsilon: float = 10.0
    max_delta: float = 1e-4
    min_noise_multiplier: float = 0.3
    allowed_noise: tuple[str, ...] = ("*",)
    max_sites_per_patient: int = 1
    require_battery: bool = True
    allow_non_private: bool = False
    allow_client_level: bool = False
    allowed_models: tuple[str, ...] = ("*",)
    deid_profiles: tuple[str, ...] = ("train",)
    allowed_subgroups: tuple[str, ...] = ("*",)
    allowed_extensions: tuple[str, ...] = ()
    min_sites_in_sum: int = 3
    allow_sparse_sum: bool = False
    require_secure_sum: bool = False
    allow_shared_noise: bool = False
    min_colluders: int = 1
    max_drift_epsilon: float = 1.0
    preapproved_epsilon: float = 0.0
    share_with: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.declared_patients < 1:
            raise ConfigError(
                "policy declared_patients ≥ 1", f"{self.declared_patients}", "declare the site's rounded size"
            )
        # In a sum of two, either site can subtract its own share.
        for name, least in (
            ("min_patients", 1),
            ("max_sites_per_patient", 1),
            ("min_sites_in_sum", 3),
            ("min_colluders", 1),
        ):
            if getattr(self, name) < least:
                raise ConfigError(f"policy {name} ≥ {least}", f"{getattr(self, name)}", f"correct {name}")
        for name in ("max_drift_epsilon", "preapproved_epsilon"):
            if getattr(self, name) < 0:
                raise ConfigError(f"policy {name} ≥ 0", f"{getattr(self, name):g}", f"correct {name}")
        if not all(_RECIPIENT.fullmatch(key) for key in self.share_with):
            raise ConfigError(
                "policy share_with of public keys, each x25519: and 64 hexadecimal digits",
                "another text",
                "copy what `fedimg share keygen` printed to its owner",
            )
        for name in ("max_epsilon", "max_delta", "min_noise_multiplier"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"policy {name} > 0", f"{getattr(self, name):g}", f"correct {name}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build from parsed YAML. Unknown keys, missing size and wrong types are refused.

        Raises:
            ConfigError: naming the key.
        """
        kinds: dict[str, Any] = {item.name: item.type for item in fields(cls)}
        unknown = sorted(str(key) for key in values if key not in kinds)
        if unknown:
            raise ConfigError("known policy keys", f"{unknown[0]!r}", f"use one of: {', '.join(kinds)}")
        if "declared_patients" not in values:
            raise ConfigError("policy key declared_patients", "none", "declare the site's rounded size")
        return cls(**{str(name): _typed(str(name), kinds[name], value) for name, value in values.items()})

    @classmethod
    def load(cls, path: Path) -> SitePolicy:
        """Read `policy.yaml` of a site's home. An unreadable policy refuses everything."""
        try:
            return _parsed(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as failure:
            raise PolicyRefused(
                "a readable site policy", type(failure).__name__, "write policy.yaml in the site's home"
            ) from failure

    def check(
        self,
        request: PrivacyRequest,
        model: str | None = None,
        *,
        deid_profile: str | None = None,
        extensions: Mapping[str, str] | None = None,
        subgroups: Sequence[str] = (),
    ) -> None:
        """Judge what is asked, before any data is touched. `extensions` maps names to their digests.

        Raises:
            PolicyRefused: with the rule, for the site's own operator.
        """
        if self.declared_patients < self.min_patients:
            _refuse("min_patients", f"at least {self.min_patients}", self.declared_patients)
        if model is not None and "*" not in self.allowed_models and model not in self.allowed_models:
            _refuse("allowed_models", f"one of {', '.join(self.allowed_models)}", model)
        if deid_profile is not None and deid_profile not in self.deid_profiles:
            _refuse("deid_profiles", f"one of {', '.join(self.deid_profiles)}", deid_profile)
        for name in subgroups if "*" not in self.allowed_subgroups else ():
            if name not in self.allowed_subgroups:
                _refuse("allowed_subgroups", f"one of {', '.join(self.allowed_subgroups) or 'none'}", name)
        for name, digest in (extensions or {}).items():
            if digest not in self.allowed_extensions:
                _refuse("allowed_extensions", f"the digest of extension {name}", digest)
        if request.mode == "none":
            if not self.allow_non_private:
                _refuse("allow_non_private", "a private mode", "privacy=none")
            return
        if request.mode == "client_level" and not self.allow_client_level:
            _refuse("allow_client_level", "a mode that does not trust the coordinator", request.mode)
        if request.mode == DISTRIBUTED and not self.allow_shared_noise:
            _refuse("allow_shared_noise", "this site's own whole noise on what it sends", request.mode)
        if request.epsilon > self.max_epsilon:
            _refuse("max_epsilon", f"ε at most {self.max_epsilon:g}", f"{request.epsilon:g}")
        if "*" not in self.allowed_noise and request.noise not in self.allowed_noise:
            _refuse("allowed_noise", f"privacy.noise {' or '.join(self.allowed_noise)}", request.noise)
        largest = 1 / (10 * self.declared_patients)
        remedy = f"set privacy.delta to at most {rounded_down(self.largest_delta):g}"
        if request.delta > largest * (1 + 1e-9):
            # Never advise another size: δ has to suit the patients that there are.
            raise PolicyRefused(
                f"δ at most 1/(10 · declared patients) = {largest:.3g}", f"{request.delta:g}", remedy
            )
        if request.delta > self.max_delta:
            raise PolicyRefused(
                f"δ at most {self.max_delta:g} (this site's policy, max_delta)", f"{request.delta:g}", remedy
            )
        if request.max_sites_per_patient > self.max_sites_per_patient:
            _refuse(
                "max_sites_per_patient",
                f"at most {self.max_sites_per_patient}",
                request.max_sites_per_patient,
            )

    def check_sharing(self, recipient: str) -> None:
        """Refuse to hand released files to the holder of a key that is not named here."""
        if recipient not in self.share_with:
            raise PolicyRefused(
                "a recipient whose key this site has named (this site's policy, share_with)",
                "another key" if self.share_with else "a policy that names none",
                "compare the key's code with its owner by telephone, then add the key to share_with in policy.yaml",
            )

    @property
    def largest_delta(self) -> float:
        """The most δ that one run, or the ledger, may have here."""
        return min(self.max_delta, 1 / (10 * self.declared_patients))

    def check_shared_noise(self, colluders: int) -> None:
        """Refuse shares of a noise that fewer colluding sites could subtract than this site reckons with."""
        if colluders < self.min_colluders:
            _refuse(
                "min_colluders", f"a noise that withstands at least {self.min_colluders} sites", colluders
            )

    def check_drift(self, epsilon: float, delta: float) -> None:
        """Judge a release of drift histograms: as any run with exact noise, and by the rule of its own."""
        if not epsilon <= self.max_drift_epsilon:
            _refuse("max_drift_epsilon", f"ε at most {self.max_drift_epsilon:g}", f"{epsilon:g}")
        self.check(
            PrivacyRequest(epsilon=epsilon, delta=delta, rounds=1, evaluations=0, noise="discrete_gaussian")
        )

    def check_noise(self, noise_multiplier: float) -> None:
        """Refuse a plan whose training releases carry less noise than this site wants."""
        if noise_multiplier < self.min_noise_multiplier:
            _refuse(
                "min_noise_multiplier",
                f"a noise multiplier of at least {self.min_noise_multiplier:g}",
                f"{noise_multiplier:.3f}",
            )


@lru_cache(maxsize=64)
def _parsed(text: str) -> SitePolicy:
    """Read again for every answer, parsed once."""
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise ConfigError(
            "a mapping of policy keys", type(values).__name__, "see sites/policies/default.yaml"
        )
    return SitePolicy.from_mapping(values)


def rounded_down(value: float) -> float:
    """To three digits, so that what a remedy names is allowed."""
    exponent = math.floor(math.log10(value))
    return float(f"{math.floor(value / 10.0 ** (exponent - 2) + 1e-9)}e{exponent - 2}")


def _refuse(rule: str, expected: str, found: object) -> None:
    raise PolicyRefused(
        f"{expected} (this site's policy, {rule})",
        f"{found}",
        f"ask for a run that the policy allows, or change {rule} in the site's policy.yaml",
    )


def _typed(name: str, kind: str, value: Any) -> Any:
    def refuse() -> ConfigError:
        return ConfigError(
            f"policy {name} of type {kind}", type(value).__name__, f"correct {name} in policy.yaml"
        )

    if kind == "tuple[str, ...]":
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise refuse()
        return tuple(value)
    if kind == "bool":
        if not isinstance(value, bool):
            raise refuse()
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind == "float" else int):
        # YAML 1.1 reads 1e-4 as text; 1.0e-4 is a number
        number = _number(value) if kind == "float" and isinstance(value, str) else None
        if number is None:
            raise refuse()
        return number
    if kind == "float" and not math.isfinite(value):
        raise refuse()
    return float(value) if kind == "float" else value


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
