"""Make any network fit for patient-level gradients, and prove that it is.

Batch normalisation mixes the examples of a batch, so that one patient moves another's gradient,
and it keeps statistics of the data in buffers that no noise covers. Group normalisation (Wu and
He 2018, arXiv 1803.08494) looks at one example only. Libraries do not replace every layer even
when asked (MONAI's `ResNet(norm=…)` leaves 11 of 12), hence: replace all, then check.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.modules.instancenorm import _InstanceNorm

from fedimg.errors import ModelError
from fedimg.models.out_of_place import OutOfPlace, in_place_operators

MOST_GROUPS, LEAST_CHANNELS = 32, 4
_PROBES = 3
# Kernels add in another order under vmap, and one ReLU that flips at zero then moves a deep network's
# gradient by up to a hundredth; a rule that is wrong moves it by its own size.
_KINK = 0.05


def group_count(channels: int) -> int:
    """The most groups that divide `channels`, at most 32, each of at least 4 channels (or one group)."""
    fitting = [g for g in range(1, MOST_GROUPS + 1) if channels % g == 0 and channels // g >= LEAST_CHANNELS]
    return max(fitting, default=1)


def make_dp_ready(module: nn.Module) -> nn.Module:
    """Replace what mixes examples, keeps data or acts at random; the module is changed and returned.

    Batch normalisation becomes group normalisation with the same scale and shift, instance normalisation
    the same function of its own example alone; dropout becomes the identity (the noise regularises enough,
    and evaluation must equal training); layers told to work in place are told not to.
    """
    for name, child in module.named_children():
        setattr(module, name, make_dp_ready(child))
    if isinstance(module, _InstanceNorm):
        return _without_statistics(module)
    if isinstance(module, _BatchNorm):
        return _grouped(module)
    if isinstance(module, _DropoutNd):
        return nn.Identity()
    if getattr(module, "inplace", False) is True:
        vars(module)["inplace"] = False
    return module.eval()


def check(module: nn.Module, image_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> bool:
    """Refuse a network whose gradients are not those of one example each.

    Args:
        image_shape: (C, *spatial) of one example.
        output_shape: of one example's outputs, (outputs,) or of voxels (outputs, *spatial).

    Returns:
        Whether the network's code has augmented assignments, so that `OutOfPlace` must stand around it.

    Raises:
        ModelError: buffers, batch normalisation, parameters that are not trainable float32, a wrong
            output, in-place operators, a difference between training and evaluation, an example that
            moves another's output or gradient, or code that `torch.func` cannot transform.
    """
    _check_structure(module)
    probes = _probe_images(image_shape)
    _check_outputs(module, probes, (_PROBES, *output_shape))
    in_place = bool(in_place_operators(module, probes))
    left = in_place_operators(_call(module, in_place=in_place), probes)
    if left:
        raise _unfit("no in-place operator", f"{', '.join(sorted(left))}", "write x = f(x) instead of x.f_()")
    with torch.no_grad():
        if in_place and not torch.equal(
            torch.as_tensor(module(probes)), _call(module, in_place=True)(probes)
        ):
            raise _unfit("x = x.f_() or x += y", "an in-place call whose result is dropped", "write x = f(x)")
    _check_examples(module, _call(module, in_place=in_place), probes)
    return in_place


def check_scores(module: nn.Module, image_shape: tuple[int, ...], output_shape: tuple[int, ...]) -> bool:
    """The same of a network that is never trained along gradients: what it scores, and of whom.

    Raises ModelError.
    """
    _check_structure(module)
    probes = _probe_images(image_shape)
    _check_outputs(module, probes, (_PROBES, *output_shape))
    if not _close(module(probes)[:1], module(probes[:1])):
        raise _unfit("scores of one example at a time", "others", "look at each example alone")
    return False


def _call(module: nn.Module, *, in_place: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    def run(images: torch.Tensor) -> torch.Tensor:
        if not in_place:
            return torch.as_tensor(module(images))
        with OutOfPlace():
            return torch.as_tensor(module(images))

    return run


def _check_structure(module: nn.Module) -> None:
    for name, part in module.named_modules():
        if isinstance(part, _BatchNorm):
            raise _unfit(
                "no batch normalisation", f"{type(part).__name__} at {name}", "pass it through make_dp_ready"
            )
    for name, _ in module.named_buffers():
        raise _unfit(
            "no buffers, which would carry data past the noise", name, "make it a parameter or a constant"
        )
    parameters = dict(module.named_parameters())
    if not parameters:
        raise _unfit("trainable parameters", "none", "offer a network that can learn")
    for name, parameter in parameters.items():
        if not parameter.requires_grad or parameter.dtype != torch.float32:
            raise _unfit(
                "trainable float32 parameters only",
                f"{name}, {parameter.dtype}, requires_grad={parameter.requires_grad}",
                "put fixed parts into Architecture.frozen",
            )


def _check_outputs(module: nn.Module, images: torch.Tensor, expected: tuple[int, ...]) -> None:
    try:
        with torch.no_grad():
            training, logits = module.train()(images), module.eval()(images)
    except (RuntimeError, ValueError) as failure:
        size = " × ".join(map(str, images.shape[1:]))
        raise _unfit(
            f"a network that takes examples of {size}", _first_line(failure), "use larger images"
        ) from failure
    if logits.shape != expected or not bool(torch.isfinite(logits).all()):
        raise _unfit(
            f"finite logits of shape {expected}",
            f"shape {tuple(logits.shape)}",
            "return one row an example, or of segmentation one an example and voxel",
        )
    if not torch.equal(training, logits):
        raise _unfit("training equal to evaluation", "two different outputs", "remove what acts at random")


def _check_examples(
    module: nn.Module, run: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> None:
    other = images.clone()
    other[1:] = other[1:].flip(-1) * 2 + 1
    before, after = _gradient_of_first(module, run, images), _gradient_of_first(module, run, other)
    if not _close(before, after) or not _close(run(images)[:1], run(images[:1])):
        raise _unfit(
            "each example's gradient to depend on that example alone",
            "one that moves with its neighbours",
            "normalise within an example (group or layer normalisation)",
        )
    _check_transforms(module, images[:1], _gradient_of_first(module, run, images[:1]))


def _gradient_of_first(
    module: nn.Module, run: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor
) -> torch.Tensor:
    """Gradient of the first example's log-likelihood, flat; unused parameters count as zero."""
    score = _log_likelihood(run(images)[0])
    parameters = list(module.parameters())
    parts = torch.autograd.grad(score, parameters, materialize_grads=True)
    return torch.cat([part.reshape(-1) for part in parts])


def _check_transforms(module: nn.Module, image: torch.Tensor, expected: torch.Tensor) -> None:
    """vmap(grad), as training runs it, must give the gradient that plain autograd gives."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}

    def score(values: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        with OutOfPlace():
            logits = torch.func.functional_call(module, values, (images,))
        return _log_likelihood(logits[0])

    try:
        rows = torch.func.vmap(torch.func.grad(score), in_dims=(None, 0))(
            parameters, torch.stack([image, image])
        )
    except (RuntimeError, NotImplementedError, ValueError) as failure:
        raise _unfit(
            "a network that torch.func can differentiate", _first_line(failure), "use plain torch operators"
        ) from failure
    found = torch.cat([rows[name][0].reshape(-1) for name in parameters])
    if not _close(found, expected, _KINK):
        raise _unfit(
            "equal gradients from torch.func and autograd", "different ones", "use plain torch operators"
        )


def _log_likelihood(logits: torch.Tensor) -> torch.Tensor:
    """(outputs, …) → (): of class 0, the mean over voxels; of a single output itself."""
    return logits.mean() if len(logits) == 1 else torch.log_softmax(logits, dim=0)[0].mean()


def _close(a: torch.Tensor, b: torch.Tensor, tolerance: float = 1e-4) -> bool:
    """Equal up to the order in which float32 kernels add."""
    return bool((a - b).norm() <= tolerance * (b.norm() + 1e-6))


def _first_line(failure: Exception) -> str:
    """Of a library's message about shapes and operators; the probes hold no data."""
    return str(failure).split("\n", maxsplit=1)[0][:120]


def _probe_images(image_shape: tuple[int, ...]) -> torch.Tensor:
    """Three different public images; nothing random."""
    size = int(torch.Size((_PROBES, *image_shape)).numel())
    return torch.sin(torch.arange(size, dtype=torch.float32) * 0.7).reshape(_PROBES, *image_shape)


def _grouped(old: _BatchNorm) -> nn.Module:
    new = nn.GroupNorm(group_count(old.num_features), old.num_features, eps=old.eps, affine=old.affine)
    if old.affine:
        new.weight, new.bias = old.weight, old.bias
    return new.eval()


def _without_statistics(old: _InstanceNorm) -> nn.Module:
    """With a scale and shift it is group normalisation of single channels, which every engine has a rule for."""
    if old.affine:
        new = nn.GroupNorm(old.num_features, old.num_features, eps=old.eps)
        new.weight, new.bias = old.weight, old.bias
        return new.eval()
    return type(old)(old.num_features, eps=old.eps, affine=False, track_running_stats=False).eval()


def _unfit(expected: str, found: str, remedy: str) -> ModelError:
    return ModelError(expected, found, remedy)
