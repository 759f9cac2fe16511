"""One image before and after de-identification, as its own site may see it. Confidential: before is the patient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from fedimg.dicom import pixels
from fedimg.dicom.reader import parse
from fedimg.dicom.refusal import Quarantined
from fedimg.home import ReleaseFolder
from fedimg.intake.config import IntakeConfig
from fedimg.intake.folder import FolderInputs
from fedimg.intake.release import Releaser
from fedimg.intake.tally import Example
from fedimg.intake.task import Task, tasks_of
from fedimg.values import DecodedImage, FloatArray, SourceItem


@dataclass(frozen=True, slots=True)
class Compared:
    """The same frame twice, (H, W) float32. `before_HW` is None where the original is not there any more."""

    example: Example
    before_HW: FloatArray | None
    after_HW: FloatArray


def compare(
    folder: ReleaseFolder,
    inputs: Sequence[SourceItem] | FolderInputs,
    config: IntakeConfig,
    examples: Sequence[Example],
) -> Iterator[Compared]:
    """Each example's frame with the most filled pixels, else its middle one.

    Args:
        inputs: what the folder was filled from. An original is the input at the example's run position
            whose keyed digest is that of the receipt; another file is never shown in its place.
    """
    root = inputs.root if isinstance(inputs, FolderInputs) else None
    releaser = Releaser(folder.site_key, config.release(labelled=False, root=root), folder.quarantine)
    originals = _originals(releaser, inputs, examples)
    for example in examples:
        try:
            after = pixels.decode(folder.released / example.output, masked=example.masked)
        except Quarantined:
            continue  # released files are read again on their way into a training, which tells of it
        frame = _frame(after)
        before = None
        if example.position in originals:
            before = _before(releaser, originals[example.position], frame)
        yield Compared(example, before, after.pixels_DHW[frame])


def _originals(
    releaser: Releaser, inputs: Sequence[SourceItem] | FolderInputs, examples: Sequence[Example]
) -> dict[int, Task]:
    """By run position."""
    wanted = {example.position: example.link for example in examples}
    tasks = tasks_of(inputs, distinct=isinstance(inputs, FolderInputs))
    return {
        task.position: task
        for task in islice(tasks, max(wanted, default=-1) + 1)
        if task.position in wanted and releaser.link_of(task) == wanted[task.position]
    }


def _frame(image: DecodedImage) -> int:
    if image.mask_DHW is None or not image.mask_DHW.any():
        return len(image.pixels_DHW) // 2
    return int(image.mask_DHW.sum(axis=(1, 2)).argmax())


def _before(releaser: Releaser, task: Task, frame: int) -> FloatArray | None:
    try:
        if task.item.kind == "nifti":
            image = pixels.decode(task.item.path)
        else:
            image = pixels.decode_dataset(parse(releaser.dicom(task, releaser.content(task))))
    except Quarantined:
        return None
    return image.pixels_DHW[frame] if frame < len(image.pixels_DHW) else None
