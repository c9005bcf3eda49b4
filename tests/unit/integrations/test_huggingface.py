"""The mix-in against a plain session: same seed, same weights. Models come from configurations, nothing is fetched."""

import importlib
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sfumato.errors import NotPrivateError, UsageError
from sfumato.integrations.huggingface import (
    PrivateTrainerMixin,
    causal_losses,
    loss_of,
    record_losses,
    token_losses,
)
from sfumato.integrations.moved import refuse_unmoved
from sfumato.private.plan import Plan
from sfumato.private.session import make

transformers = pytest.importorskip("transformers", reason="needs the optional package transformers")
WORDS, LENGTH, RECORDS, RATE = 11, 6, 12, 0.1


class PrivateTrainer(PrivateTrainerMixin, transformers.Trainer):
    pass


def plan(**changes):
    fields = {"sample_rate": 0.4, "steps": 3, "expected_batch_size": 5, "noise_multiplier": 1.0, "delta": 1e-3}
    return Plan(**(fields | {"adjacency": "ADD_OR_REMOVE_ONE"} | changes))


def records():
    tokens = torch.randint(WORDS, (RECORDS, LENGTH), generator=torch.Generator().manual_seed(0))
    labels = tokens.clone()
    labels[::3, 4:] = -100  # some records are shorter
    return [{"input_ids": t, "labels": y} for t, y in zip(tokens, labels, strict=True)]


def gpt(**changes):
    torch.manual_seed(0)
    sizes = {"vocab_size": WORDS, "n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 2}
    still = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**(sizes | still | changes)))


def lora():
    peft = pytest.importorskip("peft", reason="needs the optional package peft")
    torch.manual_seed(1)
    return peft.get_peft_model(gpt(), peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))


def settings(folder, **changes):
    quiet = {"report_to": [], "disable_tqdm": True, "save_strategy": "no", "use_cpu": True}
    fast = {"optim": "sgd", "learning_rate": RATE, "lr_scheduler_type": "constant", "weight_decay": 0.0}
    return transformers.TrainingArguments(str(folder), **(quiet | fast | {"per_device_train_batch_size": 4} | changes))


def trainer(model, folder, *, data=None, audit_seed=5, chosen=None, **changes):
    return PrivateTrainer(
        model=model,
        args=settings(folder, **changes),
        train_dataset=data or records(),
        plan=chosen or plan(),
        audit_seed=audit_seed,
    )


def by_hand(model, chosen):
    """The same training in five lines of one's own loop."""
    data = records()
    tensors = [torch.stack([r[name] for r in data]) for name in ("input_ids", "labels")]

    def loss(net, tokens, labels):
        logits = net(input_ids=tokens).logits
        rows = [F.cross_entropy(logits[row, :-1], labels[row, 1:], ignore_index=-100) for row in range(len(tokens))]
        return torch.stack(rows)

    session = make(model, plan=chosen, data=tensors, loss=loss, audit_seed=5, method="loop")
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=RATE)
    for _ in session.steps():
        session.backward()
        optimizer.step()
    return model


@pytest.mark.parametrize("network", [gpt, lora])
def test_the_trainer_ends_where_a_loop_of_ones_own_does(network, tmp_path: Path):
    found = trainer(network(), tmp_path)
    start = {name: p.detach().clone() for name, p in found.model.named_parameters()}
    found.train()
    expected = dict(by_hand(network(), plan()).named_parameters())
    assert (found.session.method, found.session.steps_taken) == ("capture", 3)
    for name, parameter in found.model.named_parameters():
        torch.testing.assert_close(parameter, expected[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(parameter, start[name]) is not parameter.requires_grad, name
    assert found.session.unmoved() == []


def test_no_private_loss_is_logged_and_the_history_says_what_ran(tmp_path: Path):
    found = trainer(gpt(), tmp_path, logging_steps=1)
    found.train()
    assert {entry["loss"] for entry in found.state.log_history if "loss" in entry} == {0.0}
    (event,) = found.history.events
    assert (event.mechanism["steps"], event.mechanism["audit_only"], event.records) == (3, True, RECORDS)


def test_a_best_checkpoint_by_evaluation_ends_the_guarantee(tmp_path: Path):
    found = trainer(gpt(), tmp_path)
    found.args.load_best_model_at_end = True
    assert "best checkpoint" in found.history.why_no_guarantee()


def test_what_is_saved_has_no_prefixes_and_loads_as_ever(tmp_path: Path):
    found = trainer(gpt(), tmp_path)
    found.train()
    found.save_model(str(tmp_path / "saved"))
    again = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "saved")
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, dict(found.model.named_parameters())[name])


def test_adapters_are_saved_as_ever(tmp_path: Path):
    safetensors = importlib.import_module("safetensors.torch")
    found = trainer(lora(), tmp_path)
    found.train()
    found.save_model(str(tmp_path / "saved"))
    names = safetensors.load_file(tmp_path / "saved" / "adapter_model.safetensors")
    assert sorted(n.split(".")[-2] for n in names) == ["lora_A", "lora_B"]


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"gradient_accumulation_steps": 2}, "gradient_accumulation_steps"),
        ({"max_steps": 9}, "max_steps"),
        ({"gradient_checkpointing": True}, "gradient_checkpointing"),
        ({"neftune_noise_alpha": 1.0}, "neftune_noise_alpha"),
    ],
)
def test_settings_that_would_make_other_steps_are_refused_with_the_reason(changes, name, tmp_path: Path):
    with pytest.raises(UsageError, match=name) as refused:
        trainer(gpt(), tmp_path, **changes)
    assert refused.value.remedy.startswith("Leave it out: ")


def test_the_trainers_own_clipping_does_nothing(tmp_path: Path):
    found = trainer(gpt(), tmp_path, max_grad_norm=1e-9)
    found.train()
    assert found.args.max_grad_norm == 0.0
    assert found.session.unmoved() == []


def test_a_parameter_that_the_optimizer_does_not_hold_is_named(tmp_path: Path):
    model = gpt()
    held = [p for name, p in model.named_parameters() if "wpe" not in name]
    found = PrivateTrainer(
        model=model,
        args=settings(tmp_path),
        train_dataset=records(),
        plan=plan(),
        audit_seed=5,
        optimizers=(torch.optim.SGD(held, lr=RATE), None),
    )
    with pytest.raises(UsageError, match=r"1 that did not, after 3 steps: transformer.wpe.weight"):
        found.train()


def test_a_learning_rate_of_0_is_a_reason_to_stay(tmp_path: Path):
    found = trainer(gpt(), tmp_path, learning_rate=0.0)
    found.train()
    assert len(found.session.unmoved()) > 0
    with pytest.raises(UsageError, match="did not"):
        refuse_unmoved(found.session)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    first = trainer(gpt(), tmp_path, save_strategy="steps", save_steps=2)
    first.train()
    with pytest.raises(NotPrivateError, match="a checkpoint to go on from"):
        trainer(gpt(), tmp_path).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    first.session.plan = plan(steps=9)
    with pytest.raises(NotPrivateError, match="step 0 where the session is at 3"):
        first.train()


def test_losses_of_one_record_do_not_depend_on_the_others():
    random = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(3, 5, WORDS, generator=random), torch.randint(WORDS, (3, 5), generator=random)
    labels[1, 2:], labels[2] = -100, -100
    found = causal_losses(logits, labels)
    assert found[2] == 0
    for row in (0, 1):
        alone = F.cross_entropy(logits[row, :-1], labels[row, 1:], ignore_index=-100)
        torch.testing.assert_close(found[row], alone)
        torch.testing.assert_close(
            token_losses(logits, labels)[row], F.cross_entropy(logits[row], labels[row], ignore_index=-100)
        )
    classes = torch.tensor([0, 1, 2])
    flat = logits[:, 0]
    torch.testing.assert_close(record_losses(flat, classes), F.cross_entropy(flat, classes, reduction="none"))
    several = (flat > 0).float()
    expected = [F.binary_cross_entropy_with_logits(a, b) for a, b in zip(flat, several, strict=True)]
    torch.testing.assert_close(record_losses(flat, several), torch.stack(expected))
    torch.testing.assert_close(record_losses(flat[:, :1], flat[:, 1]), (flat[:, 0] - flat[:, 1]) ** 2)


def test_the_loss_is_that_of_the_models_kind():
    small = {"vocab_size": WORDS, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.BertConfig(**small, intermediate_size=8)
    assert loss_of(gpt()) is loss_of(lora()) is causal_losses
    assert loss_of(transformers.BertForMaskedLM(config)) is token_losses
    assert loss_of(transformers.BertForSequenceClassification(config)) is record_losses
    with pytest.raises(UsageError, match="BertModel"):
        loss_of(transformers.BertModel(config))
