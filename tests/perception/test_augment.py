"""Augmentation: what it must keep, and that the same generator gives the same crops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from cryoscout.core.errors import InputError, UnknownNameError
from cryoscout.perception import augment
from cryoscout.perception.augmentations import AUGMENTATIONS, EVERY_CHANGE, LEFT_OUT_ALONE, Change


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def crops(n: int = 8, side: int = 16, seed: int = 9) -> torch.Tensor:
    return torch.rand((n, 1, side, side), generator=generator(seed))


@given(st.integers(0, 10_000), st.sampled_from([8, 16, 33]))
def test_shape_and_range_are_kept(seed: int, side: int) -> None:
    images = crops(4, side, seed)
    for change in (augment.weak, augment.strong):
        changed = change(images, generator(seed))
        assert changed.shape == images.shape
        assert bool(torch.isfinite(changed).all())
        assert float(changed.min()) >= 0.0
        assert float(changed.max()) <= 1.0 + 1e-5


@pytest.mark.parametrize("change", [augment.weak, augment.strong])
def test_same_generator_same_crops_and_another_seed_others(change: object) -> None:
    assert callable(change)
    first, second, third = (change(crops(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_each_image_has_its_own_draw() -> None:
    same = crops(1).repeat(64, 1, 1, 1)
    changed = augment.weak(same, generator())
    assert len({tuple(image.flatten().round(decimals=4).tolist()) for image in changed}) > 30


def test_without_shift_weak_only_rearranges_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "LARGEST_SHIFT", 0.0)
    images = crops(1).repeat(64, 1, 1, 1)
    changed = augment.weak(images, generator())
    torch.testing.assert_close(changed.flatten(1).sort().values, images.flatten(1).sort().values)
    first = images[0, 0]
    eight = [torch.rot90(side, k) for side in (first, first.flip(1)) for k in range(4)]
    seen = {
        index
        for image in changed
        for index, turned in enumerate(eight)
        if torch.allclose(image[0], turned, atol=1e-5)
    }
    assert seen == set(range(8))


def test_weak_shifts_at_most_12_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "_turns", lambda images, _: torch.eye(2).expand(len(images), 2, 2))
    spot = torch.zeros((200, 1, 50, 50))
    spot[:, 0, 25, 25] = 1.0
    places = augment.weak(spot, generator()).flatten(1).argmax(dim=1)
    rows, columns = places // 50 - 25, places % 50 - 25
    assert int(rows.abs().max()) == int(columns.abs().max()) == 6


def test_a_grey_crop_changes_by_brightness_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "LARGEST_NOISE", 0.0)
    monkeypatch.setattr(augment, "DOSES", (1e12, 1e12))
    grey = torch.full((400, 1, 8, 8), 0.5)
    changed = augment.strong(grey, generator())
    assert float(changed.flatten(1).std(dim=1).max()) < 1e-4
    means = changed.mean(dim=(1, 2, 3))
    assert 0.45 - 1e-4 <= float(means.min()) < 0.46
    assert 0.54 < float(means.max()) <= 0.55 + 1e-4


@given(st.integers(0, 10_000), st.sampled_from([8, 16, 33]))
def test_whole_pixels_are_moved_to_where_resampling_puts_them(seed: int, side: int) -> None:
    images = crops(6, side, seed)
    turn, shift = augment._turns(images, generator(seed)), augment._shifts(images, generator(seed + 1))
    moved = augment._moved(images, turn, shift)
    torch.testing.assert_close(moved, augment._resampled(images, turn, shift), atol=1e-4, rtol=0.0)
    for image, source in zip(moved, images, strict=True):
        assert set(image.flatten().tolist()) <= set(source.flatten().tolist())


def test_resampling_is_torchs_affine_grid() -> None:
    images = crops(6, 17)
    matrix = augment._turns(images, generator()) @ augment._deformations(images, generator())
    shift = augment._shifts(images, generator())
    grid = torch.nn.functional.affine_grid(
        torch.cat([matrix, shift[:, :, None]], dim=2), [6, 1, 17, 17], align_corners=False
    )
    expected = torch.nn.functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    torch.testing.assert_close(augment._resampled(images, matrix, shift), expected, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("change", [augment.weak, augment.strong])
def test_the_crops_that_are_given_stay_as_they_are(change: object) -> None:
    assert callable(change)
    images = crops()
    before = images.clone()
    change(images, generator())
    assert torch.equal(images, before)


def test_cut_out_is_a_square_of_the_mean_at_most_a_third_of_the_side() -> None:
    images = crops(300, 20)
    changed = augment._cut_out(images, generator())
    differs = (changed != images)[:, 0]
    assert int(differs.any(dim=2).sum(dim=1).max()) == int(differs.any(dim=1).sum(dim=1).max()) == 6
    assert 0.3 < float(differs.flatten(1).any(dim=1).float().mean()) < 0.6
    which = int(differs.sum(dim=(1, 2)).argmax())
    torch.testing.assert_close(
        changed[which, 0][differs[which]].mean(), images[which].mean(), atol=1e-6, rtol=0.0
    )


def test_noise_has_the_variance_of_a_poisson_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "CHANCE", 1.1)
    monkeypatch.setattr(augment, "LARGEST_NOISE", 0.0)
    monkeypatch.setattr(augment, "DOSES", (100.0, 100.0))
    noisy = augment._noisy(torch.full((50, 1, 64, 64), 0.25), generator())
    assert math.isclose(float(noisy.var()), 0.25 / 100.0, rel_tol=0.02)


def test_blur_is_the_gaussian_of_scipy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "CHANCE", 1.1)
    monkeypatch.setattr(augment, "_uniform", lambda images, _: torch.ones((len(images), 1, 1, 1)))
    images = crops(2, 32)
    expected = gaussian_filter(images.numpy(), (0, 0, 1.5, 1.5), mode="nearest", radius=(0, 0, 4, 4))
    blurred = augment._blurred(images, generator())
    torch.testing.assert_close(blurred, torch.from_numpy(expected))


def test_global_generators_are_not_touched() -> None:
    before = torch.get_rng_state()
    augment.strong(crops(), generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_without_any_change_a_crop_is_only_shifted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "LARGEST_SHIFT", 0.0)
    images, none = crops(), frozenset[Change]()
    assert torch.equal(augment.weak(images, generator(), none), images)
    torch.testing.assert_close(augment.strong(images, generator(), none), images)


@pytest.mark.parametrize("change", sorted(EVERY_CHANGE))
def test_each_change_alone_changes_crops(change: Change, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "LARGEST_SHIFT", 0.0)
    images = crops()
    changed = augment.strong(images, generator(), frozenset((change,)))
    assert float((changed - images).abs().max()) > 0.01
    weakly = augment.weak(images, generator(), frozenset((change,)))
    assert torch.equal(weakly, images) == (change != "turns")


def test_a_square_keeps_its_size_and_brightness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "LARGEST_SHIFT", 0.0)
    disc = (torch.arange(32) - 15.5) ** 2
    bright = ((disc[:, None] + disc[None, :]) < 64).float() * 0.5 + 0.25
    images = bright.repeat(200, 1, 1, 1)
    only_shape = AUGMENTATIONS["square"] - {"noise", "cut-out", "blur"}
    kept = augment.strong(images, generator(), only_shape).mean(dim=(1, 2, 3))
    assert float((kept - images.mean()).abs().max()) < 0.01
    others = augment.strong(images, generator(), AUGMENTATIONS["hole"] - {"noise", "cut-out", "blur"})
    assert float((others.mean(dim=(1, 2, 3)) - images.mean()).abs().max()) > 0.03


def test_plain_leaves_an_upright_image_upright(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augment, "LARGEST_SHIFT", 0.0)
    upper = torch.zeros((200, 1, 32, 32))
    upper[:, :, 4:12, 8:24] = 1.0
    for name, stays in (("plain", True), ("hole", False)):
        changed = augment.augmentation_named(name)(upper, "strong", generator())
        lower_half = changed[:, :, 16:].mean(dim=(1, 2, 3))
        above = bool((changed[:, :, :16].mean(dim=(1, 2, 3)) > lower_half).all())
        assert above == stays


def test_the_named_ones_leave_out_what_their_names_say() -> None:
    assert AUGMENTATIONS["hole"] == EVERY_CHANGE
    for change in LEFT_OUT_ALONE:
        assert AUGMENTATIONS[f"hole-without-{change}"] == EVERY_CHANGE - {change}
    assert AUGMENTATIONS["square"] == EVERY_CHANGE - set(LEFT_OUT_ALONE)


def test_hole_is_every_change_draw_by_draw() -> None:
    named = augment.augmentation_named("hole")
    assert torch.equal(named(crops(), "weak", generator()), augment.weak(crops(), generator()))
    assert torch.equal(named(crops(), "strong", generator()), augment.strong(crops(), generator()))


def test_unknown_names_and_names_of_own_ones_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'square'"):
        augment.augmentation_named("sqare")
    with pytest.raises(InputError, match=r"given as the function itself\. Got its name, own:mine"):
        augment.augmentation_named("own:mine")


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (torch.zeros((8, 16, 16)), r"torch.float32 \(8, 16, 16\)"),
        (crops().double(), "torch.float64"),
        (None, "NoneType"),
    ],
)
def test_an_own_one_that_returns_no_images_is_refused(returned: object, got: str) -> None:
    own = augment.checked(lambda images, strength, draws: returned)  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match=f"must return images as it was given.*Got {got}"):
        own(crops(), "weak", generator())
