import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sfumato.attacks.inversion.generators.user_file import FileGenerator, file_generator
from sfumato.canonical import canonical_json
from sfumato.errors import NotApplicable, StoreMismatch, UnsupportedModel, UsageError

PLAIN = """
import math
from torch import nn

class Own(nn.Module):
    latent = 3

    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(3, math.prod(shape))
        self.shape = shape

    def forward(self, z):
        return self.layer(z).sigmoid().reshape(-1, *self.shape){more}

def make(shape):
    return Own(shape)
"""
STAGED = """
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, hidden, z):
        return (self.layer(hidden) + z).sigmoid()

class Own(nn.Module):
    latent = 4

    def __init__(self, shape):
        super().__init__()
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, z):
        hidden = z
        for block in self.blocks{cut}:
            hidden = block(hidden, z)
        return hidden

    def sample(self, count, generator):
        return torch.rand(count, 4, generator=generator) + 7

    def realism(self, x):
        return -x.square().sum(dim=1)

def make(shape):
    return Own(shape)
"""


def written(folder, text=PLAIN, more="", **fields):
    (folder / "own.py").write_text(text.replace("{more}", more).replace("{cut}", more))
    return FileGenerator(path=str(folder / "own.py"), **fields)


def test_the_users_network_makes_records(tmp_path, digits, evidence):
    generator = written(tmp_path).load({}, evidence(digits))
    assert generator.latent == 3
    assert generator.stages == 1
    assert generator(torch.randn(5, 3)).shape == (5, 1, 8, 8)
    with pytest.raises(NotApplicable, match="critic"):
        generator.realism(torch.zeros(1, 1, 8, 8))


def test_the_weights_it_draws_are_always_the_same(tmp_path, digits, evidence):
    kind, z = written(tmp_path), torch.randn(2, 3)
    torch.testing.assert_close(kind.load({}, evidence(digits))(z), kind.load({}, evidence(digits))(z))


def test_weights_come_from_their_file(tmp_path, digits, evidence):
    weights = {"layer.weight": torch.zeros(64, 3), "layer.bias": torch.zeros(64)}
    save_file(weights, tmp_path / "w.safetensors")
    kind = written(tmp_path, weights=str(tmp_path / "w.safetensors"))
    assert (kind.load({}, evidence(digits))(torch.randn(2, 3)) == 0.5).all()
    assert canonical_json(kind) != canonical_json(written(tmp_path))
    save_file({"layer.weight": torch.ones(64, 3), "layer.bias": torch.zeros(64)}, tmp_path / "w.safetensors")
    with pytest.raises(StoreMismatch, match=r"w\.safetensors"):
        kind.load({}, evidence(digits))
    save_file({"other": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UsageError, match="weights of the network"):
        written(tmp_path, weights=str(tmp_path / "w.safetensors")).load({}, evidence(digits))


def test_it_is_pinned_to_its_text_and_not_to_its_place(tmp_path, digits, evidence):
    kind = written(tmp_path)
    (tmp_path / "other").mkdir()
    assert canonical_json(written(tmp_path / "other")) == canonical_json(kind)
    assert str(tmp_path) not in canonical_json(kind)
    (tmp_path / "own.py").write_text(PLAIN.replace("{more}", " * 0.5"))
    with pytest.raises(StoreMismatch, match=r"own\.py"):
        kind.load({}, evidence(digits))


def test_blocks_can_be_entered(tmp_path, evidence):
    generator = written(tmp_path, STAGED).load({}, evidence(torch.rand(10, 4).numpy()))
    z = generator.sample(6, torch.Generator().manual_seed(0))
    assert (z >= 7).all()
    assert generator.stages == 3
    for stage in (1, 2):
        torch.testing.assert_close(generator.enter(stage, generator.hidden(stage, z), z), generator(z))
    assert generator.realism(torch.ones(2, 4)).tolist() == [-4, -4]


def test_blocks_that_are_not_the_network_are_refused(tmp_path, evidence):
    with pytest.raises(UnsupportedModel, match="blocks that give"):
        written(tmp_path, STAGED, "[:2]").load({}, evidence(torch.rand(10, 4).numpy()))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (" * 2 - 1", "in the box"),
        ("[:, :, :4]", "Expected records of shape"),
        (" / 0", "in the box"),
    ],
)
def test_other_records_are_refused(tmp_path, digits, evidence, more, message):
    with pytest.raises(UnsupportedModel, match=message):
        written(tmp_path, more=more).load({}, evidence(digits))


def test_what_the_file_lacks_is_said(tmp_path, digits, evidence):
    with pytest.raises(UsageError, match="latent"):
        written(tmp_path, PLAIN.replace("latent = 3", "pass")).load({}, evidence(digits))
    with pytest.raises(UnsupportedModel, match="takes latents"):
        written(tmp_path, latent=5).load({}, evidence(digits))
    with pytest.raises(UsageError, match="a function `build`"):
        written(tmp_path, function="build").load({}, evidence(digits))
    with pytest.raises(UsageError, match="to run, got ZeroDivisionError"):
        written(tmp_path, PLAIN.replace("return Own", "1 / 0; return Own")).load({}, evidence(digits))
    with pytest.raises(UnsupportedModel, match=r"an nn\.Module, got int"):
        written(tmp_path, PLAIN.replace("return Own(shape)", "return 3")).load({}, evidence(digits))
    with pytest.raises(UsageError, match="path of a Python file"):
        FileGenerator()


def test_it_is_named_by_its_file(tmp_path):
    kind = written(tmp_path, function="make")
    save_file({"a": torch.zeros(1)}, tmp_path / "w.safetensors")
    path, weights = str(tmp_path / "own.py"), str(tmp_path / "w.safetensors")
    assert file_generator(path) == kind
    assert file_generator(f"{path}:build").function == "build"
    assert file_generator(f"{path}:make:{weights}").weights == weights
    with pytest.raises(UsageError, match=r"FILE\.py:FUNCTION"):
        file_generator("own")


def test_the_module_is_not_trained(tmp_path, digits, evidence):
    generator = written(tmp_path).load({}, evidence(digits))
    z = torch.randn(2, 3, requires_grad=True)
    generator(z).sum().backward()
    assert z.grad.abs().sum() > 0
    assert isinstance(generator.blocks[0], nn.Module) is False
