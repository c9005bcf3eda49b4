import pytest
import torch

from sfumato.errors import NotApplicable, UsageError
from sfumato.training.augment import Variant, apply_variant, augment, query_variants, shifted
from sfumato.training.draws import Draws

DRAWS = Draws((1, 2, 3), ("augment",))
KINDS = ("flip", "shift", "cutout")


def images(rows: int, side: int = 16, width: int | None = None) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, 2, side, width or side, generator=generator) + 1  # no zeros, so that a hole is seen


def naive_shift(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    out = torch.zeros_like(image)
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            if 0 <= y - down < image.shape[1] and 0 <= x - right < image.shape[2]:
                out[:, y, x] = image[:, y - down, x - right]
    return out


def test_shifted_equals_the_pixel_loop():
    x = images(4, 8, 9)
    down, right = torch.tensor([0, 2, -1, 8]), torch.tensor([0, -3, 1, 0])
    expected = torch.stack([naive_shift(image, int(d), int(r)) for image, d, r in zip(x, down, right, strict=True)])
    assert torch.equal(shifted(x, down, right), expected)


def test_shifted_out_of_the_picture_leaves_zeros():
    assert torch.equal(shifted(torch.ones(1, 1, 8, 8), torch.tensor([9]), torch.tensor([0])), torch.zeros(1, 1, 8, 8))


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    x = images(3 * 200)
    out = augment(x, ["flip"], DRAWS)
    same, mirrored = ((out == reference).flatten(1).all(1) for reference in (x, x.flip(3)))
    assert bool((same ^ mirrored).all())
    assert 230 < int(mirrored.sum()) < 370  # binomial(600, 1/2): 5.7 standard deviations


def test_shift_moves_by_up_to_an_eighth_of_each_side_and_reaches_every_offset():
    x = images(3 * 200, 16, 24)
    out = augment(x, ["shift"], DRAWS)
    offsets = [(down, right) for down in range(-2, 3) for right in range(-3, 4)]
    moved = torch.stack([shifted(x, torch.full((600,), d), torch.full((600,), r)) for d, r in offsets])
    matches = (moved == out).flatten(2).all(2)
    assert bool((matches.sum(0) == 1).all())
    assert bool(matches.any(1).all())


def test_cutout_clears_a_square_of_a_quarter_of_the_shorter_side():
    x = images(3 * 300, 16, 24)
    holes = augment(x, ["cutout"], DRAWS) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    heights, widths = holes[:, 0].any(2).sum(1), holes[:, 0].any(1).sum(1)
    assert torch.equal(holes[:, 0].sum((1, 2)), heights * widths)
    assert (int(heights.max()), int(widths.max())) == (4, 4)
    assert (int(heights.min()), int(widths.min())) == (2, 2)  # half of it hangs over the border at most
    assert torch.equal(augment(x, ["cutout"], DRAWS)[~holes], x[~holes])


@pytest.mark.parametrize("kind", KINDS)
def test_each_model_has_the_images_it_has_alone(kind):
    x = images(3 * 7)
    together = augment(x, [kind], DRAWS)
    for index, seed in enumerate(DRAWS.seeds):
        rows = slice(7 * index, 7 * index + 7)
        assert torch.equal(together[rows], augment(x[rows], [kind], Draws((seed,), DRAWS.path)))


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_depends_on_itself_alone(kind):
    x = images(6)
    other = x.clone()
    other[3] = 5.0
    changed = (augment(x, [kind], DRAWS) != augment(other, [kind], DRAWS)).flatten(1).any(1)
    assert changed.tolist() == [False, False, False, True, False, False]


def test_kinds_are_applied_in_order_and_none_changes_nothing():
    x = images(6)
    expected = augment(augment(x, ["flip"], DRAWS), ["cutout"], DRAWS)
    assert torch.equal(augment(x, ("flip", "cutout"), DRAWS), expected)
    assert augment(x, (), DRAWS) is x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(3, 30), (3, 1, 7, 16)])
def test_other_records_are_refused_by_name(kind, shape):
    with pytest.raises(NotApplicable, match=kind):
        augment(torch.zeros(shape), [kind], DRAWS)


def test_unknown_kinds_and_uneven_batches_are_refused():
    with pytest.raises(UsageError, match="flip"):
        augment(images(3), ["flipp"], DRAWS)
    with pytest.raises(UsageError, match="got 4 rows"):
        augment(images(4), ["flip"], DRAWS)


@pytest.mark.parametrize(("kind", "count"), [("none", 1), ("mirror", 2), ("mirror-shift", 18)])
def test_query_variants(kind, count):
    variants = query_variants(kind)
    assert len(set(variants)) == len(variants) == count
    assert variants[0] == Variant(False, 0, 0)


def test_unknown_queries_are_refused():
    with pytest.raises(UsageError, match="mirror-shift"):
        query_variants("mirror-shfit")


def test_a_variant_mirrors_then_moves_by_an_eighth_of_the_side():
    x = images(2, 32, 16)
    expected = torch.stack([naive_shift(image.flip(2), -4, 2) for image in x])
    assert torch.equal(apply_variant(x, Variant(True, -1, 1)), expected)


def test_all_eighteen_views_differ():
    views = torch.stack([apply_variant(images(1, 8), variant) for variant in query_variants("mirror-shift")])
    assert len(torch.unique(views.flatten(1), dim=0)) == 18


def test_variants_of_other_records_are_refused_but_the_record_itself_is_fine():
    table = torch.zeros(3, 30)
    assert apply_variant(table, Variant(False, 0, 0)) is table
    with pytest.raises(NotApplicable, match="augmented queries"):
        apply_variant(table, Variant(True, 0, 0))
