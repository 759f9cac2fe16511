"""What the site's own operator reads after an intake: which, why, and what to do. No patient data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedimg.values import Quarantine

REMEDIES: Mapping[Quarantine, str] = {
    Quarantine.UNREADABLE: "damaged or cut short: export it again from the archive",
    Quarantine.NOT_AN_IMAGE: "not an image: leave it out of the input",
    Quarantine.LINK: "a link to another place: put the file itself into the input",
    Quarantine.NO_PATIENT_ID: "no patient number: add it in the archive, or name it in the label file",
    Quarantine.NO_LABEL: "no label: add its line to the label file",
    Quarantine.PATIENT_AT_TWO_SITES: "the patient is at another site too: agree who trains on it",
    Quarantine.OBJECT_TYPE: "a report, capture or derived object: the profile does not release these",
    Quarantine.UNSAFE_STRUCTURE: "a structure that contradicts itself or goes too deep: export it again",
    Quarantine.RESIDUAL_IDENTIFIER: "something identifying stayed in the result: look at it at the source",
    Quarantine.PIXELS_UNDECODABLE: "its pixels do not decode: export it uncompressed",
    Quarantine.PIXELS_NOT_FINITE: "its pixels hold values that are not numbers: repair it at the source",
    Quarantine.PIXELS_BLANK: "its pixels are all the same: leave it out",
    Quarantine.PIXELS_CLIPPED: "its pixels are cut off at the limits: leave it out or repeat it",
    Quarantine.DUPLICATE: "the same image or number of an image was taken in already: nothing to do",
    Quarantine.WRONG_SHAPE: "an image of another shape than the task takes: leave it out or convert it",
    Quarantine.BURNED_IN_TEXT: "text may be burnt into its pixels: blank it at the source, or leave it out",
    Quarantine.PIXELS_UNPROVEN: "its written pixels failed their recheck: look at it at the source",
    Quarantine.RECOGNISABLE_FACE: "a head that may show a face: deface its series, or choose deid.head",
    Quarantine.RECEIPT_INVALID: "the released file is not the one of its receipt: take it in again",
    Quarantine.DISK_FULL: "the disk is full: free space and start the intake again",
}


def report_text(taken: int, positions: Mapping[Quarantine, Sequence[int]]) -> str:
    """Counts by reason with remedy and run positions (the line numbers of the input list, from 0)."""
    held = sum(len(found) for found in positions.values())
    lines = [f"{taken} released, {held} held back"]
    for reason, found in sorted(positions.items(), key=lambda entry: (-len(entry[1]), entry[0])):
        shown = ", ".join(map(str, found[:20])) + (" …" if len(found) > 20 else "")
        lines.append(f"  {len(found):6d}  {reason.value}: {REMEDIES[reason]} (inputs {shown})")
    return "\n".join(lines)
