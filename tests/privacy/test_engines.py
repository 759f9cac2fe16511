import pytest
import torch
from torch.nn import functional as F

from fedimg.errors import ConfigError
from fedimg.privacy.engines import PatientGradients, PatientLoss

FLAT = torch.linspace(-0.5, 0.5, 146)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(5, 3, 1, 6, 6, generator=generator)
    return images, torch.randint(0, 2, (5, 3), generator=generator)


def test_both_engines_agree_to_a_hundred_thousandth_of_the_norm(convolutional, batch):
    by_vmap = PatientGradients(convolutional, PatientLoss(), "vmap").of(FLAT, *batch)
    by_autograd = PatientGradients(convolutional, PatientLoss(), "autograd").of(FLAT, *batch)
    assert by_vmap.shape == (5, 146)
    assert ((by_vmap - by_autograd).norm(dim=1) <= 1e-5 * by_autograd.norm(dim=1)).all()
    assert (by_vmap[0] - by_vmap[1]).norm() > 1e-2


def test_a_row_is_the_gradient_of_the_mean_over_images_by_finite_differences(convolutional, batch):
    """Central differences in float64 along three random directions."""
    images, labels = (t[0] for t in batch)
    row = PatientGradients(convolutional, PatientLoss((1.0, 3.0)), "vmap").of(FLAT, *batch)[0].double()

    def loss(flat):
        each = F.cross_entropy(convolutional.apply(flat, images.double()), labels, reduction="none")
        return (each * torch.tensor([1.0, 3.0])[labels]).sum() / 3

    for seed in range(3):
        direction = torch.randn(146, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        step = 1e-5 * direction
        slope = (loss(FLAT.double() + step) - loss(FLAT.double() - step)) / 2e-5
        assert float(row @ direction) == pytest.approx(float(slope), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("engine", ["vmap", "autograd"])
def test_one_patient_does_not_move_anothers_gradient(convolutional, batch, engine):
    images, labels = batch
    gradients = PatientGradients(convolutional, PatientLoss(), engine)
    before = gradients.of(FLAT, images, labels)
    images = images.clone()
    images[2] = float("nan")
    after = gradients.of(FLAT, images, labels)
    kept = [0, 1, 3, 4]
    assert torch.equal(before[kept], after[kept])
    assert after[2].isnan().any()


def test_auto_settles_on_one_engine_by_shape_and_agrees(convolutional, batch):
    auto = PatientGradients(convolutional, PatientLoss(), "auto")
    settled = auto.settled(FLAT, batch[0])
    assert settled.engine in ("bookkeeping", "vmap", "autograd")
    assert settled == auto.settled(FLAT, batch[0])
    usual = PatientGradients(convolutional, PatientLoss(), "vmap").of(FLAT, *batch)
    assert (settled.of(FLAT, *batch) - usual).norm() <= 1e-5 * usual.norm()


def test_a_network_that_vmap_cannot_take_gets_one_call_a_patient(batch):
    class Branching:
        def apply(self, flat, images):
            gain = 1.0 if images.sum().item() > 0 else 2.0
            return gain * F.linear(images.flatten(1), flat[:72].view(2, 36), flat[72:74])

    settled = PatientGradients(Branching(), PatientLoss(), "auto").settled(FLAT, batch[0])
    assert settled.engine == "autograd"
    assert settled.of(FLAT, *batch).shape == (5, 146)


def test_a_run_that_must_repeat_is_not_timed(convolutional, batch):
    auto = PatientGradients(convolutional, PatientLoss(), "auto", timed=False)
    assert auto.settled(FLAT, batch[0]).engine == "vmap"
    affine = PatientGradients(Affine(), PatientLoss(), "auto", timed=False)
    assert affine.settled(torch.zeros(111), batch[0]).engine == "closed_form"


class Dead:
    """Its logits depend on no parameter's value: every engine gives zeros, which proves none of them."""

    def apply(self, flat, images):
        return images.flatten(1)[:, :2] + 0 * flat.sum()


def test_auto_takes_agreement_of_zeros_for_none(batch):
    settled = PatientGradients(Dead(), PatientLoss(), "auto").settled(FLAT, batch[0])
    assert settled.engine in ("vmap", "autograd")


def test_auto_must_be_settled_before_it_computes(convolutional, batch):
    with pytest.raises(ConfigError, match="found auto; call `settled` first"):
        PatientGradients(convolutional, PatientLoss(), "auto").of(FLAT, *batch)


def test_class_weights_of_another_length_are_refused(convolutional, batch):
    with pytest.raises(ConfigError, match="2 class weights; found 3"):
        PatientGradients(convolutional, PatientLoss((1.0, 1.0, 1.0)), "vmap").of(FLAT, *batch)


@pytest.mark.parametrize(
    ("chunk", "side", "images", "parameters", "expected"),
    [
        (0, 64, 1, 10, 64),
        (0, 64, 3, 10, 21),
        (0, 28, 1, 1 << 20, 4),
        (0, 512, 2, 1 << 30, 1),
        (12, 8, 4, 10, 3),
        (1, 8, 4, 10, 1),
    ],
)
def test_a_chunk_is_bounded_by_pixels_and_by_gradient_values(
    convolutional, chunk, side, images, parameters, expected
):
    """Without a chunk: at most 2^18 pixels (64 of 64²) and 2^22 gradient values."""
    gradients = PatientGradients(convolutional, PatientLoss(), "vmap", chunk)
    flat, batch = torch.zeros(1).expand(parameters), torch.zeros(1).expand(9, images, 1, side, side)
    assert gradients.patients_at_once(flat, batch) == expected


class Affine:
    """As a frozen-feature network describes itself; P = 3·37."""

    digest, linear = "affine", True

    def apply(self, flat, images):
        return F.linear(images.flatten(1), flat[:108].view(3, 36), flat[108:])


@pytest.mark.parametrize("weights", [None, (1.0, 0.2, 5.0)])
def test_the_closed_form_of_a_linear_head_agrees_with_differentiation(batch, weights):
    images, labels = batch
    labels = labels + torch.arange(5).view(5, 1) % 2
    flat = torch.linspace(-0.3, 0.4, 111)
    settled = PatientGradients(Affine(), PatientLoss(weights), "auto").settled(flat, images)
    assert settled.engine == "closed_form"
    rows = settled.of(flat, images, labels)
    slow = PatientGradients(Affine(), PatientLoss(weights), "autograd").of(flat, images, labels)
    assert ((rows - slow).norm(dim=1) <= 1e-5 * slow.norm(dim=1)).all()


def test_the_closed_form_takes_a_fixed_centre_off_the_features(batch):
    class OffCentre(Affine):
        centre = torch.linspace(-2, 3, 36)

        def apply(self, flat, images):
            return super().apply(flat, images.flatten(1) - self.centre)

    flat = torch.linspace(-0.3, 0.4, 111)
    rows, slow, without = (
        PatientGradients(network, PatientLoss(), engine).of(flat, *batch)
        for network, engine in (
            (OffCentre(), "closed_form"),
            (OffCentre(), "autograd"),
            (Affine(), "autograd"),
        )
    )
    assert ((rows - slow).norm(dim=1) <= 1e-5 * slow.norm(dim=1)).all()
    assert ((without - slow).norm(dim=1) > 0.1 * slow.norm(dim=1)).all()


def test_the_closed_form_is_not_used_for_another_loss(batch):
    def squared(logits, labels):
        return (logits.gather(1, labels[:, None])[:, 0] - 1).square()

    settled = PatientGradients(Affine(), PatientLoss(None, squared), "auto").settled(
        torch.zeros(111), batch[0]
    )
    assert settled.engine != "closed_form"


@pytest.mark.parametrize("engine", ["vmap", "autograd", "closed_form"])
def test_a_wrong_label_makes_its_own_patients_gradient_nan_and_no_others(batch, engine):
    images, labels = batch
    labels = labels.clone()
    labels[3, 1] = 3
    rows = PatientGradients(Affine(), PatientLoss(), engine).of(torch.linspace(-1, 1, 111), images, labels)
    assert rows.isnan().any(dim=1).tolist() == [False, False, False, True, False]
